"""The command: what goes where, and what it refuses."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_predict_answers import png
from toy_model import COLUMNS, ToyModel, csv_rows

from featcache.dataset import images
from featcache.deploy import opening
from featcache.deploy.opening import Place

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def opened(model: ToyModel, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Puts the toy model behind the command; keeps what it was opened with."""
    calls: list[Any] = []

    @contextmanager
    def open_model(reference: str, place: Place, **options: Any) -> Iterator[ToyModel]:
        calls.append((reference, place, options["refuse"]))
        yield model

    monkeypatch.setattr(opening, "open_model", open_model)
    return calls


@pytest.mark.usefixtures("opened")
def test_the_answers_are_a_csv_on_stdout(run: Run, scans: Path) -> None:
    """One row per image; how many of each status is one line on stderr."""
    code, out, err = run("predict", "run", scans)
    assert code == 0
    table = csv_rows(out)
    assert list(table[0]) == COLUMNS
    statuses = [row["status"] for row in table]
    assert statuses == ["refused", *["ok"] * 3, "unreadable", "ok"]
    assert err.splitlines() == [
        f"Note: {scans}: left out because they are not images: 1 .txt.",
        "6 images: 4 ok, 1 refused, 1 unreadable.",
    ]
    assert table[0]["p_bright"] == table[0]["class"] == table[0]["bright_at_95"] == ""


@pytest.mark.usefixtures("opened")
def test_training_images_are_warned_of(run: Run, scans: Path, model: ToyModel) -> None:
    """In a line that says what not to do; every other row is marked as well."""
    names = ["p0_1.png", "p1_2.png"]
    ids = [images.content_id((scans / name).read_bytes()) for name in names]
    model.training_ids = ids
    code, out, err = run("predict", "run", scans)
    marks = {Path(row["path"]).name: row["in_training"] for row in csv_rows(out)}
    assert code == 0
    assert marks == dict.fromkeys(names, "true") | {
        "p0_0.png": "false", "p1_3.png": "false", "p0_9.png": "false",
        "p1_text.png": "",
    }  # fmt: skip
    last = err.splitlines()[-1]
    assert last.startswith("Warning: 2 of 6 images were in the training set")
    assert "do not compute an accuracy" in last


def test_the_model_is_opened_once_with_its_places(
    run: Run, scans: Path, opened: list[Any]
) -> None:
    """The reference and the folders are passed on."""
    options = ("--dataset", "x", "--cache", "c", "--reports", "r")
    assert run("predict", "abc", scans, *options)[0] == 0
    assert opened == [("abc", Place(Path("c"), Path("r"), "x"), None)]


def test_inputs_are_checked_before_the_model_is_opened(
    run: Run, tmp_path: Path, scans: Path, opened: list[Any]
) -> None:
    """A wrong path or output costs no start of a network; it is one line and code 1."""
    taken = tmp_path / "taken.csv"
    taken.write_text("mine")
    for words in (
        ["gone.png"],
        [scans, "-o", taken],
        [scans, "--format", "parquet"],
    ):
        code, out, err = run("predict", "run", *words)
        assert (code, out, err.count("\n")) == (1, "", 1)
    assert "--output" in err or "--format" in err
    assert (opened, taken.read_text()) == ([], "mine")
    assert run("predict", "run")[0] == 2


@pytest.mark.usefixtures("opened")
def test_paths_come_on_standard_input(
    run: Run, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One per line, as of find."""
    lines = f"{scans}/p1_2.png\n{scans}/gone.png\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    code, out, err = run("predict", "run", "-")
    assert code == 0
    assert [row["status"] for row in csv_rows(out)] == ["ok", "unreadable"]
    assert "No such file" in csv_rows(out)[1]["reason"]
    assert err == "2 images: 1 ok, 0 refused, 1 unreadable.\n"


@pytest.mark.usefixtures("opened")
def test_patients_follow_the_images(run: Run, scans: Path) -> None:
    """With the columns level, group and n_images, which are there only then."""
    code, out, err = run("predict", "run", scans, "--by", r"(p\d)_", "--no-refuse")
    assert code == 0, err
    table = csv_rows(out)
    assert list(table[0]) == [*COLUMNS, "level", "group", "n_images"]
    patients = [row for row in table if row["level"] == "patient"]
    assert table[-2:] == patients
    for row in patients:
        own = [
            r for r in table[:-2] if (r["group"], r["status"]) == (row["group"], "ok")
        ]
        assert int(row["n_images"]) == len(own) == 2
        mean = np.mean([float(r["p_bright"]) for r in own])
        assert abs(mean - float(row["p_bright"])) < 1e-8
    assert table[0]["class"] == "dark"


@pytest.mark.usefixtures("opened")
def test_patients_are_not_named_on_stderr(run: Run, tmp_path: Path) -> None:
    """Images without one are counted there."""
    (tmp_path / "a.png").write_bytes(png(100))
    (tmp_path / "t.csv").write_text("path,patient\na.png,Jane Doe\n./a.png,\n")
    code, out, err = run("predict", "run", "t.csv", "--by", "patient")
    assert (code, len(csv_rows(out))) == (0, 4)
    assert (
        err == "2 images: 2 ok, 0 refused, 0 unreadable; 1 of them have no patient.\n"
    )


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "txt"])
def test_a_file_is_written_whole(run: Run, scans: Path, ending: str) -> None:
    """The format is that of its name, else csv; a file is never written over."""
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    to = Path("out") / f"answers.{ending}"
    code, out, err = run("predict", "run", scans, "-o", to)
    assert (code, out) == (0, f"6 rows: {to}\n")
    assert [path.name for path in to.parent.iterdir()] == [to.name]
    code, out, err = run("predict", "run", scans, "-o", to)
    assert (code, out) == (1, "")
    assert "--force" in err
    assert run("predict", "run", scans / "p1_2.png", "-o", to, "--force")[0] == 0
    data = to.read_bytes()
    expected = {"jsonl": b'{"path":', "parquet": b"PAR1"}.get(ending, b"path,image")
    assert data.startswith(expected)


HEAD = """
import sys
from contextlib import nullcontext
from featcache import cli
from featcache.deploy import opening
from toy_model import ToyModel
opening.open_model = lambda *_, **__: nullcontext(ToyModel())
cli.main(["predict", "run", "--batch-size", "2", *sys.argv[1:]])
"""


@pytest.mark.slow
def test_a_reader_that_leaves_ends_it_quietly(scans: Path) -> None:
    """As with ``| head -n 1``: no traceback, and not all images are answered."""
    folder = Path(__file__).parent
    path = os.pathsep.join([str(folder), str(folder.parent), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD, *[str(scans / "p1_2.png")] * 2000],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline().startswith(b"path,image_id")
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 1
    process.stderr.close()


@pytest.mark.usefixtures("opened")
def test_odd_names_do_not_reach_the_terminal(run: Run, tmp_path: Path) -> None:
    """Names that no table keeps, and those that a terminal obeys, are escaped."""
    names = ["a\nb.png", "\x1b[2J.png", os.fsdecode(b"\xff.png"), "\u202egnp.exe.png"]
    for name in names:
        (tmp_path / "odd").mkdir(exist_ok=True)
        (tmp_path / "odd" / name).write_bytes(png(100))
    for style in ("csv", "jsonl"):
        code, out, _ = run("predict", "run", "odd", "--format", style)
        assert (code, out.count("\n")) == (0, 4 + (style == "csv"))
        assert all(line.isprintable() for line in out.splitlines())
    assert run("predict", "run", "odd", "-o", "out.csv")[0] == 0
    saved = pd.read_csv("out.csv")["path"]
    assert set(saved) == {
        f"odd/{n}" for n in (r"a\nb.png", r"\x1b[2J.png", r"\udcff.png")
    } | {"odd/\u202egnp.exe.png"}
