"""The wheel in a fresh environment: it works, and misses nothing but extras."""

import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from installing import IMPORT_ALL, ROOT, Run

pytestmark = [pytest.mark.release, pytest.mark.timeout(900)]  # packages are fetched
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_version_is_that_of_the_package(outside: Run) -> None:
    """`featcache --version` and `featcache.__version__` say what was built."""
    version = PROJECT["version"]
    assert outside("featcache", "--version") == (
        0,
        f"featcache, version {version}\n",
        "",
    )
    code = "import featcache; print(featcache.__version__)"
    assert outside("python", "-c", code)[1] == f"{version}\n"


def test_doctor_fails_nowhere(outside: Run) -> None:
    """What is needed is there; of the extras, nothing is."""
    code, out, err = outside("featcache", "doctor", "--offline", "--json")
    assert code == 0, err
    checks = {check["name"]: check for check in json.loads(out)}
    names = [re.split(r"[^\w-]", need)[0] for need in PROJECT["dependencies"]]
    assert {checks[name]["status"] for name in names} == {"PASS"}
    absent = {
        name
        for name, check in checks.items()
        if "pip install 'featcache[" in check["fix"]
    }
    offered = {
        re.split(r"[^\w-]", need)[0]
        for extra, needs in PROJECT["optional-dependencies"].items()
        for need in needs
        if extra not in ("dev", "docs")
    }
    assert absent == offered


def test_the_demo_ends_in_a_leaderboard(demo: str) -> None:
    """It needs no network and no extra."""
    assert "out-of-fold on split patient-k5-test0.2-seed0" in demo
    assert "Report: reports/demo/report.html" in demo


def test_every_module_but_the_server_is_imported(outside: Run) -> None:
    """Only modules that serve pages need an extra as soon as they are imported."""
    code, out, err = outside("python", "-c", IMPORT_ALL)
    assert code == 0, err
    missing = json.loads(out)
    assert missing
    assert {name.split(".")[1] for name in missing} == {"serve"}
    assert set(missing.values()) <= {"starlette", "uvicorn", "h11"}


# Extra: a command that needs it. {store} and {network} are of the demo.
LACKING = {
    "cloud": "scan http://127.0.0.1:9/images.zip",
    "dask": "train-head -H majority --dataset demo --on dask",
    "dicom": "scan ward --group-by dicom:PatientID",
    "export": "export 1 --to onnx -o model.onnx",
    "int8": "extract {images} -b {network} --precision int8",
    "parquet": "scan table.parquet",
    "ray": "train-head -H majority --dataset demo --on ray",
    "serve": "serve model.fcb",
    "torch": "backbone export timm:resnet18.a1_in1k -o net.onnx --random",
    "zarr": "cache export {store} --to features.zarr",
}
FURTHER = {
    "dicom-files": ("dicom", "scan ward"),
    "export-keras": ("export", "backbone export keras:mobilenet -o n.onnx --random"),
    "parquet-answers": ("parquet", "predict model.fcb {images} -o answers.parquet"),
    "parquet-export": ("parquet", "cache export {store} --to features.parquet"),
    "review": ("serve", "review open --reader ann"),
}
CALLS = {extra: (extra, line) for extra, line in LACKING.items()} | FURTHER


@pytest.fixture(scope="session")
def folder(demo: str, outside: Run) -> Path:
    """Where programs run: the demo, a bundle of it, and files that need extras."""
    code, _, err = outside("featcache", "bundle", "make", "1", "-o", "model.fcb")
    assert code == 0, err
    code, out, _ = outside("python", "-c", "import os; print(os.getcwd())")
    home = Path(out.strip())
    (home / "table.parquet").write_bytes(b"PAR1")
    for label in ("ill", "well"):
        (home / "ward" / label).mkdir(parents=True)
        (home / "ward" / label / "1.dcm").write_bytes(bytes(128) + b"DICM" + bytes(200))
    return home


@pytest.mark.parametrize(("extra", "line"), CALLS.values(), ids=CALLS)
def test_a_command_without_its_extra_says_which(
    folder: Path, outside: Run, extra: str, line: str
) -> None:
    """The error names the extra; exit code 1, and no traceback."""
    store = min((folder / "cache/demo/features").glob("phantom*.h5"))
    images = folder / "cache/demo/phantoms-60-seed0"
    network = ROOT / "featcache/study/phantom_net.keras"
    names = {"store": store, "images": images / "metadata.csv", "network": network}
    words = line.format(**names).split()
    code, _, err = outside("featcache", *words)
    assert (code, "Traceback" in err) == (1, False), err
    assert f"pip install 'featcache[{extra}]'" in err


def test_sheets_without_their_extra_are_a_note(folder: Path, outside: Run) -> None:
    """The images are scanned; a note says how to have the columns of the sheets."""
    shutil.copytree(folder / "cache/demo/phantoms-60-seed0", folder / "chest")
    (folder / "chest/metadata.csv").unlink()
    for label in [path for path in (folder / "chest").iterdir() if path.is_dir()]:
        (folder / f"chest/{label.name}.metadata.xlsx").write_bytes(b"no sheet")
    code, _, err = outside("featcache", "scan", "chest", "--group-by", "image")
    assert code == 0, err
    assert "pip install 'featcache[xlsx]'" in err


def test_every_extra_has_a_command_here() -> None:
    """Beside the sheets' and the developers', each is tried without."""
    assert {*LACKING, "xlsx", "dev", "docs"} == set(PROJECT["optional-dependencies"])
