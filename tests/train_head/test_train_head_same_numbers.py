"""A run's predictions do not hang on how, where or from which table it was made."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from toys import header, make_dataset, write_store

from featcache.dataset import manifest
from featcache.evaluation import runs

GAUSSIAN = "sklearn.naive_bayes:GaussianNB"
QUICK = ("logreg", "xgboost", "majority", GAUSSIAN)
EVERY = (*QUICK, "softmax", "mlp", "mlp-dropout", "svm")


def predictions(
    folder: Path, heads: tuple[str, ...], **settings: str
) -> dict[str, bytes]:
    """By run_id, the bytes of predictions.csv, from a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_THREADS")}
    jobs = settings.pop("jobs")
    words = [word for name in heads for word in ("-H", name)]
    done = subprocess.run(
        [sys.executable, "-m", "featcache", "train-head", *words, "--jobs", jobs],
        cwd=folder,
        env=environment | settings | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = (folder / "reports" / "chest" / "runs").glob("*/" + runs.PREDICTIONS)
    return {path.parent.name: path.read_bytes() for path in found}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heads", "count", "width"),
    [(EVERY, 150, 300)],
)
def test_jobs_rows_folder_locale_and_hashes_do_not_reach_the_numbers(
    tmp_path: Path, heads: tuple[str, ...], count: int, width: int
) -> None:
    """All of them changed at once, every run has the same id and the same bytes."""
    here, there = tmp_path / "here", tmp_path / "there"
    write_store(make_dataset(here, count), header(), dim=width)
    shutil.copytree(here, there)
    copy = manifest.load(there / "cache" / "chest")
    table = copy.table.sample(frac=1, random_state=0, ignore_index=True)
    manifest.save(replace(copy, table=table))
    once = predictions(here, heads, jobs="1", LC_ALL="C", PYTHONHASHSEED="0")
    again = predictions(
        there,
        heads,
        jobs="2",
        LC_ALL="de_DE.UTF-8",
        PYTHONHASHSEED="1",
        OMP_NUM_THREADS="2",
        OPENBLAS_NUM_THREADS="2",
    )
    assert len(once) == len(heads)
    assert once == again
