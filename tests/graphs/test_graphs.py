"""Networks in ONNX and OpenVINO files: their numbers, and what cannot be run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from toy_graphs import (
    KERNEL,
    SIDE,
    conv,
    map_network,
    patches_of,
    save,
    token_network,
    vector_network,
)

from featcache.backbones import Network, resolve, weights_key
from featcache.backbones.engines.openvino import OpenVINOEngine, core, openvino
from featcache.backbones.graphs import pixels, reading
from featcache.errors import WeightsError

NONE: dict[str, Any] = {"preprocess": "none"}
IMAGES = np.random.default_rng(3).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)


def run(network: Network, taps: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    model = pixels.with_pixels(network, taps=taps)
    (outputs,) = OpenVINOEngine(model, batch_size=8).run([IMAGES])
    return outputs


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_map_is_pooled(tmp_path: Path) -> None:
    """Of a map comes the mean, or the maximum where the descriptor says so."""
    maps = patches_of(IMAGES)
    path = map_network(tmp_path / "net.onnx", **NONE, input_size=SIDE)
    assert_same(run(resolve(str(path)))["features"], maps.mean(axis=(1, 2)))
    path = map_network(tmp_path / "max.onnx", **NONE, input_size=SIDE, pooling="max")
    assert_same(run(resolve(str(path)))["features"], maps.max(axis=(1, 2)))


def test_poolings_and_taps(tmp_path: Path) -> None:
    """Regions are means of their cells; inner nodes are taps by their names."""
    maps = patches_of(IMAGES)
    path = vector_network(tmp_path / "net.onnx", **NONE, output="map")
    outputs = run(resolve(str(path)), ("features:grid2", "map:max", "features:gem"))
    corners = [
        maps[:, r : r + 2, c : c + 2].mean((1, 2)) for r in (0, 2) for c in (0, 2)
    ]
    assert_same(outputs["features:grid2"], np.concatenate(corners, axis=1))
    assert_same(outputs["map:max"], maps.max(axis=(1, 2)))
    powers = np.maximum(maps, 1e-6) ** 3
    assert_same(outputs["features:gem"], powers.mean((1, 2)) ** (1 / 3))


CLASS = np.tile(np.arange(6.0), (len(IMAGES), 1))
TOKENS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda patches: patches.mean(axis=1),
    "max": lambda patches: patches.max(axis=1),
    "cls": lambda patches: CLASS,
    "cls+mean": lambda patches: np.concatenate([CLASS, patches.mean(axis=1)], axis=1),
}


@pytest.mark.parametrize("pooling", TOKENS)
def test_tokens_are_pooled(pooling: str, tmp_path: Path) -> None:
    """Tokens in front are no patches; of these comes the mean, of the first "cls"."""
    path = token_network(tmp_path / "net.onnx", **NONE, pooling=pooling)
    network = resolve(str(path))
    patches = patches_of(IMAGES).reshape(len(IMAGES), 16, 6)
    assert network.readout
    assert (network.readout.prefix, network.readout.grid) == (1, (4, 4))
    assert_same(run(network)["features"], TOKENS[pooling](patches))


def test_regions_of_tokens(tmp_path: Path) -> None:
    """Patches lie on a grid, so their regions are those of a map."""
    path = token_network(tmp_path / "net.onnx", **NONE)
    maps = patches_of(IMAGES)
    corners = [
        maps[:, r : r + 2, c : c + 2].mean((1, 2)) for r in (0, 2) for c in (0, 2)
    ]
    got = run(resolve(str(path)), ("features:grid2",))["features:grid2"]
    assert_same(got, np.concatenate(corners, axis=1))


def test_numbers_of_the_scaling(tmp_path: Path) -> None:
    """(v - mean) / std over the range, in the order of the channels."""
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
    path = map_network(
        tmp_path / "net.onnx",
        input_size=SIDE,
        range=[0, 1],
        mean=mean,
        std=std,
        order="bgr",
    )
    scaled = (IMAGES[..., ::-1] / 255 - mean) / std
    got = run(resolve(str(path)))["features"]
    assert_same(got, patches_of(scaled).mean(axis=(1, 2)))


def test_one_channel(tmp_path: Path) -> None:
    """A network of one channel takes the luminance of the picture."""
    kernel = KERNEL[:, :1]
    path = save(
        tmp_path / "net.onnx",
        [conv(y="features")],
        {"kernel": kernel},
        inputs={"pixels": ("N", 1, SIDE, SIDE)},
        range=[-1024, 1024],
    )
    grey = (IMAGES @ [0.299, 0.587, 0.114]) / 255 * 2048 - 1024
    cells = grey.reshape(-1, 4, 8, 4, 8)
    expected = np.einsum("nhawb,fab->nf", cells, kernel[:, 0]) / 16
    assert_same(run(resolve(str(path)))["features"], expected)


def test_channels_last(tmp_path: Path) -> None:
    """Where the channels stand last, the picture is given so."""
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["first"], perm=[0, 3, 1, 2]),
        conv("first"),
        helper.make_node("Transpose", ["map"], ["features"], perm=[0, 2, 3, 1]),
    ]
    path = save(
        tmp_path / "net.onnx",
        nodes,
        {"kernel": KERNEL},
        inputs={"pixels": ("N", SIDE, SIDE, 3)},
        **NONE,
    )
    got = run(resolve(str(path)))["features"]
    assert_same(got, patches_of(IMAGES).mean(axis=(1, 2)))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_fixed_batch(batch: int, tmp_path: Path) -> None:
    """A graph that was written for so many images gives the same numbers."""
    weights = {"kernel": KERNEL, "shape": np.array([batch, 6 * 16], np.int64)}
    nodes = [conv(), helper.make_node("Reshape", ["map", "shape"], ["features"])]
    inputs = {"pixels": (batch, 3, SIDE, SIDE)}
    path = save(tmp_path / "net.onnx", nodes, weights, inputs=inputs, **NONE)
    expected = patches_of(IMAGES).transpose(0, 3, 1, 2).reshape(len(IMAGES), -1)
    assert_same(run(resolve(str(path)))["features"], expected)


def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    """Weights outside name the network with the graph; without them it is none."""
    path = map_network(tmp_path / "net.onnx", **NONE, input_size=SIDE)
    network = resolve(str(path))
    inside = weights_key(network), reading.weights_digest(network)
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location="net.onnx_data",
        size_threshold=0,
    )
    network = resolve(str(path))
    assert_same(run(network)["features"], patches_of(IMAGES).mean(axis=(1, 2)))
    assert weights_key(network) != inside[0]
    assert reading.weights_digest(network) == inside[1]
    before = weights_key(network)
    data = path.with_name("net.onnx_data")
    data.write_bytes(data.read_bytes()[::-1])
    assert weights_key(network) != before
    data.unlink()
    with pytest.raises(WeightsError, match=r"keeps its weights in 'net\.onnx_data'"):
        resolve(str(path))


PLACES = {
    "../../etc/passwd": "weights beside net.onnx; got in '../../etc/passwd'",
    "/etc/passwd": "weights beside net.onnx; got in '/etc/passwd'",
    "": "keeps its weights in '', which is not beside it",
    "x" * 300: r"keeps its weights in 'x{100}\.\.\.'",
    "a\0b": "which is not beside it",
    "./short.bin": r"Check that net\.onnx, short\.bin are complete",
}


@pytest.mark.parametrize(("place", "message"), PLACES.items())
def test_weights_elsewhere_are_refused(
    place: str, message: str, tmp_path: Path
) -> None:
    """A file that looks for its weights outside its own folder reads nothing there."""
    path = map_network(tmp_path / "net.onnx", **NONE, input_size=SIDE)
    (tmp_path / "short.bin").write_bytes(b"1234")
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match=message):
        resolve(str(path))


def test_openvino_files(tmp_path: Path) -> None:
    """An .xml file is a network like any other, with its weights in .bin."""
    onnx_path = map_network(tmp_path / "net.onnx", **NONE, input_size=SIDE)
    path = tmp_path / "ir.xml"
    openvino().save_model(core().read_model(onnx_path), path, compress_to_fp16=False)
    path.with_suffix(".json").write_text(json.dumps(NONE | {"input_size": SIDE}))
    network = resolve(str(path))
    assert_same(run(network)["features"], patches_of(IMAGES).mean(axis=(1, 2)))
    other = resolve(str(onnx_path))
    assert reading.weights_digest(network) == reading.weights_digest(other)
    path.with_suffix(".bin").unlink()
    with pytest.raises(WeightsError, match=r"keeps its weights in 'ir\.bin'"):
        resolve(str(path))


def test_half_precision_weights(tmp_path: Path) -> None:
    """Weights of 16 bits are computed with in 32."""
    weights = {"half": KERNEL.astype(np.float16)}
    nodes = [
        helper.make_node("Cast", ["half"], ["kernel"], to=onnx.TensorProto.FLOAT),
        conv(y="features"),
    ]
    path = save(tmp_path / "net.onnx", nodes, weights, **NONE, input_size=SIDE)
    got = run(resolve(str(path)))["features"]
    expected = patches_of(IMAGES).mean(axis=(1, 2))
    assert np.abs(got - expected).max() < 2e-3 * np.abs(expected).max()
