"""Parts at URLs that are damaged, of another plan, late, or refused by the server."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from exchanged import AT, memory, object_at, spoiled, write
from test_cloud_sources import Put
from toys import Heard

from featcache import backbones
from featcache.commands.extract import (
    compute_exchanged,
    exchanging,
    plan_parts,
    publish_parts,
)
from featcache.commands.extract.exchange import Exchange
from featcache.core import checked
from featcache.dataset.manifest import Manifest
from featcache.dataset.sources import objects, remote
from featcache.dataset.urls import Url, location
from featcache.errors import (
    DatasetError,
    StoreError,
    UsageError,
)


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
            with monkeypatch.context() as patch:  # not in the same second
                patch.setattr(time, "strftime", lambda *_: "2026-01-01T00:00:00+0000")
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


def test_a_short_answer_is_no_damaged_part(
    planned: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a worker would write over a part that is valid."""
    compute_exchanged(AT, [1])
    before = memory()[object_at("000001.tar")].getvalue()
    inner = remote.read

    def short(url: Url, start: int, end: int) -> bytes:
        return inner(url, start, end - (url.suffix == ".tar"))

    monkeypatch.setattr(remote, "read", short)
    with pytest.raises(DatasetError, match="it has changed meanwhile"):
        compute_exchanged(AT, [1])
    assert memory()[object_at("000001.tar")].getvalue() == before
