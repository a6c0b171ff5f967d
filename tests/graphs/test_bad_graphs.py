"""Networks in ONNX and OpenVINO files that cannot be run, and what is said then."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from toy_graphs import (
    KERNEL,
    SIDE,
    conv,
    map_network,
    save,
    token_network,
    vector_network,
)

from featcache.backbones import build, proving, resolve
from featcache.backbones.canary import PICTURE
from featcache.errors import FeatcacheError, UsageError, WeightsError

NONE: dict[str, Any] = {"preprocess": "none"}


def two_inputs(path: Path) -> Path:
    nodes = [helper.make_node("Add", ["left", "right"], ["features"])]
    inputs = {"left": ("N", 3, SIDE, SIDE), "right": ("N", 3, SIDE, SIDE)}
    return save(path, nodes, {}, inputs=inputs, **NONE)


def custom_operation(path: Path) -> Path:
    nodes = [helper.make_node("Magic", ["pixels"], ["features"], domain="custom")]
    return save(path, nodes, {}, **NONE, input_size=SIDE)


def classifier(path: Path) -> Path:
    nodes = [
        conv(),
        helper.make_node("ReduceMean", ["map"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "dense"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["features"]),
    ]
    weights = {"kernel": KERNEL, "dense": np.ones((6, 4), np.float32)}
    return save(path, nodes, weights, **NONE, input_size=SIDE)


def cut_short(path: Path) -> Path:
    map_network(path, **NONE, input_size=SIDE)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def text(path: Path) -> Path:
    path.write_text("hello, this is no network at all")
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def oblong(path: Path) -> Path:
    inputs = {"pixels": ("N", 3, 32, 64)}
    return save(path, [conv(y="features")], {"kernel": KERNEL}, inputs=inputs, **NONE)


def unclear_layout(path: Path) -> Path:
    inputs = {"pixels": ("N", "a", "b", "c")}
    return save(path, [conv(y="features")], {"kernel": KERNEL}, inputs=inputs, **NONE)


def no_graph(path: Path) -> Path:
    path.write_bytes(b"\x08\x08")  # ir_version = 8
    return path


def four_channels(path: Path) -> Path:
    inputs = {"pixels": ("N", 4, SIDE, SIDE)}
    kernel = np.repeat(KERNEL[:, :1], 4, 1)
    return save(path, [conv(y="features")], {"kernel": kernel}, inputs=inputs, **NONE)


def not_floats(path: Path, kind: int, preprocess: str = "none") -> Path:
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        conv("x", "features"),
    ]
    save(path, nodes, {"kernel": KERNEL}, input_size=SIDE, preprocess=preprocess)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = kind
    onnx.save(model, path)
    return path


def empty_embedding(path: Path) -> Path:
    nodes = [conv(), helper.make_node("Slice", ["map", "a", "a", "axis"], ["features"])]
    weights = {"kernel": KERNEL, "a": np.array([0]), "axis": np.array([1])}
    return save(path, nodes, weights, **NONE, input_size=SIDE)


def classes(path: Path) -> Path:
    nodes = [
        conv(),
        helper.make_node("ArgMax", ["map"], ["features"], axis=1, keepdims=0),
    ]
    return save(path, nodes, {"kernel": KERNEL}, **NONE, input_size=SIDE)


def one_number(path: Path) -> Path:
    nodes = [conv(), helper.make_node("ReduceMean", ["map"], ["features"], keepdims=0)]
    return save(path, nodes, {"kernel": KERNEL}, **NONE, input_size=SIDE)


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "two inputs": (two_inputs, r"one input of pixels.*left \(\?, 3, 32, 32\), right"),
    "custom operation": (custom_operation, "Magic"),
    "classifier": (classifier, 'Write "output": "mean"'),
    "cut short": (cut_short, "cut short"),
    "text": (text, "no ONNX file"),
    "empty": (empty, "no ONNX file"),
    "oblong": (oblong, "square input"),
    "no graph": (no_graph, "no ONNX file"),
    "four channels": (four_channels, "an input of 3 channels, or of 1, in net.onnx"),
    "scaled whole numbers": (
        lambda path: not_floats(path, TensorProto.UINT8, "torch"),
        "one of u8 with `preprocess='torch'`.*or give `preprocess=\"none\"`",
    ),
    "truth values": (lambda path: not_floats(path, TensorProto.BOOL), "one of boolean"),
    "text input": (lambda path: not_floats(path, TensorProto.STRING), "one of string"),
    "an empty embedding": (empty_embedding, r"got features \(\?, 0, 4, 4\) of f32"),
    "classes": (classes, r"got features \(\?, 4, 4\) of i64"),
    "one number": (one_number, r"it gives features \(\), not an embedding of each"),
    "unclear layout": (unclear_layout, '"layout" in net.json'),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_run(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    """Whatever is wrong inside a file ends in a line that says what to do."""
    path = make(tmp_path / "net.onnx")
    with pytest.raises(FeatcacheError, match=message) as caught:
        resolve(str(path))
    assert "\n" not in str(caught.value)


DESCRIPTORS: dict[str, tuple[dict[str, Any], str]] = {
    "another layout": ({"layout": "nhwc"}, r'"layout" in net.json .*\(\?, 3, 32, 32\)'),
    "another size": ({"input_size": 64}, "input_size=32.*whose input is fixed"),
    "another kind": ({"output_kind": "tokens"}, "a vector"),
    "a pooling of tokens": ({"pooling": "cls"}, "a vector"),
    "one channel": ({"channels": 1}, '"channels": 3 in net.json'),
    "no such output": ({"output": "mpa"}, "map"),
    "prefix of a map": ({"output": "map", "pooling": "cls"}, "a map"),
}


@pytest.mark.parametrize(("keys", "message"), DESCRIPTORS.values(), ids=DESCRIPTORS)
def test_a_descriptor_that_does_not_fit(
    keys: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """A descriptor that says otherwise than the file is refused by its key."""
    path = vector_network(tmp_path / "net.onnx", **NONE, **keys)
    with pytest.raises(FeatcacheError, match=message):
        resolve(str(path))


def test_tokens_that_do_not_fit(tmp_path: Path) -> None:
    """Tokens in front and patches make all tokens."""
    path = token_network(tmp_path / "net.onnx", **NONE, prefix_tokens=5, grid=[4, 4])
    with pytest.raises(UsageError, match="make 17 tokens; got 5 and 4 x 4"):
        resolve(str(path))


@pytest.mark.parametrize("prefix", [17, 18, 10**18])
def test_all_tokens_in_front(prefix: int, tmp_path: Path) -> None:
    """Some tokens have to be those of patches."""
    path = token_network(tmp_path / "net.onnx", **NONE, prefix_tokens=prefix)
    with pytest.raises(UsageError, match=r"below the number of tokens, 17; got 1\d"):
        resolve(str(path))


def test_the_wrong_one_of_two_layouts(tmp_path: Path) -> None:
    """Where the file leaves the layout open, the error names it as a possible cause."""
    inputs = {"pixels": ("N", "a", "b", "c")}
    nodes, weights = [conv(y="features")], {"kernel": KERNEL}
    path = tmp_path / "net.onnx"
    save(path, nodes, weights, inputs=inputs, **NONE, input_size=SIDE, layout="nhwc")
    with pytest.raises(
        UsageError, match=r'\(\?, 32, 32, 3\).*the "layout" in net.json'
    ):
        resolve(str(path))


def test_an_edge_below_the_input(tmp_path: Path) -> None:
    """A crop is never larger than what it is cut from."""
    keys = {"resize": "shortest_edge", "resize_to": 48, "input_size": 64}
    path = map_network(tmp_path / "net.onnx", **NONE, **keys)
    with pytest.raises(UsageError, match=r'"resize_to" in net\.json of .* 64'):
        resolve(str(path))


def test_keras_is_not_asked_for_it(tmp_path: Path) -> None:
    """A graph cannot be trained, and the error names what can."""
    network = resolve(str(vector_network(tmp_path / "net.onnx", **NONE)))
    with pytest.raises(WeightsError, match=r"cannot be trained.*\.keras file"):
        build(network)


@pytest.mark.parametrize("name", ["all", "Classic5", "baselines"])
def test_names_of_collections(name: str, tmp_path: Path) -> None:
    """A file may not be called what stands for several networks."""
    path = map_network(tmp_path / f"{name}.onnx", **NONE, input_size=SIDE)
    with pytest.raises(UsageError, match="none of all, classic5, baselines"):
        resolve(str(path))


def test_a_canary_of_another_width(tmp_path: Path) -> None:
    """Its width is named, and no change as nearer that is infinitely far as well."""
    canary = {"picture": PICTURE, "input_size": SIDE, "embedding": [1.0] * 5}
    path = vector_network(tmp_path / "net.onnx", **NONE, canary=canary)
    error = str(proving.check(resolve(str(path)), seconds=0).error)
    assert "fails its canary: not 5 finite numbers, as the canary has" in error
    assert "nearest" not in error
