"""Fine-tuning in a study: its keys, its errors, and weights that cannot be had."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from featcache import backbones, study
from featcache.commands.compare import compare
from featcache.dataset.views import Policy
from featcache.errors import UsageError, WeightsError
from featcache.study import runner

STUDY = """
[dataset]
source = "chest"
group_by = '(p\\d{3})_'

[[extract]]
backbones = ["${NET}"]
engine = "tensorflow"

[evaluation]
folds = 2
tta = false
tune = false
calibrate = false

[[train]]
name = "heads"
heads = ["logreg"]

[[finetune]]
name = "whole"
backbones = ["${NET}"]
init_head = "heads/logreg"
fold = "test"
epochs = 1
batch_size = 8
flip = false

[[ensemble]]
name = "mean"
members = ["heads/logreg", "whole/finetune-from-logreg"]
weights = "equal"
calibrate = false
"""


@pytest.fixture
def toml(study_file: Callable[[str], Path]) -> Path:
    """A study with a head and a network that starts from it."""
    return study_file(STUDY)


def test_a_study_says_how(toml: Path) -> None:
    """Its keys are arguments; what [evaluation] says of the split holds here too."""
    (asked,) = study.read(toml).finetunes
    assert asked.init_head == ("heads", "logreg")
    assert asked.policy == Policy(flip=False)
    wanted = {"fold": "test", "epochs": 1, "batch_size": 8, "folds": 2, "seed": 0}
    assert asked.settings == wanted | {"calibrate": False}
    assert "finetune" in [step["step"] for step in study.steps(study.read(toml))]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('init_head = "heads/logreg"', 'init_head = "nobody"'),
        ('init_head = "heads/logreg"', 'init_head = "heads/svm"'),
        (
            'members = ["heads/logreg", "whole/finetune-from-logreg"]',
            'members = ["heads/logreg", "whole/finetune"]',
        ),
        ("epochs = 1", "epochs = 0"),
        ('fold = "test"', 'fold = "3"'),
        ("batch_size = 8", 'optimizer = "lion"'),
        ("flip = false", "zoom = [0.5, 1]"),
    ],
)
def test_errors_of_a_study_name_the_key(line: str, named: str, toml: Path) -> None:
    """A value that cannot work is refused with its line."""
    toml.write_text(STUDY.replace(line, named))
    key = named.split(" ")[0]
    number = STUDY.replace(line, named).split("\n").index(named) + 1
    with pytest.raises(UsageError, match=f"line {number}, {key} of"):
        study.read(toml)


@pytest.mark.slow
def test_a_study_fine_tunes(toml: Path, tmp_path: Path) -> None:
    """It starts from the head of its own [[train]], is ranked and averaged with it."""
    reports = tmp_path / "reports"
    toml.write_text(STUDY + '[report]\nagainst = "whole"\n')
    asked = study.read(toml)
    assert asked.against == ("whole", None)
    asked = study.read(toml)
    asked = replace(asked, against=None)  # what is out-of-fold has no such run
    done = study.run(asked, tmp_path / "cache", reports=reports, jobs=1)
    assert done.failures == []
    (head,), (whole,) = done.runs["heads"], done.runs["whole"]
    (mean,) = done.runs["mean"]
    assert whole.record.init_head == head.run_id
    assert {whole.run_id, mean.run_id} < {*done.new_run_ids}
    assert {*mean.record.members} == {head.run_id, whole.run_id}
    board = compare(reports / "chest", part="test")
    ids = {row.run_id for row in board.rows}
    assert ids == {head.run_id, whole.run_id, mean.run_id}


LACKING = """
[[finetune]]
name = "never"
backbones = ["vgg19", "resnet50"]
fold = "test"

[[ensemble]]
name = "lost"
members = ["heads", "never"]
"""


def test_weights_that_cannot_be_had_stop_nothing_else(
    toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told with its reason, known before or not; so is what needs its run."""

    def none(row: Any) -> Path:
        if row.factory == "ResNet50" and not late:
            return Path("resnet50.h5")  # and gone when it is wanted
        raise WeightsError(f"weights of {row.factory}", "no connection", "Get them.")

    late: list[str] = []
    monkeypatch.setattr(runner, "fetch_weights", none)
    monkeypatch.setattr(
        backbones, "fetch_weights", lambda row: late.append(row.factory) or none(row)
    )
    heads_alone = STUDY.split("[[finetune]]")[0]
    toml.write_text(heads_alone + LACKING)
    asked = study.read(toml)
    done = study.run(asked, tmp_path / "cache", reports=tmp_path / "r", jobs=1)
    assert late == ["ResNet50"]
    assert [text.split(".")[0] for text in done.failures] == [
        "vgg19: expected weights of VGG19; got no connection",
        "never: there are no weights for vgg19",
        "never, resnet50: expected weights of ResNet50; got no connection",
        "lost: there are no runs of never",
    ]
    assert [run.record.head for run in done.runs["heads"]] == ["logreg"]
    assert done.boards[0].rows
