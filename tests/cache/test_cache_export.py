"""Stores are exported: what is written is read back."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from pyarrow import dataset, parquet
from test_store import HEADER, fill, keys, rows
from toy_stores import ONE, PATH, REPORTS, Run, images, with_views

import featcache
from featcache.commands import cache
from featcache.commands.cache import export_formats, exporting
from featcache.commands.cache.export_formats import COLUMNS
from featcache.dataset import manifest
from featcache.features import store
from featcache.features.store import publication


def read_npz(path: Path) -> tuple[np.ndarray, pd.DataFrame]:
    with np.load(path) as file:
        columns = {"label": "y", "group": "groups"}
        names = {c: columns.get(c, c) for c in COLUMNS}
        return file["X"], pd.DataFrame({c: file[n] for c, n in names.items()})


def read_csv(path: Path) -> tuple[np.ndarray, pd.DataFrame]:
    table = pd.read_csv(path, dtype={"image_id": str})
    names = [c for c in table if c not in COLUMNS]
    assert names == [f"f{i}" for i in range(len(names))]
    return table[names].to_numpy(np.float32), table[COLUMNS]


def read_parquet(path: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """A file or a folder of files, as pandas and pyarrow read both."""
    table = pd.read_parquet(path)
    schema = dataset.dataset(path).schema
    names = [name for name in table if name not in COLUMNS]
    assert names == [name for name in schema.names if name not in COLUMNS]
    assert {str(schema.field(name).type.value_type) for name in names} == {"float"}
    about = json.loads(schema.metadata[b"featcache"])
    assert about["contract_id"] == HEADER.contract_id
    return np.hstack([np.stack(table[name]) for name in names]), table[COLUMNS]


def read_zarr(path: Path) -> tuple[np.ndarray, pd.DataFrame]:
    group = zarr.open_group(path, mode="r")
    assert group.metadata.zarr_format == 3
    assert group.attrs["contract"] == HEADER.contract.to_json()
    taps = group["taps"].arrays() if "taps" in group else ()
    X = np.hstack([group["features"][:], *(array[:] for _, array in taps)])
    return X, pd.DataFrame({name: group[name][:] for name in COLUMNS})


READERS = {
    ".npz": read_npz, ".csv": read_csv, ".parquet": read_parquet, ".zarr": read_zarr
}  # fmt: skip
FORMATS = [(suffix, ()) for suffix in READERS] + [(".parquet", ("--part-rows", "4"))]


@pytest.fixture(autouse=True)
def _in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of two rows of five numbers, and shards of two chunks of one row."""
    monkeypatch.setattr(export_formats, "_BLOCK_BYTES", 40)
    monkeypatch.setattr(export_formats, "_CSV_ROWS", 2)
    monkeypatch.setattr(export_formats, "_CHUNK_BYTES", 20)
    monkeypatch.setattr(export_formats, "_SHARD_BYTES", 40)


@pytest.mark.parametrize(("suffix", "options"), FORMATS)
@pytest.mark.parametrize("limit", [1, 2**30], ids=["part files", "one file"])
def test_what_is_exported_is_read_back(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    options: tuple[str, ...],
    limit: int,
) -> None:
    """Each format has the same numbers, ids, labels, groups, views and paths."""
    monkeypatch.setattr(publication, "PARTS_ABOVE", limit)
    images(0, 2, 1)
    with_views(3, ONE)
    assert fill(PATH, (3, 1)).is_in_parts == (limit == 1)
    to = Path("out") / f"toy{suffix}"
    code, out, err = run("cache", "export", "toy", "--to", to, "--views", "1", *options)
    assert code == 0, err
    assert out.startswith("6 x 5")
    X, meta = READERS[suffix](to)
    expected = featcache.load(PATH, views=1)
    assert np.array_equal(X, expected.X)
    table = expected.meta[COLUMNS].reset_index(drop=True)
    pd.testing.assert_frame_equal(meta, table, check_dtype=False)
    assert [p.name for p in to.parent.iterdir()] == [to.name]
    if options:
        names = ["part-00000.parquet", "part-00001.parquet"]
        assert sorted(path.name for path in to.iterdir()) == names
        assert parquet.ParquetFile(to / names[0]).num_row_groups == 2


@pytest.mark.parametrize("suffix", READERS)
def test_export_appends_taps(suffix: str) -> None:
    """Columns of the taps follow those of the embedding, or stand by themselves."""
    images(0, 1)
    both = {"features": rows(0, 2), "a/b": 10 + rows(0, 2)[:, :2]}
    store.seal(PATH, HEADER, both, keys(0, 2))
    store.publish(PATH, HEADER)
    to = Path(f"toy{suffix}")
    assert cache.export(PATH, to, taps="all").dim == 7
    assert READERS[suffix](to)[0][:, 5:].tolist() == [[10, 10], [11, 11]]
    if suffix == ".parquet":
        assert parquet.read_schema(to).names[-2:] == ["features", "taps/a%2Fb"]


def test_large_arrays_are_sharded() -> None:
    """A file of a Zarr array holds several chunks, each of whole rows."""
    images(*range(5))
    fill(PATH, (0, 5))
    cache.export(PATH, Path("toy.zarr"))
    array = zarr.open_array("toy.zarr/features", mode="r")
    assert (array.chunks, array.shards) == ((1, 5), (2, 5))
    assert len([*Path("toy.zarr/features/c").glob("*/*")]) == 3


def test_the_split_of_the_source_is_exported() -> None:
    """Its train and test come along, where it has them."""
    data = images(0, 1)
    manifest.save(replace(data, table=data.table.assign(split=["train", "test"])))
    fill(PATH, (0, 2))
    cache.export(PATH, Path("toy.parquet"))
    assert pd.read_parquet("toy.parquet")["split"].tolist() == ["train", "test"]


def test_export_replaces_only_by_force(run: Run) -> None:
    """A file that is there stays, unless --force is given."""
    images(0)
    fill(PATH, (0, 1))
    Path("toy.csv").write_text("mine")
    code, _, err = run("cache", "export", "toy", "--to", "toy.csv")
    assert (code, "--force" in err, Path("toy.csv").read_text()) == (1, True, "mine")
    assert run("cache", "export", "toy", "--to", "toy.csv", "--force")[0] == 0
    assert Path("toy.csv").read_text().startswith("image_id,view")


@pytest.mark.parametrize("to", ["toy.zarr", "toy.parquet"])
def test_export_replaces_only_folders_of_its_own(run: Run, to: str) -> None:
    """By --force, and never one with anything else, such as the cache itself."""
    images(0)
    fill(PATH, (0, 1))
    words = ["cache", "export", "toy", "--to", to]
    words += ["--part-rows", "1"] if to == "toy.parquet" else []
    assert run(*words)[0] == 0
    code, _, err = run(*words)
    assert (code, "--force" in err) == (1, True)
    assert run(*words, "--force")[0] == 0
    assert [p.name for p in Path().iterdir() if p.name.startswith(".")] == []
    (Path(to) / "mine.txt").touch()
    code, _, err = run(*words, "--force")
    assert (code, "something else" in err) == (1, True)
    code, _, err = run(*words[:4], "toy.csv", "--part-rows", "5")
    assert (code, "--part-rows of 1 or more, for .parquet alone" in err) == (1, True)
    link = Path(f"link{Path(to).suffix}")
    link.symlink_to(PATH.parent)
    code, _, err = run(*words[:4], link, *words[5:], "--force")
    assert (code, "something else" in err) == (1, True)
    Path("folder.csv").mkdir()
    code, _, err = run(*words[:4], "folder.csv", "--force")
    assert (code, "a folder" in err) == (1, True)


def test_a_cache_with_exports_is_a_cache(run: Run) -> None:
    """What is exported into it disturbs nothing, and is not taken for its own."""
    data = images(0, 1)
    fill(PATH, (0, 2))
    exports = [PATH.with_suffix(s) for s in (".zarr", ".parquet", ".npz")]
    for to in (*exports, Path("cache/toy/x.zarr"), Path("cache/x.zarr")):
        cache.export(PATH, to)
    assert [one.dataset for one in cache.ls_datasets(Path("cache"), REPORTS)] == ["toy"]
    assert not cache.prune(Path("cache"), REPORTS, yes=True).removals
    assert all(one.whole for one in cache.verify([PATH]))
    assert np.array_equal(fill(PATH, (2, 1)).features(), rows(0, 3))
    removed = cache.remove_dataset(Path("cache"), REPORTS, "toy", yes=True)
    assert {*exports, data.folder / "x.zarr"} == {*removed.kept}
    assert all(one.exists() for one in exports)


WRITTEN = ["toy.zarr", "toy.parquet", "parts.parquet", "toy.npz", "toy.csv"]


def interrupted(to: str, monkeypatch: pytest.MonkeyPatch, stop) -> None:
    """Exports, and is stopped when the second block is about to be written."""
    blocks = iter([None, stop])
    matrices, slices = export_formats.Table.matrices, export_formats.Table.blocks

    def step(value):
        call = next(blocks, stop)
        if call:
            call()
        return value

    table = export_formats.Table
    with monkeypatch.context() as patch:
        patch.setattr(table, "matrices", lambda *args: step(matrices(*args)))
        patch.setattr(table, "blocks", lambda *a: map(step, slices(*a)))
        patch.setattr(export_formats.np, "savez", lambda *args, **_: step(step(None)))
        part_rows = 1 if to == "parts.parquet" else None
        cache.export(PATH, Path(to), part_rows=part_rows)


@pytest.mark.parametrize("to", WRITTEN)
def test_an_export_that_ends_early_leaves_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    """A full disk leaves no file; of a kill, the next call removes what is left."""
    images(*range(5))
    fill(PATH, (0, 5))
    before = {*Path().rglob("*")}

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        interrupted(to, monkeypatch, full)
    assert {*Path().rglob("*")} == before
    pid = os.fork()
    if not pid:
        interrupted(to, monkeypatch, lambda: os._exit(9))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert len([path for path in Path().glob(".*")]) == 2
    assert not Path(to).exists()
    cache.export(PATH, Path(to), part_rows=1 if to == "parts.parquet" else None)
    assert READERS[Path(to).suffix](Path(to))[0].shape == (5, 5)
    assert list(Path().glob(".*")) == []


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_store_without_a_part_is_not_exported(
    run: Run, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """The part is named, and nothing is written."""
    monkeypatch.setattr(publication, "PARTS_ABOVE", 1)
    images(*range(8))
    fill(PATH, (0, 6))
    fill(PATH, (6, 2))
    part = store.data_files(PATH)[0]
    content = part.read_bytes()
    part.unlink()
    if damage == "cut":
        part.write_bytes(content[:-100])
    code, _, err = run("cache", "export", "toy", "--to", "toy.zarr")
    assert (code, part.name in err) == (1, True)
    assert [path.name for path in Path().iterdir()] == ["cache"]


def test_export_says_what_it_can_write(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another ending, or a missing package, is an error with a way out."""
    images(0)
    fill(PATH, (0, 1))
    code, _, err = run("cache", "export", "toy", "--to", "toy.xlsx")
    assert (code, ".npz, .parquet, .csv, .zarr" in err) == (1, True)
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    for name in ("parquet", "zarr"):
        code, _, err = run("cache", "export", "toy", "--to", f"toy.{name}")
        assert (code, f"featcache[{name}]" in err) == (1, True)
