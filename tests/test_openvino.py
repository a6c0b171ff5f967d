"""The OpenVINO engine: TensorFlow's numbers, the order kept, and nothing said."""

import gc
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import HEARS_CTRL_C, slow_but

from featcache import backbones
from featcache.backbones.engines import openvino
from featcache.backbones.engines.base import Engine
from featcache.backbones.engines.int8 import drift, quantise
from featcache.backbones.engines.openvino import (
    OpenVINOEngine,
    convert,
    converted,
    digest,
)
from featcache.backbones.engines.tensorflow import TensorFlowEngine
from featcache.core.tf import tensorflow
from featcache.errors import ConversionError, UsageError

SIDE = 32
# A program that is told of every call to another machine, and ends with them.
WATCHED = """
import sys
calls, bad = [], ("socket.connect", "socket.getaddrinfo", "socket.sendto")
sys.addaudithook(lambda event, _: calls.append(event) if event in bad else None)
from pathlib import Path
import numpy as np
{body}
left = [str(p) for p in Path.home().rglob("*") if "intel" in str(p)]
sys.exit(str(calls + left) if calls + left else 0)
"""


def images(count: int, side: int = SIDE, seed: int = 0) -> np.ndarray:
    """(count, side, side, 3) uint8: shades that differ from image to image."""
    rng = np.random.default_rng(seed)
    shade = rng.uniform(0, 255, (count, 1, 1, 3))
    return rng.normal(shade, 40, (count, side, side, 3)).clip(0, 255).astype(np.uint8)


def features(engine: Engine, *batches: np.ndarray) -> np.ndarray:
    """The rows of all batches."""
    return np.concatenate([outputs["features"] for outputs in engine.run(batches)])


def difference(got: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, relative to the largest value."""
    return float(abs(got - wanted).max() / abs(wanted).max())


def pixels_graph(name: str, **options: Any) -> Any:
    """A backbone as the engines take it."""
    network = backbones.resolve(name, **options)
    return backbones.with_pixels(backbones.build(network), network)


@pytest.fixture(scope="module")
def graph(toy_network: Path) -> Any:
    return pixels_graph(str(toy_network))


@pytest.fixture(scope="module")
def path(graph: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy network in OpenVINO's format."""
    path = tmp_path_factory.mktemp("ir") / "toynet.1.xml"
    convert(graph, path)
    return path


@pytest.fixture(scope="module")
def engine(path: Path) -> OpenVINOEngine:
    return OpenVINOEngine(path)


def test_the_numbers_are_tensorflows(graph: Any, engine: OpenVINOEngine) -> None:
    """Features equal those of the TensorFlow engine to 1e-4."""
    pixels = images(20)
    wanted = features(TensorFlowEngine(graph), pixels)
    got = features(engine, pixels)
    assert got.dtype == np.float32
    assert difference(got, wanted) < 1e-4


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_the_cut_does_not_matter(
    path: Path, engine: OpenVINOEngine, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows come in order and with the same bits, however batches and passes are cut."""
    monkeypatch.setattr(openvino, "_ROWS", rows)
    other = OpenVINOEngine(path, batch_size=rows)
    assert other._network.input().shape[0] == rows
    pixels = images(61)
    sizes = [5, 8, 1, 13, 32, 2]
    cut = np.split(pixels, np.cumsum(sizes)[:-1])
    outputs = list(other.run(cut))
    assert [len(rows["features"]) for rows in outputs] == sizes
    got = np.concatenate([rows["features"] for rows in outputs])
    for batches in (cut, pixels[:, None]):
        assert got.tobytes() == features(engine, *batches).tobytes()


def test_eight_images_are_shared_among_streams(
    engine: OpenVINOEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server's small batch is more than one pass, so that no stream is without."""
    sizes, start = [], openvino._start
    count = "_start", lambda request, x: (sizes.append(len(x)), start(request, x))
    monkeypatch.setattr(openvino, *count)
    features(engine, images(8))
    assert sizes == [4, 4]


def test_every_run_gives_the_same_bits(path: Path, engine: OpenVINOEngine) -> None:
    """The same batches give the same bits, in this engine and in a new one."""
    batches = [images(count, seed=count) for count in (32, 32, 32, 7)]
    first = features(engine, *batches)
    for other in (engine, engine, OpenVINOEngine(path)):
        assert features(other, *batches).tobytes() == first.tobytes()


def test_batches_are_not_changed(engine: OpenVINOEngine) -> None:
    """The caller's pixels stay as they are, and may be read-only."""
    pixels = images(9)
    kept = pixels.copy()
    pixels.flags.writeable = False
    features(engine, pixels)
    assert (pixels == kept).all()


def test_no_stream_waits_for_the_next_batch(path: Path) -> None:
    """Before a result is waited for, two requests were started for each stream."""
    engine, taken = OpenVINOEngine(path, batch_size=1), 0
    streams = engine._network.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")

    def batches() -> Iterator[np.ndarray]:
        nonlocal taken
        for pixels in images(3 * streams)[:, None]:
            taken += 1
            yield pixels

    next(engine.run(batches()))
    assert taken > 2 * streams


def test_a_run_may_be_left(engine: OpenVINOEngine) -> None:
    """A run that is not read to its end leaves nothing behind in the engine."""
    left = engine.run(images(32, seed=seed) for seed in range(9))
    kept = next(left)["features"]
    before = kept.copy()
    left.close()
    assert (features(engine, images(32)) == before).all()
    assert (kept == before).all()


def test_the_threads_do_not_matter(path: Path, engine: OpenVINOEngine) -> None:
    """One thread gives what all threads give."""
    one = OpenVINOEngine(path, threads=1)
    assert difference(features(one, images(20)), features(engine, images(20))) <= 1e-6


def test_outputs_keep_their_names(graph: Any, tmp_path: Path) -> None:
    """Several outputs come under their names, even two that are one tensor."""
    tensorflow()  # first, so that Keras does not start it with all threads
    import keras

    maps = keras.layers.MaxPooling2D(4)(keras.ops.cast(graph.input, "float32"))
    mean = keras.layers.GlobalAveragePooling2D()(maps)
    top = keras.layers.GlobalMaxPooling2D()(maps)
    pooled = {"features": mean, "fire4": mean, "fire4:max": top, "a/b_c:max": mean + 1}
    convert(keras.Model(graph.input, pooled), tmp_path / "x.xml")
    (outputs,) = OpenVINOEngine(tmp_path / "x.xml").run([images(3)])
    blocks = images(3).reshape(3, 8, 4, 8, 4, 3).max((2, 4)).astype(np.float32)
    assert outputs.keys() == pooled.keys()
    for name in ("features", "fire4"):
        assert np.allclose(outputs[name], blocks.mean((1, 2)), rtol=1e-5)
    assert np.allclose(outputs["fire4:max"], blocks.max((1, 2)))
    assert np.allclose(outputs["a/b_c:max"], blocks.mean((1, 2)) + 1, rtol=1e-5)


def test_three_files_are_written(graph: Any, path: Path, tmp_path: Path) -> None:
    """Converting leaves three files and nothing else; again, the same weights."""
    convert(graph, tmp_path / "x.xml")
    assert sorted(os.listdir(tmp_path)) == ["x.bin", "x.json", "x.xml"]
    assert digest(tmp_path / "x.xml") == digest(path)
    convert(graph, tmp_path / "x.xml")
    assert OpenVINOEngine(tmp_path / "x.xml").name == "openvino"


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".bin", lambda data: data[:-100]),
        (".bin", lambda data: data[:99] + bytes([data[99] ^ 1]) + data[100:]),
        (".bin", None),
        (".xml", lambda data: data[: len(data) // 2]),
        (".xml", lambda data: data.replace(b"precision", b"precisio_")),
        (".xml", None),
        (".json", lambda data: data.replace(b"files", b"fires")),
        (".json", lambda data: b"{"),
        (".json", None),
    ],
)
def test_damage_is_noticed(
    path: Path, tmp_path: Path, suffix: str, damage: Any
) -> None:
    """A network whose files are damaged is refused, and the file is named."""
    for end in (".xml", ".bin", ".json"):
        data = path.with_suffix(end).read_bytes()
        if end != suffix or damage:
            changed = damage(data) if end == suffix else data
            (tmp_path / "x").with_suffix(end).write_bytes(changed)
    with pytest.raises(ConversionError, match=r"x\.xml"):
        OpenVINOEngine(tmp_path / "x.xml")


def test_what_openvino_cannot_do_is_said(
    graph: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A network it has no rule for is an error that names the operation."""
    tensorflow()  # first, so that Keras does not start it with all threads
    import keras

    tf = tensorflow()

    class Foreign(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            doubled = tf.numpy_function(lambda values: values * 2, [x], tf.float32)
            return tf.ensure_shape(doubled, x.shape)

    foreign = keras.Model(
        graph.input, {"features": Foreign()(graph.output["features"])}
    )
    root = logging.getLogger()
    before = (root.level, list(root.handlers), list(root.filters))
    with pytest.raises(ConversionError, match="PyFunc"):
        convert(foreign, tmp_path / "x.xml")
    assert os.listdir(tmp_path) == []
    assert (root.level, root.handlers, root.filters) == before
    assert capfd.readouterr() == ("", "")


def test_int8_is_near_and_repeatable(
    path: Path,
    engine: OpenVINOEngine,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Int8 drifts a little; the same images give the same weights; nothing is said."""
    places = [tmp_path / "a.xml", tmp_path / "b.xml"]
    for place in places:
        quantise(path, place, iter([images(20), images(5, seed=1)]))
    assert capfd.readouterr() == ("", "")
    assert digest(places[0]) == digest(places[1]) != digest(path)
    wanted = features(engine, images(40, seed=2))
    got = features(OpenVINOEngine(places[0]), images(40, seed=2))
    assert difference(got, wanted) > 1e-4
    mean, worst = drift(wanted, got)
    assert mean > 0.99
    assert worst > 0.95


def test_drift_by_hand() -> None:
    """Cosines 1, 0.6 and, for rows of zeros, 1 and 0."""
    a = np.array([[1, 0], [1, 0], [0, 0], [0, 0]], np.float32)
    b = np.array([[9, 0], [3, 4], [0, 0], [1, 0]], np.float32)
    assert drift(a, b) == pytest.approx((2.6 / 4, 0.0))
    assert drift(a[:2], b[:2]) == pytest.approx((0.8, 0.6))


def test_int8_says_what_it_lacks(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Int8 without images, or without NNCF, is an error with a way out."""
    with pytest.raises(UsageError, match="about 100"):
        quantise(path, tmp_path / "x.xml", [])
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(UsageError, match="pip install"):
        quantise(path, tmp_path / "x.xml", [images(1)])


def run_watched(body: str, home: Path) -> None:
    """Runs a program that must print nothing, call nobody, leave nothing."""
    variables = {key: value for key, value in os.environ.items() if key != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.format(body=body)],
        env={**variables, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_a_stored_network_needs_no_tensorflow(path: Path, tmp_path: Path) -> None:
    """From its file a network runs without TensorFlow, and calls nobody."""
    body = f"""
from featcache.backbones.engines.openvino import OpenVINOEngine
engine = OpenVINOEngine(Path({str(path)!r}))
list(engine.run([np.zeros((3, {SIDE}, {SIDE}, 3), np.uint8)]))
assert "tensorflow" not in sys.modules
"""
    run_watched(body, tmp_path)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_ctrl_c_behind_engines_is_no_crash(
    path: Path, precision: str, tmp_path: Path
) -> None:
    """OpenVINO takes back the stack for signals; none is left with what is gone."""
    code = f"""
import os, signal
from pathlib import Path
import numpy as np
from featcache.backbones.engines.int8 import quantise
from featcache.backbones.engines.openvino import OpenVINOEngine
path = first = Path({str(path)!r})
if {precision == "int8"}:
    first = Path({str(tmp_path / "int8.xml")!r})
    quantise(path, first, [np.zeros((4, {SIDE}, {SIDE}, 3), np.uint8)])
a, b = OpenVINOEngine(first), OpenVINOEngine(path)
del a
del b
{HEARS_CTRL_C}
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("stopped")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr


@pytest.mark.slow
def test_converting_calls_nobody(toy_network: Path, tmp_path: Path) -> None:
    """Conversion and quantisation call nobody, say nothing, leave no id."""
    body = f"""
from featcache import backbones
from featcache.backbones.engines.int8 import quantise
from featcache.backbones.engines.openvino import convert
network = backbones.resolve({str(toy_network)!r})
f32, int8 = Path({str(tmp_path)!r}, "x.xml"), Path({str(tmp_path)!r}, "y.xml")
convert(backbones.with_pixels(backbones.build(network), network), f32)
quantise(f32, int8, [np.zeros((3, {SIDE}, {SIDE}, 3), np.uint8)])
"""
    run_watched(body, tmp_path)


def check_network(graph: Any, path: Path, pixels: np.ndarray) -> None:
    """OpenVINO's features equal TensorFlow's to 1e-4."""
    convert(graph, path)
    wanted = features(TensorFlowEngine(graph, batch_size=4), pixels)
    got = features(OpenVINOEngine(path, batch_size=4), pixels)
    assert difference(got, wanted) < 1e-4


@pytest.mark.parametrize("name", slow_but(["densenet121", "inceptionv3"]))
def test_the_studys_backbones_convert(name: str, tmp_path: Path) -> None:
    """Each gives TensorFlow's numbers at its own input size."""
    graph = pixels_graph(name, weights="random")
    check_network(graph, tmp_path / "x.xml", images(4, graph.input_shape[1]))


@pytest.mark.real
def test_the_real_network_converts(real_data: Path, tmp_path: Path) -> None:
    """SqueezeNet with its ImageNet weights gives TensorFlow's numbers."""
    weights = real_data / "weights" / "squeezenet1_1_imagenet.keras"
    graph = pixels_graph(str(weights), preprocess="caffe", input_size=224)
    check_network(graph, tmp_path / "x.xml", images(4, 224))


def test_converted_weights_outlive_those_of_tensorflow() -> None:
    """The network is gone before it is run, and its memory has other numbers."""
    tf = tensorflow()
    weights = np.random.default_rng(0).normal(size=2000).astype(np.float32)

    def made() -> Any:
        variable = tf.Variable(weights)
        spec = [tf.TensorSpec((None, len(weights)), tf.float32)]
        traced = tf.function(lambda x: x + variable, input_signature=spec)
        return converted(traced.get_concrete_function())

    model = made()
    gc.collect()
    others = [tf.Variable(np.full_like(weights, 7)) for _ in range(50)]
    (constant,) = [o for o in model.get_ops() if o.get_type_name() == "Constant"]
    assert len(others) == 50
    np.testing.assert_array_equal(constant.data.ravel(), weights)
