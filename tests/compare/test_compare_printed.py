"""How the leaderboard is printed: options, the line, repeats, widths, warnings."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from records import make_run
from toy_board import CLASSES, Add

from featcache.commands.compare import compare, confusion
from featcache.evaluation import references
from featcache.evaluation.run_labels import write_labels
from featcache.report import tables


def test_options_tell_runs_apart(add: Add, reports: Path) -> None:
    """Tuning, transform, PCA and calibration are shown where they differ."""
    embedding = {"transform": "sqrt", "pca": 64}
    tuning = [{"fold": 0, "selected": {"C": 1}}]
    found = {"method": "temperature", "kept": True}
    add("logreg", range(4), recipe_id="plain")
    first = reports / "runs" / "logreg-toy-0"
    first.rename(first.with_name("logreg-toy-plain"))
    add(
        "logreg",
        head_is={"embedding": embedding},
        calibration=found,
        taps=["a", "b"],
        tuning=tuning,
    )
    board = compare(reports)
    told = ["2 taps, tuned, transform sqrt, pca 64, temperature", ""]
    assert [row.options for row in board.rows] == told
    shown = {heading: cells for heading, _, cells in tables.columns(board)}
    assert shown["options"] == told
    add("svm")
    assert "options" in dict.fromkeys(h for h, *_ in tables.columns(compare(reports)))


def test_features_tell_runs_apart(add: Add, reports: Path) -> None:
    """Size, precision and views: only what rows do not share; scaling always."""
    block = {"preprocess": "caffe", "precision": "float32", "dtype": "float32"}
    policy = {"flip": True, "brightness": [0.8, 1.25], "seed": 0}
    others = [
        {},
        {"features": [block | {"precision": "int8"}]},
        {"features": [block | {"dtype": "float16"}]},
        {"features": [block | {"preprocess": "tf"}]},
        {"input_size": 320},
        {"policy": policy | {"flip": False, "brightness": [1, 1]}},
        {"views": 0},
    ]
    usual = {"input_size": 224, "features": [block], "views": 2, "policy": policy}
    usual["tta"] = True
    for i, other in enumerate(others):
        record = usual | other | {"recipe_id": str(i), "tuning": [{"fold": 0}]}
        made = add("logreg", range(i), **record)
        run = reports / "runs" / made
        run.rename(run.with_name(f"{made}-{i}"))
    shown = {name: cells for name, _, cells in tables.columns(compare(reports))}
    assert shown["options"] == [
        "224 px, --brightness 0.8,1.25",
        "224 px, int8, --brightness 0.8,1.25",
        "224 px, float16, --brightness 0.8,1.25",
        "224 px, --brightness 0.8,1.25",
        "320 px, --brightness 0.8,1.25",
        "224 px, --no-flip, --brightness 1,1",
        "224 px",
    ]
    assert shown["preprocess"] == [*["caffe"] * 3, "tf", *["caffe"] * 3]


def test_runs_of_the_test_set_alone_stand_apart(
    add: Add, reports: Path, run: Callable[..., Any]
) -> None:
    """Every form has them behind the others, with their test accuracy and no rank."""
    add("good", range(20), test=10)
    add("majority", range(60), test=10)
    one = references.find(reports, "good")
    table = one.table[one.table["split"] == "test"]
    about = {"classes": CLASSES, "evaluation_id": one.record.evaluation_id}
    make_run(reports, "finetune-net", table, head="finetune", **about)
    board = compare(reports)
    assert (len(board.rows), board.excluded) == (2, [])
    assert tables.parts(board) == {
        1: tables.CONTROLS_HEADING, 2: tables.TEST_ONLY_HEADING
    }  # fmt: skip
    cells = {name: cells[-1] for name, _, cells in tables.columns(board)}
    assert cells["accuracy"] == cells["tied"] == cells["diff"] == ""
    assert cells["options"] == "test set only"
    assert cells["test"] == "0.000"
    assert "*Test set only: no" in tables.to_markdown(board)
    assert tables.to_latex(board).count("midrule") == 3
    lines = list(csv.DictReader(io.StringIO(tables.to_csv(board))))
    assert [line["is_test_only"] for line in lines] == ["False", "False", "True"]
    assert lines[-1]["accuracy"] == ""
    assert json.loads(tables.to_json(board))[-1]["accuracy"] is None
    _, out, _ = run("compare")
    assert "test set only: 1 further" in out
    assert not any(row.is_test_only for row in compare(reports, part="test").rows)


def test_labels_are_on_the_board(add: Add, reports: Path) -> None:
    """What a study calls a run is a column; a run without a label has none."""
    name = add("good")
    add("poor", range(60))
    write_labels(reports, {name: "2b"})
    shown = {name: cells for name, _, cells in tables.columns(compare(reports))}
    assert shown["label"] == ["2b", ""]
    write_labels(reports, {name: None})
    headings = [heading for heading, *_ in tables.columns(compare(reports))]
    assert "label" not in headings
    (reports / "labels.json").write_text("[broken")
    assert compare(reports).rows[0].label is None


def test_the_line_is_drawn_in_every_format(add: Add, reports: Path) -> None:
    """Markdown has a row, LaTeX a rule, and both give difference, p and the mark."""
    add("good", range(4))
    add("twin", range(2, 6))
    add("poor", range(60))
    add("majority", range(90))
    board = compare(reports)
    markdown = tables.to_markdown(board).splitlines()
    assert tables.CONTROLS_HEADING in markdown[5]
    assert "| tied |" in markdown[3]
    assert "| -0.280 | -0.369 to -0.191 | <0.001 |" in markdown[4]
    latex = tables.to_latex(board)
    assert latex.count(r"\midrule") == 2
    assert r"$-0.280$ & $-0.369$ to $-0.191$ & $<$0.001" in latex
    assert json.loads(tables.to_json(board))[0]["p"] is None
    header, *lines = tables.to_csv(board).splitlines()
    assert header.split(",") == list(board.rows[0].to_json())
    assert len(lines) == 4


def test_repeats_are_shown(add: Add, reports: Path) -> None:
    """The column has mean, spread and count, and is not there without repeats."""
    add("good", range(10))
    headings = [heading for heading, *_ in tables.columns(compare(reports))]
    assert "repeats" not in headings
    add("good", range(14), repeat=1)
    shown = {heading: cells for heading, _, cells in tables.columns(compare(reports))}
    assert shown["repeats"] == ["0.940 ± 0.014 (2)"]


@pytest.mark.parametrize("width", [72, 80, 100, 120])
def test_a_narrow_terminal_drops_whole_columns(
    add: Add, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Every cell that is shown is whole; what is not shown is named on stderr."""
    long = "squeezenet1_1_imagenet@224+squeezenet1_1_imagenet@320"
    add("mlp-dropout", range(4), backbone=long, test=10)
    add("logreg", range(30), test=10)
    add("majority", range(60), test=10)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    code, out, err = run("compare")
    assert code == 0, err
    text = re.sub(r"\x1b\[[0-9;]*m", "", out)
    table = text[: text.index("chest:")]
    assert max(map(len, table.splitlines())) <= width
    board = compare(Path("reports/chest"))
    dropped = set(re.findall(r"[\w% -]+(?=[,.])", err.split("columns:")[1]))
    shown = 0
    for heading, numeric, cells in tables.columns(board):
        if numeric and heading not in {name.strip() for name in dropped}:
            shown += 1
            assert all(cell in table for cell in [heading, *cells])
    assert shown >= 3
    assert "95 %" in table
    assert (width < 80) == bool(re.search(r" test[,.]", err))
    legend = text[text.index("chest:") :]
    assert ("; ranks: which" in legend) == (" ranks" not in err)


def test_differences_are_shown_at_any_width(
    add: Add, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--against shows them with their intervals, beside the runs or below the table."""
    add("good", range(4))
    poor = add("poor", range(60))
    rows = compare(Path("reports/chest"), against=poor).rows
    ends = f"{rows[0].difference_low:+.3f} to {rows[0].difference_high:+.3f}"
    monkeypatch.setenv("FORCE_COLOR", "1")
    for width, below in ((80, True), (200, False)):
        monkeypatch.setenv("COLUMNS", str(width))
        code, out, _ = run("compare", "--against", "poor")
        assert (code, ends in out) == (0, True)
        sentence = f"(good) {rows[0].difference:+.3f} ({ends})"
        assert (sentence in out) == below


def test_runs_as_arguments_are_refused_with_the_option(run: Callable[..., Any]) -> None:
    """Who names two runs is told how to test one against the other."""
    code, out, err = run("compare", "1", "a b")
    assert (code, out) == (2, "")
    assert "featcache compare --against 'a b'" in err


def test_warnings_go_to_stderr(add: Add, run: Callable[..., Any]) -> None:
    """The command prints the warning beside the table and not in it."""
    add("poor", range(60))
    add("logreg", backbone="border", weights="none")
    code, out, err = run("compare", "--against", "border")
    assert code == 0
    assert "Warning: the best run, poor-toy-0" in err
    assert "Warning" not in out
    assert len(json.loads(run("compare", "--json")[1])) == 2


def test_markdown_has_the_warning_and_what_was_not_ranked(
    add: Add, run: Callable[..., Any]
) -> None:
    """They stand below the table, so that who copies it copies them."""
    add("good")
    add("logreg", range(0, 40, 2), backbone="border", weights="none")
    add("lost", repeat=1)
    _, out, err = run("compare", "--format", "markdown")
    below = out[out.index("chest:") :]
    words = (
        "80 % of what the network gains over guessing can be had from the border alone"
    )
    assert f"- **Warning:** {words}" in below
    assert f"Warning: {words}" in err
    assert "- Not ranked: 1 repeat of runs that are not in the table" in below


def test_confusion_has_the_scores_of_each_class(add: Add, reports: Path) -> None:
    """Sensitivity and specificity are read from the rows; both parts are there."""
    add("good", range(0, 80, 4), test=20)
    matrix = confusion(references.find(reports, "good"))
    assert matrix.test is not None
    assert matrix.test.sum() + matrix.train.sum() == 200
    for part, counts in (("train", matrix.train), ("test", matrix.test)):
        shares = np.diag(counts) / counts.sum(axis=1)
        assert matrix.scores[part]["sensitivity"] == pytest.approx(shares)
        assert matrix.scores[part]["specificity"] == pytest.approx(shares[::-1])
    rows = tables.confusion_parts(matrix)["test"]
    assert rows[0][-3] == f"{matrix.scores['test']['sensitivity'][0]:.3f}"


@pytest.mark.parametrize(
    "ignored",
    [["--format", "csv"], ["--metric", "auc"], ["--html"], ["--on", "test"],
     ["--against", "good"], ["--format", "table"]],
    ids=" ".join,
)  # fmt: skip
def test_confusion_ignores_no_option(
    add: Add, run: Callable[..., Any], ignored: list[str]
) -> None:
    """What only a leaderboard has is refused beside it, even with its default."""
    add("good", range(4))
    code, out, err = run("compare", "--confusion", "good", *ignored)
    assert (code, out) == (1, "")
    assert f"got {ignored[0]}." in err


def test_confusion_obeys_the_split(add: Add, run: Callable[..., Any]) -> None:
    """A rank or a part of an id is that of a run of this split."""
    add("good", range(4))
    other = {"name": "other", "base": "other"}
    later = add("good", range(9), backbone="later", split=other, test=8)
    for name in ("1", "good"):
        code, out, _ = run("compare", "--confusion", name, "--split", "other")
        assert (code, later in out) == (0, True)
        code, out, _ = run("compare", "--confusion", name, "--split", "first")
        assert (code, later in out) == (0, False)


def test_one_format_at_a_time(add: Add, run: Callable[..., Any]) -> None:
    """--json is a format."""
    add("good", range(4))
    code, _, err = run("compare", "--json", "--format", "csv")
    assert code == 1
    assert "expected --json or --format; got both" in err


def test_spreadsheets_and_markdown_get_text_alone(add: Add, reports: Path) -> None:
    """A name that begins like a formula or holds a tag is neither."""
    add("good", range(4), backbone="=1+1")
    add("<img src=x>|", range(60), backbone="@SUM(A1)", weights="-x")
    board = compare(reports)
    table = pd.read_csv(io.StringIO(tables.to_csv(board)), dtype=str)
    assert table["backbone"].tolist() == ["'=1+1", "'@SUM(A1)"]
    assert table["weights"].tolist() == ["imagenet", "'-x"]
    assert table["accuracy"].astype(float).between(0, 1).all()
    assert r"| &lt;img src=x>\| |" in tables.to_markdown(board)


def test_a_table_shows_no_hidden_character(add: Add, run: Callable[..., Any]) -> None:
    """What a terminal would obey is spelled out, in results and messages."""
    add("good\x1b[2J", range(4), backbone="a\u202eb")
    add("poor", range(60), status="ok")
    for words in (["compare"], ["compare", "--format", "markdown"]):
        _, out, err = run(*words)
        assert not {"\x1b", "\u202e"} & {*out, *err}
        assert r"good\x1b[2J" in out
