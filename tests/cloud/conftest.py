"""What the tests of URLs share: files in memory, a web server and an S3 server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from exchanged import AT
from servers import WebServer, s3_server

from featcache import backbones
from featcache.commands.extract import plan_parts
from featcache.commands.scan import scan
from featcache.dataset.manifest import Manifest
from featcache.dataset.sources import reading, remote
from featcache.dataset.urls import location


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No file system, zip or count is left from another test, and no test waits."""

    def forget() -> None:
        remote._file_system.cache_clear()
        remote.known_facts.cache_clear()
        reading._parse.cache_clear()
        list(remote.repeated())

    monkeypatch.setattr(remote, "DELAYS", (0.0, 0.0, 0.0))
    forget()
    yield
    forget()


@pytest.fixture
def in_memory() -> Iterator[Callable[[Path, str], None]]:
    """Puts the files of a folder, or one file, at a URL memory://..."""
    pytest.importorskip("fsspec", reason="needs the extra cloud")
    from fsspec.implementations.memory import MemoryFileSystem

    system = MemoryFileSystem()

    def put(source: Path, url: str) -> None:
        files = [source] if source.is_file() else sorted(source.rglob("*.*"))
        for file in files:
            below = "" if file == source else f"/{file.relative_to(source)}"
            system.pipe_file(url + below, file.read_bytes())

    yield put
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def there(
    in_memory: Callable[[Path, str], None], image_folder: Path, tmp_path: Path
) -> Manifest:
    """36 images at a URL, in the cache of the machine that plans."""
    in_memory(image_folder, "memory://data/chest")
    return scan(
        location("memory://data/chest"), tmp_path / "there", group_by=r"(p\d{3})_"
    ).manifest


@pytest.fixture
def planned(there: Manifest) -> Manifest:
    """The same with a plan of one baseline in 4 parts, at a URL."""
    networks = backbones.resolve_all(["border"])
    plan_parts(there, networks, parts=4, batch_size=4, exchange=AT)
    return there


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A web server on the loopback that serves what it is given."""
    pytest.importorskip("aiohttp", reason="needs the extra cloud")
    with WebServer() as server:
        yield server


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator["S3"]:  # noqa: F821
    """An S3 server on the loopback with the bucket xrays, and its credentials."""
    pytest.importorskip("s3fs", reason="needs the extra cloud")
    pytest.importorskip("moto", reason="needs moto[server]")
    for name, value in {"ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": "hush"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # so that ours are the further ones
    with s3_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        server.make_bucket("xrays")
        yield server
