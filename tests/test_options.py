"""Groups of options: one word for an option in Python, study files and commands."""

import pytest
from toys import Heard

from featcache.commands.finetune import FinetuneSettings, finetune
from featcache.commands.train_head import HeadOptions, train_head
from featcache.core.options import arguments, parameters
from featcache.core.progress import SILENT, Indented
from featcache.dataset.splits import SplitOptions
from featcache.dataset.views import Policy
from featcache.errors import UnknownNameError, UsageError


def test_flat_keywords_build_groups() -> None:
    """Each keyword goes to every group that has it; what no group has goes on."""
    built = arguments(train_head, {"folds": 3, "seed": 7, "tune": True, "jobs": 2})
    assert built == {
        "options": HeadOptions(tune=True, seed=7),
        "split": SplitOptions(folds=3, seed=7),
        "jobs": 2,
    }


def test_a_group_may_be_given_whole() -> None:
    """Flat keywords beside a group change a copy of it; ``split`` may be a name."""
    mine = SplitOptions(folds=4, seed=1)
    built = arguments(train_head, {"split": mine, "folds": 3})
    assert built["split"] == SplitOptions(folds=3, seed=1)
    assert mine.folds == 4
    assert arguments(train_head, {"split": "mine"})["split"].split == "mine"


def test_an_unknown_keyword_is_refused() -> None:
    """The nearest keyword is offered."""
    with pytest.raises(UnknownNameError, match=r"'fold_s'. Did you mean folds"):
        arguments(train_head, {"fold_s": 3})


def test_functions_take_groups() -> None:
    """Commands have few arguments, and their options are the fields of groups."""
    fields = {*vars(SplitOptions()), *vars(HeadOptions())}
    assert {*parameters(train_head)} >= fields
    assert {*parameters(finetune)} >= {*vars(FinetuneSettings())}


def test_a_group_refuses_what_can_never_work() -> None:
    """Python hears of a wrong option where the group is made."""
    for group, wrong, said in (
        (SplitOptions, {"repeats": 0}, "repeats"),
        (HeadOptions, {"views": -1}, "views"),
        (HeadOptions, {"region": "left"}, "region"),
        (FinetuneSettings, {"optimizer": "adam"}, "optimizer"),
        (FinetuneSettings, {"learning_rate": 0.0}, "learning_rate"),
    ):
        with pytest.raises(UsageError, match=f"`{said}`"):
            group(**wrong)


def test_settings_follow_the_optimizer_and_the_policy() -> None:
    """The usual rate is the optimizer's; without augmentation there is no tta."""
    assert FinetuneSettings(optimizer="sgd").rate == 1e-3
    assert FinetuneSettings(optimizer="sgd", learning_rate=0.1).rate == 0.1
    plain = Policy(flip=False, brightness=(1, 1), zoom=(1, 1))
    assert FinetuneSettings(policy=plain).tta == 0


def test_one_excluded_column_is_one() -> None:
    """A text is one condition, and not one for each of its letters."""
    assert SplitOptions(exclude="label=COVID").exclude == ("label=COVID",)


def test_messages_are_indented_below_a_heading() -> None:
    """Progress passes unchanged."""
    heard = Heard()
    below = Indented(heard)
    below.message("text")
    below.progress("fits", 1, 2)
    assert (heard.messages, heard.ticks) == (["  text"], [("fits", 1, 2)])
    SILENT.message("nothing")
