"""Running a study: one file says it all, and what is done is not done again."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from records import make_run
from toy_study import TEXT

from featcache import study
from featcache.commands.compare import Leaderboard
from featcache.dataset.manifest import Manifest
from featcache.dataset.views import Policy
from featcache.errors import DatasetError, UsageError, WeightsError
from featcache.evaluation.run_labels import read_labels
from featcache.study import runner


def test_dry_run(file: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    """--dry-run shows each step and does none."""
    before = sorted(file.parent.rglob("*"))
    code, out, err = run("run", file, "--dry-run")
    assert (code, err) == (0, "")
    names = ["scan", "extract", "extract", "train", "train", "ensemble", "compare"]
    assert [line.split()[0] for line in out.splitlines()] == names
    assert "toynet@32+toynet@48" in out
    code, out, _ = run("run", file, "--dry-run", "--json")
    assert [step["step"] for step in json.loads(out)] == names
    assert sorted(file.parent.rglob("*")) == before


def test_a_wrong_file_costs_nothing(
    file: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    """An error in the last block is told, in one line, before the first is begun."""
    file.write_text(TEXT.replace("formats", "format"))
    before = sorted(file.parent.rglob("*"))
    code, out, err = run("run", file)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "toy.toml, line 42, format of [report]" in err
    assert sorted(file.parent.rglob("*")) == before


@pytest.mark.slow
def test_labels_and_what_is_not_ranked_are_told(
    file: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    """A label stands on every leaderboard; a study tells of what it does not rank."""
    labelled = TEXT.replace('name = "both sizes"', 'name = "both sizes"\nlabel = "2b"')
    file.write_text(labelled)
    assert run("run", file, "--jobs", "1")[0] == 0
    markdown = (file.parent / "reports/chest/toy.md").read_text()
    assert "| 2b |" in markdown
    rows = json.loads(run("compare", "--json")[1])
    assert {row["label"] for row in rows} == {"2b", None}
    file.write_text(labelled.replace("folds = 3", "folds = 4"))
    code, _, err = run("run", file, "--jobs", "1")
    assert (code, "7 runs cannot be compared with these" in err) == (0, True)


def test_a_block_without_a_label_takes_none_away(tmp_path: Path) -> None:
    """Two blocks may have the same run."""
    same = make_run(tmp_path / "reports" / "chest", "logreg-toynet-0123456789")
    for order in (["main", "all"], ["all", "main"]):
        whole = runner.StudyRunner.__new__(runner.StudyRunner)
        whole.study = SimpleNamespace(labels={"main": "1", "all": None})
        whole.runs = {name: [same] for name in order}
        whole.label(tmp_path)
        assert read_labels(tmp_path) == {same.run_id: "1"}


@pytest.mark.slow
def test_audit_and_maps_of_a_study(
    file: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    """[audit] and [explain] are done once, and what is newer than the page is on it."""
    more = "[audit]\nchecklist = 'list.md'\n[explain]\nper_class = 1\nmean = 0\n"
    file.write_text(TEXT.replace("[report]", more + "[report]"))
    code, _, err = run("run", file, "--jobs", "1")
    assert code == 0, err
    home = file.parent / "reports" / "chest"
    (maps,) = home.glob("explain/*/maps.json")
    page = (home / "toy.html").read_text()
    assert "FC001" in page
    assert "When each part was made" in page
    assert maps.parent.name in page.split('id="provenance"')[1]
    assert (file.parent / "list.md").is_file()
    before = stamps(home, "toy.html", "audit.json", "maps.json")
    _, _, err = run("run", file, "--jobs", "1")
    assert "still that of the same images and runs" in err
    assert "- report" not in err
    assert stamps(home, "toy.html", "audit.json", "maps.json") == before
    run("audit")
    _, _, err = run("run", file, "--jobs", "1")
    assert "- report" in err
    file.write_text(file.read_text().replace("per_class = 1", "per_class = 2"))
    _, _, err = run("run", file, "--jobs", "1")
    assert "6 maps of" in err
    assert "- report" in err


def test_an_explain_without_a_run_fails_alone(
    file: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    """Where no run of a network is ranked, the study says so, and audits the data."""
    head = TEXT.split("[[train]]")[0]
    only = '[[train]]\nfrom = "trivial"\nheads = ["logreg"]\n[audit]\n[explain]\n'
    file.write_text(head + only)
    code, _, err = run("run", file, "--jobs", "1")
    assert code == 1
    assert "no run to explain" in err
    assert "There is no run of a network, so no run was checked." in err
    assert (file.parent / "reports/chest/audit.json").is_file()


def stamps(folder: Path, *names: str) -> dict[str, int]:
    """When each file of these names was written; by default each store and run."""
    kept = [p for name in names or ("*.h5", "run.json") for p in folder.rglob(name)]
    return {str(path): path.stat().st_mtime_ns for path in kept}


def figures(board: Leaderboard) -> list[dict[str, Any]]:
    """A leaderboard without what differs from call to call."""
    return [
        {k: v for k, v in row.to_json().items() if not k.endswith("_seconds")}
        for row in board.rows
    ]


def test_a_study(file: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    """It goes from images to leaderboard and reports; a second time nothing is done."""
    code, out, err = run("run", file, "--jobs", "1")
    assert code == 0, err
    # 36 images in two sizes and two views, and once without a network.
    assert "180 embeddings computed, 7 runs trained" in out
    home = file.parent / "reports" / "chest"
    ids = {path.parent.name for path in home.glob("runs/*/run.json")}
    heads = sorted(name.split("-")[0] for name in ids)
    assert heads == ["ensemble", *["logreg"] * 4, *["majority"] * 2]
    assert all(name in (home / "toy.md").read_text() for name in ("logreg", "ensemble"))
    assert "<html" in (home / "toy.html").read_text()
    for step in ("scan", "extract sizes", "train both sizes", "ensemble mean"):
        assert f"- {step}" in err
    before = stamps(file.parent) | stamps(home, "toy.html")
    code, again, _ = run("run", file, "--jobs", "1", "--json")
    record = json.loads(again)
    assert (code, record["computed"], record["trained"]) == (0, 0, [])
    assert {row["run_id"] for row in record["boards"][0]["rows"]} == ids
    assert {name for names in record["runs"].values() for name in names} == ids
    assert stamps(file.parent) | stamps(home, "toy.html") == before
    file.write_text(TEXT + 'metric = "auc"\n')
    assert run("run", file, "--jobs", "1")[0] == 0
    assert stamps(home, "toy.html").items().isdisjoint(before.items())


@pytest.mark.slow
def test_other_stores_change_nothing(
    file: Path, dataset: Manifest, toy: Callable[..., Any], tmp_path: Path
) -> None:
    """A study trains on its own views and stores, whatever else the cache has."""
    toy(dataset, views=3, policy=Policy(seed=5))
    result = study.run(
        study.read(file), tmp_path / "cache", reports=tmp_path / "r", jobs=1
    )
    assert result.failures == []
    runs = [run for found in result.runs.values() for run in found]
    assert {run.record.views for run in runs} == {0, 1}
    assert {(run.record.policy or {}).get("seed", 1) for run in runs} == {1}


REGIONS = r"""
[dataset]
source = "chest"
group_by = '(p\d{3})_'

[[extract]]
name = "all"
backbones = ["${NET}"]
engine = "tensorflow"

[[extract]]
name = "rim"
backbones = ["${NET}"]
engine = "tensorflow"
region = "ring"

[[train]]
name = "both"
heads = ["logreg"]
tune = false
folds = 2
"""


def test_a_train_sees_the_region_of_its_extract(file: Path, tmp_path: Path) -> None:
    """The same backbone shown all and a ring is two feature sets, and two runs."""
    file.write_text(REGIONS)
    done = study.run(
        study.read(file), tmp_path / "cache", reports=tmp_path / "r", jobs=1
    )
    assert done.failures == []
    shown = [run.record.features[0].region for run in done.runs["both"]]
    assert sorted(map(str, shown)) == ["None", "ring"]
    other = 'region = "ring"\ninput_size = 48'
    sets = 'backbones = ["toynet@32+toynet@48"]\nheads = ["logreg"]'
    file.write_text(
        REGIONS.replace('region = "ring"', other).replace('heads = ["logreg"]', sets)
    )
    with pytest.raises(UsageError, match=r"one region per set.*whole in all, ring in"):
        study.read(file)


_KILLED = """
import os, signal, sys
from pathlib import Path
from featcache import study
from featcache.core.progress import Reporter

class Killer(Reporter):
    def progress(self, name, done, total):
        if name == sys.argv[2] and done >= int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

path = Path(sys.argv[1])
study.run(study.read(path), path.parent / "cache", jobs=1, reporter=Killer())
"""


@pytest.mark.slow
def test_killed_and_run_again(file: Path, tmp_path: Path) -> None:
    """A study killed twice on its way and run again ends like one that was not."""
    asked = study.read(file)
    whole = study.run(asked, tmp_path / "one", reports=tmp_path / "r1", jobs=1)
    for what, done in [("toynet@32", 40), ("fits", 5)]:
        killed = subprocess.run(
            [sys.executable, "-c", _KILLED, str(file), what, str(done)],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = study.run(asked, tmp_path / "cache", reports=tmp_path / "reports", jobs=1)
    assert again.failures == []
    assert figures(again.boards[0]) == figures(whole.boards[0])
    for path in tmp_path.glob("r1/chest/runs/*/predictions.csv"):
        other = tmp_path / "reports" / path.relative_to(tmp_path / "r1")
        assert path.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_failures_stop_nothing_else(
    file: Path,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights that cannot be had, and what needs them, are told; the rest is done."""

    def none(row: object) -> Path:
        raise WeightsError("weights", "no connection", "Get them.")

    monkeypatch.setattr(runner, "fetch_weights", none)
    text = TEXT.replace('backbones = ["${NET}"]', 'backbones = ["${NET}", "vgg19"]')
    file.write_text(
        text.replace("[32, 48]", "32").replace("toynet@32+toynet@48", "vgg19")
    )
    code, out, err = run("run", file, "--jobs", "1")
    assert code == 1
    assert "no connection" in err.split("- scan")[0]
    assert "each size: there are no features of vgg19@32" in err
    assert "both sizes: there are no features of vgg19@32" in err
    last = err.splitlines()[-1]
    assert last.startswith("Error: 3 of the steps in ")
    assert "toy.toml failed: " in last
    assert all(name in out for name in ("logreg", "majority", "metadata", "ensemble"))


def test_a_wrong_value_is_told_before_the_long_work(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only the images can tell is looked at right after the scan."""
    monkeypatch.setattr(runner, "extract", lambda *a, **k: pytest.fail("extracted"))
    file.write_text(TEXT.replace("folds = 3", 'exclude = ["label=None"]'))
    with pytest.raises(DatasetError, match="`exclude='label=None'` matches no image"):
        study.run(study.read(file), tmp_path / "cache")
