"""Stores are exported: what is written is read back."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_store import HEADER, fill, keys, rows
from toy_stores import ONE, PATH, Run, images, with_views

import featcache
from featcache.commands import cache
from featcache.commands.cache import exporting
from featcache.features import store


def read_npz(path: Path) -> tuple[np.ndarray, pd.DataFrame]:
    with np.load(path) as file:
        columns = {"label": "y", "group": "groups"}
        names = {c: columns.get(c, c) for c in exporting.COLUMNS}
        return file["X"], pd.DataFrame({c: file[n] for c, n in names.items()})


def read_table(table: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    names = [c for c in table if c not in exporting.COLUMNS]
    assert names == [f"f{i}" for i in range(len(names))]
    return table[names].to_numpy(np.float32), table[exporting.COLUMNS]


READERS = {
    ".npz": read_npz,
    ".csv": lambda path: read_table(pd.read_csv(path, dtype={"image_id": str})),
    ".parquet": lambda path: read_table(pd.read_parquet(path)),
}


@pytest.mark.parametrize("suffix", cache.WRITERS)
def test_what_is_exported_is_read_back(run: Run, suffix: str) -> None:
    """Each format has the same numbers, ids, labels, groups, views and paths."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    images(0, 2, 1)
    with_views(3, ONE)
    to = Path("out") / f"toy{suffix}"
    code, out, err = run("cache", "export", "toy", "--to", to, "--views", "1")
    assert code == 0, err
    assert out.startswith("6 x 5")
    X, meta = READERS[suffix](to)
    expected = featcache.load(PATH, views=1)
    assert np.array_equal(X, expected.X)
    table = expected.meta[exporting.COLUMNS].reset_index(drop=True)
    pd.testing.assert_frame_equal(meta, table, check_dtype=False)
    assert [p.name for p in to.parent.iterdir()] == [to.name]


def test_export_appends_taps() -> None:
    """Columns of the taps follow those of the embedding."""
    images(0, 1)
    both = {"features": rows(0, 2), "fire4": 10 + rows(0, 2)[:, :2]}
    store.seal(PATH, HEADER, both, keys(0, 2))
    store.publish(PATH, HEADER)
    assert cache.export(PATH, Path("toy.csv"), taps="all").dim == 7
    assert pd.read_csv("toy.csv")[["f5", "f6"]].to_numpy().tolist() == [
        [10, 10], [11, 11],
    ]  # fmt: skip


def test_export_replaces_only_by_force(run: Run) -> None:
    """A file that is there stays, unless --force is given."""
    images(0)
    fill(PATH, (0, 1))
    Path("toy.csv").write_text("mine")
    code, _, err = run("cache", "export", "toy", "--to", "toy.csv")
    assert (code, "--force" in err, Path("toy.csv").read_text()) == (1, True, "mine")
    assert run("cache", "export", "toy", "--to", "toy.csv", "--force")[0] == 0
    assert Path("toy.csv").read_text().startswith("image_id,view")


def test_export_says_what_it_can_write(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another ending, or parquet without pyarrow, is an error with a way out."""
    images(0)
    fill(PATH, (0, 1))
    code, _, err = run("cache", "export", "toy", "--to", "toy.xlsx")
    assert (code, ".npz, .parquet, .csv" in err) == (1, True)
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    code, _, err = run("cache", "export", "toy", "--to", "toy.parquet")
    assert (code, "featcache[parquet]" in err) == (1, True)
