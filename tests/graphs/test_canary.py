"""The canary: right descriptors pass, wrong ones are refused and the cause is named."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from PIL import Image
from toy_graphs import KERNEL, SIDE, conv, map_network, save, token_network
from toys import train_flat

from featcache import backbones
from featcache.backbones import canary, proving, resolve
from featcache.backbones.proving.search import Agreement, Search
from featcache.commands.compare import compare
from featcache.commands.extract import extract, proof
from featcache.core.io import read_json
from featcache.dataset.manifest import Manifest
from featcache.errors import FeatcacheError, WeightsError
from featcache.features import store

CANARY_SIDE, EDGE = 64, 73  # floor(64 / 0.875)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
RIGHT: dict[str, Any] = {
    "input_size": CANARY_SIDE, "preprocess": "torch", "resize": "shortest_edge",
    "resize_to": EDGE, "interpolation": "bicubic",
}  # fmt: skip


def relu_network(path: Path) -> Path:
    """Patches of 8 x 8 pixels through a ReLU, averaged; for images of any size."""
    nodes = [
        conv(y="linear"),
        helper.make_node("Relu", ["linear"], ["map"]),
        helper.make_node("ReduceMean", ["map"], ["features"], axes=[2, 3], keepdims=0),
    ]
    return save(path, nodes, {"kernel": KERNEL})


def prepared() -> np.ndarray:
    """The picture as a pipeline of Pillow and NumPy prepares it: (1, 3, 64, 64)."""
    picture = canary.picture()
    width, height = (int(EDGE * n / min(picture.size)) for n in picture.size)
    small = picture.resize((width, height), Image.Resampling.BICUBIC)
    left = round((width - CANARY_SIDE) / 2)
    top = round((height - CANARY_SIDE) / 2)
    square = small.crop((left, top, left + CANARY_SIDE, top + CANARY_SIDE))
    x = (np.asarray(square) / 255 - MEAN) / STD
    return x.transpose(2, 0, 1)[None].astype(np.float32)


def computed(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"pixels": x})[0][0])


def describe(path: Path, embedding: Any, side: int = SIDE, **values: Any) -> Path:
    """Writes a descriptor with a canary; keys that are None are left out."""
    about = {
        "picture": canary.PICTURE,
        "input_size": side,
        "embedding": np.asarray(embedding).tolist(),
        "framework": {"onnxruntime": "1"},
    }
    values = {k: v for k, v in values.items() if v is not None}
    path.with_suffix(".json").write_text(json.dumps({"canary": about} | values))
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Describes the network of ReLUs, with the right values but for those given."""
    path = relu_network(tmp_path_factory.mktemp("relu") / "net.onnx")
    embedding = computed(path, prepared())

    def call(**changes: Any) -> Path:
        return describe(path, embedding, CANARY_SIDE, **(RIGHT | changes))

    return call


def test_the_picture_is_the_same_everywhere() -> None:
    """Its bytes are fixed, it is coloured, and no mirror or turn leaves it as it is."""
    picture = canary.picture()
    pixels = np.asarray(picture)
    assert (picture.mode, picture.size) == ("RGB", (331, 265))
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == PICTURE_SHA256
    assert not (pixels == pixels[:, ::-1]).all()
    assert not (pixels == pixels[::-1]).all()
    assert not (pixels == pixels[..., ::-1]).all()


PICTURE_SHA256 = "9cc17d7411821e793f97ef0ee81b0faf78e32a5b569e41cf827fc6f6ad17d225"


def test_the_right_descriptor_passes(network: Callable[..., Path]) -> None:
    """Another runtime and pipeline are met, at the canary's own size."""
    for side in (CANARY_SIDE, 96):
        result = proving.check(resolve(str(network()), input_size=side))
        assert (result.state, result.error) == (proving.PASSED, None)
        assert result.input_size == CANARY_SIDE
        assert result.agreement
        assert result.agreement.difference < 1e-5


def test_what_agrees() -> None:
    """1e-4 of the largest number and a cosine of 0.9999; another width never."""
    expected = np.array([3.0, -10.0])
    assert Agreement.of(expected + np.array([0, 0.00099]), expected).is_close
    assert not Agreement.of(expected + np.array([0, 0.00101]), expected).is_close
    assert not Agreement.of(expected[:1], expected).is_close
    assert not Agreement.of(np.array([3, np.nan]), expected).is_close


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "BGR": (
        {"preprocess": None, "range": [0, 1], "mean": MEAN, "std": STD, "order": "bgr"},
        {"order": "rgb"},
    ),
    "-1..1": ({"preprocess": "tf"}, {"preprocess": "torch"}),
    "0..255": ({"preprocess": "none"}, {"preprocess": "torch"}),
    "caffe": ({"preprocess": "caffe"}, {"preprocess": "torch"}),
    "0..1 alone": (
        {"preprocess": None, "range": [0, 1]},
        {"mean": MEAN, "std": STD},
    ),
    "no /255": (
        {"preprocess": None, "mean": MEAN, "std": STD},
        {"range": [0.0, 1.0]},
    ),
    "mean and std turned": (
        {"preprocess": None, "range": [0, 1], "mean": MEAN[::-1], "std": STD[::-1]},
        {"mean": MEAN, "std": STD},
    ),
    "bilinear": ({"interpolation": None}, {"interpolation": "bicubic"}),
    "lanczos": ({"interpolation": "lanczos"}, {"interpolation": "bicubic"}),
    "nearest": ({"interpolation": "nearest"}, {"interpolation": "bicubic"}),
    "no antialiasing": ({"antialias": False}, {"antialias": True}),
    "no crop": (
        {"resize": None, "resize_to": None},
        {"resize": "shortest_edge", "resize_to": EDGE},
    ),
    "another crop": ({"resize_to": None}, {"resize_to": EDGE}),
    "a crop rounded down": ({"crop_rounding": "down"}, {"crop_rounding": "nearest"}),
    "letterbox": (
        {"resize": "letterbox", "resize_to": None},
        {"resize": "shortest_edge", "resize_to": EDGE},
    ),
    "scaling and interpolation": (
        {"preprocess": "tf", "interpolation": None},
        {"preprocess": "torch", "interpolation": "bicubic"},
    ),
    "scaling and crop": (
        {"preprocess": "caffe", "resize": None, "resize_to": None},
        {"preprocess": "torch", "resize": "shortest_edge", "resize_to": EDGE},
    ),
    "scaling, interpolation and crop": (
        {"preprocess": "none", "interpolation": None, "resize_to": None},
        {"preprocess": "torch", "interpolation": "bicubic", "resize_to": EDGE},
    ),
}


@pytest.mark.parametrize(("changes", "cause"), WRONG.values(), ids=WRONG)
def test_a_wrong_descriptor_is_refused_and_the_cause_named(
    changes: dict[str, Any], cause: dict[str, Any], network: Callable[..., Path]
) -> None:
    """The fewest changes that make the canary fit are what has to be written."""
    result = proving.check(resolve(str(network(**changes))))
    assert result.state == proving.FAILED
    assert result.cause
    assert dict(result.cause.values) == cause
    assert result.cause.line in str(result.error)


def test_the_error_is_plain(network: Callable[..., Path]) -> None:
    """It says how far the canary is missed, what would fit, and what to write."""
    path = network(interpolation="nearest", resize="exact", resize_to=None)
    text = str(proving.check(resolve(str(path))).error)
    assert "net.onnx fails its canary: a relative difference of" in text
    assert "to the embedding of onnxruntime 1 (at most 0.0001)" in text
    assert "the shortest edge brought to 73 px and the middle cut out" in text
    assert '"resize_to": 73, "interpolation": "bicubic"' in text
    assert text.endswith(".")


def test_the_cause_makes_it_pass(network: Callable[..., Path]) -> None:
    """What the error tells to write and to remove is all that has to be done."""
    path = network(preprocess="caffe", resize="exact", resize_to=None)
    cause = proving.check(resolve(str(path))).cause
    assert cause
    beside = path.with_suffix(".json")
    corrected = read_json(beside) | json.loads(f"{{{cause.line}}}")
    for key in cause.removed:
        corrected.pop(key, None)
    beside.write_text(json.dumps(corrected))
    assert proving.check(resolve(str(path))).state == proving.PASSED


def test_what_no_change_explains(network: Callable[..., Path]) -> None:
    """Of other weights no cause is named; within the time that there is."""
    path = network()
    describe(path, np.arange(6.0), CANARY_SIDE, **RIGHT)
    result = proving.check(resolve(str(path)), seconds=0)
    assert result.cause is None
    assert "None of the usual mistakes explains it (" in str(result.error)
    assert "no time for the rest" in str(result.error)
    assert "weights or the graph may be others" in str(result.error)
    assert 20 < result.verdict.tried < 100 if result.verdict else False


def test_how_tokens_are_pooled(tmp_path: Path) -> None:
    """Wrong pooling and a wrong number of tokens in front are named as well."""
    path = token_network(tmp_path / "vit.onnx")
    pixels = np.asarray(canary.picture().resize((SIDE, SIDE), 2), np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = (pixels / 127.5 - 1).transpose(2, 0, 1)[None]
    (tokens,) = session.run(None, {"pixels": x})[0]
    mean = tokens[1:].mean(0)
    options: dict[str, Any] = {"input_size": SIDE, "preprocess": "tf"}
    describe(path, mean, **options)
    assert proving.check(resolve(str(path))).state == proving.PASSED
    both = np.hstack([tokens[0], mean])
    for embedding, wrong, right in (
        (mean, {"pooling": "cls"}, {"pooling": "avg"}),
        (both, {}, {"pooling": "cls+mean"}),
        (tokens.mean(0), {}, {"prefix_tokens": 0}),
        (both, {"preprocess": "none"}, {"preprocess": "tf", "pooling": "cls+mean"}),
    ):
        describe(path, embedding, **(options | wrong))
        cause = proving.check(resolve(str(path))).cause
        assert cause
        assert dict(cause.values) == right


def test_another_output(tmp_path: Path) -> None:
    """A network of two outputs may be meant with the other one."""
    nodes = [
        conv(y="map"),
        helper.make_node("ReduceMean", ["map"], ["first"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMax", ["map"], ["second"], axes=[2, 3], keepdims=0),
    ]
    outputs = ("first", "second")
    path = save(tmp_path / "net.onnx", nodes, {"kernel": KERNEL}, outputs=outputs)
    pixels = np.asarray(canary.picture().resize((SIDE, SIDE), 2), np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    second = session.run(["second"], {"pixels": pixels.transpose(2, 0, 1)[None]})[0][0]
    describe(path, second, input_size=SIDE, preprocess="none", output="first")
    cause = proving.check(resolve(str(path))).cause
    assert cause
    assert dict(cause.values) == {"output": "second"}


def test_a_free_layout(tmp_path: Path) -> None:
    """Where the graph leaves it open which axis has the channels, both are tried."""
    options = {"axes": [1, 2], "keepdims": 0}
    nodes = [helper.make_node("ReduceMean", ["pixels"], ["features"], **options)]
    shape = {"pixels": ("N", "A", "B", "C")}
    path = save(tmp_path / "net.onnx", nodes, {}, inputs=shape)
    pixels = np.asarray(canary.picture().resize((SIDE, SIDE), 2), np.float32)
    rows = pixels.mean((0, 1))
    describe(path, rows, input_size=SIDE, preprocess="none", layout="nchw")
    cause = proving.check(resolve(str(path))).cause
    assert cause
    assert dict(cause.values) == {"layout": "nhwc"}


def test_keras_files_have_canaries(toy_network: Path, tmp_path: Path) -> None:
    """The same holds for networks of Keras."""
    path = tmp_path / "toynet.keras"
    path.write_bytes(toy_network.read_bytes())
    options = {"preprocess": "tf", "input_size": SIDE}
    path.with_suffix(".json").write_text(json.dumps(options))
    pixels = np.asarray(canary.picture().resize((SIDE, SIDE), 2), np.float32)
    core = backbones.build(resolve(str(path)))
    embedding = np.asarray(core(pixels[None] / 127.5 - 1, training=False))[0]
    describe(path, embedding, **options)
    assert proving.check(resolve(str(path))).state == proving.PASSED
    describe(path, embedding, preprocess="caffe", input_size=SIDE)
    cause = proving.check(resolve(str(path))).cause
    assert cause
    assert cause.line == '"preprocess": "tf"'


BROKEN = {
    "another picture": ({"picture": "featcache-9"}, "picture featcache-1"),
    "another size": ({"input_size": 48}, "takes no other"),
    "zeros": ({"embedding": [0.0] * 6}, "canary.embedding is 0, which no"),
    "too large": ({"embedding": [1e300] * 6}, "canary.embedding is 1e.300, which no"),
    "too small": ({"embedding": [1e-300] * 6}, "canary.embedding is 1e-300, which no"),
    "a long text": ({"framework": {"torch": "2" * 200}}, "canary.framework.* too long"),
    "a size of 3": ({"input_size": 3}, "canary.input_size is 3"),
    "text": ({"embedding": "abc"}, "embedding"),
}


@pytest.mark.parametrize(("changes", "message"), BROKEN.values(), ids=BROKEN)
def test_a_canary_that_cannot_be_checked(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """It is refused by what is wrong with it."""
    path = token_network(tmp_path / "net.onnx")
    describe(path, np.ones(6), input_size=SIDE, preprocess="none")
    about = read_json(path.with_suffix(".json"))
    about["canary"] |= changes
    path.with_suffix(".json").write_text(json.dumps(about))
    with pytest.raises(FeatcacheError, match=message):
        proving.check(resolve(str(path)))


def toy(path: Path, **values: Any) -> Path:
    """A network of maps whose canary is right for "none"."""
    map_network(path)
    pixels = np.asarray(canary.picture().resize((SIDE, SIDE), 2), np.float32)
    embedding = computed(path, pixels.transpose(2, 0, 1)[None]).mean((1, 2))
    return describe(path, embedding, input_size=SIDE, **values)


def test_extract_checks_before_it_stores(dataset: Manifest, tmp_path: Path) -> None:
    """A canary that fails ends the call: no store, no part, no row copied."""
    path = toy(tmp_path / "net.onnx", preprocess="tf")
    with pytest.raises(WeightsError, match='"preprocess": "none"'):
        extract(dataset, [resolve(str(path))])
    assert not list(dataset.folder.rglob("*.h5"))


def test_extract_checks_once_a_machine(
    dataset: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second call believes the first, unless the file or the canary changes."""
    calls = []
    real = proof.check

    def counting(*args: Any) -> proving.CanaryResult:
        calls.append(args)
        return real(*args)

    monkeypatch.setattr(proof, "check", counting)
    path = toy(tmp_path / "net.onnx", preprocess="none")
    (result,) = extract(dataset, [resolve(str(path))])
    extract(dataset, [resolve(str(path))], views=1)
    assert len(calls) == 1
    note = store.open_store(result.path).header.notes["canary"]
    assert (note["state"], note["framework"]) == ("passed", {"onnxruntime": "1"})
    assert note["difference"] < 1e-5
    about = read_json(path.with_suffix(".json"))
    about["canary"]["embedding"][0] *= 1.00001
    path.with_suffix(".json").write_text(json.dumps(about))
    extract(dataset, [resolve(str(path))], views=2)
    assert len(calls) == 2


@pytest.mark.parametrize("proven", [True, False])
def test_runs_and_leaderboards_say_what_is_unproven(
    proven: bool, dataset: Manifest, tmp_path: Path
) -> None:
    """Without a canary a run says so, and the table in one line; with one, nothing."""
    path = toy(tmp_path / "net.onnx", preprocess="none")
    if not proven:
        options = {"preprocess": "none", "input_size": SIDE}
        path.with_suffix(".json").write_text(json.dumps(options))
    extract(dataset, [resolve(str(path))])
    options = {"folds": 2, "test_size": 0.3, "jobs": 1, "tune": False}
    reports = tmp_path / "reports" / dataset.dataset
    runs = train_flat(dataset, reports.parent, heads=["logreg"], **options).runs
    states = [block.canary for run in runs for block in run.record.features]
    assert states == ["passed" if proven else "absent"]
    board = compare(reports)
    assert [row.unproven for row in board.rows] == [not proven]
    lines = [line for line in board.warnings if "preprocessing unproven: net" in line]
    assert len(lines) == (not proven)


def test_networks_of_the_table_need_none(dataset: Manifest) -> None:
    """What Keras publishes is prepared as it publishes it: no note at all."""
    (result,) = extract(dataset, [resolve("pixels48")])
    assert "canary" not in store.open_store(result.path).header.notes
    assert proving.check(resolve("densenet121", "random")).state == proving.ABSENT


def test_the_search_keeps_to_its_time(network: Callable[..., Path]) -> None:
    """Changes are joined only while there is time; single ones are always tried."""
    path = network(preprocess="tf", interpolation=None)
    own = proving.own_network(resolve(str(path)))
    assert own
    assert own.descriptor
    ticks = iter(range(0, 10_000, 100))
    search = Search(own, own.descriptor, seconds=60, clock=lambda: next(ticks))
    verdict = search.run()
    assert (verdict.cause, verdict.complete) == (None, False)
