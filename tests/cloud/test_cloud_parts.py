"""Plans and parts that are exchanged at a URL, here in memory: no disk is shared."""

import io
import json
import pickle
import random
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exchanged import AT, memory, object_at, write
from servers import WebServer
from test_cloud_sources import BY, Put, table_file
from test_extract_parts import content
from test_regions import masked  # noqa: F401 (a fixture)
from toys import Heard, slow_but

import featcache
from featcache import backbones
from featcache.backbones.engines import convert, int8
from featcache.commands.extract import (
    compute_exchanged,
    extract,
    plan_parts,
    publish_parts,
)
from featcache.commands.scan import scan
from featcache.core import scratch
from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import Region
from featcache.dataset.sources import remote
from featcache.dataset.urls import Url, location
from featcache.dataset.views import Policy
from featcache.errors import (
    ContractError,
    DatasetError,
    UsageError,
)


def undivided(names: list[str], tmp_path: Path, **options: Any) -> Any:
    """The stores of one call on the same images in another cache."""
    other = scan(location("memory://data/chest"), tmp_path / "whole", group_by=BY)
    return extract(
        other.manifest, backbones.resolve_all(names), batch_size=4, **options
    )


def assert_equal(there: Manifest, whole: Any) -> None:
    """The stores are those of an undivided call, byte for byte."""
    for one in whole:
        assert content(one.path) == content(there.folder / "features" / one.path.name)


@pytest.mark.slow
def test_workers_need_the_url_alone(
    there: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order, one part twice: the rows of one call; then nothing is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = ["border", "metadata"]
    plan = plan_parts(
        there,
        backbones.resolve_all(names),
        parts=4,
        batch_size=4,
        views=2,
        exchange="memory://work/shared",
    )
    away = tmp_path / "away"
    shutil.move(there.folder, away)  # of the planner's disk workers see nothing
    order = [0, 1, 2, 3]
    random.Random(5).shuffle(order)
    results = [compute_exchanged(AT, [part], plan=plan.plan) for part in order]
    heard = Heard()
    assert compute_exchanged(AT, [2], reporter=heard) == []
    assert "part 2 of plan" in heard.messages[0]
    assert str(results[0][0].path) == (
        f"memory://work/shared/{plan.plan}/parts/{order[0]:06d}.tar"
    )
    shutil.move(away, there.folder)
    stores = publish_parts(there, exchange=AT)
    assert [one.rows for one in stores] == [108, 108]
    assert_equal(there, undivided(names, tmp_path, views=2))
    assert not [path for path in memory() if "/work/" in path]
    assert not (there.folder / "plans").exists()
    assert not [*tmp_path.glob(f"{scratch.PREFIX}*")]


@pytest.mark.parametrize("precision", slow_but(["float32", "int8"], "float32"))
def test_files_of_a_network_travel(
    there: Manifest,
    toy_network: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:
    """With descriptor and converted network: a worker has, and converts, none of it."""
    own = tmp_path / "net" / "toynet.keras"
    shutil.copytree(toy_network.parent, own.parent)
    options: dict[str, Any] = {"batch_size": 4, "precision": precision}
    options["engine"] = "openvino"
    networks = [backbones.resolve(str(own), preprocess="featurewise")]
    whole = scan(location("memory://data/chest"), tmp_path / "whole", group_by=BY)
    expected = extract(whole.manifest, networks, **options)
    plan_parts(there, networks, parts=3, exchange=AT, **options)
    shutil.move(own.parent, tmp_path / "gone")
    with monkeypatch.context() as patch:
        patch.setattr(convert, "graph", None)
        patch.setattr(int8, "quantise", None)
        compute_exchanged(AT, [2, 0, 1])
    shutil.move(tmp_path / "gone", own.parent)
    publish_parts(there, exchange=AT)
    assert_equal(there, expected)


def test_masks_are_read_at_their_urls(
    in_memory: Put,
    masked: Manifest,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Rows of a region need the masks of a part's images."""
    in_memory(Path(str(masked.root)), "memory://data/masked")
    there = scan(location("memory://data/masked"), tmp_path / "there", group_by=BY)
    options: dict[str, Any] = {
        "policy": Policy(region=Region("inside")),
        "batch_size": 4,
    }
    networks = backbones.resolve_all(["pixels48"])
    plan_parts(there.manifest, networks, parts=3, exchange=AT, **options)
    compute_exchanged(AT, range(3))
    [store] = publish_parts(there.manifest, exchange=AT)
    assert store.rows == 24
    assert_equal(there.manifest, extract(masked, networks, **options))


def test_weights_that_are_not_here_are_no_other_weights(
    planned: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker without the file goes on by the converted network."""
    module = "featcache.commands.extract.plan_changes.backbones.weights_key"
    monkeypatch.setattr(module, lambda _: None)
    assert compute_exchanged(AT, [0])
    monkeypatch.setattr(module, lambda _: "file sha256 00")
    with pytest.raises(ContractError, match="another weights"):
        compute_exchanged(AT, [1])


def test_nothing_but_what_workers_need_is_uploaded(planned: Manifest) -> None:
    """Neither labels nor groups, nor paths of this machine."""
    compute_exchanged(AT, [0])
    for path, file in memory().items():
        if "/work/" in path:
            data = file.getvalue()
            assert str(planned.folder.parent).encode() not in data, path
            assert b'p000"' not in data
            assert b"label" not in data
    with tarfile.open(
        fileobj=io.BytesIO(memory()[object_at(".tar")].getvalue())
    ) as tar:
        assert {(one.mtime, one.uid, one.uname) for one in tar} == {(0, 0, "")}


def test_a_task_reads_its_own_rows(
    planned: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of all rows grows with the dataset; of it one range is fetched."""
    spans: list[tuple[int, int]] = []
    inner = remote.read

    def reading(url: Url, start: int, end: int) -> bytes:
        if url.name == "rows.jsonl":
            spans.append((start, end))
        return inner(url, start, end)

    monkeypatch.setattr(remote, "read", reading)
    compute_exchanged(AT, [3])
    size = len(memory()[object_at("rows.jsonl")].getvalue())
    [(start, end)] = spans
    assert 0 < start < end <= size
    assert end - start < size / 2


def test_missing_parts_are_listed(planned: Manifest, run: Callable[..., Any]) -> None:
    """Nothing is published, what is there is fetched once, and all of it stays."""
    compute_exchanged(AT, [0, 2])
    cache = planned.folder.parent
    words = ["extract", "--dataset", "chest", "--cache", cache, "--publish"]
    code, _, err = run(*words, "--exchange", AT)
    assert code == 1
    assert "got 2: 1,3 to be computed" in err
    assert "featcache extract --exchange memory://work/shared --part 1,3" in err
    assert not [*planned.folder.glob("features/*.h5")]
    assert object_at("000002.tar")
    compute_exchanged(AT, [1, 3])
    write(object_at("000002.tar"), b"of it nobody asks again")
    code, out, err = run(*words, "--exchange", AT)
    assert code == 0, err
    assert "36 rows" in out


def test_images_on_this_disk_are_refused(in_memory: Put, dataset: Manifest) -> None:
    """Before anything is computed."""
    networks = backbones.resolve_all(["border"])
    with pytest.raises(DatasetError, match=r"images at URLs.*got 36 in .*COVID/"):
        plan_parts(dataset, networks, parts=2, exchange=AT)
    assert not (dataset.folder / "plans").exists()


@pytest.mark.slow
def test_a_table_on_this_disk_may_name_images_at_urls(
    in_memory: Put, web: WebServer, image_folder: Path, tmp_path: Path
) -> None:
    """Workers do not look for the folder that it is in."""
    images = sorted(image_folder.rglob("*.png"))
    web.files = {f"/{n}.png": path.read_bytes() for n, path in enumerate(images)}
    rows = {f"{web.url}/{n}.png": path.parent.name for n, path in enumerate(images)}
    table = table_file(image_folder, rows)
    dataset = scan(table, tmp_path / "cache", group_by="image").manifest
    networks = backbones.resolve_all(["border"])
    plan_parts(dataset, networks, parts=2, exchange=AT)
    shutil.rmtree(image_folder)
    assert [part.failures for part in compute_exchanged(AT, [0, 1])] == [[], []]
    image_folder.mkdir()  # the planner still has it
    assert publish_parts(dataset, exchange=AT)[0].rows == 36


@pytest.mark.parametrize("place", ["/mnt/shared", "https://host/folder"])
def test_an_exchange_is_a_folder_in_an_object_store(
    there: Manifest, place: str
) -> None:
    """A path or a web server is refused, and says what is meant."""
    networks = backbones.resolve_all(["border"])
    with pytest.raises(UsageError, match=r"s3://bucket/folder"):
        plan_parts(there, networks, parts=2, exchange=location(place))


def test_commands(there: Manifest, run: Callable[..., Any]) -> None:
    """What the plan prints can be pasted; secrets in the URL are nowhere."""
    cache, url = there.folder.parent, "memory://me:hush@work/shared?sig=hush"
    plan = ["extract", "--dataset", "chest", "--cache", cache, "-b", "border"]
    code, out, err = run(*plan, "--plan-only", "--parts", "2", "--exchange", url)
    assert code == 0, err
    lines = out.replace("\n", " ")
    assert "on any machine: featcache extract --exchange memory://work/shared" in lines
    assert f"featcache extract --cache {cache} --dataset chest --exchange" in lines
    assert "user names, passwords and query strings in URLs are left out" in err
    code, out, err = run("extract", "--exchange", url, "--part", "0,1", "--json")
    assert code == 0, err
    [first, _] = json.loads(out)
    assert first["path"].startswith("memory://work/shared/")
    code, out, err = run(
        "extract", "--cache", cache, "--exchange", url, "--publish", "--json"
    )
    assert code == 0, err
    for file in cache.rglob("*.*"):
        assert b"hush" not in file.read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-b", "border", "--exchange", "s3://b/x"], "--exchange with --plan-only"),
        (["--part", "1", "--exchange", "s3://b/x", "--cache", "c"], "got --cache"),
        (["--part", "1", "--exchange", "s3://b/x", "--dataset", "c"], "got --dataset"),
        (["--part", "1", "--exchange", "shared"], "s3://bucket/folder; got shared"),
    ],
)
def test_words_that_mean_nothing(
    run: Callable[..., Any], words: list[str], message: str
) -> None:
    """They are refused before anything is read."""
    code, _, err = run("extract", *words)
    assert code == 1
    assert message in err


def test_python_does_the_same(there: Manifest, tmp_path: Path) -> None:
    """A plan that knows its exchange goes to workers as a pickle, without secrets."""
    url = "memory://me:hush@work/shared"
    options: dict[str, Any] = {"parts": 2, "batch_size": 4, "progress": False}
    plan = featcache.plan_parts(there, ["border"], exchange=url, **options)
    sent = pickle.dumps(plan)
    assert b"hush" not in sent
    away = shutil.move(there.folder, tmp_path / "away")
    part = featcache.compute_part(pickle.loads(sent), 1, progress=False)
    assert part
    assert str(part.path).startswith(f"memory://work/shared/{plan.name}/parts/")
    assert featcache.compute_part(plan, 1, progress=False) is None
    shutil.move(away, there.folder)
    assert plan.missing == [0]
    featcache.compute_part(plan, 0, progress=False)
    [store] = featcache.publish_parts(plan, progress=False)
    assert store.rows == 36
    assert not [path for path in memory() if "/work/" in path]
