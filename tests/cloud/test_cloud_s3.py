"""Rules of S3, against a server on the loopback that fails in one of ten requests."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import S3
from test_cloud_sources import BY, packed, rows_of
from toys import picture

from featcache import backbones
from featcache.commands.extract import extract
from featcache.commands.scan import scan
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


@pytest.mark.parametrize("form", ["chest", "chest.zip"])
def test_a_server_that_fails_now_and_then_changes_nothing(
    s3: S3, image_folder: Path, tmp_path: Path, form: str
) -> None:
    """One 503 in ten: the manifest and the store are those of the files here."""
    zipped = packed(image_folder, tmp_path / "chest.zip")
    source = image_folder if form == "chest" else zipped
    s3.put(source, form)
    s3.fails = lambda count: count % 10 == 1
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


@pytest.mark.slow
def test_a_killed_extraction_goes_on(s3: S3, tmp_path: Path) -> None:
    """300 images, one 503 in ten, kill -9 in between: the store is the same."""
    for number in range(300):
        path = tmp_path / "many" / "AB"[number % 2] / f"p{number // 4:03d}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number, 40 + number % 170).save(path)
    s3.put(tmp_path / "many", "many")
    s3.fails = lambda count: count % 10 == 3
    _, here = extracted(tmp_path / "many", tmp_path / "here")
    source, cache = location("s3://xrays/many"), tmp_path / "there"
    scan(source, cache, group_by=BY)
    words = ["extract", "--dataset", "many", "-b", "pixels48", "--cache", str(cache)]
    command = [sys.executable, "-m", "featcache", *words, "--batch-size", "8"]
    s3.count = 0
    process = subprocess.Popen(command, env={**os.environ, "FEATCACHE_THREADS": "1"})
    while s3.count < 120 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert subprocess.run(command, check=False).returncode == 0
    [there] = (cache / "many" / "features").glob("*.h5")
    assert rows_of(there) == rows_of(here)
