"""Rules of S3, against a server on the loopback that fails in one of ten requests."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from servers import S3
from test_cloud_sources import BY, packed, rows_of, table_file
from toys import Heard, picture, slow_but, stopping

from featcache import backbones
from featcache.commands.extract import extract
from featcache.commands.scan import journal, scan
from featcache.dataset import images
from featcache.dataset.manifest import Manifest
from featcache.dataset.sources import list_source
from featcache.dataset.urls import Location, location
from featcache.errors import DatasetError


def extracted(source: Location, cache: Path) -> tuple[Manifest, Path]:
    """A source that was scanned, and its store."""
    dataset = scan(source, cache, group_by=BY).manifest
    [result] = extract(dataset, backbones.resolve_all(["pixels48"]))
    assert result.failures == []
    return dataset, result.path


@pytest.mark.parametrize("form", slow_but(["chest", "chest.zip"], "chest.zip"))
def test_a_server_that_fails_now_and_then_changes_nothing(
    s3: S3, image_folder: Path, tmp_path: Path, form: str
) -> None:
    """One 503 in ten: the manifest and the store are those of the files here."""
    zipped = packed(image_folder, tmp_path / "chest.zip")
    source = image_folder if form == "chest" else zipped
    s3.put(source, form)
    s3.fault = lambda count, _: 503 * (count % 10 == 1)
    here, there = (
        extracted(place, tmp_path / name)
        for place, name in ((source, "here"), (location(f"s3://xrays/{form}"), "there"))
    )
    assert there[0].table.equals(here[0].table)
    assert rows_of(there[1]) == rows_of(here[1])
    assert s3.count >= (36 if form == "chest" else 1)
    secrets = (b"hush", s3.endpoint.encode())
    for file in (tmp_path / "there").rglob("*.*"):
        assert not any(secret in file.read_bytes() for secret in secrets)


@pytest.mark.slow
def test_an_object_is_one_request(s3: S3, image_folder: Path, tmp_path: Path) -> None:
    """Of a new image as of a known one, in a scan and in an extraction."""
    s3.put(image_folder, "chest")
    for by in ("near-duplicate", "image"):
        s3.count = 0
        scan(location("s3://xrays/chest"), tmp_path, group_by=by)
        assert s3.count == 36 + 1
    s3.count = 0
    extracted(location("s3://xrays/chest"), tmp_path)
    assert s3.count == 36 + 1 + 36


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://nobucket/x", "no such file at nobucket|files below s3://nobucket/x"),
        ("s3://xrays/none", "files below s3://xrays/none; got none"),
        ("s3://xrays/none.csv", "no such file at xrays"),
    ],
)
def test_what_is_not_there(s3: S3, url: str, message: str) -> None:
    """A bucket, a prefix or an object, in one line."""
    with pytest.raises(DatasetError, match=message):
        list_source(location(url))


def test_without_credentials(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says where they belong, and is not repeated."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    with pytest.raises(DatasetError, match=r"credentials for xrays.*never in the URL"):
        list_source(location("s3://xrays/chest"))
    assert s3.count == 0


def test_a_slow_object_delays_nothing_but_itself(
    s3: S3, image_folder: Path, tmp_path: Path
) -> None:
    """One that takes its time and one that is forbidden: the others are read."""
    s3.put(image_folder, "chest")
    slow, forbidden = sorted(p.name for p in image_folder.glob("COVID/*"))[:2]
    s3.delay = lambda _, path: 0.3 * unquote(path).endswith(slow)
    s3.fault = lambda _, path: 403 * unquote(path).endswith(forbidden)
    result = scan(location("s3://xrays/chest"), tmp_path, group_by="image")
    reason = "cannot be read: access denied by xrays"
    assert result.unreadable == [(f"COVID/{forbidden}", reason)]
    assert len(result.manifest.ok) == 35


def test_an_object_that_changed_is_named(
    s3: S3,
    image_folder: Path,
    run: Callable[..., tuple[int, str, str]],
) -> None:
    """Between scan and extract, of the same size: which one, and how to scan again."""
    s3.put(image_folder, "chest")
    assert run("scan", "s3://xrays/chest", "--group-by", BY)[0] == 0
    name = sorted(p.name for p in image_folder.glob("COVID/*"))[3]
    other = bytearray((image_folder / "COVID" / name).read_bytes())
    other[-1] ^= 1
    s3.client.put_object(Bucket="xrays", Key=f"chest/COVID/{name}", Body=bytes(other))
    extract = ["extract", "--dataset", "chest", "-b", "pixels48"]
    code, _, err = run(*extract)
    assert code == 0, err
    assert (
        f"1 image has no features: COVID/{name} (changed since the scan). To include "
        "them, scan again: featcache scan s3://xrays/chest --dataset chest --group-by"
    ) in err
    code, _, err = run(*extract, "--max-bad", "0")
    assert (code, err.count("\n")) == (1, 1)
    assert f"COVID/{name} (changed since the scan)" in err
    assert "scan again: featcache scan s3://xrays/chest" in err


def test_a_listing_says_what_has_changed_since_a_scan_was_killed(
    s3: S3, image_folder: Path, tmp_path: Path
) -> None:
    """By its ETags: of the objects in the journal only one that changed is read."""
    s3.put(image_folder, "chest")
    source = location("s3://xrays/chest")
    stop_at(20, source, tmp_path)
    text = (tmp_path / "chest" / journal.FILE).read_text()
    assert not any(secret in text for secret in ("hush", s3.endpoint))
    first = json.loads(text.splitlines()[1].partition(" ")[2])[0]
    data = (image_folder / first).read_bytes()
    s3.client.put_object(Bucket="xrays", Key=f"chest/{first}", Body=data[:-1] + b"x")
    s3.count, heard = 0, Heard()
    result = scan(source, tmp_path, group_by=BY, reporter=heard)
    assert heard.messages == ["going on: 19 of 36 images were read before"]
    assert s3.count == 1 + 36 - 19
    ids = result.manifest.table.set_index("path")["image_id"]
    assert ids[first] == images.content_id(data[:-1] + b"x")


@pytest.mark.slow
def test_objects_of_a_table_are_asked_for_their_etags(
    s3: S3, image_folder: Path, tmp_path: Path
) -> None:
    """Where nothing was listed."""
    s3.put(image_folder, "chest")
    names = sorted(p.relative_to(image_folder) for p in image_folder.rglob("*.png"))
    rows = {f"s3://xrays/chest/{name}": name.parts[0] for name in names}
    table = table_file(tmp_path, rows)
    stop_at(20, table, tmp_path / "cache")
    changed = sorted(rows)[0].removeprefix("s3://xrays/")
    s3.client.put_object(Bucket="xrays", Key=changed, Body=b"other")
    s3.count, heard = 0, Heard()
    scan(table, tmp_path / "cache", group_by="image", reporter=heard)
    assert heard.messages == ["going on: 19 of 36 images were read before"]
    assert s3.count == 36 - 19


def stop_at(n: int, source: Location, cache: Path) -> None:
    """A scan that ends when so many images are read."""
    with pytest.raises(KeyboardInterrupt):
        scan(source, cache, group_by=BY, reporter=stopping(n))


def killed(s3: S3, is_kept: Callable[[], object], *words: str) -> None:
    """A command that is killed when it has kept something; class B does not answer."""
    is_over = threading.Event()

    def hold(_: int, path: str) -> float:
        if "/B/" in path:
            is_over.wait(60)
        return 0.0

    s3.delay = hold
    command = [sys.executable, "-m", "featcache", *words]
    with subprocess.Popen(command, env={**os.environ, "FEATCACHE_THREADS": "1"}) as it:
        while not is_kept() and it.poll() is None:
            time.sleep(0.005)
        it.send_signal(signal.SIGKILL)
    is_over.set()
    s3.delay = lambda *_: 0.0
    assert it.returncode == -signal.SIGKILL


def n_lines(path: Path) -> int:
    """Images in a journal that may not exist yet."""
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


def finished(*words: str) -> str:
    """What a command says that ends well."""
    command = [sys.executable, "-m", "featcache", *words]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout + outcome.stderr


@pytest.mark.slow
def test_what_was_killed_goes_on(s3: S3, tmp_path: Path) -> None:
    """One 503 in ten, kill -9 in scan and extract: manifest and store of files here.

    Of 100 images, or of $FEATCACHE_S3_IMAGES.
    """
    n = int(os.environ.get("FEATCACHE_S3_IMAGES", "100"))
    for number in range(n):
        path = tmp_path / "many" / "AB"[number % 2] / f"p{number // 4:03d}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number, 40 + number % 170).save(path)
    s3.put(tmp_path / "many", "many")
    s3.fault = lambda count, _: 503 * (count % 10 == 3)
    dataset, here = extracted(tmp_path / "many", tmp_path / "here")
    cache = tmp_path / "there"
    where = ["--dataset", "many", "--cache", str(cache)]
    scan_words = ["scan", "s3://xrays/many", "--group-by", BY, *where]
    path = cache / "many" / journal.FILE
    killed(s3, lambda: n_lines(path), *scan_words)
    lines = n_lines(path)
    assert 0 < lines <= n // 2
    again = finished(*scan_words)
    assert f"going on: {lines} of {n} images were read before" in again
    extract_words = ["extract", "-b", "pixels48", "--batch-size", "8", *where]
    killed(s3, lambda: [*cache.glob("many/features/*.parts/*.h5")], *extract_words)
    again += finished(*extract_words)
    [there] = (cache / "many" / "features").glob("*.h5")
    assert rows_of(there) == rows_of(here)
    table = (dataset.folder / "manifest.csv").read_bytes()
    assert (cache / "many" / "manifest.csv").read_bytes() == table
    assert "hush" not in again
    for file in cache.rglob("*.*"):
        assert b"hush" not in file.read_bytes()
