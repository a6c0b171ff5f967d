"""Short ids: what tables show of a run, and what every command takes for it."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
from PIL import Image
from records import rewrite
from toy_board import Add

import featcache
from featcache.cli import cli
from featcache.commands.compare import compare
from featcache.dataset.manifest import Manifest
from featcache.errors import DatasetError, RunError
from featcache.evaluation import references, runs
from featcache.report import tables

# The words of a call for each way to give a RUN, which stands at {}.
CALLS = {
    ("compare", "against"): "compare --against {}",
    ("compare", "confusion_of"): "compare --confusion {}",
    ("compare", "needed_by"): "compare --needed {}",
    ("curve", "reference"): "curve {} --no-classes",
    ("ensemble", "members"): "ensemble {}",
    ("explain", "reference"): "explain {}",
    ("export", "reference"): "export {} --to onnx -o model.onnx",
    ("finetune", "init_head"): "finetune -b vgg19 --weights random --init-head {}",
    ("predict", "reference"): "predict {} here.png",
    ("validate", "reference"): "validate {} elsewhere",
}
IDS = ["logreg-toy-3f2a1b9c0d", "svm-toy-3f2a77aaaa", "mlp-toy-90c4de1111"]


@pytest.fixture
def make(add: Add, reports: Path) -> Callable[[str], runs.Run]:
    """Writes a run of a given id."""

    def call(run_id: str) -> runs.Run:
        head = run_id.partition("-")[0]
        written = reports / "runs" / add(head, range(4))
        return runs.load(written.rename(written.with_name(run_id)))

    return call


def parameters() -> Iterator[tuple[str, str]]:
    """Command and name of each parameter that a user gives a run."""
    for name, command in cli.commands.items():
        for one in command.params:
            shown = one.metavar or (one.name or "").upper()
            if shown.strip("[].").split("|")[0] == "RUN" and not isinstance(
                command, click.Group
            ):
                yield name, str(one.name)


def test_every_way_to_give_a_run_is_tried() -> None:
    """The table of calls has each parameter that stands for a run."""
    assert set(parameters()) == set(CALLS)


@pytest.mark.parametrize("words", CALLS.values())
def test_every_command_takes_a_short_id(
    make: Callable[[str], runs.Run],
    run: Callable[..., Any],
    dataset: Manifest,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
) -> None:
    """Short id, four digits, whole id and a part all lead to the run."""
    for run_id in IDS:
        make(run_id)
    Image.new("L", (4, 4)).save("here.png")
    shutil.copytree(dataset.folder, dataset.folder.with_name("elsewhere"))
    found = []
    find = references.find

    def spy(reports: Path, reference: str, split: str | None = None) -> runs.Run:
        found.append(find(reports, reference).run_id)
        raise RunError("an end", "this", "Stop.")

    monkeypatch.setattr(references, "find", spy)
    for reference in ("90c4de", "90c4", IDS[2], "mlp"):
        assert run(*words.format(reference).split())[0] == 1
    assert found == [IDS[2]] * 4
    code, _, err = run(*words.format("3f2a").split())
    assert code == 1
    assert "3f2a1b (logreg-toy-3f2a1b9c0d), 3f2a77 (svm-toy-3f2a77aaaa)" in err


OF_GROUPS = ("bundle make {} -o model.fcb", "review retrain {}")


@pytest.mark.parametrize("words", [*CALLS.values(), *OF_GROUPS])
def test_a_run_determines_its_dataset(
    make: Callable[[str], runs.Run],
    run: Callable[..., Any],
    dataset: Manifest,
    reports: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
) -> None:
    """No --dataset is needed, whatever else is scanned and has runs."""
    Image.new("L", (4, 4)).save("here.png")
    for name in ("other", "elsewhere"):
        shutil.copytree(dataset.folder, dataset.folder.with_name(name))
    for run_id in IDS[:2]:
        make(run_id)
    reports.rename(reports.with_name("other"))
    make(IDS[2])
    folders = []

    def spy(folder: Path, reference: str, split: str | None = None) -> runs.Run:
        folders.append(folder.name)
        raise RunError("an end", "this", "Stop.")

    monkeypatch.setattr(references, "find", spy)
    for reference, owner in ((IDS[2], "chest"), ("3f2a1b", "other"), ("svm", "other")):
        assert run(*words.format(reference).split())[0] == 1
        assert folders == [owner]
        folders.clear()
    for reference in ("1", "toy"):
        code, _, err = run(*words.format(reference).split())
        assert (code, folders) == (1, [])
        assert "several datasets: chest, elsewhere, other" in err


def test_a_run_determines_its_dataset_in_python(
    make: Callable[[str], runs.Run],
    dataset: Manifest,
    reports: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on the command line, for a name and for a run in the hand."""
    shutil.copytree(dataset.folder, dataset.folder.with_name("other"))
    make(IDS[0])
    reports.rename(reports.with_name("other"))
    make(IDS[1])
    folders = {"cache": dataset.folder.parent, "reports": reports.parent}
    names = []

    def spy(manifest: Manifest, *_: object, **__: object) -> None:
        names.append(manifest.dataset)
        raise RunError("an end", "this", "Stop.")

    monkeypatch.setattr("featcache.commands.bundle.make_bundle", spy)
    monkeypatch.setattr("featcache.commands.explain.explain", spy)
    run = runs.load(reports.with_name("other") / "runs" / IDS[0])
    for reference in ("3f2a1b", run):
        with pytest.raises(RunError, match="an end"):
            featcache.bundle(reference, "model.fcb", **folders)
        with pytest.raises(RunError, match="an end"):
            featcache.explain(run=reference, **folders)
    assert names == ["other"] * 4
    with pytest.raises(DatasetError, match="chest, other"):
        featcache.bundle("toy", "model.fcb", **folders)


def test_the_dataset_with_runs_is_meant(
    make: Callable[[str], runs.Run], run: Callable[..., Any], dataset: Manifest
) -> None:
    """An audit without --dataset is of the only one with runs; of several, of none."""
    other = dataset.folder.with_name("other")
    shutil.copytree(dataset.folder, other)
    code, _, err = run("audit")
    assert (code, "several datasets: chest, other" in err) == (1, True)
    make(IDS[0])
    folders = dataset.folder.parent, Path("reports")
    assert references.find_dataset(*folders) == dataset.folder
    assert references.find_dataset(*folders, "other") == other
    shutil.copytree("reports/chest", "reports/other")
    code, _, err = run("audit")
    assert (code, "several datasets: chest, other" in err) == (1, True)


def test_a_short_id_grows_where_it_is_not_alone(
    make: Callable[[str], runs.Run],
) -> None:
    """It has six digits, and more only for the runs that share these."""
    first, other = make("logreg-toy-3f2a1b9c0d"), make("svm-toy-3f2a77aaaa")
    assert (first.short_id, other.short_id) == ("3f2a1b", "3f2a77")
    twin = make("mlp-toy-3f2a1b9d00")
    assert (first.short_id, twin.short_id) == ("3f2a1b9c", "3f2a1b9d")
    assert other.short_id == "3f2a77"


def test_digits_of_the_digest_come_before_other_parts(
    make: Callable[[str], runs.Run], reports: Path
) -> None:
    """A short id means its run, even where another's id has these letters within."""
    make("mlp-toy-90c4de1111")
    make("beef-toy-0090c4de00")
    make("svm-toy-beef000000")
    assert references.find(reports, "90c4de").run_id == "mlp-toy-90c4de1111"
    assert references.find(reports, "beef").run_id == "svm-toy-beef000000"


def test_a_number_is_a_rank(add: Add, reports: Path, run: Callable[..., Any]) -> None:
    """It is the row of the leaderboard that is printed by default, baselines last."""
    worse, best = add("svm", range(40)), add("logreg", range(20), sure=0.6)
    surer = add("mlp", range(30), sure=0.9)
    control = add("majority")
    ids = [row.run_id for row in compare(reports).rows]
    assert ids == [best, surer, worse, control]
    for rank, run_id in enumerate(ids, 1):
        assert references.find(reports, str(rank)).run_id == run_id
    with pytest.raises(RunError, match="a rank from 1 to 4; got 5"):
        references.find(reports, "5")
    with pytest.raises(RunError, match="a rank from 1 to 4; got 0"):
        references.find(reports, "0")
    board = compare(reports, against="2", metric="LOG_LOSS")
    assert (board.against, board.metric) == (surer, "log_loss")


def test_digits_of_a_short_id_are_no_rank(
    make: Callable[[str], runs.Run], reports: Path
) -> None:
    """Four or more digits that begin a short id are that run."""
    make("mlp-toy-1234567890")
    make("svm-toy-9990000000")
    assert references.find(reports, "1234").run_id == "mlp-toy-1234567890"
    assert references.find(reports, "999000").run_id == "svm-toy-9990000000"
    with pytest.raises(RunError, match="a rank from 1 to 2; got 999"):
        references.find(reports, "999")


def test_a_split_narrows_what_a_name_means(add: Add, reports: Path) -> None:
    """Ranks are of its leaderboard, parts of ids of its runs; others are named."""
    splits = {name: {"name": name, "base": name} for name in ("one", "two")}
    first = add("logreg", split=splits["one"])
    second = add("logreg", range(9), backbone="toy2", split=splits["two"], test=8)
    assert references.matching(reports, "logreg") == [first, second]
    for split, run_id in (("one", first), ("two", second)):
        assert references.matching(reports, "logreg", split) == [run_id]
        assert references.matching(reports, "1", split) == [run_id]
    with pytest.raises(RunError, match="`split` to be one of: one, two"):
        references.find(reports, "1", "three")


def test_every_format_has_the_short_id_second(
    make: Callable[[str], runs.Run], reports: Path
) -> None:
    """Terminal, markdown, LaTeX, CSV and JSON have it; the last two the id as well."""
    make(IDS[0])
    make(IDS[2])
    board = compare(reports, against="90c4de")
    assert tables.columns(board)[1] == ("run", False, ["3f2a1b", "90c4de"])
    assert "run" not in tables.drop_first(board)
    assert tables.to_markdown(board).splitlines()[2].startswith("| 1 | 3f2a1b | ")
    assert "1 & 3f2a1b & " in tables.to_latex(board)
    listed = list(csv.DictReader(tables.to_csv(board).splitlines()))
    for row in (listed[0], json.loads(tables.to_json(board))[0]):
        assert list(row)[:3] == ["rank", "run", "run_id"]
        assert (row["run"], row["run_id"]) == ("3f2a1b", IDS[0])
    assert "difference to run 90c4de" in tables.caption(board)


def test_a_narrow_terminal_keeps_the_short_id_whole(
    make: Callable[[str], runs.Run],
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is neither dropped nor folded in 60 columns."""
    make(IDS[0])
    make(IDS[2])
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = run("compare")[1]
    assert "3f2a1b" in out
    assert "90c4de" in out


def test_of_one_recipe_the_newest_is_ranked(add: Add, reports: Path) -> None:
    """As of a training cut short and the whole one: the older one is told, and why."""
    short, whole = add("short", recipe_id="one"), add("whole", recipe_id="one")
    add("other")
    board = compare(reports)
    assert short not in {row.run_id for row in board.rows}
    said = f"run {whole} has the same recipe and is newer"
    assert board.excluded == [f"run {short} is not ranked: {said}"]
    with pytest.raises(RunError, match=f"{short}, which has .* recipe as run {whole}"):
        compare(reports, against=short)


def test_against_a_run_on_the_test_set_alone(add: Add, reports: Path) -> None:
    """It has no row on the training part, for want of predictions there."""
    add("whole", test=4)
    folder = reports / "runs" / add("tested", test=4)
    table = pd.read_csv(folder / "predictions.csv")
    table[table["split"] == "test"].to_csv(folder / "predictions.csv", index=False)
    rewrite(folder)
    with pytest.raises(RunError, match=r"no out-of-fold predictions.*`part='test'`"):
        compare(reports, against="tested")
