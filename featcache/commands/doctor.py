"""``featcache doctor``: is this machine fit, and if it is not, what to do."""

import http.client
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from featcache.backbones import FILE, NETWORKS, Backbone, find_weights
from featcache.backbones.engines.speed import int8_speedup
from featcache.core.io import lock, temporary_folder, write_text
from featcache.core.text import NOT_STATED
from featcache.core.tf import tensorflow
from featcache.errors import LockedError, WeightsError
from featcache.features.stored_networks import CANARIES, stored_networks

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PASS, WARN, FAIL = "PASS", "WARN", "FAIL"
# Not needed by everybody: the extra that installs it, and what it is for.
OPTIONAL = {
    "nncf": ("int8", "--precision int8"),
    "onnx": ("export", "export --to onnx"),
    "onnxruntime": ("export", "export --to onnx"),
    "tf2onnx": ("export", "export --to onnx"),
    "pydicom": ("dicom", "DICOM images"),
    "pyarrow": ("parquet", "Parquet and Arrow files, and export to .parquet"),
    "pyyaml": ("parquet", "the dataset cards of Hugging Face"),
    **dict.fromkeys(("dask", "distributed"), ("dask", "--on dask")),
    "ray": ("ray", "--on ray"),
    **dict.fromkeys(
        ("aiohttp", "fsspec", "gcsfs", "s3fs"), ("cloud", "images at URLs")
    ),
    "openpyxl": ("xlsx", "reading .xlsx tables"),
    "zarr": ("zarr", "cache export to .zarr"),
    "highdicom": ("dicom", "answers as DICOM objects"),
    **dict.fromkeys(
        ("h11", "starlette", "uvicorn", "python-multipart"),
        ("serve", "serve and review"),
    ),
    **dict.fromkeys(
        (
            "torch",
            "torchvision",
            "timm",
            "transformers",
            "torchxrayvision",
            "huggingface-hub",
            "onnxscript",
        ),
        ("torch", "backbone export"),
    ),
}
INSTRUCTIONS = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "AMX": {"amx_int8"},
}
CPUINFO = Path("/proc/cpuinfo")
NVIDIA = Path("/dev/nvidiactl")
LITTLE_ROOM, NO_ROOM = 5 * 2**30, 2**29  # bytes
SLOW_WRITE = 0.1  # seconds
WORTHWHILE = 1.2  # times the speed of float32, from which int8 is worth its drift
TWO_WAYS = (
    "Download the files on another machine and put them into ~/.keras/models or the "
    "folder $FEATCACHE_WEIGHTS; or use --weights random to try things out."
)


@dataclass(frozen=True)
class Check:
    """One answer.

    Attributes:
        name: What was looked at.
        status: "PASS", "WARN" (something is slower or missing) or "FAIL".
        result: What was found.
        fix: What to do; empty for "PASS".
        details: What the fix needs, such as the address of a file.
        value: What was measured, as a number: of int8 how many times as fast it is as
            float32.
    """

    name: str
    status: str
    result: str
    fix: str = ""
    details: str = ""
    value: float | None = None


def doctor(
    cache: Path, reports: Path, *, offline: bool = False, deep: bool = False
) -> list[Check]:
    """Looks at libraries, devices, weights, disks and locks; changes nothing.

    Args:
        cache: The cache folder; where it is to be, if it is not there yet.
        reports: The folder of runs, likewise.
        offline: Do not ask whether weights can be downloaded.
        deep: Also start TensorFlow and ask it for its GPUs.
    """
    checks = [*_libraries(), *_devices(), _engine(), *_weights(offline)]
    checks += _networks(cache)
    for name, folder in (("cache", cache), ("reports", reports)):
        checks += [_room(name, folder), _writing(name, folder)]
    checks.append(_locking(cache))
    return [*checks, _tensorflow()] if deep else checks


def _libraries() -> Iterator[Check]:
    version = platform.python_version()
    try:
        about = metadata.metadata("featcache")
    except metadata.PackageNotFoundError:
        fix = "Run: pip install . (in the checkout)."
        yield Check("featcache", WARN, "not installed: required versions unknown", fix)
        return
    yield _python(version, about["Requires-Python"])
    required = _requirements()
    for requirement in required.values():
        if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
            fix = f"Run: pip install '{requirement}'."
            yield _library(requirement, FAIL, fix)
    for name, (extra, use) in OPTIONAL.items():
        fix = f"For {use}: pip install 'featcache[{extra}]'."
        yield _library(required.get(name, name), WARN, fix)


def _python(version: str, required: str) -> Check:
    from packaging.specifiers import SpecifierSet

    fits = SpecifierSet(required).contains(version, prereleases=True)
    fix = f"Install Python {required}."
    return Check("python", *((PASS, version) if fits else (FAIL, version, fix)))


def _requirements() -> "dict[str, Requirement]":
    from packaging.requirements import Requirement

    requirements = [Requirement(text) for text in metadata.requires("featcache") or ()]
    return {requirement.name: requirement for requirement in requirements}


def _library(specifier: "Requirement | str", otherwise: str, fix: str) -> Check:
    from packaging.requirements import Requirement

    requirement = Requirement(str(specifier))
    name, required = requirement.name, str(requirement.specifier)
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name, otherwise, "not installed", fix)
    if requirement.specifier.contains(version, prereleases=True):
        return Check(name, PASS, version)
    return Check(name, otherwise, f"{version}, but {required} is needed", fix)


def _devices() -> Iterator[Check]:
    flags = _flags()
    have = [name for name, any_of in INSTRUCTIONS.items() if any_of & flags]
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    instructions = ", ".join(have) or (
        "no vector instructions listed" if flags else "unknown"
    )
    yield Check("cpu", PASS, f"{cores} cores, {platform.machine()}: {instructions}")
    yield _int8()
    yield _gpu()


def _int8() -> Check:
    try:
        speedup = int8_speedup()
    except (ImportError, RuntimeError) as error:
        fix = "Install what FAILs above, and do without --precision int8 until then."
        return Check("int8", WARN, f"not measured: {error}", fix)
    pays = "pays" if speedup >= WORTHWHILE else "does not pay"
    text = f"{speedup:.1f} x float32 on this CPU, measured: --precision int8 {pays}"
    return Check("int8", PASS, text, value=round(speedup, 2))


def _flags() -> set[str]:
    try:
        text = CPUINFO.read_text(encoding="utf-8")
    except OSError:  # not Linux
        return set()
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return set(match[1].split()) if match else set()


def _gpu() -> Check:
    ask = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=5)
        names = "; ".join(done.stdout.split("\n")).strip("; ")
        answered = done.returncode == 0 and bool(names)
    except (OSError, subprocess.TimeoutExpired):
        answered = False
    if answered:
        return Check("gpu", PASS, names)
    if NVIDIA.exists():
        fix = "Run nvidia-smi and repair the driver, or set --engine openvino."
        return Check("gpu", WARN, f"{NVIDIA} exists, but nvidia-smi fails", fix)
    return Check("gpu", PASS, "none visible")


def _engine() -> Check:
    try:
        from featcache.backbones.engines.choose import preferred

        engine = preferred("auto")
    except ImportError as error:
        return Check("engine", FAIL, f"unknown: {error}", "Install what FAILs above.")
    if engine == "openvino":
        why = "no NVIDIA GPU, and OpenVINO is installed"
    else:
        why = "NVIDIA GPU present" if NVIDIA.exists() else "OpenVINO is not installed"
    return Check("engine", PASS, f"auto selects {engine}: {why}")


def _weights(offline: bool) -> Iterator[Check]:
    with ThreadPoolExecutor() as pool:  # checksums of many files take a while
        files = dict(zip(NETWORKS, pool.map(_have, NETWORKS.values()), strict=True))
    hosts: dict[str, bool] = {}
    for name, row in NETWORKS.items():
        have, title = files[name], f"weights {name}"
        if isinstance(have, WeightsError):
            yield Check(title, WARN, f"damaged: {have.got}", have.hint)
        elif have:
            kind = row.checksum[0].upper() + " ok" if row.checksum else "no checksum"
            licence = f"licence {row.licence or NOT_STATED}"
            yield Check(title, PASS, f"{have}, {kind}, {licence}")
        else:
            host = urlsplit(row.url).netloc
            if host not in hosts:
                hosts[host] = not offline and _answers(row.url)
            yield _absent(title, row, hosts[host], offline)


def _networks(cache: Path) -> Iterator[Check]:
    """Networks in files that features of the cache were extracted with."""
    for one in stored_networks(cache):
        if one.weights != FILE:
            continue
        text = f"licence {one.licence or NOT_STATED}, source {one.source or NOT_STATED}"
        title, proof = f"network {one.name}", CANARIES[one.canary]
        if one.canary == "absent":
            fix = (
                'Put a "canary" into the JSON beside its file '
                "(docs/reference/descriptors.md)."
            )
            yield Check(title, WARN, f"{text}; {proof}", fix)
        else:
            yield Check(title, PASS, f"{text}; {proof}")


def _have(row: Backbone) -> Path | WeightsError | None:
    try:
        return find_weights(row)
    except WeightsError as error:
        return error


def _absent(title: str, row: Backbone, reachable: bool, offline: bool) -> Check:
    details = f"{row.url} ({' '.join(row.checksum or ('no checksum published',))})"
    if not row.url.endswith(f"/{row.file_name}"):
        details += f", to be saved as {row.file_name}"
    if reachable:
        text = f"will be downloaded at first use: {row.file_name}"
        return Check(title, PASS, text, details=details)
    why = "download not checked" if offline else "its host does not respond"
    return Check(title, WARN, f"no local file, {why}", TWO_WAYS, details)


def _answers(url: str) -> bool:
    """Whether a file can be had; three seconds, the look-up of the name included."""
    said: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=3):
                said.append(True)
        except (OSError, http.client.HTTPException):
            said.append(False)

    # No time limit reaches the resolver, so it is left behind when it hangs.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(3)
    return said == [True]


def _base(folder: Path) -> Path:
    """The folder, or where it would be made."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _room(name: str, folder: Path) -> Check:
    base = _base(folder)
    free = shutil.disk_usage(base).free
    status = FAIL if free < NO_ROOM else WARN if free < LITTLE_ROOM else PASS
    fix = f"Free some space, or set --{name} to a folder on another disk."
    text = f"{free / 2**30:.1f} GiB free at {base}"
    return Check(f"{name} disk", status, text, "" if status == PASS else fix)


def _writing(name: str, folder: Path) -> Check:
    base, title = _base(folder), f"{name} write"
    fix = f"Set --{name} to a folder on a local disk with write access."
    try:
        with temporary_folder(base / "doctor") as temp:
            seconds = min(_write_once(temp / "probe", i) for i in range(5))
    except OSError as error:
        return Check(title, FAIL, f"{base}: {error.strerror or error}", fix)
    text = f"written, synced and read back in {1000 * seconds:.1f} ms"
    if seconds > SLOW_WRITE:
        return Check(title, WARN, text, f"Sealing is slow. {fix}")
    return Check(title, PASS, text)


def _write_once(path: Path, number: int) -> float:
    """Writes a file as stores are written; returns the seconds until it is safe."""
    started = time.perf_counter()
    write_text(path, str(number))
    seconds = time.perf_counter() - started
    if path.read_text(encoding="utf-8") != str(number):
        raise OSError("the bytes read differ from the bytes written")
    return seconds


_SECOND = """
import sys, filelock
try:
    filelock.FileLock(sys.argv[1], timeout=0).acquire()
except filelock.Timeout:
    sys.exit(3)
"""


def _locking(cache: Path) -> Check:
    fix = "Put the cache on a file system with flock, or run one extraction at a time."
    try:
        with temporary_folder(_base(cache) / "doctor") as temp:
            path = temp / "probe.lock"
            with lock(path, "the probe"):
                command = [sys.executable, "-c", _SECOND, str(path)]
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=30
                )
    except (OSError, LockedError, subprocess.TimeoutExpired) as error:
        return Check("cache lock", FAIL, f"locking could not be tested: {error}", fix)
    if done.returncode == 3:
        return Check("cache lock", PASS, "a second process cannot take the lock")
    said = done.stderr.strip().splitlines()[-1:] or ["no error"]
    text = f"a second process can take the lock too: {said[0]}"
    return Check("cache lock", FAIL, text, fix)


def _tensorflow() -> Check:
    try:
        tf = tensorflow()
    except ImportError as error:
        return Check("tensorflow", FAIL, str(error), "Run: pip install tensorflow.")
    gpus = tf.config.list_physical_devices("GPU")
    text = f"starts; sees {len(gpus)} GPUs"
    if NVIDIA.exists() and not gpus:
        fix = "Run: pip install 'tensorflow[and-cuda]'."
        return Check("tensorflow start", WARN, text, fix)
    return Check("tensorflow start", PASS, text)
