"""The page of benchmarks against their tables and scripts."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT, read

sys.path.insert(0, str(ROOT / "benchmarks"))
import figures
import measurements

LISTED = {one.name: one for one in figures.benchmarks()}
TOML = """
[[benchmark]]
name = "toy"
question = "How fast is it?"
command = "toy.py"
short = "toy.py --seconds 3 --other={cleanlab}"
minutes = 1
limits = "Nothing."
[[benchmark.tables]]
by = ["way"]
figures = ["seconds"]
ratio = { figure = "seconds", column = "way", one = "old" }
"""
TOY = """
import sys
from pathlib import Path
sys.path.insert(0, "BENCHMARKS")
from measurements import append
assert sys.argv[1:] == ["--seconds", "3"], sys.argv
append(Path(__file__), [{"way": "new", "seconds": 3}], ["numpy"])
"""


def test_the_page_is_made_of_the_tables() -> None:
    """docs/reference/benchmarks.md is what figures.py writes; if not, run it."""
    assert read(figures.PAGE) == figures.page()


def test_every_benchmark_is_on_the_page() -> None:
    """Each script that appends to a table is in figures.toml, and nothing else."""
    appending = {
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if "append(Path(__file__)" in path.read_text("utf-8")
    }
    assert appending == set(LISTED)


@pytest.mark.parametrize("name", LISTED)
def test_commands_have_options_that_exist(name: str) -> None:
    """Every option of a benchmark's two commands stands in its script."""
    for command in (LISTED[name].command, LISTED[name].short):
        script, *words = command.split()
        text = read(f"benchmarks/{script}")
        for word in words:
            if option := re.match(r"--?[a-z][\w-]*", word):
                assert f'"{option[0]}"' in text, word


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTED)
def test_benchmarks_start(name: str) -> None:
    """Each script loads what it imports and describes itself."""
    command = [sys.executable, f"benchmarks/{name}.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


def table(times: list[tuple[str, str, float]]) -> list[dict[str, str]]:
    """Rows of a benchmark: hour, way, seconds."""
    about = {"machine": "toy", "versions": "numpy 2"}
    return [
        {"date": f"2026-01-01T{hour}+00:00", "way": way, "seconds": str(seconds)}
        | about
        for hour, way, seconds in times
    ]


def test_rows_are_medians_of_their_latest_run() -> None:
    """Runs of a row that are more than an hour apart are not mixed."""
    old = [("01:00", "old", 9), ("05:00", "old", 2), ("05:10", "old", 6)]
    rows = table([*old, ("05:20", "old", 4), ("05:30", "new", 1)])
    one = figures.Table(
        by=["way"],
        figures=["seconds"],
        ratio={"figure": "seconds", "column": "way", "one": "old"},
    )
    lines = figures.lines(one, rows)
    assert lines[0] == "| way | seconds | seconds: old / this | n |"
    assert lines[2:4] == ["| new | 1 | 4 | 1 |", "| old | 4 | 1 | 3 |"]
    assert lines[-1] == "*2026-01-01: toy; numpy 2.*"


def test_a_new_column_is_added_to_the_table(tmp_path: Path) -> None:
    """Rows of before are kept, and have nothing in a column that came later."""
    script = tmp_path / "toy.py"
    for row in ({"a": 1}, {"a": 2}, {"a": 3, "b": 4}, {"a": 5, "b": 6}):
        measurements.append(script, [row], ["numpy"])
    rows = measurements.read(script.with_suffix(".csv"))
    assert [(row["a"], row["b"]) for row in rows] == [
        ("1", ""), ("2", ""), ("3", "4"), ("5", "6"),
    ]  # fmt: skip


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs figures.py on a folder with one toy benchmark; gives the page."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    toy = TOY.replace("BENCHMARKS", str(ROOT / "benchmarks"))
    (folder / "toy.py").write_text(toy)
    (tmp_path / "README.md").write_text("# Toys\nMeasured by benchmarks/toy.py.")

    def run(toml: str = TOML) -> str:
        (folder / "figures.toml").write_text(toml)
        monkeypatch.setattr(sys, "argv", ["figures.py", "--run"])
        figures.main(folder)
        return (tmp_path / figures.PAGE).read_text()

    return run


def test_figures_runs_the_short_form_and_writes_the_page(
    toys: Callable[..., str],
) -> None:
    """Options of tools that are not there are left out; quoting pages are linked."""
    page = toys()
    assert "| new | 3 |  | 1 |" in page
    assert "Quoted in: [Toys](../../README.md)." in page


def test_what_cannot_run_is_left_out_with_the_reason(
    toys: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Without the real data a benchmark that needs it is not run."""
    monkeypatch.delenv("FEATCACHE_REAL_DATA", raising=False)
    page = toys(TOML.replace("minutes = 1", 'minutes = 1\nneeds = ["real"]'))
    assert "Not measured yet." in page
    assert "toy is left out: needs $FEATCACHE_REAL_DATA" in capsys.readouterr().out
