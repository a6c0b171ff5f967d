"""``featcache review`` on the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from toy_review import IDS, Y, add_run, final, line, write
from toys import CLASSES, header, train_flat, write_store

from featcache import cli
from featcache.dataset.manifest import Manifest

COVID, NORMAL, OTHER = CLASSES
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    chest: Manifest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Runs a command beside the cache: exit code, stdout and stderr."""
    monkeypatch.chdir(chest.folder.parents[1])

    def one(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(words)
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return one


def test_the_list(call: Call, chest: Manifest, reports: Path) -> None:
    """--list and --json print images and reasons, and open no page."""
    add_run(chest, reports)
    code, out, err = call("review", "--queue", "errors", "--list")
    assert (code, "6.png" in out, "3 of 3 images" in err) == (0, True, True)
    code, out, _ = call("review", "open", "--queue", "errors", "--json", "--limit", "1")
    assert [one["image_id"] for one in json.loads(out)] == [IDS[6]]


def test_what_the_page_needs(call: Call) -> None:
    """A reader, and a queue that has what it needs; errors are one line."""
    for words, text in (
        (["--queue", "random"], "--reader"),
        (["--queue", "random", "--reader", "=cmd"], "--reader"),
        (["--reader", "ann"], "featcache audit --dataset chest"),
        (["--queue", "random", "--reader", "ann", "--port", "70000"], "--port"),
    ):
        code, out, err = call("review", *words)
        assert (code, out, err.count("\n")) == (1, "", 1 + ("done" in err))
        assert text in err
    assert call("review", "--queue", "lables")[0] == 2


def test_apply_shows_the_difference(call: Call, chest: Manifest, reports: Path) -> None:
    """What changes, what stays and why, and the one command that goes on."""
    add_run(chest, reports)
    write(chest, line("ann", 0, NORMAL), line("bob", 0, NORMAL), line("ann", 4, COVID))
    code, out, err = call("review", "apply", "--rule", "agree", "--dry-run")
    assert code == 0
    assert "1 label would be changed, 0 labels confirmed, 1 not decided." in out
    assert "retrain" not in out
    assert "4.png stays Viral Pneumonia (only ann has answered)" in err
    code, out, err = call("review", "apply", "--rule", "agree")
    assert "featcache review retrain --dataset chest" in out
    assert "manifests/0001.csv" in err
    code, out, _ = call("review", "apply", "--rule", "agree", "--json")
    assert (json.loads(out)["changes"], json.loads(out)["confirmed"]) == ([], 1)
    code, _, err = call("review", "apply", "--rule", "reader:zoe")
    assert (code, "ann, bob" in err) == (1, True)


def test_status_is_printed(call: Call, chest: Manifest) -> None:
    """A line for each reader and queue, and kappa of each two readers."""
    assert "Nobody has reviewed chest yet" in call("review", "status")[2]
    for reader in ("ann", "bob"):
        write(chest, *(line(reader, n, CLASSES[Y[n]]) for n in range(12)))
    write(chest, line("cyn", 0, COVID), line("dan", 1, COVID, note="=1+1"))
    write(chest, final("bob", 0, NORMAL, COVID))
    path = chest.folder / "reviews.csv"
    path.write_text(path.read_text() + "half a line")
    code, out, err = call("review", "status")
    assert code == 0
    assert "ann and bob: kappa 1.00 (95 %: " in out
    assert "same answer to 100% of 12 images of 6 groups" in out
    assert "ann and cyn: no kappa" in out
    assert "cyn and dan: no image" in out
    assert "is cut off" in err
    counts = json.loads(call("review", "status", "--json")[1])["counts"]
    assert [one["changed"] for one in counts] == [0, 1, 0, 0]


def test_retrain_is_printed(call: Call, chest: Manifest, reports: Path) -> None:
    """Both runs, and the difference with its interval."""
    write_store(chest, header())
    options = {"test_size": 0, "folds": 3, "views": 0, "tune": False, "jobs": 1}
    train_flat(chest, reports, heads=["logreg"], **options)
    write(chest, line("ann", 0, NORMAL))
    call("review", "apply", "--rule", "reader:ann")
    code, out, _ = call("review", "retrain", "--jobs", "1")
    assert code == 0
    assert [text.split()[0] for text in out.splitlines()[:2]] == ["before", "after"]
    assert "By its old labels, the old run had" in out
    code, out, _ = call("review", "retrain", "--jobs", "1", "--json")
    assert json.loads(out)["parts"][0]["relabelled"] == 1


def test_the_help() -> None:
    """``review --help`` lists the commands, and ``review open --help`` the queues."""
    lines = CliRunner().invoke(cli.cli, ["review", "--help"]).output
    assert all(name in lines for name in ("open", "apply", "retrain", "status"))
    lines = CliRunner().invoke(cli.cli, ["review", "open", "--help"]).output
    assert "informative" in lines


WITHOUT = """
import sys
sys.modules |= dict.fromkeys(("starlette", "uvicorn", "h11"))
from featcache.cli import main
main(["review", "--queue", "random", *sys.argv[1:]])
"""


@pytest.mark.slow
def test_without_the_extra(call: Call, chest: Manifest) -> None:
    """Without starlette the page names the extra; lists need none of it."""
    for words, code, text in (
        (["--reader", "ann"], 1, "pip install 'featcache[serve]'"),
        (["--list"], 0, "Drawn at random"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT, *words],
            cwd=chest.folder.parents[1],
            capture_output=True,
            text=True,
            env={**os.environ},
        )
        assert (done.returncode, text in done.stdout + done.stderr) == (code, True)
