"""Networks in files: odd archives, odd JSON beside them, and what is inside."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featcache import backbones
from featcache.backbones import build, flat, resolve, resolve_all, with_pixels
from featcache.core.tf import tensorflow
from featcache.errors import UnknownNameError, UsageError, WeightsError
from featcache.features.contract import Contract

OPTIONS: dict[str, Any] = {"preprocess": "none", "input_size": 32}


def pixels(count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def archive(path: Path, **members: bytes | str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "."), content)
    return path


def layer(kind: str, config: dict[str, Any], module: str = "keras.layers") -> str:
    about = {"module": module, "class_name": kind, "config": config}
    return json.dumps(about | {"registered_name": kind})


CONFIGS = {
    "empty": "",
    "a list": "[]",
    "not UTF-8": b'{"a": "\xff"}',
    "deep": "[" * 100_000,
    "deep object": '{"a":' * 100_000,
    "no class": "{}",
    "class of a number": '{"class_name": 5, "config": {}, "module": "keras"}',
    "no layers": layer("Functional", {"layers": [], "name": "a"}, "keras.src.models"),
    "no such module": layer("Thing", {}, "no_such_module.inside"),
    "code of another": layer("Popen", {"args": "true"}, "subprocess"),
    "torch": layer("TorchModuleWrapper", {"module": "x"}),
    "lambda": layer("Lambda", {"function": "x"}),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_an_odd_archive_is_refused_in_a_line(
    config: str | bytes, tmp_path: Path
) -> None:
    """Whatever is wrong inside a .keras file is a WeightsError of one line."""
    tensorflow()
    path = archive(
        tmp_path / "net.keras",
        config__json=config,
        metadata__json='{"keras_version": "3.0.0"}',
        model__weights__h5=b"",
    )
    with pytest.raises(WeightsError) as caught:
        build(resolve(str(path), **OPTIONS))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def _encrypted(path: Path) -> None:
    archive(path, config__json="{}")
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)


def _huge(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", b" " * (65 * 2**20))


ARCHIVES: dict[str, Callable[[Path], Any]] = {
    "an end alone": lambda p: p.write_bytes(b"PK\x05\x06" + b"\xff" * 18),
    "nothing": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_text("hello"),
    "no member": lambda p: archive(p, other="{}"),
    "cut": lambda p: p.write_bytes(
        archive(p, config__json="{}" * 999).read_bytes()[:500]
    ),
    "encrypted": _encrypted,
    "huge": _huge,
}


@pytest.mark.parametrize("make", ARCHIVES.values(), ids=ARCHIVES)
def test_what_is_no_archive_is_refused_before_keras(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    """A file whose configuration cannot be read is no network, whatever it is."""
    make(tmp_path / "net.keras")
    with pytest.raises(WeightsError, match="saved by Keras 3"):
        resolve(str(tmp_path / "net.keras"), **OPTIONS)


SIDECARS = {
    '{"input_size": 10000000}': "input_size is 10000000",
    '{"input_size": 31}': "input_size is 31",
    '{"input_size": -5}': "input_size is -5",
    '{"input_size": true}': "input_size is not an integer",
    '{"input_size": 1e999}': "input_size",
    '{"input_size": "224"}': "input_size",
    '{"preprocess": 3}': "preprocess",
    '{"preprocess": "zscore"}': "preprocess is 'zscore'",
    '{"taps": null}': "taps",
    '{"taps": 5}': "taps is not a list",
    '{"taps": "conv"}': "taps is not a list",
    '{"taps": [1, 2]}': "taps.0. is not text",
    '{"output": ["a"]}': "output is not text",
    "[1]": "not an object",
    "{": "Expecting",
    "[" * 100_000: "nested too deeply",
    '{"taps": ["\udcff"]}': "not UTF-8",
}


@pytest.mark.parametrize(("text", "message"), SIDECARS.items())
def test_an_odd_json_is_refused_by_its_field(
    text: str, message: str, toy_network: Path, tmp_path: Path
) -> None:
    """Each wrong value of the JSON beside a file ends in a line that names it."""
    path = tmp_path / "net.keras"
    path.write_bytes(toy_network.read_bytes())
    path.with_suffix(".json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(WeightsError, match=rf"net\.json.*{message}"):
        resolve(str(path), **OPTIONS)


def test_an_option_against_the_json_is_refused(toy_network: Path) -> None:
    """Features of the wrong scaling are never made silently; the same value is fine."""
    for mode in ("imagenet", "tf"):
        [network] = resolve_all([str(toy_network)], preprocess=mode)
        assert network.preprocess == "tf"
    for name in (str(toy_network), f"{toy_network}:preprocess=caffe"):
        with pytest.raises(UsageError) as caught:
            resolve_all([name], preprocess="caffe")
        assert "`preprocess='tf'` for toynet.keras, as toynet.json" in str(caught.value)
        assert "OTHER.keras:preprocess=caffe" in str(caught.value)
    [network] = resolve_all([str(toy_network)], preprocess="featurewise")
    assert network.preprocess == "featurewise"


def test_a_network_has_options_of_its_own(toy_network: Path, tmp_path: Path) -> None:
    """Behind its name; they win over those of the call, which are for the others."""
    bare = tmp_path / "bare.keras"
    bare.write_bytes(toy_network.read_bytes())
    networks = resolve_all(
        [
            f"{bare}:preprocess=caffe,size=64",
            str(toy_network),
            "DenseNet121:input-size=320,weights=random",
            "baselines",
        ]
    )
    assert [(n.name, n.preprocess, n.input_size) for n in networks[:3]] == [
        ("bare", "caffe", 64),
        ("toynet", "tf", networks[1].input_size),
        ("densenet121", "torch", 320),
    ]
    assert networks[2].weights == "random"
    both = resolve_all([f"{bare}:size=48", f"{bare}:size=64"], preprocess="tf")
    assert [n.input_size for n in both] == [48, 64]
    assert len(resolve_all(["classic5:size=224"])) == 5


def test_the_default_scaling_is_not_that_of_a_file(
    toy_network: Path, tmp_path: Path
) -> None:
    """It is what the table says of a network of Keras; the error says so."""
    bare = tmp_path / "bare.keras"
    bare.write_bytes(toy_network.read_bytes())
    with pytest.raises(UsageError, match="imagenet, the default, is for networks of K"):
        resolve_all([f"{bare}:size=64"], preprocess="imagenet")
    with pytest.raises(UsageError, match="preprocess caffe, input size none"):
        resolve_all([str(bare)], preprocess="caffe")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("colour=red", "option of a network"),
        ("size=big", "a size in pixels"),
        ("size=64,input_size=64", "each option of vgg19 once"),
        ("size=", "each option of vgg19 once"),
        ("size=8", "`input_size` from 32"),
    ],
)
def test_an_odd_option_of_a_network_is_named(options: str, message: str) -> None:
    """A typing error in it never becomes another network."""
    with pytest.raises((UsageError, UnknownNameError), match=message):
        resolve_all([f"vgg19:{options}"])


def test_names_of_backbones_are_read_in_any_capitals() -> None:
    """The name that is stored is that of the table."""
    assert [n.name for n in resolve_all(["VGG19", "Border"])] == ["vgg19", "border"]
    assert len(resolve_all(["Classic5"])) == 5


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("net.PT", "backbone export"),
        ("net.pth", "backbone export"),
        ("net.safetensors", "backbone export"),
        ("net.h5", r"`weights`; save.*save\('name.keras'\)"),
    ],
)
def test_a_file_of_another_format_says_what_is_possible(name: str, words: str) -> None:
    """Neither a list of backbones nor a traceback: what can be done with it today."""
    with pytest.raises(UsageError, match=words):
        resolve(name)


def test_weights_beside_a_network_of_its_own_are_refused(toy_network: Path) -> None:
    """A .keras file brings its weights; others are not ignored but refused."""
    with pytest.raises(UsageError, match="without `weights`"):
        resolve(str(toy_network), "random")


@pytest.mark.parametrize("stem", ["a+b", "a@b", "a*", "x" * 101, "a\x07"])
def test_a_name_that_means_something_else_is_refused(
    stem: str, toy_network: Path, tmp_path: Path
) -> None:
    """The file's name becomes the backbone's, in words and in file names."""
    path = tmp_path / f"{stem}.keras"
    path.write_bytes(toy_network.read_bytes())
    with pytest.raises(UsageError, match="Rename the file"):
        resolve(str(path), **OPTIONS)


def _keras() -> Any:
    tensorflow()
    import keras

    keras.utils.set_random_seed(2)
    return keras


def _nested() -> Any:
    """Two models inside each other and one beside; each has a layer "conv"."""
    keras = _keras()
    layers = keras.layers

    def inner(name: str, channels: int) -> Any:
        x = maps = keras.Input((None, None, channels))
        x = layers.Conv2D(4, 3, name="conv")(x)
        x = layers.BatchNormalization()(x)
        return keras.Model(maps, layers.Add()([x, x]), name=name)

    row = keras.Sequential(
        [layers.Input((None, None, 4)), layers.Conv2D(4, 3, name="conv"),
         inner("deep", 4)], name="row",
    )  # fmt: skip
    x = pixels = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(x)
    x = row(inner("base", 3)(x))
    return keras.Model(pixels, layers.GlobalAveragePooling2D()(x))


def test_layers_of_models_inside_are_tapped(tmp_path: Path) -> None:
    """Each has a name of its own, and the network's numbers stay the same."""
    model = _nested()
    model.save(tmp_path / "net.keras")
    network = resolve(str(tmp_path / "net.keras"), **OPTIONS)
    taps = ["conv", "row_conv", "deep_conv:max"]
    outputs = with_pixels(build(network), network, taps=taps)(pixels())
    expected = np.asarray(model(pixels().astype("f4"), training=False))
    np.testing.assert_allclose(outputs["features"], expected, rtol=1e-5, atol=1e-6)
    scaled = pixels().astype("f4") / 255
    by_hand = np.asarray(model.get_layer("base").get_layer("conv")(scaled))
    np.testing.assert_allclose(outputs["conv"], by_hand.mean(axis=(1, 2)), rtol=1e-4)
    with pytest.raises(UnknownNameError, match="row_conv"):
        with_pixels(build(network), network, taps=["row"])


def test_a_wrong_tap_offers_the_five_nearest(tmp_path: Path) -> None:
    """Of many layers the five nearest are named, and the rest counted."""
    keras = _keras()
    x = inputs = keras.Input((32, 32, 3))
    for number in range(30):
        x = keras.layers.ReLU(name=f"stage{number}")(x)
    keras.Model(inputs, x).save(tmp_path / "net.keras")
    network = resolve(str(tmp_path / "net.keras"), **OPTIONS)
    core = build(network)
    for wrong in ("stage99", "nothing like it"):
        with pytest.raises(UnknownNameError) as caught:
            with_pixels(core, network, taps=[wrong])
        assert str(caught.value).count("stage") - wrong.count("stage") == 5
        assert "one of 31" in str(caught.value)
    for odd in ("stage1:min", "features"):
        with pytest.raises((UsageError, UnknownNameError), match="`taps`"):
            with_pixels(core, network, taps=[odd])


def _classifier(end: str) -> Any:
    keras = _keras()
    layers = keras.layers
    x = inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(5, 3, name="conv")(x)
    x = layers.GlobalAveragePooling2D(name="gap")(x)
    x = layers.Dropout(0.5)(x)
    if end == "layer":
        x = layers.Softmax(name="probs")(layers.Dense(3)(x))
    else:
        x = layers.Dense(3, activation=end, name="probs")(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("end", ["softmax", "sigmoid", "layer"])
def test_a_classifier_is_cut_at_the_layer_that_the_error_names(
    end: str, tmp_path: Path
) -> None:
    """Probabilities are no features unless the JSON says so; the cut is identity."""
    model = _classifier(end)
    path = tmp_path / "net.keras"
    model.save(path)
    network = resolve(str(path), **OPTIONS)
    with pytest.raises(
        WeightsError, match=r'probs.* of 3.*"output": "gap" to net\.json'
    ):
        build(network)
    path.with_suffix(".json").write_text('{"output": "gap"}')
    cut = resolve(str(path), **OPTIONS)
    features = with_pixels(build(cut), cut)(pixels())["features"]
    maps = np.asarray(model.get_layer("conv")(pixels().astype("f4")))
    np.testing.assert_allclose(features, maps.mean(axis=(1, 2)), rtol=1e-4)
    assert cut.architecture == f"{network.architecture}, output gap"
    path.with_suffix(".json").write_text('{"output": "probs"}')
    kept = resolve(str(path), **OPTIONS)
    np.testing.assert_allclose(
        with_pixels(build(kept), kept)(pixels())["features"],
        model(pixels().astype("f4")),
        rtol=1e-4,
    )
    path.with_suffix(".json").write_text('{"output": "gpa"}')
    with pytest.raises(UnknownNameError, match="gap"):
        build(resolve(str(path), **OPTIONS))


@pytest.mark.parametrize("is_sequential", [False, True])
def test_a_network_of_one_channel_is_given_grey(
    is_sequential: bool, tmp_path: Path
) -> None:
    """Luminance of the scaled colours, as by hand; grey pixels are themselves."""
    keras = _keras()
    conv = keras.layers.Conv2D(4, 3, activation="relu")
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, conv(inputs))
    if is_sequential:
        model = keras.Sequential([keras.Input((None, None, 1)), conv])
    path = tmp_path / "net.keras"
    model.save(path)
    network = resolve(str(path), preprocess="tf", input_size=32)
    assert network.channels == 1
    assert "0.299 R" in str(Contract.of(network).colour)
    grey = pixels()[..., :1].repeat(3, axis=-1)
    for colours in (pixels(), grey):
        light = (colours @ np.array([0.299, 0.587, 0.114])) / 127.5 - 1
        by_hand = np.asarray(model(light[..., None].astype("f4"))).mean(axis=(1, 2))
        core = build(network)
        ours = with_pixels(core, network)(colours)["features"]
        np.testing.assert_allclose(ours, by_hand, rtol=1e-4, atol=1e-5)
    trained = flat.graph(core, network)
    trained.save(tmp_path / "flat.keras")
    again = keras.models.load_model(tmp_path / "flat.keras")
    np.testing.assert_allclose(again(grey), by_hand, rtol=1e-4, atol=1e-5)
    for mode in ("caffe", "torch"):
        with pytest.raises(UsageError, match="one grey channel"):
            resolve(str(path), preprocess=mode, input_size=32)


def test_two_channels_are_refused(tmp_path: Path) -> None:
    """Neither RGB nor grey: the advice is to put a layer in front."""
    keras = _keras()
    inputs = keras.Input((None, None, 2))
    keras.Model(inputs, keras.layers.ReLU()(inputs)).save(tmp_path / "net.keras")
    with pytest.raises(WeightsError, match="layer in front"):
        backbones.build(resolve(str(tmp_path / "net.keras"), **OPTIONS))
