"""The table: each row is what Keras itself builds, feeds and asks for."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras_networks
import numpy as np
import pytest
from keras_networks import SIDE
from toys import slow_but

from featcache import backbones
from featcache.backbones import CLASSIC5, NETWORKS, PREPROCESS, resolve
from featcache.errors import UsageError, WeightsError

UNCHECKED = {"mobilenet", "mobilenetv2"}  # Keras publishes no checksum of these
KERAS = json.loads(keras_networks.FACTS.read_text())
# Rows of a module share its code, so its smallest network tells for all.
SMALLEST = {row.module: name for name, row in [*NETWORKS.items()][::-1]}
IS_KNOWN_KERAS = KERAS["keras"] == keras_networks.VERSION


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


@pytest.fixture
def cleared() -> Iterator[None]:
    """Frees the networks of a test: the large ones take gigabytes."""
    yield
    keras_networks.forget()


def noise(side: int) -> np.ndarray:
    """Two images of uint8 noise."""
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (2, side, side, 3), dtype=np.uint8)


def difference(ours: Any, plain: Any) -> float:
    """Largest difference, relative to the largest value."""
    return float(np.abs(np.asarray(ours) - plain).max() / np.abs(plain).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_row_says_what_keras_has(name: str) -> None:
    """Weights file, side, width, taps and preprocessing are those of Keras."""
    row, keras = NETWORKS[name], KERAS[name]
    assert keras["files"] == [[row.file_name, row.url, row.md5 or row.sha256 or None]]
    # MobileNetV3 has no default side; its files are of 224 px.
    assert keras["sides"] == ([] if row.module == "mobilenet_v3" else [row.input_size])
    assert keras["width"] == row.dim
    assert tuple(keras["taps"]) == row.taps
    assert keras["channel_scales"] == (
        [pytest.approx(row.rescale, abs=1e-4)] if row.rescale else []
    )
    scaling = PREPROCESS[row.preprocess]
    pixels = np.array(keras_networks.COLOURS)[:, :: -1 if scaling.bgr else 1]
    expected = pixels * scaling.scale + scaling.offset
    np.testing.assert_allclose(keras["preprocessed"], expected, atol=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("cleared")
@pytest.mark.parametrize("name", SMALLEST.values() if IS_KNOWN_KERAS else NETWORKS)
def test_what_is_known_of_keras_is_true(name: str) -> None:
    """The facts in the file are those of the installed Keras."""
    assert json.loads(json.dumps(keras_networks.facts(name))) == KERAS[name]


@pytest.mark.usefixtures("cleared")
@pytest.mark.parametrize(
    "name",
    slow_but(sorted(SMALLEST.values()), "mobilenetv3small", "vgg16"),
)
def test_a_row_computes_what_keras_does(name: str) -> None:
    """With the same weights, our graph from pixels on gives Keras' numbers.

    Ours is built second: default taps are names that Keras does not number anew.
    """
    row, side = NETWORKS[name], SIDE[name]
    network = resolve(name, "random", input_size=side)
    plain, _ = keras_networks.build(name)
    core = backbones.build(network)
    for theirs, ours in zip(plain.weights, core.weights, strict=True):
        theirs.assign(ours)
    pixels = noise(side)
    outputs = backbones.with_pixels(core, network, taps=row.taps)(pixels)
    expected = plain(keras_networks.preprocess(name, pixels), training=False)
    assert difference(outputs["features"], expected) < 1e-4
    widths = {tap: output.shape[-1] for tap, output in outputs.items()}
    assert widths == {"features": row.dim} | KERAS[name]["taps"]


@pytest.mark.usefixtures("cleared")
@pytest.mark.parametrize("name", slow_but(["efficientnetb0", "convnexttiny"]))
def test_a_rebuilt_graph_gets_the_files_weights(name: str, tmp_path: Path) -> None:
    """Where our graph is not quite that of Keras, each weight finds its place."""
    plain, _ = keras_networks.build(name)
    rng = np.random.default_rng(7)
    for weight in plain.weights:
        weight.assign(weight + rng.uniform(0, 0.1, weight.shape).astype(weight.dtype))
    file = tmp_path / "own.weights.h5"
    plain.save_weights(file)
    plain.load_weights(file)

    core = backbones.build(resolve(name, str(file), input_size=SIDE[name]))
    pixels = noise(SIDE[name]).astype("float32")
    assert difference(core(pixels), plain(pixels, training=False)) < 1e-4
