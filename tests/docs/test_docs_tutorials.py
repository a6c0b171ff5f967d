"""The tutorials are followed: their commands run in order, as they stand."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from documents import read, rows

Run = Callable[..., tuple[int, str, str]]


def follow(run: Run, page: str, end: str) -> None:
    """Runs the commands of a page up to a heading; one of them is meant to fail."""
    text = read(f"docs/tutorials/{page}.md").split(f"\n## {end}")[0]
    fails = len(re.findall(r"^Error: ", text, re.MULTILINE))
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            program, *words = shlex.split(line)
            if program == "featcache" and words != ["doctor"]:
                code, _, err = run(*words)
                assert code in (0, 1), (line, err)
                fails -= code
    assert fails == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_first_study_and_the_hospital(run: Run, tmp_path: Path) -> None:
    """The leaderboard has the rows of the page, with accuracies at most 0.02 apart."""
    follow(run, "first-study", "6. The decision")
    board = json.loads(run("compare", "--json")[1])
    found = {(r["backbone"], r["head"]): r["accuracy"] for r in board}
    shown = {
        (row[2].removesuffix(" (random)"), row[3]): float(row[4])
        for row in rows(read("docs/tutorials/first-study.md"))
        if len(row) == 11 and row[0].isdigit()
    }
    assert list(shown) == list(found)
    assert shown == pytest.approx(found, abs=0.02)
    follow(run, "hospital", "5. A page for the reading room")
    assert (tmp_path / "answers.csv").is_file()


@pytest.mark.slow
def test_the_cluster(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The three ways of the page lead to stores with the same features."""
    follow(run, "cluster", "Which one?")
    stores = [*tmp_path.glob("*/xrays/features/mobilenetv2-*.h5")]
    assert sorted(path.parts[-4] for path in stores) == ["cache", "cluster", "dask"]
