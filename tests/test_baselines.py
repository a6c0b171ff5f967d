"""Baselines: rows of the table without a network, in stores like any other."""

import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_extract_stage import age
from test_images import encode, noise
from toys import Heard, picture

import featcache
from featcache import backbones
from featcache.backbones import BACKBONES, BASELINES, NETWORKS, baselines
from featcache.backbones.engines import choose
from featcache.backbones.engines.base import Engine
from featcache.commands.extract import StoreResult, extract
from featcache.commands.scan import scan
from featcache.dataset import images, rendering, views
from featcache.dataset.manifest import Manifest
from featcache.dataset.views import Policy
from featcache.errors import StoreError, UsageError
from featcache.features import store

Stores = dict[str, StoreResult]
HALVES = np.repeat(np.array([[100, 200]], np.uint8), [12, 12], axis=1).repeat(8, axis=0)


def run_all(dataset: Manifest, *names: str, **options: Any) -> Stores:
    """Extracts by name; the results by backbone."""
    networks = backbones.resolve_all(names or ["baselines"])
    options = {"batch_size": 8, "engine": "tensorflow"} | options
    return {r.backbone: r for r in extract(dataset, networks, **options)}


def measured(name: str, data: bytes) -> np.ndarray:
    """A baseline's row for the bytes of a file, in its plain view."""
    row, found = BACKBONES[name], images.read(data)
    assert isinstance(row, backbones.Baseline)
    return row.measure(found, lambda size: views.render(found.image, size))


def test_the_table_ends_with_the_baselines() -> None:
    """They are rows as networks are, and all other rows are networks."""
    assert tuple(BACKBONES) == (*NETWORKS, *BASELINES)
    assert all(isinstance(BACKBONES[n], backbones.Baseline) for n in BASELINES)


@pytest.mark.parametrize("name", BASELINES)
def test_a_row_tells_its_width(name: str) -> None:
    """What is measured is as wide as the table says, and finite float32."""
    row = measured(name, encode(noise(30, 50, 3)))
    assert row.shape == (BACKBONES[name].dim,)
    assert row.dtype == np.float32
    assert np.isfinite(row).all()


def test_metadata_is_what_can_be_checked_by_hand() -> None:
    """24 x 8, half 100 and half 200: aspect 3, mean 150, spread 50, a grey PNG."""
    row = measured("metadata", encode(HALVES))
    assert row[:5].tolist() == [24, 8, 3, 150, 50]
    named = (*baselines.MODES, *baselines.KINDS)
    assert [named[i] for i in np.flatnonzero(row[5:])] == ["L", "PNG"]


@pytest.mark.parametrize(
    ("pixels", "style", "mode"),
    [
        (noise(9, 9), "JPEG", "L"),
        (noise(9, 9, 3), "JPEG", "RGB"),
        (noise(9, 9).astype(np.uint16), "PNG", "I;16"),
        (Image.fromarray(HALVES).convert("RGBA"), "PNG", "RGBA"),
        (Image.fromarray(HALVES).convert("P"), "GIF", "P"),
        (Image.fromarray(HALVES).convert("CMYK"), "TIFF", "CMYK"),
        (noise(9, 9), "BMP", "L"),
        (noise(9, 9, 3), "WEBP", "RGB"),
    ],
)
def test_mode_and_type_are_those_of_the_file(
    pixels: Any, style: str, mode: str
) -> None:
    """One 1 among the modes and one among the types, whatever it is decoded to."""
    row = measured("metadata", encode(pixels, style))[5:]
    kinds = row[len(baselines.MODES) :]
    assert baselines.MODES[int(row.argmax())] == mode
    assert baselines.KINDS[int(kinds.argmax())] == style
    assert row.sum() == 2


def test_the_types_are_those_that_are_read() -> None:
    """No file that can be decoded is of a type without a column."""
    assert (*images.FORMATS, "DICOM") == baselines.KINDS


def test_a_radiograph_of_a_hospital_has_its_own_mode_and_type() -> None:
    """DICOM's photometric interpretation stands for the mode."""
    pytest.importorskip("pydicom")
    from test_dicom import radiograph

    data = radiograph(HALVES, PhotometricInterpretation="MONOCHROME1")
    row = measured("metadata", data)
    assert row[:5].tolist() == [24, 8, 3, 105, 50]
    named = (*baselines.MODES, *baselines.KINDS)
    assert [named[i] for i in np.flatnonzero(row[5:])] == ["MONOCHROME1", "DICOM"]


def test_pixels48_are_the_greys_of_the_small_picture() -> None:
    """A grey picture of 48x48 is its own row; of colours, the luma is taken."""
    grey = noise(48, 48)
    assert np.array_equal(measured("pixels48", encode(grey)), grey.ravel())
    red = np.zeros((9, 9, 3), np.uint8)
    red[..., 0] = 255
    assert set(measured("pixels48", encode(red))) == {76}  # 0.299 * 255


def test_border_is_the_outer_ring_of_pixels48() -> None:
    """4 of 48 pixels on each side, whatever lies within."""
    framed = np.full((48, 48), 9, np.uint8)
    framed[4:-4, 4:-4] = noise(40, 40)
    assert set(measured("border", encode(framed))) == {9}
    assert len(measured("border", encode(framed))) == 48**2 - 40**2
    framed[3, 20] = 77
    assert 77 in measured("border", encode(framed))


def test_they_are_decoded_with_the_networks(
    dataset: Manifest, toy_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four stores with a view each: 36 images are read 36 times."""
    seen: list[str] = []
    read = rendering.read

    def counted(root: Path, path: str, image_id: str) -> images.Picture:
        seen.append(image_id)
        return read(root, path, image_id)

    monkeypatch.setattr(rendering, "read", counted)
    results = run_all(dataset, str(toy_network), "baselines", views=1)
    assert [*results] == ["toynet", *BASELINES]
    assert {result.computed for result in results.values()} == {72}
    assert sorted(seen) == sorted(dataset.ok["image_id"])


def test_rows_are_of_their_images_and_views(dataset: Manifest) -> None:
    """Pixels are those of the view; metadata is that of the file in every view."""
    results = run_all(dataset, views=2)
    loaded = {n: featcache.load(r.path, views=2) for n, r in results.items()}
    for at in (0, 4, 107):
        fact = loaded["pixels48"].meta.iloc[at]
        found = images.read((dataset.root / fact["path"]).read_bytes())
        drawn = (
            views.draw(Policy(), fact["image_id"], fact["view"])
            if fact["view"]
            else None
        )
        small = views.render(found.image, 48, drawn)[..., 0].astype(np.float32)
        assert np.array_equal(loaded["pixels48"].X[at], small.ravel())
        assert np.array_equal(loaded["border"].X[at][: 4 * 48], small[:4].ravel())
    X = loaded["metadata"].X.reshape(36, 3, -1)
    assert (X[:, :1] == X).all()


def test_only_what_is_missing_is_measured(
    dataset: Manifest, image_folder: Path
) -> None:
    """More views and images cost their own rows; what is there costs nothing."""
    assert {r.computed for r in run_all(dataset).values()} == {36}
    assert {r.computed for r in run_all(dataset).values()} == {0}
    assert {r.computed for r in run_all(dataset, views=1).values()} == {36}
    picture(999, 50).save(image_folder / "COVID" / "new.png")
    more = scan(image_folder, dataset.folder.parent).manifest
    assert {(r.computed, r.rows) for r in run_all(more, views=1).values()} == {(2, 74)}


def test_the_contract_is_of_what_is_measured(dataset: Manifest) -> None:
    """No weights; another version of the rules is another store."""
    header = store.open_store(run_all(dataset)["border"].path).header
    assert (header.weights, header.weights_key, header.engine) == (
        *("none", "none", "numpy"),
    )
    assert header.contract.architecture == f"border, version {baselines.VERSION}"
    assert header.contract.weights_digest is None


def test_another_version_is_another_store(
    dataset: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of two rules are never mixed."""
    before = run_all(dataset)
    monkeypatch.setattr(baselines, "VERSION", baselines.VERSION + 1)
    after = run_all(dataset)
    assert {r.computed for r in after.values()} == {36}
    assert not {r.path for r in before.values()} & {r.path for r in after.values()}


def test_a_pillow_that_draws_otherwise_is_stopped(dataset: Manifest) -> None:
    """As for networks, a few stored rows are measured again first."""
    path = run_all(dataset, "pixels48")["pixels48"].path
    age(path, 0.0)
    assert run_all(dataset, "pixels48", views=1)["pixels48"].computed == 36
    age(path, 3.0)
    with pytest.raises(StoreError, match=r"keras 1\.0 before"):
        run_all(dataset, "pixels48", views=2)


def test_greys_survive_float16(dataset: Manifest) -> None:
    """Whole numbers up to 255 need no more bits."""
    whole = run_all(dataset, "pixels48")["pixels48"].path
    half = run_all(dataset, "pixels48", dtype="float16")["pixels48"].path
    assert whole != half
    assert np.array_equal(featcache.load(whole).X, featcache.load(half).X)


def test_they_wait_for_no_turn(
    dataset: Manifest, toy_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a network is busy with its first batch, all baselines are done."""
    done, finished = threading.Event(), set()
    waited: list[bool] = []
    make = choose.make

    def slow(engine: Engine) -> Engine:
        run = engine.run

        def wait_and_run(batches: Any) -> Any:
            return run(waited.append(done.wait(30)) or b for b in batches)

        engine.run = wait_and_run  # type: ignore[method-assign]
        return engine

    def made(*arguments: Any, **options: Any) -> list[Engine]:
        return [slow(e) if e.takes_turns else e for e in make(*arguments, **options)]

    def progress(name: str, now: int, total: int) -> None:
        if now == total:
            finished.add(name)
        if finished >= set(BASELINES):
            done.set()

    monkeypatch.setattr(choose, "make", made)
    run_all(dataset, str(toy_network), "baselines", reporter=Heard(at_each=progress))
    assert waited == [True] * 5


def test_an_image_that_vanished_fails_in_every_store(
    dataset: Manifest, toy_network: Path
) -> None:
    """Reasons are told for baselines as for networks; the others are stored."""
    (dataset.root / dataset.ok["path"].iloc[3]).unlink()
    results = run_all(dataset, str(toy_network), "baselines", max_bad=0.1)
    assert {r.rows for r in results.values()} == {35}
    assert len({tuple(r.failures) for r in results.values()}) == 1


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "random"}, "`weights='random'`"),
        ({"preprocess": "tf"}, "`preprocess='tf'`"),
        ({"input_size": 64}, "`input_size=64`"),
    ],
)
def test_options_of_networks_are_refused(
    name: str, options: dict[str, Any], said: str
) -> None:
    """Alone, a baseline has nothing that they could be meant for."""
    with pytest.raises(UsageError, match=said):
        backbones.resolve(name, **options)
    with pytest.raises(UsageError, match=r"takes no .*Omit these options"):
        backbones.resolve_all([name], **options)


def test_beside_a_network_they_go_without_its_options() -> None:
    """The options are for the network; what goes without them is told once."""
    said: list[str] = []
    found = backbones.resolve_all(
        ["baselines", "vgg19", "border"], "random", input_size=64, reporter=Heard(said)
    )
    assert [(n.name, n.weights, n.input_size) for n in found] == [
        *(("metadata", "none", 0), ("pixels48", "none", 48), ("border", "none", 48)),
        ("vgg19", "random", 64),
    ]
    assert said == [
        "`weights='random'`, `input_size=64`: ignored for metadata, pixels48, border "
        "(no network)"
    ]


def test_they_have_no_inner_layers(dataset: Manifest, toy_network: Path) -> None:
    """Taps are refused where nothing has any; beside a network they are its own."""
    with pytest.raises(UsageError, match="leave `taps` out"):
        run_all(dataset, taps="default")
    said: list[str] = []
    results = run_all(
        dataset, str(toy_network), "border", taps="conv2d", reporter=Heard(said)
    )
    assert [r.taps for r in results.values()] == [["conv2d"], []]
    assert said == ["`taps='conv2d'`: ignored for border (no network)"]


def test_there_is_nothing_to_quantise(dataset: Manifest) -> None:
    """With --precision int8 their store is the float32 one, and it is said."""
    said: list[str] = []
    plain = run_all(dataset)
    result = run_all(dataset, precision="int8", reporter=Heard(said))
    assert {n: r.path for n, r in plain.items()} == {
        n: r.path for n, r in result.items()
    }
    assert said == [
        "`precision='int8'`: ignored for metadata, pixels48, border (no network)"
    ]


def test_a_zip_and_its_folder_give_the_same_rows(
    dataset: Manifest, image_folder: Path, tmp_path: Path
) -> None:
    """Sources of any kind are read by the same door."""
    with zipfile.ZipFile(tmp_path / "chest.zip", "w") as archive:
        for path in sorted(image_folder.glob("*/*.png")):
            archive.write(path, path.relative_to(image_folder))
    packed = scan(tmp_path / "chest.zip", tmp_path / "zipped").manifest
    one, two = run_all(dataset), run_all(packed)
    for name in BASELINES:
        X, Y = (featcache.load(r[name].path).X for r in (one, two))
        assert np.array_equal(X, Y)


ALONE = """
import sys
from featcache.cli import cli
cli.main(["extract", *sys.argv[1:]], standalone_mode=False)
print({"tensorflow", "keras", "openvino", "nncf"} & {*sys.modules})
"""


@pytest.mark.slow
def test_alone_they_load_no_network_library(image_folder: Path, tmp_path: Path) -> None:
    """Neither TensorFlow nor OpenVINO is imported, at the first call and later."""
    command = [sys.executable, "-c", ALONE, str(image_folder), "-b", "baselines"]
    for said in ("36 computed", "all cached"):
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.count(said) == 3
        assert done.stdout.endswith("set()\n")


def test_the_commands_treat_them_as_any_other(
    run: Callable[..., tuple[int, str, str]], image_folder: Path
) -> None:
    """Extracted, listed, verified, exported, trained on and ranked."""
    code, out, err = run("extract", image_folder, "-b", "baselines", "--json")
    assert (code, [r["backbone"] for r in json.loads(out)]) == (0, [*BASELINES]), err
    listed = json.loads(run("cache", "ls", "--json")[1])
    assert {
        (e["backbone"], e["weights"], e["input_size"], e["rows"]) for e in listed
    } == {
        *(("metadata", "none", 0, 36), ("pixels48", "none", 48, 36)),
        ("border", "none", 48, 36),
    }
    assert run("cache", "verify")[0] == 0
    code, out, _ = run("cache", "export", "border", "--to", "border.npz")
    assert (code, out.startswith("36 x 704")) == (0, True)
    code, _, err = run("train-head", "-H", "majority", "--jobs", "1")
    assert code == 0, err
    rows = json.loads(run("compare", "--json")[1])
    assert {row["backbone"] for row in rows} == {*BASELINES}
