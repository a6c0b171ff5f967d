"""The Tab key: names of datasets, runs, backbones and heads; never an error."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from featcache.cli import cli


def offered(words: str, begun: str) -> list[str]:
    shell = ShellComplete(cli, {}, "featcache", "_FEATCACHE_COMPLETE")
    return [item.value for item in shell.get_completions(words.split(), begun)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two datasets, one of which has two runs and a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATCACHE_CACHE", raising=False)
    for name in ("chest", "Knee"):
        (tmp_path / "cache" / name / "features").mkdir(parents=True)
        (tmp_path / "cache" / name / "manifest.csv").touch()
    store = "densenet121-imagenet-0123456789.h5"
    (tmp_path / "cache/chest/features" / store).touch()
    for run_id in ("logreg-toy-3f2a1b9c0d", "svm-toy-3f2a1b77aa"):
        (tmp_path / "reports/chest/runs" / run_id).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "begun", "expected"),
    [
        ("compare --dataset", "", ["Knee", "chest"]),
        ("compare --dataset", "kn", ["Knee"]),
        ("explain", "3f2a", ["3f2a1b9", "3f2a1b7"]),
        ("explain", "log", ["logreg-toy-3f2a1b9c0d"]),
        ("compare --dataset Knee --confusion", "", []),
        ("compare --dataset chest --confusion", "svm", ["svm-toy-3f2a1b77aa"]),
        ("compare --metric", "A", ["accuracy", "auc"]),
        ("ensemble 3f2a1b9", "3f2a1b7", ["3f2a1b7"]),
        ("extract -b", "DenseNet12", ["densenet121"]),
        ("train-head -b", "dense", ["densenet121", "densenet121-imagenet-0123456789"]),
        ("train-head -H", "soft", ["softmax-untrained", "softmax"]),
        ("predict", "3f2a1b9", ["3f2a1b9"]),
        ("predict", "model.f", ["model.f"]),  # the shell completes files
    ],
)
def test_names_are_completed(words: str, begun: str, expected: list[str]) -> None:
    """What goes on as the user began, in any capitals, is offered."""
    assert offered(words, begun) == expected


def test_every_name_of_a_dataset_or_run_is_completed() -> None:
    """No option for a dataset or run has been forgotten."""
    groups = [cli, *(c for c in cli.commands.values() if isinstance(c, click.Group))]
    for group in groups:
        for command in group.commands.values():
            for one in command.params:
                shown = (one.metavar or (one.name or "").upper()).strip("[].")
                if shown in ("RUN", "RUN|BUNDLE") or one.name == "dataset":
                    assert one._custom_shell_complete, (command.name, one.name)


def test_completion_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder, or where none can be listed, there is nothing to offer."""
    assert offered("compare --cache nowhere --reports nowhere --dataset", "") == []

    def broken(*_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(Path, "glob", broken)
    assert offered("compare --dataset", "") == []


def test_completion_loads_nothing_heavy() -> None:
    """It runs at every press of the key."""
    code = (
        "import sys\n"
        "from click.shell_completion import ShellComplete\n"
        "from featcache.cli import cli\n"
        "shell = ShellComplete(cli, {}, 'featcache', '_X')\n"
        "for words in ('explain', 'compare --dataset', 'extract -b', 'train-head -H'):"
        "\n"
        "    shell.get_completions(words.split(), '')\n"
        "heavy = {'pandas', 'scipy', 'sklearn', 'keras', 'tensorflow', 'h5py'}\n"
        "sys.exit(str(heavy & sys.modules.keys()) if heavy & sys.modules.keys() else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
