"""The main job on real X-rays, with a real ImageNet network.

Needs FEATCACHE_REAL_DATA: a folder with data/darkcovid and
weights/squeezenet1_1_imagenet.keras. The figures are those a person reached by hand
with plain scikit-learn, less the noise of another split.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytestmark = pytest.mark.real


def featcache(folder: Path, *arguments: object) -> str:
    """Runs the command line as a user does; returns stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "featcache", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def extract(real_data: Path) -> list[object]:
    """The command that extracts darkcovid with SqueezeNet in three views."""
    return [
        *("extract", real_data / "data" / "darkcovid" / "metadata.csv"),
        *("--group-by", "patient", "--views", "2"),
        *("-b", real_data / "weights" / "squeezenet1_1_imagenet.keras"),
        *("--preprocess", "caffe", "--input-size", "224"),
    ]


@pytest.fixture(scope="module")
def home(extract: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all heads were trained, and two of them with a test part."""
    folder = tmp_path_factory.mktemp("real")
    featcache(folder, *extract)
    featcache(folder, "train-head", "-H", "all", "--test-size", "0")
    featcache(folder, "train-head", "-H", "logreg", "-H", "majority")
    return folder


@pytest.fixture(scope="module")
def board(home: Path) -> dict[str, dict[str, Any]]:
    """The leaderboard without a test part, by head."""
    split = ["--split", "patient-k5-test0-seed0"]
    rows = json.loads(featcache(home, "compare", "--format", "json", *split))
    return {row["head"]: row for row in rows}


@pytest.mark.parametrize(
    ("head", "low", "high"),
    [
        ("logreg", 0.81, 0.85),
        ("xgboost", 0.79, 0.85),
        ("mlp-dropout", 0.78, 0.85),
        ("mlp", 0.77, 0.85),
        ("svm", 0.79, 0.85),
        ("softmax", 0.76, 0.85),
        ("majority", 0.444, 0.446),
        ("softmax-untrained", 0.0, 0.6),
    ],
)
def test_accuracy(board: dict[str, Any], head: str, low: float, high: float) -> None:
    """Each head lands where it did by hand, within the split's noise."""
    assert low <= board[head]["accuracy"] <= high


def test_every_image_counts_once(board: dict[str, Any]) -> None:
    """1124 files hold 1123 pictures (two files are byte-identical), 764 patients."""
    assert {(row["n"], row["n_groups"]) for row in board.values()} == {(1123, 764)}


def test_no_patient_is_on_both_sides(home: Path) -> None:
    """Read from predictions.csv: neither test and train, nor two folds, share one."""
    tables = list(home.glob("reports/darkcovid/runs/*/predictions.csv"))
    assert len(tables) == 8 + 2
    for path in tables:
        folds = pd.read_csv(path).groupby("group")["fold"].nunique()
        assert folds.max() == 1


def test_a_second_time_nothing_is_computed(home: Path, extract: list[object]) -> None:
    """Extract and train-head say that all is there."""
    assert "all cached" in featcache(home, *extract)
    assert "nothing to do" in featcache(home, "train-head", "--test-size", "0")
