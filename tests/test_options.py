"""Groups of options: one word for an option in Python, study files and commands."""

import ast
import pickle
import re
from collections import defaultdict
from pathlib import Path

import pytest
from toys import Heard

import featcache
from featcache.cli import cli
from featcache.cli.spelling import options, spelled
from featcache.commands.finetune import FinetuneSettings, finetune
from featcache.commands.scan import scan
from featcache.commands.train_head import HeadOptions, train_head
from featcache.core.options import arguments, parameters
from featcache.core.progress import SILENT, Indented
from featcache.dataset.splits import SplitOptions
from featcache.dataset.views import Policy
from featcache.errors import UnknownNameError, UsageError

PACKAGE = Path(featcache.__file__).parent


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
    with pytest.raises(UnknownNameError, match=r"'fold_s'.*Did you mean folds"):
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


@pytest.mark.parametrize(
    ("python", "command"),
    [
        ("Use fewer `folds` or `test_size=0`.", "Use fewer --folds or --test-size 0."),
        ("`calibrate=False` or `force=True`", "--no-calibrate or --force"),
        ("`zoom=(1, 1)`, `part='test'`", "--zoom 1,1, --on test"),
        ("`of='true'` with `methods=['auto']`", "--class true with --method auto"),
        ("`mapping='No finding=healthy'`", "--map 'No finding=healthy'"),
        ("`something` else", "`something` else"),
        # A switch of train-head, a number of finetune.
        ("`tta=False` or `tta=0`", "--no-tta or --tta 0"),
    ],
)
def test_the_command_line_spells_options_its_way(python: str, command: str) -> None:
    """What a library text says between backticks, the door says as an option."""
    assert spelled(python, cli) == command


def test_errors_speak_python_and_the_door_options(run, image_folder: Path) -> None:
    """One error, as Python raises it and as the command line prints it."""
    with pytest.raises(UsageError, match="`per_class` of 0 "):
        scan(image_folder, image_folder.parent / "cache", per_class=-1)
    code, _, err = run("scan", image_folder, "--per-class", "-1")
    assert (code, err.startswith("Error: expected --per-class of 0 ")) == (1, True)


def test_an_option_has_one_spelling() -> None:
    """All commands spell an argument of the library alike, so texts may name it."""
    spellings = defaultdict(set)
    for option in options(cli):
        spellings[option.name].add(option.opts[-1])
    assert {name for name, several in spellings.items() if len(several) > 1} == set()


def test_library_errors_name_no_option_of_the_command_line() -> None:
    """Outside of the command line, an option stands in a text only within a command."""
    option = re.compile(r"(?<![-\w])--[a-z]")
    of_a_command = re.compile(
        r"featcache |cache verify|sbatch |^ ?--[a-z-]+( [\w-]+)* ?$"
    )
    found = [
        f"{path.name}: {text.value}"
        for path in sorted(PACKAGE.rglob("*.py"))
        # The doctor is about the command line, and the errors say how it spells; styles
        # name their colours so.
        if not {"cli", "report", "doctor.py", "errors.py", "display.py"}
        & {*path.relative_to(PACKAGE).parts}
        for text in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
        if option.search(text.value) and not of_a_command.search(text.value)
    ]
    assert found == []


def test_an_error_may_be_a_problem() -> None:
    """Where "expected ..., got ..." would not read as English, it is said plainly."""
    plain = UsageError("A worker was killed", "Try fewer `jobs`.")
    assert str(plain) == "A worker was killed. Try fewer `jobs`."
    again = pickle.loads(pickle.dumps(plain))
    assert (str(again), again.got, again.expected) == (str(plain), plain.got, "")
    whole = UsageError("one", "two", "Take one.")
    assert str(pickle.loads(pickle.dumps(whole))) == "expected one; got two. Take one."


def test_messages_are_indented_below_a_heading() -> None:
    """Progress passes unchanged."""
    heard = Heard()
    below = Indented(heard)
    below.message("text")
    below.progress("fits", 1, 2)
    assert (heard.messages, heard.ticks) == (["  text"], [("fits", 1, 2)])
    SILENT.message("nothing")
