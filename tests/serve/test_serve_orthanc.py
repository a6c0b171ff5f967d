"""examples/orthanc.py between ``featcache serve`` and a real Orthanc."""

import json
import runpy
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from toy_dicom import of_dicom

from featcache.dataset.manifest import Manifest

pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
SCRIPT = Path(__file__).parents[2] / "examples" / "orthanc.py"
ORTHANC = shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[str]:
    """An Orthanc on the loopback, whose series are stable after a second."""
    if ORTHANC is None:
        pytest.skip("Orthanc (Debian's orthanc) is not installed")
    home, port = tmp_path / "orthanc", free_port()
    home.mkdir()
    settings = {"StorageDirectory": str(home), "IndexDirectory": str(home)}
    settings |= {"HttpPort": port, "DicomPort": free_port(), "StableAge": 1}
    settings |= {"RemoteAccessAllowed": False, "AuthenticationEnabled": False}
    (home / "settings.json").write_text(json.dumps(settings))
    with subprocess.Popen(
        [ORTHANC, home / "settings.json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        for _ in range(100):
            try:
                urlopen(f"http://127.0.0.1:{port}/system").close()
                break
            except URLError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        server.terminate()


@pytest.mark.slow
def test_a_series_is_answered_once(
    orthanc: str,
    address: str,
    dataset_and_bundles: tuple[Manifest, dict[str, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its study gets a report and a capture, which are not answered themselves."""
    monkeypatch.chdir(tmp_path)
    script: dict[str, Any] = runpy.run_path(str(SCRIPT))
    dataset, _ = dataset_and_bundles
    picture = dataset.root / dataset.ok["path"].iloc[0]
    script["ask"](f"{orthanc}/instances", None, of_dicom(picture.read_bytes()))
    seen = []
    for _ in range(30):
        script["main"](orthanc, address.rstrip("/"), "logreg", looks=1)
        seen.append(len(json.loads(script["ask"](f"{orthanc}/instances", None))))
        if seen[-12:] == [3] * 12:  # some seconds after the answers were stable, too
            break
        time.sleep(0.3)
    assert seen[-1] == 3
    expanded = script["ask"](f"{orthanc}/series?expand", None)
    series = {one["MainDicomTags"]["Modality"]: one for one in json.loads(expanded)}
    assert series.keys() == {"DX", "SR", "OT"}
    assert len({one["ParentStudy"] for one in series.values()}) == 1
