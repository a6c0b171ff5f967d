"""Rules of sources at URLs, whatever serves them: here files in memory."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from test_images import encode
from toys import picture

import featcache
from featcache import backbones
from featcache.commands.cache.datasets import ls_datasets
from featcache.commands.extract import extract
from featcache.commands.scan import scan
from featcache.core.io import read_json
from featcache.dataset.sources import list_source, read_bytes
from featcache.dataset.sources.inputs import open_inputs
from featcache.dataset.urls import Url, location
from featcache.errors import DatasetError

Put = Callable[[Path, str], None]
BY = r"(p\d{3})_"


def table_file(folder: Path, rows: dict[str, str], name: str = "metadata.csv") -> Path:
    """A CSV of paths and labels."""
    path = folder / name
    pd.DataFrame({"path": [*rows], "label": [*rows.values()]}).to_csv(path, index=False)
    return path


def rows_of(path: Path) -> list[tuple[str, bytes]]:
    """The image_id and the features of each row of a store, by image_id."""
    features = featcache.load(path)
    rows = zip(features.meta["image_id"], features.X, strict=True)
    return sorted((str(image_id), row.tobytes()) for image_id, row in rows)


def packed(folder: Path, path: Path) -> Path:
    """The files of a folder as a zip."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    return path


def test_a_folder_at_a_url_is_scanned_as_one_here(
    in_memory: Put, image_folder: Path, tmp_path: Path
) -> None:
    """The manifest is the same; its root is the URL, its name that of the folder."""
    in_memory(image_folder, "memory://data/chest")
    here = scan(image_folder, tmp_path / "here", group_by=BY)
    there = scan(location("memory://data/chest/"), tmp_path / "there", group_by=BY)
    assert there.manifest.table.equals(here.manifest.table)
    assert there.manifest.dataset == "chest"
    assert there.manifest.settings.source == "memory://data/chest"
    assert there.manifest.root == Url.of("memory://data/chest")
    again = scan(location("memory://data/chest"), tmp_path / "there")
    assert (again.n_new, again.changed) == (0, False)
    [entry] = ls_datasets(tmp_path / "there", tmp_path)
    assert (entry.source, entry.state) == ("memory://data/chest", "")


@pytest.mark.parametrize("form", ["folder", "zip", "table"])
def test_features_are_those_of_the_files_here(
    in_memory: Put, image_folder: Path, tmp_path: Path, form: str
) -> None:
    """From a folder, a zip or a table at a URL: the same rows, byte for byte."""
    sources = {"folder": image_folder, "zip": packed(image_folder, tmp_path / "c.zip")}
    names = sorted(p.relative_to(image_folder) for p in image_folder.rglob("*.png"))
    rows = {str(name): name.parts[0] for name in names}
    sources["table"] = table_file(image_folder, rows)
    url = {"folder": "memory://d/c", "zip": "memory://d/c.zip"}.get(
        form, "memory://d/c/metadata.csv"
    )
    in_memory(image_folder if form == "table" else sources[form], url.removesuffix(
        "/metadata.csv"))  # fmt: skip
    features = []
    for number, source in enumerate((image_folder, location(url))):
        cache = tmp_path / f"cache{number}"
        dataset = scan(source, cache, group_by=BY).manifest
        [result] = extract(dataset, backbones.resolve_all(["pixels48"]))
        assert (result.computed, result.failures) == (36, [])
        features.append(rows_of(result.path))
    assert features[0] == features[1]


def test_a_table_names_urls_and_files_beside_it(
    in_memory: Put, image_folder: Path, tmp_path: Path
) -> None:
    """A table may lie anywhere; what it names and is not there is unreadable."""
    in_memory(image_folder, "memory://far/chest")
    names = sorted(p.name for p in (image_folder / "COVID").glob("*.png"))
    rows = {f"memory://far/chest/COVID/{name}": "COVID" for name in names}
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "n.png").write_bytes(encode(picture(5, 90)))
    in_memory(tmp_path / "t", "memory://near/t")
    rows |= {"./n.png": "N", "gone\\x.png": "N"}
    in_memory(table_file(tmp_path / "t", rows), "memory://near/t/metadata.csv")
    result = scan(location("memory://near/t/metadata.csv"), tmp_path, group_by="image")
    assert result.counts == {"COVID": 12, "N": 1}
    reason = "cannot be read: no such file at near"
    assert result.unreadable == [("gone/x.png", reason)]


def test_a_table_at_a_url_names_no_file_of_this_machine(
    in_memory: Put, tmp_path: Path
) -> None:
    """Who writes the table must not make this machine read its own files."""
    rows = {"ssh://host/x.png": "A", "reference://x/y.png": "B", "x.png": "B"}
    in_memory(table_file(tmp_path, rows), "memory://a/metadata.csv")
    with pytest.raises(DatasetError, match=r"missing: (ssh|reference)://"):
        list_source(location("memory://a/metadata.csv"))
    rows = {f"file://{tmp_path}/metadata.csv": "A", f"{tmp_path}/metadata.csv": "B"}
    in_memory(table_file(tmp_path, rows), "memory://a/metadata.csv")
    listing = list_source(location("memory://a/metadata.csv"))
    for path in listing.table["path"]:
        with pytest.raises(FileNotFoundError, match="no such file at a"):
            read_bytes(listing.root, path)


def test_no_secret_is_written(
    in_memory: Put, image_folder: Path, tmp_path: Path
) -> None:
    """Neither of the source nor of a row or mask; a warning says that."""
    in_memory(image_folder, "memory://d/chest")
    names = sorted(p.relative_to(image_folder) for p in image_folder.rglob("*.png"))
    rows = {f"memory://hush@d/chest/{n}?sig=hush": n.parts[0] for n in names}
    table = table_file(tmp_path, rows)
    frame = pd.read_csv(table).assign(mask="memory://hush@d/m.png?hush")
    frame.to_csv(table, index=False)
    in_memory(table, "memory://d/t/metadata.csv")
    source = location("memory://hush:hush@d/t/metadata.csv?token=hush")
    result = scan(source, tmp_path / "cache", group_by=BY)
    assert [w for w in result.warnings if "query strings in URLs are left out" in w]
    for file in (tmp_path / "cache").rglob("*.*"):
        assert b"hush" not in file.read_bytes()
    assert "hush" not in repr(result)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://d/none", "files below memory://d/none; got none"),
        ("memory://d/none.zip", "no such file at d: memory://d/none.zip"),
        ("memory://d/none.csv", "no such file at d"),
        ("memory://d/bad.zip", "not a complete zip file"),
        ("https://host/folder", "a web server does not list its folders"),
        ("nonsense://d/x", "a protocol such as s3"),
    ],
)
def test_sources_that_are_refused(
    in_memory: Put, tmp_path: Path, url: str, message: str
) -> None:
    """In one line that names the URL."""
    (tmp_path / "bad.zip").write_bytes(b"PK no zip")
    in_memory(tmp_path / "bad.zip", "memory://d/bad.zip")
    with pytest.raises(DatasetError, match=message):
        list_source(location(url))


def test_the_extra_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The core installation has no fsspec."""
    monkeypatch.setattr("featcache.dataset.sources.remote.find_spec", lambda _: None)
    with pytest.raises(DatasetError, match=r"pip install 'featcache\[cloud\]'"):
        list_source(location("s3://bucket/x"))


def test_a_changed_object_is_noticed(
    in_memory: Put, image_folder: Path, tmp_path: Path
) -> None:
    """Between scan and extraction; one that is gone as well."""
    in_memory(image_folder, "memory://d/chest")
    dataset = scan(location("memory://d/chest"), tmp_path, group_by=BY).manifest
    changed, gone = dataset.table["path"].iloc[[0, 1]]
    from fsspec.implementations.memory import MemoryFileSystem

    other = (image_folder / dataset.table["path"].iloc[5]).read_bytes()
    MemoryFileSystem().pipe_file(f"memory://d/chest/{changed}", other)
    MemoryFileSystem().rm(f"memory://d/chest/{gone}")
    [result] = extract(dataset, backbones.resolve_all(["pixels48"]), max_bad=0.1)
    assert result.failures == [
        (changed, "changed since the scan"),
        (gone, "cannot be read: no such file at d"),
    ]


def test_a_zip_that_was_replaced_is_read_anew(
    in_memory: Put, image_folder: Path, tmp_path: Path
) -> None:
    """The next scan in the same process sees its new members."""
    in_memory(packed(image_folder, tmp_path / "c.zip"), "memory://d/c.zip")
    assert len(list_source(location("memory://d/c.zip")).table) == 36
    (image_folder / "COVID" / "new.png").write_bytes(encode(picture(9, 90)))
    in_memory(packed(image_folder, tmp_path / "c.zip"), "memory://d/c.zip")
    assert len(list_source(location("memory://d/c.zip")).table) == 37


def test_inputs_by_url(in_memory: Put, image_folder: Path, tmp_path: Path) -> None:
    """An image, a folder, a zip, a table and standard input, by their endings."""
    in_memory(image_folder, "memory://d/chest")
    in_memory(packed(image_folder, tmp_path / "c.zip"), "memory://d/c.zip")
    in_memory(table_file(tmp_path, {"chest/x.png?s": "A"}), "memory://d/t.csv")
    first = sorted((image_folder / "COVID").glob("*.png"))[0]
    one = f"memory://d/chest/COVID/{first.name}"
    [image] = open_inputs([f"{one}?sig=hush"])
    assert (image.path, image.read()) == (one, first.read_bytes())
    counts = ["memory://d/chest", "memory://d/c.zip", "memory://d/t.csv"]
    assert [open_inputs([url]).total for url in counts] == [36, 36, 1]
    paths = {i.path for i in open_inputs(["memory://d/c.zip"])}
    assert f"memory://d/c.zip/COVID/{first.name}" in paths
    [image] = open_inputs(["-"], [f"{one}?sig=hush\n".encode()])
    assert (image.path, image.below) == (one, first.name)


def test_the_command_line_takes_urls(
    in_memory: Put,
    image_folder: Path,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scan and extract; no record of the call holds a secret."""
    in_memory(image_folder, "memory://d/chest")
    source = "memory://me:hush@d/chest?sig=hush"
    words = ["extract", source, "-b", "pixels48", "--group-by", BY]
    monkeypatch.setattr("sys.argv", ["featcache", *words])
    code, out, err = run(*words)
    assert code == 0, err
    assert "chest" in out
    assert "query strings in URLs are left out" in err
    [record] = Path("cache/chest").glob("extract-*.json")
    assert read_json(record)["command"][2] == "memory://d/chest"
    assert "hush" not in json.dumps(read_json(record)) + out + err
    code, _, err = run("scan", "memory://d/none?hush")
    assert (code, "hush" in err) == (1, False)
