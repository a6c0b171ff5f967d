"""The doctor: what is unfit is told, with a fix, and only FAIL is an exit code."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest

from featcache.backbones import NETWORKS
from featcache.backbones.engines import openvino, speed
from featcache.commands import doctor

Run = Callable[..., tuple[int, str, str]]
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def _no_weights_and_no_network(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("FEATCACHE_WEIGHTS", raising=False)

    def refuse(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(doctor, "int8_speedup", lambda: 2.0)  # else two seconds


def checks(run: Run, *options: object, code: int = 0) -> dict[str, dict[str, str]]:
    """Each check by its name, from ``featcache doctor --json``."""
    got, out, err = run("doctor", "--json", *options)
    assert got == code, err
    return {check["name"]: check for check in json.loads(out)}


def test_every_worry_has_a_fix(run: Run) -> None:
    """PASS stands alone; WARN and FAIL say what to do. Here nothing fails."""
    found = checks(run, "--offline")
    for check in found.values():
        assert check["status"] in ("PASS", "WARN")
        assert bool(check["fix"]) == (check["status"] != "PASS")
    wanted = {"python", "numpy", "tensorflow", "cpu", "int8", "gpu", "engine"}
    wanted |= {"cache disk", "cache write", "cache lock", "reports write"}
    assert found.keys() >= wanted
    assert {name for name in found if name.startswith("weights ")} == {
        f"weights {name}" for name in NETWORKS
    }


def test_the_summary_counts(run: Run) -> None:
    """The last line counts; the fix and what it needs stand once above it."""
    code, out, _ = run("doctor", "--offline", "--all")
    assert code == 0
    assert out.splitlines()[-1].endswith(" WARN, 0 FAIL")
    assert out.count(doctor.TWO_WAYS) == 1
    assert all(row.url in out for row in NETWORKS.values())


def test_extras_are_those_of_the_package() -> None:
    """What may be missing is what pyproject.toml offers beyond the development."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    offered = {
        (re.split(r"[^\w-]", need)[0], extra)
        for extra, needs in extras.items()
        for need in needs
        if extra not in ("dev", "docs")
    }
    told = {(name, extra) for name, (extra, _) in doctor.OPTIONAL.items()}
    assert told == offered - {("onnx", "torch")}  # which "export" has as well


def test_nothing_is_left_behind(run: Run, tmp_path: Path) -> None:
    """Folders that are not there are not made, and no probe stays."""
    checks(run, "--offline")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_tensorflow_is_not_started() -> None:
    """Only --deep loads TensorFlow; int8 is measured without."""
    code = (
        "import sys; from featcache.cli import cli; cli.main(['doctor', '--offline'], "
        "standalone_mode=False); sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert b" x float32 on this CPU, measured" in done.stdout


def no_room(patch: Patch) -> None:
    usage = type("Usage", (), {"free": doctor.NO_ROOM - 1})
    patch.setattr("shutil.disk_usage", lambda folder: usage)


def too_old(patch: Patch) -> None:
    patch.setattr(metadata, "requires", lambda name: ["numpy>=99"])


def missing(patch: Patch) -> None:
    patch.setattr(metadata, "requires", lambda name: ["no-such-library"])


def old_python(patch: Patch) -> None:
    patch.setattr("platform.python_version", lambda: "3.8.1")


def unwritable(patch: Patch) -> None:
    Path("file").touch()
    patch.setenv("FEATCACHE_CACHE", "file/cache")


def no_lock(patch: Patch) -> None:
    patch.setattr(doctor, "_SECOND", "")


@pytest.mark.parametrize(
    ("spoil", "name", "said"),
    [
        (no_room, "reports disk", "0.5 GiB free"),
        (too_old, "numpy", "but >=99 is needed"),
        (missing, "no-such-library", "not installed"),
        (old_python, "python", "3.8.1"),
        (unwritable, "cache write", "Not a directory"),
        (no_lock, "cache lock", "take the lock too"),
    ],
)
def test_what_fails_is_exit_code_1(
    run: Run, monkeypatch: Patch, spoil: Callable[[Patch], None], name: str, said: str
) -> None:
    """Where featcache cannot work or would lose data: FAIL, a fix, exit code 1."""
    spoil(monkeypatch)
    check = checks(run, "--offline", code=1)[name]
    assert (check["status"], bool(check["fix"])) == ("FAIL", True)
    assert said in check["result"]


def little_room(patch: Patch) -> None:
    usage = type("Usage", (), {"free": doctor.LITTLE_ROOM - 1})
    patch.setattr("shutil.disk_usage", lambda folder: usage)


def slow_disk(patch: Patch) -> None:
    patch.setattr(doctor, "SLOW_WRITE", 0.0)


def no_extra(patch: Patch) -> None:
    patch.setattr(doctor, "OPTIONAL", {"no-such-library": ("better", "more")})


@pytest.mark.parametrize(
    ("spoil", "name", "fix"),
    [
        (little_room, "cache disk", "Free some space"),
        (slow_disk, "reports write", "on a local disk"),
        (no_extra, "no-such-library", "pip install 'featcache[better]'"),
    ],
)
def test_what_is_only_worse_is_a_warning(
    run: Run, monkeypatch: Patch, spoil: Callable[[Patch], None], name: str, fix: str
) -> None:
    """Where all works, but less well: WARN, a fix, exit code 0."""
    spoil(monkeypatch)
    check = checks(run, "--offline")[name]
    assert (check["status"], fix in check["fix"]) == ("WARN", True)


def test_the_weights_of_five_networks_are_shown(run: Run) -> None:
    """The others are counted, and shown on request."""
    _, out, _ = run("doctor", "--offline")
    assert len(re.findall(r"^ *\w+ +weights \w+ +no local", out, re.M)) == 5
    further = len(NETWORKS) - 5
    assert f"{further} more networks (weights of 0 on this machine): featcache" in out
    counts = dict(re.findall(r"(\d+) (PASS|WARN|FAIL)", out.splitlines()[-1]))
    assert sum(map(int, counts)) == len(
        re.findall(r"^ *(?:PASS|WARN|FAIL)  ", out, re.M)
    )
    _, out, _ = run("doctor", "--offline", "--all")
    lines = re.findall(r"^ *\w+ +weights \w+ +no local", out, re.M)
    assert len(lines) == len(NETWORKS)
    assert "more networks" not in out


def test_weights_that_cannot_be_had(run: Run) -> None:
    """Without file and connection: WARN with address, checksum and both ways out."""
    check = checks(run)["weights vgg19"]
    assert (check["status"], check["fix"]) == ("WARN", doctor.TWO_WAYS)
    assert "253f8cb515780f3b799900260a226db6" in check["details"]
    assert "https://" in check["details"]


def test_weights_that_can_be_downloaded(run: Run, monkeypatch: Patch) -> None:
    """A host that answers is asked once, whatever it has; offline, not at all."""
    asked = []

    def answer(request: urllib.request.Request, timeout: float) -> object:
        asked.append(request.host)
        return open(os.devnull)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    checks(run, "--offline")
    assert asked == []
    found = checks(run)
    assert len(asked) == len(set(asked)) > 0
    assert {found[f"weights {name}"]["status"] for name in NETWORKS} == {"PASS"}


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [(b"weights", "PASS", "MD5 ok"), (b"rot", "WARN", "damaged")],
)
def test_weights_that_are_here(
    run: Run, monkeypatch: Patch, content: bytes, status: str, said: str
) -> None:
    """A file in $FEATCACHE_WEIGHTS is checked by its published checksum."""
    md5 = hashlib.md5(b"weights").hexdigest()
    row = replace(NETWORKS["vgg19"], md5=md5)
    monkeypatch.setattr(doctor, "NETWORKS", {"vgg19": row})
    monkeypatch.setenv("FEATCACHE_WEIGHTS", "mine")
    Path("mine").mkdir()
    (Path("mine") / row.file_name).write_bytes(content)
    check = checks(run, "--offline")["weights vgg19"]
    assert (check["status"], said in check["result"]) == (status, True)


@pytest.mark.parametrize(
    ("flags", "cpu"),
    [
        ("flags : fpu avx2 avx512f avx512_vnni", "AVX2, AVX-512, VNNI"),
        ("Features : asimd", "no vector instructions listed"),
    ],
)
def test_instructions(run: Run, monkeypatch: Patch, flags: str, cpu: str) -> None:
    """The vector instructions of the processor are listed."""
    Path("cpuinfo").write_text(f"processor : 0\n{flags}\n")
    monkeypatch.setattr(doctor, "CPUINFO", Path("cpuinfo"))
    assert checks(run, "--offline")["cpu"]["result"].endswith(cpu)


@pytest.mark.parametrize(
    ("speedup", "result"),
    [
        (2.345, "2.3 x float32 on this CPU, measured: --precision int8 pays"),
        (0.9, "0.9 x float32 on this CPU, measured: --precision int8 does not pay"),
    ],
)
def test_the_measurement_decides_on_int8(
    run: Run, monkeypatch: Patch, speedup: float, result: str
) -> None:
    """Whether int8 pays is what was measured, whatever the processor's flags."""
    monkeypatch.setattr(doctor, "int8_speedup", lambda: speedup)
    check = checks(run, "--offline")["int8"]
    assert (check["result"], check["value"]) == (result, round(speedup, 2))


def test_without_openvino_int8_is_not_measured(run: Run, monkeypatch: Patch) -> None:
    """It is a warning and stops no other check."""
    monkeypatch.setattr(doctor, "int8_speedup", speed.int8_speedup)
    monkeypatch.setitem(sys.modules, "openvino", None)
    check = checks(run, "--offline")["int8"]
    assert (check["status"], check["value"]) == ("WARN", None)


def test_int8_is_measured_on_int8() -> None:
    """All convolutions of the quantised network are computed in 8 bits."""
    for is_int8, precision in ((False, "f32"), (True, "u8")):
        network = openvino.core().compile_model(
            speed.blocks(is_int8=is_int8), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        kinds = [node.rt_info for node in network.get_runtime_model().get_ops()]
        computed = [
            kind["runtimePrecision"].value
            for kind in kinds
            if kind["layerType"].value == "Convolution"
        ]
        assert computed == [precision] * 7


def test_the_speedup_is_that_of_the_fastest_turns(monkeypatch: Patch) -> None:
    """Float32 in 4 s at best and int8 in 2 s: twice as fast."""
    seconds = {False: iter([9.0, 4.0]), True: iter([2.0, 3.0])}
    engines = {kind: SimpleNamespace(requests=1, kind=kind) for kind in seconds}
    monkeypatch.setattr(speed, "_SECONDS", 0)
    monkeypatch.setattr(speed, "_engine", lambda *, is_int8: engines[is_int8])
    monkeypatch.setattr(speed, "_seconds", lambda engine, _: next(seconds[engine.kind]))
    assert speed.int8_speedup() == 2.0


def test_a_gpu_that_does_not_answer(run: Run, monkeypatch: Patch) -> None:
    """A device without a working driver is a warning."""
    Path("nvidiactl").touch()
    monkeypatch.setattr(doctor, "NVIDIA", Path("nvidiactl"))
    monkeypatch.setenv("PATH", "nowhere")
    assert checks(run, "--offline")["gpu"]["status"] == "WARN"


def test_deep_starts_tensorflow(run: Run) -> None:
    """--deep adds one check that TensorFlow starts."""
    assert "tensorflow start" in checks(run, "--offline", "--deep")
