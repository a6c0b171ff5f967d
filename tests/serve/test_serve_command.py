"""``featcache serve`` on the command line."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

import featcache
from featcache.cli import main
from featcache.dataset.manifest import Manifest
from featcache.errors import BundleError, UsageError
from featcache.serve import running

TOKEN = "a-token-of-sixteen-letters"


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a call that ends with 1."""
    with pytest.raises(SystemExit) as end:
        main(["serve", *words])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (1, "")
    assert len(err.splitlines()) == 1
    return err


def test_what_cannot_be_served(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Each in one line, in the words of the command line."""
    cut = tmp_path / "cut.fcb"
    cut.write_bytes(b"PK\x03\x04")
    assert "is no bundle" in fails(capsys, "3f2a1b")
    assert "cut.fcb" in fails(capsys, str(cut))
    assert "the same name, cut" in fails(capsys, str(cut), str(cut))
    assert "--max-files above 0" in fails(capsys, str(cut), "--max-files", "0")
    (tmp_path / "file").write_text("")
    log = tmp_path / "file" / "log"
    assert "--log-dir" in fails(capsys, str(cut), "--log-dir", str(log))


def test_from_python(
    dataset_and_bundles: tuple[Manifest, dict[str, Path]], tmp_path: Path
) -> None:
    """The function says what the command says, in the words of Python."""
    path = dataset_and_bundles[1]["logreg"]
    with running.bind("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(UsageError, match=f"`port={port}` of 127.0.0.1 is in use"):
            featcache.serve_bundles(path, port=port)
    with pytest.raises(UsageError, match="`max_files` above 0"):
        featcache.serve_bundles([path], max_files=0)
    other = tmp_path / path.name
    with pytest.raises(BundleError, match="the same name"):
        featcache.serve_bundles([path, other])


def test_a_port_that_is_taken(
    capsys: pytest.CaptureFixture[str],
    dataset_and_bundles: tuple[Manifest, dict[str, Path]],
) -> None:
    """It is said before a bundle is opened."""
    path = dataset_and_bundles[1]["logreg"]
    with running.bind("127.0.0.1", 0) as sock:
        port = str(sock.getsockname()[1])
        assert f"--port {port} of 127.0.0.1 is in use" in fails(
            capsys, str(path), "--port", port
        )


def test_without_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is named, with the way to get it."""
    monkeypatch.setattr("featcache.serve.find_spec", lambda name: None)
    err = fails(capsys, "model.fcb")
    assert "starlette, uvicorn and python-multipart" in err or "starlette" in err
    assert "pip install 'featcache[serve]'" in err


@pytest.mark.slow
def test_from_start_to_end(
    dataset_and_bundles: tuple[Manifest, dict[str, Path]], tmp_path: Path
) -> None:
    """It prints its address, asks for the token, answers, and ends on Ctrl-C with 0."""
    dataset, bundles = dataset_and_bundles
    file = tmp_path / "token"
    file.write_text(TOKEN)
    words = ["serve", str(bundles["logreg"]), "--port", "0", "--token-file", str(file)]
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{start}; from featcache.cli import main; main({words})"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        link = process.stdout.readline().strip()
        address, _, ticket = link.partition("?token=")
        assert ticket
        assert TOKEN not in link
        path = dataset.ok["path"].iloc[0]
        request: Any = Request(
            f"{address}predict",
            (dataset.root / path).read_bytes(),
            {"content-type": "image/png"},
        )
        with pytest.raises(HTTPError) as refused:
            urlopen(request, timeout=20)
        assert refused.value.code == 401
        refused.value.close()
        request.add_header("authorization", f"Bearer {TOKEN}")
        with urlopen(request, timeout=20) as reply:
            (row,) = json.load(reply)["images"]
        assert row["image_id"] == dataset.ok["image_id"].iloc[0]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
