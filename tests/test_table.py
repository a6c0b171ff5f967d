"""The table: each row is what Keras itself builds, feeds and asks for."""

import gc
import importlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featcache import backbones
from featcache.backbones import CLASSIC5, NETWORKS, resolve
from featcache.errors import UsageError, WeightsError

UNCHECKED = {"mobilenet", "mobilenetv2"}  # Keras publishes no checksum of these
# The smallest input that a network takes; the mobile ones ask for other weights or
# warn at any but their own size.
SIDE = dict.fromkeys(NETWORKS, 64) | {
    **dict.fromkeys(("inceptionv3", "inceptionresnetv2", "xception"), 75),
    **dict.fromkeys((name for name in NETWORKS if "mobilenet" in name), 224),
}


def keras_folder() -> Path:
    """The installed Keras, without importing it."""
    spec = importlib.util.find_spec("keras")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def test_the_studys_five_come_first() -> None:
    """The table goes on with the rest of Keras' networks."""
    assert tuple(NETWORKS)[:5] == CLASSIC5


def test_every_network_of_keras_is_a_row() -> None:
    """A row is named by the factory in lower case; none is left out."""
    text = (keras_folder() / "applications" / "__init__.py").read_text()
    factories = set(re.findall(r"\b([A-Z]\w+) as \1", text))
    assert {name: row.factory for name, row in NETWORKS.items()} == {
        factory.lower(): factory for factory in factories
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_the_weights_can_be_told(name: str) -> None:
    """A file has an address, a name of its own, and one checksum or none at all."""
    row = NETWORKS[name]
    assert re.fullmatch(r"https://storage\.googleapis\.com/[\w/.-]+\.h5", row.url)
    assert [r.file_name for r in NETWORKS.values()].count(row.file_name) == 1
    digits = {"md5": 32, "sha256": 64}
    if name in UNCHECKED:
        assert row.checksum is None
    else:
        assert row.checksum is not None
        kind, value = row.checksum
        assert re.fullmatch(rf"[0-9a-f]{{{digits[kind]}}}", value)


def test_the_published_checksums_are_keras_own() -> None:
    """Each row's checksum stands in the source of the installed Keras."""
    sources = (keras_folder() / "src" / "applications").glob("*.py")
    text = "".join(path.read_text() for path in sources)
    for row in NETWORKS.values():
        assert row.checksum is None or f'"{row.checksum[1]}"' in text


def test_classic5_means_five_networks() -> None:
    """``-b classic5`` runs its five; ``-b all`` is refused, and both ways out named."""
    from featcache.cli.options import resolve_networks

    given = {"weights": "random", "preprocess": "imagenet", "input_size": None}
    networks = resolve_networks(("nasnetlarge", "classic5"), given | {"seed": 0})
    assert [network.name for network in networks] == ["nasnetlarge", *CLASSIC5]
    with pytest.raises(UsageError, match=r"classic5 for densenet121.*baselines for "):
        backbones.resolve_all(["all"])


def test_a_file_without_checksum_is_named_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be checked is taken; two such files have two keys."""
    monkeypatch.setenv("FEATCACHE_WEIGHTS", str(tmp_path))
    keys = []
    for content in (b"one", b"two"):
        (tmp_path / NETWORKS["mobilenet"].file_name).write_bytes(content)
        keys.append(backbones.weights_key(resolve("mobilenet")))
    assert keys[0] != keys[1]


def test_a_sha256_is_checked_as_an_md5_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half download is found by whichever checksum is published."""
    monkeypatch.setenv("FEATCACHE_WEIGHTS", str(tmp_path))
    row = NETWORKS["convnexttiny"]
    (tmp_path / row.file_name).write_bytes(b"half")
    with pytest.raises(WeightsError, match=f"SHA256 {row.sha256}.*Delete the file"):
        backbones.find_weights(row)


@dataclass
class Asked:
    """What Keras wanted: (file name, address, checksum), and default sides."""

    files: list[tuple[str, str, str | None]] = field(default_factory=list)
    sides: list[int] = field(default_factory=list)


def as_keras_builds(name: str) -> tuple[Any, Asked]:
    """Keras' own graph for the ImageNet weights; nothing is fetched or loaded."""
    from featcache.core.tf import tensorflow

    tensorflow()
    import keras
    from keras.src.applications import imagenet_utils
    from keras.src.utils import file_utils

    asked, shape = Asked(), imagenet_utils.obtain_input_shape

    def get_file(name: str, url: str, *, file_hash: str | None = None, **_: Any) -> str:
        asked.files.append((name, url, file_hash))
        return name

    def obtain_input_shape(*arguments: Any, **options: Any) -> Any:
        asked.sides.append(options["default_size"])
        return shape(*arguments, **options)

    factory = getattr(keras.applications, NETWORKS[name].factory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_utils, "get_file", get_file)
        patch.setattr(imagenet_utils, "obtain_input_shape", obtain_input_shape)
        patch.setattr(keras.Model, "load_weights", lambda *_, **__: None)
        shape_of_input = (SIDE[name], SIDE[name], 3)
        model = factory(include_top=False, input_shape=shape_of_input, pooling="avg")
    return model, asked


@pytest.fixture
def cleared() -> Iterator[None]:
    """Frees the networks of a test: the large ones take gigabytes."""
    yield
    import keras

    keras.backend.clear_session()
    gc.collect()


def noise(side: int) -> np.ndarray:
    """Two images of uint8 noise."""
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (2, side, side, 3), dtype=np.uint8)


def difference(ours: Any, plain: Any) -> float:
    """Largest difference, relative to the largest value."""
    return float(np.abs(np.asarray(ours) - plain).max() / np.abs(plain).max())


@pytest.mark.slow
@pytest.mark.usefixtures("cleared")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_row_is_what_keras_builds(name: str) -> None:
    """Weights file, side, width, preprocessing and graph are those of Keras.

    Ours is built second: default taps are names that Keras does not number anew.
    """
    row, network = NETWORKS[name], resolve(name, "random", input_size=SIDE[name])
    plain, asked = as_keras_builds(name)
    assert asked.files == [(row.file_name, row.url, row.md5 or row.sha256 or None)]
    # MobileNetV3 has no default side; its files are of 224 px.
    assert asked.sides == ([] if row.module == "mobilenet_v3" else [row.input_size])

    core = backbones.build(network)
    for theirs, ours in zip(plain.weights, core.weights, strict=True):
        theirs.assign(ours)
    pixels = noise(SIDE[name])
    outputs = backbones.with_pixels(core, network, taps=row.taps)(pixels)
    module = importlib.import_module(f"keras.applications.{row.module}")
    expected = plain(module.preprocess_input(pixels.astype("float32")), training=False)
    assert expected.shape == (2, row.dim)
    assert difference(outputs["features"], expected) < 1e-4
    assert {*outputs} == {"features", *row.taps}


@pytest.mark.slow
@pytest.mark.usefixtures("cleared")
@pytest.mark.parametrize("name", ["efficientnetb0", "convnexttiny"])
def test_a_rebuilt_graph_gets_the_files_weights(name: str, tmp_path: Path) -> None:
    """Where our graph is not quite that of Keras, each weight finds its place."""
    plain, _ = as_keras_builds(name)
    rng = np.random.default_rng(7)
    for weight in plain.weights:
        weight.assign(weight + rng.uniform(0, 0.1, weight.shape).astype(weight.dtype))
    file = tmp_path / "own.weights.h5"
    plain.save_weights(file)
    plain.load_weights(file)

    core = backbones.build(resolve(name, str(file), input_size=SIDE[name]))
    pixels = noise(SIDE[name]).astype("float32")
    assert difference(core(pixels), plain(pixels, training=False)) < 1e-4
