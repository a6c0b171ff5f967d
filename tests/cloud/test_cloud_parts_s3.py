"""Parts that are exchanged through S3: conditions of the server, faults and kills."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from servers import S3
from test_cloud_sources import BY
from test_extract_parts import content

from featcache import backbones
from featcache.commands.extract import (
    compute_exchanged,
    extract,
    plan_parts,
    publish_parts,
)
from featcache.commands.scan import scan
from featcache.dataset.sources import objects
from featcache.dataset.urls import location
from featcache.errors import DatasetError, StoreError

AT = location("s3://xrays/work")


def test_the_server_refuses_a_second_part(s3: S3, tmp_path: Path) -> None:
    """By a condition, in one step: nobody has to look first."""
    url, file, s3.methods = AT / "000001.tar", tmp_path / "part", ("HEAD", "GET")
    for number, replace in enumerate([False, False, True]):
        file.write_text(f"part {number}")
        assert objects.put(file, url, replace=replace) == (number != 1)
        assert s3.count == 0
        body = s3.client.get_object(Bucket="xrays", Key="work/000001.tar")[
            "Body"
        ].read()
        assert body == (b"part 2" if replace else b"part 0")
        s3.count = 0
    assert objects.folders_in(AT.parent / "none") == []
    assert objects.folders_in(AT.parent) == ["work"]
    assert objects.names_below(AT) == {"000001.tar"}
    objects.remove([url, AT / "none"])
    assert objects.names_below(AT) == set()


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (403, StoreError, "access denied by xrays"),
        pytest.param(503, DatasetError, "HTTP status 503", marks=pytest.mark.slow),
    ],
)
def test_a_server_that_refuses(
    s3: S3,
    image_folder: Path,
    tmp_path: Path,
    status: int,
    error: type[Exception],
    message: str,
) -> None:
    """At once or for ever: what is not there is said, and a rerun completes it."""
    s3.put(image_folder, "chest")
    dataset = scan(location("s3://xrays/chest"), tmp_path, group_by=BY).manifest
    networks = backbones.resolve_all(["border"])
    plan_parts(dataset, networks, parts=2, batch_size=4, exchange=AT)
    s3.methods = ("PUT",)
    s3.fault = lambda _, path: status * path.endswith(".tar")
    with pytest.raises(error, match=message) as caught:
        compute_exchanged(AT, [0])
    assert "000000.tar" in str(caught.value)
    s3.fault = lambda *_: 0
    compute_exchanged(AT, [0, 1])
    assert publish_parts(dataset, exchange=AT)[0].rows == 36
    assert not s3.client.list_objects_v2(Bucket="xrays", Prefix="work").get("Contents")


def command(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """A command on a machine of its own: with its own folder, and its own $TMPDIR."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "featcache", "extract", *words],
        env={**os.environ, "FEATCACHE_THREADS": "1", "TMPDIR": str(folder / "tmp")},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: "subprocess.Popen[str]") -> str:
    """What a command says that ends well."""
    text, _ = process.communicate()
    assert process.returncode == 0, text
    return text


@pytest.mark.slow
def test_machines_that_share_a_bucket(
    s3: S3, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One 503 in ten, two at once, kill -9 in an upload: the rows of a local call."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    s3.put(image_folder, "chest")
    s3.methods = ("GET", "PUT", "HEAD", "DELETE")
    s3.fault = lambda count, _: 503 * (count % 10 == 3)
    names = ["border", "metadata"]
    options = ["-b", "border", "-b", "metadata", "--views", "1", "--batch-size", "4"]
    planner = tmp_path / "planner"
    plan = [
        "s3://xrays/chest",
        *options,
        "--group-by",
        BY,
        "--plan-only",
        "--parts",
        "4",
    ]
    texts = [ended(command(planner, *plan, "--exchange", str(AT)))]
    order = [0, 1, 2, 3]
    random.Random(7).shuffle(order)
    first, twice, *_ = order

    uploading, killed = threading.Event(), threading.Event()

    def hold(_: int, path: str) -> float:
        if path.endswith(f"{first:06d}.tar"):
            s3.methods = ("GET", "HEAD")
            uploading.set()
            killed.wait(60)
        return 0.0

    s3.methods, s3.delay = ("PUT",), hold
    worker = ["--exchange", str(AT), "--part"]
    with command(tmp_path / "killed", *worker, str(first)) as process:
        assert uploading.wait(60)
        process.send_signal(signal.SIGKILL)
    killed.set()
    assert process.returncode == -signal.SIGKILL
    s3.methods, s3.delay = ("GET", "PUT", "HEAD", "DELETE"), lambda *_: 0.0

    both = [command(tmp_path / f"twice {n}", *worker, str(twice)) for n in range(2)]
    texts += [ended(process) for process in both]
    publish = ["--exchange", str(AT), "--publish"]
    with command(planner, *publish) as early:
        text, _ = early.communicate()
    assert early.returncode == 1
    missing = re.search(r"--array=([\d,-]+),", " ".join(text.split()))
    assert missing, text
    texts += [text]
    for n, part in enumerate(order):
        texts += [ended(command(tmp_path / f"worker {n}", *worker, str(part)))]
    texts += [ended(command(planner, *publish))]

    here = scan(image_folder, tmp_path / "here", group_by=BY).manifest
    networks = backbones.resolve_all(names)
    whole = extract(here, networks, views=1, batch_size=4)
    for one in whole:
        there = planner / "cache" / "chest" / "features" / one.path.name
        assert content(there) == content(one.path)
    assert s3.count > 100  # of which ten and more failed
    s3.fault = lambda *_: 0
    left = s3.client.list_objects_v2(Bucket="xrays", Prefix="work")
    assert not left.get("Contents")
    assert not [*tmp_path.glob("worker */tmp/featcache-*")]
    assert "hush" not in "".join(texts)
    for file in planner.rglob("*.*"):
        if file.is_file():
            assert b"hush" not in file.read_bytes()
