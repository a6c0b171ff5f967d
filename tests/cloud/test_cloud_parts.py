"""Plans and parts that are exchanged at a URL, here in memory: no disk is shared."""

import io
import json
import random
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import WebServer
from test_cloud_sources import BY, Put, table_file
from test_extract_parts import content
from toys import Heard

from featcache import backbones
from featcache.backbones.engines import convert
from featcache.commands.extract import (
    compute_exchanged,
    exchanging,
    extract,
    plan_parts,
    publish_parts,
)
from featcache.commands.extract.exchange import Exchange
from featcache.commands.scan import scan
from featcache.core import checked, scratch
from featcache.dataset.manifest import Manifest
from featcache.dataset.sources import objects, remote
from featcache.dataset.urls import Url, location
from featcache.errors import (
    ContractError,
    DatasetError,
    StoreError,
    UsageError,
)

AT = location("memory://work/shared")


@pytest.fixture
def there(in_memory: Put, image_folder: Path, tmp_path: Path) -> Manifest:
    """36 images at a URL, in the cache of the machine that plans."""
    in_memory(image_folder, "memory://data/chest")
    return scan(
        location("memory://data/chest"), tmp_path / "there", group_by=BY
    ).manifest


@pytest.fixture
def planned(there: Manifest) -> Manifest:
    """The same with a plan of one baseline in 4 parts, at a URL."""
    networks = backbones.resolve_all(["border"])
    plan_parts(there, networks, parts=4, batch_size=4, exchange=AT)
    return there


def memory() -> dict[str, Any]:
    """What is at memory://, by path."""
    from fsspec.implementations.memory import MemoryFileSystem

    return MemoryFileSystem.store


def object_at(ending: str) -> str:
    """The path of the only object whose name ends so."""
    [path] = [path for path in memory() if path.endswith(ending)]
    return path


def write(path: str, data: bytes) -> None:
    """Puts other bytes where an object is."""
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem().pipe_file(path, data)


def undivided(there: Manifest, names: list[str], tmp_path: Path, **options: Any) -> Any:
    """The stores of one call on the same images in another cache."""
    other = scan(location("memory://data/chest"), tmp_path / "whole", group_by=BY)
    return extract(
        other.manifest, backbones.resolve_all(names), batch_size=4, **options
    )


def assert_equal(there: Manifest, whole: Any) -> None:
    """The stores are those of an undivided call, byte for byte."""
    for one in whole:
        assert content(one.path) == content(there.folder / "features" / one.path.name)


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
    assert_equal(there, undivided(there, names, tmp_path, views=2))
    assert not [path for path in memory() if "/work/" in path]
    assert not (there.folder / "plans").exists()
    assert not [*tmp_path.glob(f"{scratch.PREFIX}*")]


def test_files_of_a_network_travel(
    there: Manifest, toy_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With descriptor and converted network: a worker has, and converts, none of it."""
    own = tmp_path / "net" / "toynet.keras"
    shutil.copytree(toy_network.parent, own.parent)
    options: dict[str, Any] = {"batch_size": 4, "engine": "openvino"}
    networks = [backbones.resolve(str(own), preprocess="featurewise")]
    whole = scan(location("memory://data/chest"), tmp_path / "whole", group_by=BY)
    expected = extract(whole.manifest, networks, **options)
    plan_parts(there, networks, parts=3, exchange=AT, **options)
    shutil.move(own.parent, tmp_path / "gone")
    with monkeypatch.context() as patch:
        patch.setattr(convert, "graph", None)
        compute_exchanged(AT, [2, 0, 1])
    shutil.move(tmp_path / "gone", own.parent)
    publish_parts(there, exchange=AT)
    assert_equal(there, expected)


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


def spoiled(path: str, spoil: str) -> bytes:
    """The bytes of a part that is no longer one."""
    data: bytes = memory()[path].getvalue()
    if spoil in ("truncated", "empty", "no tar"):
        cut = {"truncated": data[: len(data) // 2], "empty": b"", "no tar": b"x" * 999}
        return cut[spoil]
    with tarfile.open(fileobj=io.BytesIO(data)) as old, io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as new:
            for member in old:
                inner = old.extractfile(member)
                assert inner
                text = inner.read()
                if spoil == "no record" and member.name == "part.json":
                    continue
                if spoil == "another plan" and member.name == "part.json":
                    record = json.loads(text) | {"plan_id": "0" * 64}
                    text = json.dumps(checked.with_digest(record)).encode()
                if spoil == "outside":
                    member.name = f"../{member.name}"
                if spoil == "a link":
                    member.type, member.linkname, text = tarfile.SYMTYPE, "/etc", b""
                member.size = len(text)
                new.addfile(member, io.BytesIO(text))
        return file.getvalue()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("truncated", "cut short"),
        ("empty", "cut short"),
        ("no tar", "cut short"),
        ("no record", r"no part\.json"),
        ("another plan", "a part of plan 000000000000"),
        ("outside", r"'\.\./.*' in it"),
        ("a link", "in it"),
    ],
)
def test_a_part_that_is_not_as_planned_is_replaced(
    planned: Manifest, spoil: str, reason: str
) -> None:
    """It is listed as missing with its reason, and computed by the next task."""
    compute_exchanged(AT, range(4))
    path = object_at("000001.tar")
    write(path, spoiled(path, spoil))
    heard = Heard()
    with pytest.raises(StoreError, match="--array=1,"):
        publish_parts(planned, exchange=AT, reporter=heard)
    [text] = heard.messages
    assert re.fullmatch(rf"{AT}/.*/000001.tar cannot be used: .*{reason}.*", text)
    assert len(compute_exchanged(AT, range(4))) == 1
    assert publish_parts(planned, exchange=AT)[0].rows == 36


@pytest.mark.parametrize("first", ["valid", "truncated"])
def test_of_two_workers_at_once_the_first_valid_part_counts(
    planned: Manifest, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The later one finds it when it uploads, and replaces only what is no part."""
    inner, bytes_of_first = objects.put, b""

    def beaten(path: Path, url: Url, *, replace: bool) -> bool:
        nonlocal bytes_of_first
        if url.name == "000001.tar" and not replace:
            monkeypatch.setattr(objects, "put", inner)
            compute_exchanged(AT, [1])
            if first == "truncated":
                write(object_at(url.name), spoiled(object_at(url.name), first))
            bytes_of_first = memory()[object_at(url.name)].getvalue()
        return inner(path, url, replace=replace)

    monkeypatch.setattr(objects, "put", beaten)
    heard = Heard()
    compute_exchanged(AT, [1], reporter=heard)
    kept = memory()[object_at("000001.tar")].getvalue() == bytes_of_first
    assert kept == (first == "valid")
    said = ["part 1 was computed by another call meanwhile, which counts"]
    assert heard.messages == (said if first == "valid" else [])
    compute_exchanged(AT, range(4))
    assert publish_parts(planned, exchange=AT)[0].rows == 36


def test_an_upload_that_was_repeated_is_the_worker_s_own(
    planned: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the answer to the first attempt was lost, its own part is there."""
    from fsspec.implementations.memory import MemoryFileSystem

    inner = MemoryFileSystem.put_file

    def lost(self: Any, path: str, target: str, **more: Any) -> None:
        inner(self, path, target, **more)
        monkeypatch.setattr(MemoryFileSystem, "put_file", inner)
        raise ConnectionError("no answer")

    monkeypatch.setattr(MemoryFileSystem, "put_file", lost)
    heard = Heard()
    assert compute_exchanged(AT, [1], reporter=heard)
    assert heard.messages == ["1 request to work had to be repeated"]


class NoConditionsError(Exception):
    """What a server says that knows no conditions."""

    status = 501


def test_a_server_without_conditions(
    in_memory: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked first: an object that is there stays."""
    from fsspec.implementations.memory import MemoryFileSystem

    inner = MemoryFileSystem.put_file

    def plain(self: Any, path: str, target: str, **more: Any) -> None:
        if more:
            raise NoConditionsError
        inner(self, path, target)

    monkeypatch.setattr(MemoryFileSystem, "put_file", plain)
    url, file = AT / "000001.tar", tmp_path / "part"
    for number, uploaded in enumerate([True, False]):
        file.write_text(f"part {number}")
        assert objects.put(file, url, replace=False) == uploaded
    assert memory()[object_at("000001.tar")].getvalue() == b"part 0"


def test_images_on_this_disk_are_refused(in_memory: Put, dataset: Manifest) -> None:
    """Before anything is computed."""
    networks = backbones.resolve_all(["border"])
    with pytest.raises(DatasetError, match=r"images at URLs.*got 36 in .*COVID/"):
        plan_parts(dataset, networks, parts=2, exchange=AT)
    assert not (dataset.folder / "plans").exists()


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


def test_a_plan_that_is_not_there(planned: Manifest, tmp_path: Path) -> None:
    """Never uploaded, half uploaded, one of several, or published meanwhile."""
    with pytest.raises(
        StoreError, match="a plan of parts; got none at memory://work/x"
    ):
        compute_exchanged(location("memory://work/x"), [0])
    networks = backbones.resolve_all(["border"])
    other = plan_parts(planned, networks, parts=2, batch_size=4, exchange=AT)
    with pytest.raises(StoreError, match="`plan` to be one of"):
        compute_exchanged(AT, [0])
    with pytest.raises(UsageError, match="parts from 0 to 1"):
        compute_exchanged(AT, [2], plan=other.plan)
    del memory()[f"/work/shared/{other.plan}/exchange.json"]
    with pytest.raises(StoreError, match=r"no exchange\.json: it was published"):
        compute_exchanged(AT, [0], plan=other.plan)


def test_a_plan_that_was_published_while_a_worker_computed(
    planned: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its part is not uploaded any more."""
    inner = exchanging.Exchange.upload_part

    def late(self: Exchange, *arguments: Any) -> bool:
        monkeypatch.setattr(exchanging.Exchange, "upload_part", inner)
        compute_exchanged(AT, range(4))
        publish_parts(planned, exchange=AT)
        return inner(self, *arguments)

    monkeypatch.setattr(exchanging.Exchange, "upload_part", late)
    with pytest.raises(StoreError, match="it was published or removed"):
        compute_exchanged(AT, [1])
    assert not [path for path in memory() if "/work/" in path]


@pytest.mark.parametrize("name", ["plan.json", "rows.jsonl", ".h5", "exchange.json"])
def test_a_plan_that_was_changed_there(planned: Manifest, name: str) -> None:
    """Digests tell; the same plan uploads all of it again."""
    path = object_at(name)
    write(path, memory()[path].getvalue()[:-9])
    with pytest.raises(
        StoreError, match="the plan that was uploaded to memory://work/"
    ):
        compute_exchanged(AT, [3])
    networks = backbones.resolve_all(["border"])
    again = plan_parts(planned, networks, parts=4, batch_size=4, exchange=AT)
    assert again.done == 0
    assert compute_exchanged(AT, [3])
    again = plan_parts(planned, networks, parts=4, batch_size=4, exchange=AT)
    assert again.done == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", 2),
        ("dataset", "../chest"),
        ("dataset", ".."),
        ("files", {"../../x": "0" * 64}),
        ("files", {"networks/0/../x": "0" * 64}),
    ],
)
def test_a_record_of_another_kind(planned: Manifest, field: str, value: Any) -> None:
    """Another version's, or one with names that lead elsewhere, is not followed."""
    path = object_at("exchange.json")
    record = json.loads(memory()[path].getvalue()) | {field: value}
    write(path, json.dumps(checked.with_digest(record)).encode())
    with pytest.raises(StoreError, match=r"another exchange\.json"):
        compute_exchanged(AT, [0])


def test_another_version_proves_itself(
    planned: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the plan's rows, whose images it reads from their URLs."""
    versions = "featcache.commands.extract.work.versions"
    monkeypatch.setattr(versions, lambda: {"featcache": "9"})
    heard = Heard()
    compute_exchanged(AT, range(4), reporter=heard)
    assert "this machine computes by other libraries" in heard.messages[0]
    assert publish_parts(planned, exchange=AT)[0].rows == 36


def test_without_the_extra(planned: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    remote._file_system.cache_clear()
    monkeypatch.setattr(remote, "find_spec", lambda _: None)
    for call in (
        lambda: compute_exchanged(AT, [0]),
        lambda: publish_parts(planned, exchange=AT),
    ):
        with pytest.raises(DatasetError, match=r"pip install 'featcache\[cloud\]'"):
            call()


def test_a_bucket_that_may_not_be_written(
    there: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the object and the reason, and not what the library said."""
    from fsspec.implementations.memory import MemoryFileSystem

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("https://host/?X-Amz-Signature=hush")

    monkeypatch.setattr(MemoryFileSystem, "put_file", refuse)
    networks = backbones.resolve_all(["border"])
    with pytest.raises(
        StoreError, match=r"plan\.json .*access denied by work"
    ) as error:
        plan_parts(there, networks, parts=2, exchange=AT)
    assert "hush" not in str(error.value)


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
