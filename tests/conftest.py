"""Shared fixtures: tiny image sets and a toy network, all seeded and offline."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

# A test process keeps to one thread, so that heads are trained in it.
os.environ.setdefault("FEATCACHE_THREADS", "1")

import pytest
from toys import write_images

from featcache import backbones, cli
from featcache.commands.extract import StoreResult, extract
from featcache.commands.scan import scan
from featcache.dataset import images
from featcache.dataset.manifest import Manifest


@pytest.fixture(autouse=True, scope="session")
def user_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is kept in the home folder of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("user")))
        yield


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Three classes of 12 images, patients of two images each."""
    return write_images(tmp_path / "chest")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the ids of the images that are decoded."""
    ids: list[str] = []
    inspect = images.inspect

    def counting(data: bytes) -> images.Inspection:
        ids.append(images.content_id(data))
        return inspect(data)

    monkeypatch.setattr(images, "inspect", counting)
    return ids


@pytest.fixture(scope="session")
def toy_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .keras file of a small convolutional network with BatchNormalization."""
    from featcache.core.tf import tensorflow

    tensorflow()
    import keras

    gc.freeze()  # TensorFlow's objects stay; no collection looks at them again
    keras.utils.set_random_seed(1)
    pixels = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 5, strides=4, activation="relu")(pixels)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(12, 3, activation="relu")(x)
    path = tmp_path_factory.mktemp("net") / "toynet.keras"
    keras.Model(pixels, x).save(path)
    path.with_suffix(".json").write_text('{"preprocess": "tf", "input_size": 32}')
    return path


@pytest.fixture
def dataset(image_folder: Path, tmp_path: Path) -> Manifest:
    """36 images in three classes, grouped by patient."""
    return scan(image_folder, tmp_path / "cache", group_by=r"(p\d{3})_").manifest


@pytest.fixture
def study_file(
    image_folder: Path, toy_network: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """Writes a study beside its images; $NET is the toy network."""

    def call(text: str) -> Path:
        monkeypatch.setenv("NET", str(toy_network))
        path = image_folder.parent / "toy.toml"
        path.write_text(text)
        return path

    return call


@pytest.fixture
def toy(toy_network: Path) -> Callable[..., StoreResult]:
    """Extracts the toy network's features of a dataset."""

    def call(dataset: Manifest, **options: object) -> StoreResult:
        options = {"batch_size": 8, "engine": "tensorflow"} | options
        return extract(dataset, [backbones.resolve(str(toy_network))], **options)[0]

    return call


@pytest.fixture
def run(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in a folder of its own; returns code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = 0
        try:
            cli.main([str(a) for a in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real X-rays and weights; skips where there is none."""
    folder = os.environ.get("FEATCACHE_REAL_DATA")
    if not folder:
        pytest.skip("FEATCACHE_REAL_DATA is not set: no real X-rays here")
    return Path(folder)
