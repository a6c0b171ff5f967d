"""Each extra alone on top of the wheel: what it is for works, with nothing else."""

import json
import shutil
import signal
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest
from installing import (
    IMPORT_ALL,
    LOCK,
    ROOT,
    Distributions,
    environment,
    once,
    runner,
    uv,
)
from servers import WebServer
from test_dicom import radiograph
from toys import CLASSES, write_images

# The first test waits for the packages to be fetched.
pytestmark = [pytest.mark.extras, pytest.mark.timeout(900)]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
NETWORK = ROOT / "featcache/study/phantom_net.keras"
# Not alone here, and why.
ELSEWHERE = {
    "torch": "several gigabytes: `make test-torch` puts it on the development tools",
    "docs": "builds this documentation, which `make docs` does",
    "dev": "holds the tools of a checkout, in which all other tests run",
}


class Alone(NamedTuple):
    """An environment with one extra, and a folder with images, a run and a bundle."""

    python: Path
    home: Path

    def run(self, *words: object) -> str:
        """What Python prints for these words, which must succeed."""
        code, out, err = runner(self.python.parent, self.home)("python", *words)
        assert code == 0, err
        assert "Traceback" not in err
        return out

    def featcache(self, *words: object) -> str:
        """What the command prints, which must succeed."""
        return self.run("-m", "featcache", *words)


Enter = Callable[[str], Alone]


def packages_of(python: Path) -> set[str]:
    """``name==version`` of what an environment has of its own."""
    return set(uv("pip", "freeze", "--python", python).splitlines())


def put_on(core: Path, wheel: Path, extra: str, folder: Path) -> None:
    """Makes an environment of what the extra adds to that of the wheel.

    The packages of the wheel lie below by a .pth file, so that none is installed twice.
    """
    needs = uv(
        *("pip", "compile", "--quiet", "--no-header", "--no-annotate"),
        *("--python", core / "python", *LOCK, "-"),
        given=f"featcache[{extra}] @ {wheel.as_uri()}",
    )
    present = packages_of(core / "python")
    uv("venv", "--python", core / "python", folder)
    listed = folder / "extra.txt"
    lines = [n for n in needs.splitlines() if not n.startswith("featcache")]
    listed.write_text("\n".join(n for n in lines if n not in present))
    uv("pip", "install", "--python", folder / "bin/python", "--no-deps", "-r", listed)
    (own,) = folder.glob("lib/python*/site-packages")
    (below,) = core.parent.glob("lib/python*/site-packages")
    (own / "below.pth").write_text(f"{below}\n")


def make_run(installed: Path, home: Path) -> None:
    """36 images, features, one run and a bundle, by the wheel without extras."""
    write_images(home / "chest")
    run = runner(installed, home)
    for line in (
        rf"extract chest --group-by (p\d+)_ -b {NETWORK} --views 0",
        "train-head -H softmax",
        "bundle make 1 -o model.fcb",
    ):
        code, _, err = run("featcache", *line.split())
        assert code == 0, err


@pytest.fixture
def alone(
    distributions: Distributions,
    installed: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Enter:
    """Makes the environment of an extra, or of several."""

    def enter(extra: str) -> Alone:
        prepared = once(
            tmp_path_factory, "prepared", lambda at: make_run(installed, at)
        )
        layer = tmp_path / "venv"
        put_on(installed, distributions.wheel, extra, layer)
        home = shutil.copytree(prepared, tmp_path / "home")
        return Alone(layer / "bin/python", home)

    return enter


def store_of(home: Path) -> Path:
    (store,) = (home / "cache/chest/features").glob("*.h5")
    return store


def test_cloud_alone(alone: Enter) -> None:
    """A zip on a web server is scanned; the packages of both buckets are complete."""
    there = alone("cloud")
    archive = shutil.make_archive(str(there.home / "a"), "zip", there.home, "chest")
    with WebServer() as web:
        web.files["/a.zip"] = Path(archive).read_bytes()
        out = there.featcache("scan", f"{web.url}/a.zip", "--group-by", "image")
        assert any(part for _, part in web.requests)  # read by ranges
    assert "36 images" in out
    code = "from fsspec import get_filesystem_class as c; print(c('s3'), c('gs'))"
    assert "S3FileSystem" in there.run("-c", code)


def trains_on(there: Alone, extra: str) -> None:
    """A head is trained by workers."""
    out = there.featcache("train-head", "-H", "majority", "--on", extra)
    assert "majority-phantom_net" in out


def test_dask_alone(alone: Enter) -> None:
    """Its workers train."""
    trains_on(alone("dask"), "dask")


def test_ray_alone(alone: Enter) -> None:
    """Its workers train."""
    trains_on(alone("ray"), "ray")


def test_dicom_alone(alone: Enter) -> None:
    """DICOM files are grouped by a field of theirs, and features extracted."""
    there = alone("dicom")
    for number in range(8):
        path = there.home / f"ward/{CLASSES[number % 2]}/{number}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        greys = np.random.default_rng(number).integers(0, 4096, (64, 64), np.uint16)
        path.write_bytes(radiograph(greys, BitsStored=12, PatientID=f"p{number // 2}"))
    words = ("ward", "--group-by", "dicom:PatientID", "-b", NETWORK)
    assert "8 rows of 64 features" in there.featcache("extract", *words)


def test_export_alone(alone: Enter) -> None:
    """A run and a network of Keras become ONNX files, which are compared."""
    there = alone("export")
    there.featcache("export", "1", "--to", "onnx", "-o", "model.onnx")
    words = ("keras:mobilenet", "-o", "net.onnx", "--random")
    assert "differs from its own framework" in there.featcache(
        "backbone", "export", *words
    )
    assert (there.home / "model.onnx").stat().st_size > 1e5


def test_int8_alone(alone: Enter) -> None:
    """Features are extracted in int8."""
    there = alone("int8")
    words = ("chest", "-b", NETWORK, "--precision", "int8", "--dataset", "q")
    assert "36 rows of 64 features" in there.featcache("extract", *words)


def test_parquet_alone(alone: Enter) -> None:
    """Tables come in, features and answers go out, and cards are read."""
    there = alone("parquet")
    home = there.home
    paths = sorted(path.relative_to(home) for path in home.glob("chest/*/*.png"))
    table = pd.DataFrame({"path": map(str, paths)})
    table["label"] = [path.parent.name for path in paths]
    table.to_parquet(home / "table.parquet")
    out = there.featcache("scan", "table.parquet", "--group-by", "image")
    assert "36 images" in out
    there.featcache("cache", "export", store_of(home), "--to", "features.parquet")
    there.featcache("predict", "model.fcb", "chest", "-o", "answers.parquet")
    written = [
        len(pd.read_parquet(home / f"{n}.parquet")) for n in ("features", "answers")
    ]
    assert written == [36, 36]


def test_parquet_reads_a_card_of_hugging_face(alone: Enter) -> None:
    """Its YAML names the classes."""
    there = alone("parquet")
    images = sorted((there.home / "chest").glob("*/*.png"))[::12]
    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in images]
    folder = there.home / "hub"
    folder.mkdir()
    table = pd.DataFrame({"image": cells, "label": range(len(cells))})
    table.to_parquet(folder / "train.parquet")
    names = "".join(f"          '{i}': {name}\n" for i, name in enumerate("abc"))
    (folder / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: label\n    dtype:\n"
        f"      class_label:\n        names:\n{names}---\n"
    )
    out = there.featcache("scan", "hub", "--group-by", "image", "--json")
    assert json.loads(out)["classes"] == {"a": 1, "b": 1, "c": 1}


def answers(there: Alone, *paths: str) -> list[bytes]:
    """What a server says of one image at these paths; it ends on Ctrl-C with 0."""
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{start}; from featcache.cli import main; main()"
    image = min((there.home / "chest").glob("*/*.png")).read_bytes()
    with subprocess.Popen(
        [there.python, "-c", code, "serve", "model.fcb", "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=there.home,
        env=environment(XDG_CACHE_HOME=str(there.home)),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, process.communicate()[1]
        said = []
        for path in paths:
            request = Request(f"{address}{path}", image, {"content-type": "image/png"})
            with urlopen(request, timeout=60) as reply:
                said.append(reply.read())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    return said


def test_serve_alone(alone: Enter) -> None:
    """A bundle answers over HTTP, and every module can be imported."""
    there = alone("serve")
    (said,) = answers(there, "predict")
    (row,) = json.loads(said)["images"]
    assert {*row["probabilities"]} == {*CLASSES}
    assert json.loads(there.run("-c", IMPORT_ALL)) == {}


def test_serve_with_dicom_answers_in_dicom(alone: Enter) -> None:
    """A page and a report as DICOM objects need both extras, and no third."""
    for made in answers(alone("dicom,serve"), "dicom/sc", "dicom/sr"):
        assert made[128:132] == b"DICM"


def test_xlsx_alone(alone: Enter) -> None:
    """The columns of a sheet per class are joined, and images grouped by one."""
    there = alone("xlsx")
    for label in CLASSES:
        names = sorted(path.name for path in (there.home / "chest" / label).iterdir())
        rows = {"FILE NAME": [Path(name).stem for name in names]}
        sheet = pd.DataFrame(
            rows | {"Patient": [f"{label}-{i // 3}" for i in range(12)]}
        )
        sheet.to_excel(there.home / f"chest/{label}.metadata.xlsx", index=False)
    out = there.featcache("scan", "chest", "--dataset", "s", "--group-by", "patient")
    assert "12 groups" in out


def test_zarr_alone(alone: Enter) -> None:
    """Features are written as Zarr."""
    there = alone("zarr")
    there.featcache("cache", "export", store_of(there.home), "--to", "features.zarr")
    code = "import zarr; print(zarr.open('features.zarr')['features'].shape)"
    assert there.run("-c", code) == "(36, 64)\n"


def test_every_extra_is_alone_here_or_said_to_be_elsewhere() -> None:
    """A new extra needs a test above, or a reason for none."""
    here = {name.split("_")[1] for name in globals() if name.endswith("_alone")}
    assert here & set(ELSEWHERE) == set()
    assert here | set(ELSEWHERE) == set(PROJECT["optional-dependencies"])
