"""The table of backbones: names, weights, preprocessing, frozen networks."""

import hashlib
import json
import socket
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featcache import backbones
from featcache.backbones import (
    BACKBONES,
    CLASSIC5,
    build,
    resolve,
    weights,
    with_pixels,
)
from featcache.core.tf import tensorflow
from featcache.dataset import images, views
from featcache.errors import UnknownNameError, UsageError, WeightsError


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without weights and without a network; returns its Keras folder."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("FEATCACHE_WEIGHTS", raising=False)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(weights, "_UNREACHABLE", {})
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_the_studys_five_are_there() -> None:
    """Widths, input sizes and preprocessing are those of the networks' authors."""
    rows = {name: BACKBONES[name] for name in CLASSIC5}
    facts = {n: (b.dim, b.input_size, b.preprocess) for n, b in rows.items()}
    assert facts == {
        "densenet121": (1024, 224, "torch"),
        "resnet50": (2048, 224, "caffe"),
        "vgg19": (512, 224, "caffe"),
        "inceptionv3": (2048, 299, "tf"),
        "xception": (2048, 299, "tf"),
    }


def test_an_unknown_backbone_offers_the_nearest() -> None:
    """A typo is answered with the name that was meant."""
    with pytest.raises(
        UnknownNameError, match=r"mean densenet121.*\.keras, \.onnx or \.xml file"
    ):
        resolve("densnet121")


@pytest.mark.parametrize("size", [0, -1, 31])
def test_an_input_too_small_is_refused(size: int) -> None:
    """An input size below 32 pixels can never work."""
    with pytest.raises(UsageError, match="`input_size`"):
        resolve("vgg19", input_size=size)


def test_an_unknown_preprocess_is_refused() -> None:
    """Only the field's four scalings, and the row's own, are known."""
    with pytest.raises(UsageError, match="`preprocess`"):
        resolve("vgg19", preprocess="zscore")


def test_a_keras_file_needs_its_preprocessing_told(
    toy_network: Path, tmp_path: Path
) -> None:
    """Without options and without a JSON beside it, the error shows both ways out."""
    alone = tmp_path / "net.keras"
    alone.write_bytes(toy_network.read_bytes())
    with pytest.raises(UsageError, match=r"`preprocess` .* or in net\.json"):
        resolve(str(alone))
    told = resolve(str(alone), preprocess="caffe", input_size=64)
    assert (told.name, told.weights, told.preprocess, told.input_size) == (
        *("net", "file", "caffe", 64),
    )


def test_a_json_beside_a_keras_file_tells_its_preprocessing(toy_network: Path) -> None:
    """Options win over the JSON file of the same name."""
    assert resolve(str(toy_network)).preprocess == "tf"
    assert resolve(str(toy_network)).input_size == 32
    assert resolve(str(toy_network), input_size=48).input_size == 48


@pytest.mark.parametrize("content", ["[1]", "{"])
def test_a_broken_json_is_refused(
    toy_network: Path, tmp_path: Path, content: str
) -> None:
    """A JSON file beside a network that is no object is an error, not ignored."""
    copy = tmp_path / "net.keras"
    copy.write_bytes(toy_network.read_bytes())
    copy.with_suffix(".json").write_text(content)
    with pytest.raises(WeightsError, match=r"net\.json"):
        resolve(str(copy))


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    """A missing file and a file of something else are told apart."""
    with pytest.raises(WeightsError, match="no such file"):
        resolve(str(tmp_path / "none.keras"))
    (tmp_path / "text.keras").write_text("hello")
    with pytest.raises(WeightsError, match="saved by Keras 3"):
        resolve(str(tmp_path / "text.keras"))


def test_equal_weights_have_equal_keys(toy_network: Path, no_weights: Path) -> None:
    """The key of a file is its content's; of random weights, the seed's."""
    copy = no_weights / "renamed.keras"
    copy.write_bytes(toy_network.read_bytes())
    copy.with_suffix(".json").write_text(toy_network.with_suffix(".json").read_text())
    key = backbones.weights_key
    assert key(resolve(str(copy))) == key(resolve(str(toy_network)))
    one, two = (resolve("vgg19", "random", seed=s) for s in (1, 2))
    assert key(one) != key(two)
    assert key(resolve("vgg19")) is None


def test_without_weights_and_network_both_ways_out_are_named(no_weights: Path) -> None:
    """The error gives URL, file name and MD5; nothing falls back to random."""
    row = BACKBONES["densenet121"]
    with pytest.raises(WeightsError) as caught:
        backbones.fetch_weights(row)
    for part in (row.url, row.file_name, row.md5, "FEATCACHE_WEIGHTS", "random"):
        assert part in str(caught.value)
    assert list(no_weights.iterdir()) == []


def test_no_connection_is_noticed_before_a_download(
    no_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A name server that never answers costs seconds, and nothing is printed."""
    monkeypatch.setattr(weights, "CONNECT_SECONDS", 0.1)

    def refuse_late(*_: object, **__: object) -> None:
        time.sleep(1)
        raise TimeoutError

    monkeypatch.setattr("urllib.request.urlopen", refuse_late)
    started = time.monotonic()
    with pytest.raises(WeightsError, match=r"no answer from \S+ in 0.1 s"):
        backbones.fetch_weights(BACKBONES["densenet121"])
    assert time.monotonic() - started < 0.9
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("own_folder", [True, False])
def test_weights_on_the_machine_are_found(
    no_weights: Path, monkeypatch: pytest.MonkeyPatch, own_folder: bool
) -> None:
    """$FEATCACHE_WEIGHTS and Keras' own folder both serve."""
    folder = no_weights
    if own_folder:
        folder = no_weights.parent / "mine"
        folder.mkdir()
        monkeypatch.setenv("FEATCACHE_WEIGHTS", str(folder))
    row = BACKBONES["vgg19"]
    (folder / row.file_name).write_bytes(b"weights")
    published = replace(row, md5=hashlib.md5(b"weights").hexdigest())
    assert backbones.find_weights(published) == folder / row.file_name


def test_a_home_folder_is_not_needed(
    no_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one, as a user without an entry has it, the named folders serve."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    row = replace(BACKBONES["vgg19"], md5=hashlib.md5(b"weights").hexdigest())
    assert backbones.find_weights(row) is None
    monkeypatch.setenv("FEATCACHE_WEIGHTS", str(no_weights))
    (no_weights / row.file_name).write_bytes(b"weights")
    assert backbones.find_weights(row) == no_weights / row.file_name


def test_another_file_of_that_name_is_refused(no_weights: Path) -> None:
    """A half download is found by its MD5 and never used."""
    row = BACKBONES["vgg19"]
    (no_weights / row.file_name).write_bytes(b"half")
    with pytest.raises(WeightsError, match=f"MD5 {row.md5}.*Delete the file"):
        backbones.find_weights(row)


def embed(network: backbones.Network, pixels: np.ndarray, batch: int) -> np.ndarray:
    from featcache.backbones.engines.tensorflow import TensorFlowEngine

    graph = backbones.with_pixels(backbones.build(network), network)
    engine = TensorFlowEngine(graph, batch_size=batch)
    cuts = [pixels[i : i + batch] for i in range(0, len(pixels), batch)]
    return np.concatenate([outputs["features"] for outputs in engine.run(cuts)])


def noise(count: int, size: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_a_network_with_fixed_input_or_odd_output_is_refused(tmp_path: Path) -> None:
    """What cannot be pooled from RGB pixels is refused with its shape."""
    tensorflow()  # first, so that Keras does not start it with all threads
    import keras

    def saved(name: str, model: keras.Model) -> backbones.Network:
        path = tmp_path / f"{name}.keras"
        model.save(path)
        return resolve(str(path), preprocess="none", input_size=32)

    fixed = keras.Input((48, 48, 3))
    pool = keras.layers.GlobalAveragePooling2D()
    with pytest.raises(WeightsError, match="`input_size=48`"):
        backbones.build(saved("fixed", keras.Model(fixed, pool(fixed))))
    vector = keras.Input((7,))
    with pytest.raises(WeightsError, match="one input of pixels, RGB"):
        backbones.build(
            saved("vector", keras.Model(vector, keras.layers.Dense(2)(vector)))
        )
    any_size = keras.Input((None, None, 3))
    rows = keras.layers.Lambda(lambda x: x[:, 0])(any_size)
    with pytest.raises(WeightsError, match="Lambda"):
        backbones.build(saved("odd", keras.Model(any_size, rows)))


@pytest.mark.slow
def test_one_image_alone_equals_the_same_image_in_a_batch(toy_network: Path) -> None:
    """BatchNormalization runs in inference mode, and a short batch is filled up."""
    network, pixels = resolve(str(toy_network)), noise(9, 32)
    together = embed(network, pixels, 4)
    alone = [embed(network, pixels[i : i + 1], 4)[0] for i in range(9)]
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-6)
    assert together.shape == (9, 12)


def test_the_callers_pixels_are_not_overwritten(toy_network: Path) -> None:
    """Keras' preprocess_input works in place; ours gets a copy."""
    pixels = noise(4, 32)
    before = pixels.copy()
    embed(replace(resolve(str(toy_network)), preprocess="caffe"), pixels, 4)
    assert np.array_equal(pixels, before)


def test_random_weights_follow_from_the_seed() -> None:
    """The digest is of the weights' values: equal for a seed, else different."""
    small = {"input_size": 32}
    digests = [
        backbones.weights_digest(
            backbones.build(resolve("vgg16", "random", seed=seed, **small))
        )
        for seed in (0, 0, 1)
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet121", "vgg19", "xception"])
def test_features_equal_those_of_plain_keras(name: str, tmp_path: Path) -> None:
    """load_img, the network's own preprocess_input and predict give the same."""
    tensorflow()  # first, so that Keras does not start it with all threads
    import importlib

    import keras

    rng = np.random.default_rng(5)
    network = resolve(name, "random", seed=3)
    row, side = BACKBONES[name], network.input_size
    paths = []
    for i, mode in enumerate(["L", "RGB", "L"]):
        shape = (320, 290 + i) if mode == "L" else (320, 290 + i, 3)
        noisy = rng.integers(0, 256, shape, dtype=np.uint8)
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(noisy).save(paths[-1])

    pixels = np.stack(
        [views.render(images.decode(p.read_bytes()), side) for p in paths]
    )
    ours = embed(network, pixels, 2)

    module = importlib.import_module(f"keras.applications.{row.module}")
    loaded = [
        keras.utils.img_to_array(
            keras.utils.load_img(p, target_size=(side, side), interpolation="bilinear")
        )
        for p in paths
    ]
    model = backbones.build(network)
    plain = np.asarray(model(module.preprocess_input(np.stack(loaded)), training=False))
    assert ours.shape == (3, row.dim)
    scale = np.abs(plain).max()
    assert np.abs(ours - plain).max() / scale < 1e-4


def test_architecture_is_part_of_the_contract(toy_network: Path) -> None:
    """A .keras file is named by its layers, a row by its factory."""
    assert resolve("xception").architecture == "keras.applications.xception.Xception"
    assert resolve(str(toy_network)).architecture.startswith("config.json sha256")
    json.dumps(resolve(str(toy_network)).architecture)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_sequential_network_is_as_good_as_any(tmp_path: Path, pooled: bool) -> None:
    """Its maps are averaged, and its layers tapped beside a pooling of its own."""
    tensorflow()  # first, so that it starts quietly
    import keras

    layers = [
        keras.layers.Input((32, 32, 3)),
        keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
    ]
    own = keras.layers.GlobalAveragePooling2D(name="global_average_pooling2d")
    keras.Sequential([*layers, own] if pooled else layers).save(tmp_path / "net.keras")
    network = resolve(str(tmp_path / "net.keras"), preprocess="none", input_size=32)
    graph = with_pixels(build(network), network, taps=["conv", "conv:max"])
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    outputs = graph(pixels)
    assert outputs["features"].shape == (1, 4)
    np.testing.assert_allclose(outputs["conv"], outputs["features"], rtol=1e-5)
    assert (outputs["conv:max"].numpy() > outputs["conv"].numpy()).any()
