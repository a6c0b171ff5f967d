"""Rules of web servers: what is repeated, what is read of a zip, what is refused."""

import io
import zipfile
from pathlib import Path

import pytest
from servers import WebServer
from test_images import encode
from toys import picture

from featcache.commands.scan import scan
from featcache.dataset.sources import list_source, read_bytes, remote
from featcache.dataset.urls import Url, location
from featcache.errors import DatasetError

TABLE = "path,label\na b.png,A\nb.png,A\nhttp://x@{}/c/c.png?s,B\n"


@pytest.fixture
def images(web: WebServer) -> WebServer:
    """Three images and their table."""
    web.files = {
        "/t/a%20b.png": encode(picture(1, 50)),
        "/t/b.png": encode(picture(2, 90)),
        "/c/c.png": encode(picture(3, 150)),
        "/t/metadata.csv": TABLE.format(web.url.removeprefix("http://")).encode(),
    }
    return web


def test_a_table_on_the_web_is_scanned(images: WebServer, tmp_path: Path) -> None:
    """Paths are relative to it, or URLs of their own."""
    result = scan(location(f"{images.url}/t/metadata.csv"), tmp_path, group_by="image")
    assert result.counts == {"A": 2, "B": 1}
    assert result.manifest.table["path"].iloc[2] == f"{images.url}/c/c.png"
    assert not any("?" in path for path, _ in images.requests)


def test_failures_of_the_server_are_repeated_and_told_once(
    images: WebServer, tmp_path: Path
) -> None:
    """Of a server that is busy or fails for a while."""
    images.faults = [503, 200, 500, 429, 200, 502]
    result = scan(location(f"{images.url}/t/metadata.csv"), tmp_path, group_by="image")
    assert result.unreadable == []
    told = [line for line in result.warnings if "had to be repeated" in line]
    host = images.url.removeprefix("http://")
    assert told == [f"4 requests to {host} had to be repeated"]


def test_a_server_that_stays_down_ends_the_scan(
    images: WebServer, tmp_path: Path
) -> None:
    """Images that it did not send are not left out: there is no manifest."""
    images.faults = [200, *[503] * 100]
    with pytest.raises(DatasetError, match="HTTP status 503, 4 times"):
        scan(location(f"{images.url}/t/metadata.csv"), tmp_path, group_by="image")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """One line, after as many attempts."""
    pytest.importorskip("aiohttp", reason="needs the extra cloud")
    with pytest.raises(DatasetError, match=r"an answer from 127\.0\.0\.1:9 "):
        list_source(location("http://127.0.0.1:9/metadata.csv"))


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (404, FileNotFoundError, "no such file at"),
        (403, PermissionError, "access denied by"),
        (401, DatasetError, "credentials for"),
        (400, OSError, "400"),
    ],
)
def test_answers_that_are_not_repeated(
    web: WebServer, status: int, error: type[Exception], reason: str
) -> None:
    """A file that is gone or forbidden stays so."""
    web.files["/x.png"], web.faults = b"x", [status]
    with pytest.raises(error, match=reason) as caught:
        read_bytes(Url.of(web.url), "x.png")
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(web.requests) == 1


def test_a_zip_is_read_by_ranges(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a zip of 2 MB, one member costs its blocks and the directory."""
    monkeypatch.setattr(remote, "BLOCK", 2**14)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("A/a.png", encode(picture(1, 50)))
        archive.writestr("B/large.png", bytes(range(256)) * 2**13)
        archive.writestr("B/b.png", encode(picture(2, 50)))
    web.files["/z.zip"] = file.getvalue()
    root = Url.of(f"{web.url}/z.zip")
    assert len(list_source(root).table) == 3
    assert read_bytes(root, "A/a.png") == encode(picture(1, 50))
    ranges = [wanted for _, wanted in web.requests if wanted]
    assert 0 < len(ranges) <= 6
    assert read_bytes(root, "B/large.png") == bytes(range(256)) * 2**13


def test_a_server_without_ranges_serves_no_zip(web: WebServer) -> None:
    """It would send all of the zip for each block."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("A/a.png", bytes(2**23))
    web.files["/z.zip"], web.has_ranges = file.getvalue(), False
    with pytest.raises(DatasetError, match="does not serve ranges"):
        list_source(Url.of(f"{web.url}/z.zip"))


def test_a_server_that_fails_is_no_damage_of_a_zip(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member is unreadable only for what is in the zip."""
    monkeypatch.setattr(remote, "BLOCK", 2**14)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("A/a.png", bytes(range(256)) * 2**11)
        archive.writestr("B/b.png", b"x")
    web.files["/z.zip"] = file.getvalue()
    list_source(Url.of(f"{web.url}/z.zip"))
    web.faults = [500] * 100
    with pytest.raises(DatasetError, match="HTTP status 500"):
        read_bytes(Url.of(f"{web.url}/z.zip"), "A/a.png")


def test_a_table_here_names_images_on_the_web(
    images: WebServer, tmp_path: Path
) -> None:
    """Beside files of this machine; its root stays the folder."""
    (tmp_path / "d.png").write_bytes(encode(picture(4, 200)))
    lines = ["path,label", "d.png,A", f"{images.url}/c/c.png,B"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    result = scan(tmp_path / "t.csv", tmp_path / "cache", group_by="image")
    assert (result.counts, result.unreadable) == ({"A": 1, "B": 1}, [])
    assert result.manifest.root == tmp_path
