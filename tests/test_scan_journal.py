"""Rules of the journal: a scan that was killed goes on, and ends as if it was not."""

import errno
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from toys import HEARS_CTRL_C, Heard, picture, stopping

from featcache.commands.scan import journal, scan
from featcache.core.io import lock
from featcache.dataset import images, manifest
from featcache.errors import DatasetError, LockedError


def stopped(source: Path, cache: Path, at: int = 16, name: str = "scan") -> Path:
    """The journal of a scan that ended when so many images were read, or decoded."""
    with pytest.raises(KeyboardInterrupt):
        scan(source, cache, per_class=0, jobs=1, reporter=stopping(at, name))
    return cache / source.name / journal.FILE


def resumed(source: Path, cache: Path) -> int:
    """Scans; returns how many of the 36 images the scan had from the one before."""
    heard = Heard()
    scan(source, cache, per_class=0, jobs=1, reporter=heard)
    text = r"going on: (\d+) of 36 images were read before"
    counts = [match[1] for m in heard.messages if (match := re.fullmatch(text, m))]
    return int(counts[0]) if counts else 0


def written(cache: Path) -> dict[str, bytes]:
    """The files of the dataset."""
    return {path.name: path.read_bytes() for path in (cache / "chest").iterdir()}


@pytest.mark.parametrize(
    ("before", "name", "at", "n"),
    [
        (0, "scan", 16, 16),
        (0, "scan", 36, 36),
        (9, "scan", 16, 16),
        (9, "decode", 8, 36),
    ],
)
def test_a_scan_that_was_stopped_goes_on(
    image_folder: Path,
    tmp_path: Path,
    decoded: list[str],
    before: int,
    name: str,
    at: int,
    n: int,
) -> None:
    """No image is decoded twice; all files are those of a scan that never stopped."""
    for cache in (tmp_path / "whole", tmp_path / "cut"):
        if before:
            scan(image_folder, cache, per_class=before)
    scan(image_folder, tmp_path / "whole", per_class=0)
    decoded.clear()
    stopped(image_folder, tmp_path / "cut", at, name)
    assert resumed(image_folder, tmp_path / "cut") == n
    assert len(decoded) == len({*decoded}) == 36 - 3 * before
    assert written(tmp_path / "cut") == written(tmp_path / "whole")
    assert resumed(image_folder, tmp_path / "cut") == 0


@pytest.mark.parametrize("cut", [1, 700, 1500])
def test_a_line_that_was_cut_short_is_dropped(
    image_folder: Path, tmp_path: Path, cut: int
) -> None:
    """With what it has lost of other lines; what is added behind it can be read."""
    path = stopped(image_folder, tmp_path)
    lines = path.read_bytes()
    path.write_bytes(lines[:-cut])
    left = lines[:-cut].count(b"\n") - 1
    stopped(image_folder, tmp_path, left + 8)
    assert resumed(image_folder, tmp_path) == left + 8
    assert left < 16


@pytest.mark.parametrize(
    "text",
    [b'["A/1.png"]', b'{"a":1}', b'"x"', b"[1,2,3,4,5,6,7]", b"[" * 100_000, b"nix",
     b'["p","i",1,"","","s",[1,2,3]]', b'["p","i",1,"","","s",[1,2,"","",true,3]]'],
)  # fmt: skip
def test_a_line_of_another_form_ends_the_journal(
    image_folder: Path, tmp_path: Path, text: bytes
) -> None:
    """Its checksum fits; what stands before it is used, and the scan ends."""
    path = stopped(image_folder, tmp_path)
    path.write_bytes(path.read_bytes() + b"%08x %s\n" % (zlib.crc32(text), text))
    assert resumed(image_folder, tmp_path) == 16


def test_a_link_is_neither_followed_nor_waited_for(
    image_folder: Path, tmp_path: Path
) -> None:
    """Nothing is written over what a link leads to; a pipe does not hang."""
    cache = tmp_path / "cache"
    path = cache / image_folder.name / journal.FILE
    path.parent.mkdir(parents=True)
    own = tmp_path / "own.txt"
    own.write_text("precious")
    path.symlink_to(own)
    with pytest.raises(DatasetError, match="Remove it"):
        scan(image_folder, cache, jobs=1)
    assert own.read_text() == "precious"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DatasetError, match="Remove it"):
        scan(image_folder, cache, jobs=1)


@pytest.mark.parametrize("at", [0, 5])
def test_a_line_that_was_damaged_ends_the_journal(
    image_folder: Path, tmp_path: Path, at: int
) -> None:
    """One bit is enough; in the first line it costs all."""
    path = stopped(image_folder, tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[at] = lines[at][:20] + bytes([lines[at][20] ^ 1]) + lines[at][21:]
    path.write_bytes(b"".join(lines))
    assert resumed(image_folder, tmp_path) == max(0, at - 1)


def test_a_file_that_changed_meanwhile_is_read_again(
    image_folder: Path, tmp_path: Path
) -> None:
    """Also one of the same size and time, which gets the id of its new bytes."""
    stopped(image_folder, tmp_path)
    first, second = sorted(image_folder.glob("COVID/*"))[:2]
    status, other = first.stat(), bytearray(first.read_bytes())
    other[-1] ^= 1
    first.write_bytes(other)
    os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns))
    second.unlink()
    picture(99, 90).save(second)
    assert resumed(image_folder, tmp_path) == 14
    table = manifest.load(tmp_path / "chest").table.set_index("path")
    for path in (first, second):
        image_id = table.loc[f"COVID/{path.name}", "image_id"]
        assert image_id == images.content_id(path.read_bytes())


def test_what_could_not_be_read_is_tried_again(
    image_folder: Path, tmp_path: Path
) -> None:
    """It may be readable by now; so it is not in the journal."""
    bad = sorted(image_folder.glob("COVID/*"))[0]
    kept = bad.read_bytes()
    bad.write_bytes(kept[:200])
    path = stopped(image_folder, tmp_path)
    assert bad.name not in path.read_text()
    assert resumed(image_folder, tmp_path) == 15


def test_another_scan_begins_anew(image_folder: Path, tmp_path: Path) -> None:
    """Of another folder of that name, or for another element of DICOM."""
    stopped(image_folder, tmp_path)
    other = shutil.copytree(image_folder, tmp_path / "other" / "chest")
    assert resumed(other, tmp_path) == 0
    stopped(image_folder, tmp_path / "b")
    heard, by = Heard(), "dicom:StudyInstanceUID"
    with pytest.raises(DatasetError, match=by):
        scan(image_folder, tmp_path / "b", group_by=by, reporter=heard)
    assert heard.messages == []


def test_a_conflict_costs_no_second_reading(
    image_folder: Path, tmp_path: Path, decoded: list[str]
) -> None:
    """What was read stays read after an error."""
    first = sorted(image_folder.glob("COVID/*"))[0]
    shutil.copy(first, image_folder / "NORMAL" / "copy.png")
    with pytest.raises(DatasetError, match="two labels"):
        scan(image_folder, tmp_path)
    decoded.clear()
    scan(image_folder, tmp_path, on_conflict="drop")
    assert decoded == []


def test_members_of_a_zip_are_as_new_as_the_zip(
    image_folder: Path, tmp_path: Path
) -> None:
    """A zip that was packed again is read again."""
    zipped = Path(shutil.make_archive(str(tmp_path / "chest"), "zip", image_folder))
    for touch, n in ((False, 16), (True, 0)):
        with pytest.raises(KeyboardInterrupt):
            scan(zipped, tmp_path / str(n), jobs=1, reporter=stopping(16))
        if touch:
            shutil.make_archive(str(tmp_path / "chest"), "zip", image_folder)
        assert resumed(zipped, tmp_path / str(n)) == n


def test_two_scans_do_not_share_a_journal(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits for the lock of the manifest, and touches nothing."""
    path = stopped(image_folder, tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr("featcache.commands.scan.WAIT_SECONDS", 0.1)
    with (
        lock(path.parent / ".manifest.lock", "x"),
        pytest.raises(LockedError, match="the manifest of chest"),
    ):
        scan(image_folder, tmp_path)
    assert path.read_bytes() == before


def test_a_full_disk_is_an_error_that_names_the_journal(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that only a part of fits is as one that was cut short."""

    class Full(io.FileIO):
        left = 5000

        def write(self, data: Any) -> int:
            if not self.left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            n = super().write(data[: self.left])
            self.left -= n
            return n

    monkeypatch.setattr(journal, "FileIO", Full)
    path = tmp_path / "chest" / journal.FILE
    with pytest.raises(OSError, match=f"No space left.*{re.escape(str(path))}"):
        scan(image_folder, tmp_path, jobs=1)
    monkeypatch.undo()
    assert path.stat().st_size == Full.left
    n_whole = path.read_bytes().count(b"\n") - 1
    assert resumed(image_folder, tmp_path) == n_whole


def many(folder: Path, n: int = 300) -> Path:
    """A folder of small images in two classes, and one that is broken."""
    for number in range(n):
        path = folder / "AB"[number % 2] / f"p{number // 3:03d}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number, 40 + number % 170).save(path)
    (folder / "A" / "bad.png").write_bytes(b"no image")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "exit_code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)]
)
def test_processes_may_be_killed_and_write_the_same(
    tmp_path: Path, by: signal.Signals, exit_code: int
) -> None:
    """Two that are killed and three that go on end as a single one."""
    source = many(tmp_path / "s")
    scan(source, tmp_path / "whole", jobs=1)
    code = f"{HEARS_CTRL_C}; from featcache.cli import main; main()"
    words = [sys.executable, "-c", code, "scan", str(source), "--jobs"]
    where = ["--cache", str(tmp_path / "cut")]
    path, command = tmp_path / "cut" / "s" / journal.FILE, [*words, "2", *where]
    with subprocess.Popen(command, start_new_session=True) as process:
        while not (path.exists() and path.stat().st_size) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(by)
    assert process.returncode == exit_code
    again = subprocess.run([*words, "3", *where], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert re.search(r"going on: \d+ of 301 images were read before", again.stderr)
    for name in ("manifest.csv", "dataset.json", "thumbs.npz"):
        written = (tmp_path / "cut" / "s" / name).read_bytes()
        assert written == (tmp_path / "whole" / "s" / name).read_bytes(), name
    assert not path.exists()
