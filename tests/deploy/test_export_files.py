"""Exported files: the model's probabilities in four formats, or no file at all."""

import copy
import json
import os
import re
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from records import make_contract
from toys import slow_but

from featcache import backbones, heads
from featcache.backbones import Network
from featcache.core.tf import tensorflow
from featcache.dataset import phantom, views
from featcache.dataset.views import Resize
from featcache.deploy import exporting, finetuned, formats
from featcache.deploy.exporting import TOLERANCE, check_parity, export
from featcache.deploy.formats import FORMATS
from featcache.deploy.graph import ModelParts, PixelGraph, model_graph
from featcache.deploy.model import PROBABILITIES, PassOn
from featcache.deploy.parity_images import ParityImages, generated
from featcache.errors import ExportError, UnknownNameError, UsageError
from featcache.evaluation.calibration import Calibrator

CLASSES = ["COVID", "NORMAL", "Viral Pneumonia"]
S32, S40 = Resize(32), Resize(40)
TAPS = ("conv2d", "conv2d:max", "features:gem", "features:grid3")
BLOCKS = tuple((0, name) for name in ("features", *TAPS))
TEMPERATURE = Calibrator("temperature", {"temperature": 1.5})
SIGMOID = Calibrator(
    "sigmoid", {"slope": [1.2, 0.8, 1.0], "intercept": [0.1, 0.0, -0.1]}
)


@dataclass
class Member:
    """A fitted head on some outputs of some networks."""

    head: Any
    columns: tuple[tuple[int, str], ...] = BLOCKS
    calibrator: Calibrator = TEMPERATURE
    renderings: tuple[str, ...] = field(default=("plain",))


def network(path: Path, size: int) -> Network:
    return backbones.resolve(str(path), input_size=size)


@pytest.fixture(scope="module")
def networks(toy_network: Path) -> list[PixelGraph]:
    """The toy network at two input sizes with taps; the second one's are float16."""
    return [
        PixelGraph.of(
            network(toy_network, size),
            make_contract(input_size=size, dtype=dtype),
            TAPS,
        )
        for size, dtype in ((32, "float32"), (40, "float16"))
    ]


@pytest.fixture(scope="module")
def pixels() -> dict[Resize, np.ndarray]:
    return generated([S32, S40], 48).pixels


@pytest.fixture(scope="module")
def parts(networks, pixels) -> ModelParts:
    """Logistic regression on the embedding and taps of one network, without views."""
    return ModelParts(CLASSES, networks[:1], [trained("logreg", networks, pixels)])


def trained(name, networks, pixels, columns=BLOCKS, calibrator=TEMPERATURE, **options):
    """A member that was trained on two thirds of the pixels."""
    embedded = [one.embed(pixels[one.resize][:32]) for one in networks]
    X = np.concatenate([embedded[number][tap] for number, tap in columns], axis=1)
    head = heads.make(name, **options)
    short = {k: 2 for k in head.get_params() if k.endswith("epochs")}
    y = np.arange(len(X)) % 3
    return Member(head.set_params(**short).fit(X, y), columns, calibrator)


def seen(pixels: dict[Resize, np.ndarray]) -> ParityImages:
    return ParityImages(pixels, "some pictures")


def is_empty(folder: Path) -> bool:
    return list(folder.iterdir()) == []


def ensemble(networks, pixels) -> ModelParts:
    """Two heads on two networks of two sizes, one of them stored in float16."""
    both = ((0, "features"), (1, "conv2d:max"), (1, "features"))
    members = [
        trained("logreg", networks, pixels, both, SIGMOID, transform="l2",
                pca=3, blocks=(12, 8, 12)),
        trained("mlp", networks, pixels, ((1, "features"),)),
    ]  # fmt: skip
    return ModelParts(CLASSES, networks, members, [0.7, 0.3], SIGMOID)


@pytest.mark.parametrize("to", slow_but(FORMATS, "onnx"))
def test_formats_hold_an_ensemble(to, networks, pixels, tmp_path):
    """A file of any format gives an ensemble's probabilities, and says what it is."""
    path = tmp_path / f"model{FORMATS[to].suffix}"
    parts = ensemble(networks, pixels)
    exported = export(parts, path, to=to, images=seen(pixels), about={"run": "r1"})
    assert exported.parity.difference < 1e-5
    assert (exported.parity.images, exported.parity.on_edge) == (48, 0)
    assert exported.inputs == {"pixels_32": 32, "pixels_40": 40}
    inputs = {f"pixels_{one.side}": values[:5] for one, values in pixels.items()}
    p = FORMATS[to].load(path)(inputs)
    small = {resize: values[:5] for resize, values in pixels.items()}
    np.testing.assert_allclose(p, parts.proba(parts.embed(small)), atol=1e-5)
    beside = [path.with_suffix(suffix).name for suffix in FORMATS[to].also]
    assert {one.name for one in tmp_path.iterdir()} == {path.name, *beside}
    about = described(path, to)
    assert about["classes"] == CLASSES
    assert "research use only" in about["use"]
    assert about["run"] == "r1"


def described(path: Path, to: str) -> dict[str, Any]:
    """What a file says of itself."""
    if to == "onnx":
        import onnx

        texts = {one.key: one.value for one in onnx.load(path).metadata_props}
    elif to == "openvino":
        from featcache.backbones.engines import openvino

        info = openvino.core().read_model(path).get_rt_info("featcache").astype(dict)
        texts = {key: one.value for key, one in info.items()}
    else:
        with zipfile.ZipFile(path) as archive:
            if to == "keras":
                return dict(json.loads(archive.read("metadata.json"))["featcache"])
            assert archive.read("labels.txt").decode().splitlines() == CLASSES
            return dict(json.loads(archive.read("featcache.json")))
    return texts | {"classes": json.loads(texts["classes"])}


HEADS = ("logreg", "svm", "xgboost", "softmax", "mlp", "mlp-dropout", "majority")


@pytest.mark.parametrize(
    ("to", "name"),
    slow_but([(to, name) for to in FORMATS for name in HEADS], ("onnx", "xgboost")),
)
def test_formats_hold_every_head(to, name, networks, pixels, tmp_path):
    """Every head, on an embedding with taps, is the same in every format."""
    member = trained(name, networks, pixels)
    path = tmp_path / f"model{FORMATS[to].suffix}"
    parts = ModelParts(CLASSES, networks[:1], [member])
    held_out = {S32: pixels[S32][32:]}
    exported = export(parts, path, to=to, images=seen(held_out))
    assert exported.parity.difference < 1e-5
    assert exported.inputs == {"pixels": 32}


def test_network_with_a_head_of_its_own(networks, pixels, tmp_path):
    """The probabilities of a fine-tuned network pass through, and are calibrated."""
    tensorflow()  # first, so that Keras does not start it with all threads
    import keras

    layers = keras.layers
    x = keras.Input((32, 32, 3), dtype="uint8")
    maps = layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(x))
    p = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(maps))
    whole = PixelGraph(finetuned.graph_of(keras.Model(x, p)))
    member = Member(PassOn(3), ((0, PROBABILITIES),), SIGMOID)
    parts = ModelParts(CLASSES, [whole], [member])
    exported = export(parts, tmp_path / "m.keras", to="keras", images=seen(pixels))
    assert exported.parity.difference < 1e-5


def test_class_that_a_head_never_saw_has_no_probability(networks, pixels):
    """Columns of the head go to their classes; the others are 0."""
    member = trained("logreg", networks, pixels, calibrator=Calibrator())
    member.head.classes_ = np.array([0, 1, 3])
    graph = model_graph(ModelParts([*CLASSES, "x"], networks[:1], [member]))
    p = np.asarray(graph(pixels[S32][:4]))
    assert p[:, 2].tolist() == [0] * 4
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)


def test_planted_number_is_refused(parts, pixels, tmp_path, monkeypatch):
    """Where one number of the graph is wrong, the error says by how much; no file."""
    wrong = copy.deepcopy(parts.members[0].head)
    wrong.model_["classify"].intercept_[1] += 0.01
    planted = replace(parts, members=[replace(parts.members[0], head=wrong)])

    def build(parts, *, probe=False):
        return model_graph(parts if probe else planted, probe=probe)

    monkeypatch.setattr(exporting, "model_graph", build)
    with pytest.raises(
        ExportError, match=r"within 0\.0001; got a largest difference of 0\.00\d+\. "
    ):
        export(parts, tmp_path / "m.keras", to="keras", images=seen(pixels))
    assert is_empty(tmp_path)


def test_steps_of_trees_are_told_from_errors(networks, pixels):
    """Other leaves pass for embeddings a last bit beside; wrong numbers do not."""
    parts = ModelParts(CLASSES, networks[:1], [trained("xgboost", networks, pixels)])
    embedded = parts.embed(pixels)
    # Thresholds are values of training images: a little less goes the other way.
    near = [{name: x * np.float32(1 - 1e-7) for name, x in embedded[0].items()}]

    def probed(p, outputs):
        return lambda: np.concatenate([p, *outputs[0].values()], axis=1)

    p = parts.proba(near)
    off = np.abs(p - parts.proba(embedded)).max(axis=1) > TOLERANCE
    assert off[:32].any()
    parity = check_parity(parts, p, pixels, probed(p, near))
    assert parity.on_edge == off.sum()
    assert parity.difference <= TOLERANCE
    far = [{name: x * np.float32(1.01) for name, x in embedded[0].items()}]
    for wrong, probe in (
        (p, None),  # nothing shows the embeddings
        (p + 0.001, probed(p, near)),  # the two files differ
        (p + 0.001, probed(p + 0.001, near)),  # the head says otherwise
        (parts.proba(far), probed(parts.proba(far), far)),  # the network does
    ):
        with pytest.raises(ExportError, match="largest difference of"):
            check_parity(parts, wrong, pixels, probe)


@pytest.mark.slow
def test_file_is_probed_where_a_head_has_steps(networks, pixels, tmp_path, monkeypatch):
    """A file that differs is converted again with its embeddings, which explain it."""
    parts = ModelParts(CLASSES, networks[:1], [trained("xgboost", networks, pixels)])
    embed = ModelParts.embed

    def less(self, pixels):
        (outputs,) = embed(self, pixels)
        return [{name: x * np.float32(1 - 2e-7) for name, x in outputs.items()}]

    monkeypatch.setattr(ModelParts, "embed", less)
    path = tmp_path / "m.keras"
    exported = export(parts, path, to="keras", images=seen({S32: pixels[S32]}))
    assert exported.parity.on_edge > 0
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("wrong", [np.nan, 2e-4])
def test_smooth_head_has_no_steps(parts, pixels, wrong):
    """For a head without steps nothing beyond the tolerance passes, NaN neither."""
    p = parts.proba(parts.embed(pixels))
    p[7] += wrong
    with pytest.raises(ExportError, match="largest difference of"):
        check_parity(parts, p, pixels)
    with pytest.raises(ExportError, match=r"shape \(48, 2\), not \(48, 3\)"):
        check_parity(parts, p[:, :2], pixels)


@pytest.mark.parametrize("error", [ValueError("no such op"), KeyboardInterrupt()])
def test_nothing_is_left_by_a_conversion_that_fails(
    error, parts, pixels, tmp_path, monkeypatch
):
    """A failed or interrupted conversion leaves no file; a failed one is explained."""

    def half(graph, path, about):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setitem(FORMATS._rows, "tflite", replace(FORMATS["tflite"], write=half))
    with pytest.raises((ExportError, KeyboardInterrupt)) as raised:
        export(parts, tmp_path / "m.tflite", to="tflite", images=seen(pixels))
    assert is_empty(tmp_path)
    if isinstance(error, ValueError):
        assert "no such op. Nothing was written" in str(raised.value)


def test_files_are_replaced_only_on_request(parts, pixels, tmp_path):
    """A file of that name, or the weights beside it, stay unless replaced by force."""
    weights = tmp_path / "m.bin"
    weights.write_text("mine")
    with pytest.raises(UsageError, match=r"m\.bin, which exists"):
        export(parts, tmp_path / "m.xml", to="openvino", images=seen(pixels))
    assert weights.read_text() == "mine"
    export(parts, tmp_path / "m.xml", to="openvino", images=seen(pixels), force=True)
    assert weights.stat().st_size > 1000


def test_an_old_graph_never_stands_beside_new_weights(
    parts, pixels, tmp_path, monkeypatch
):
    """A process that dies between the two files of OpenVINO leaves no graph."""
    path = tmp_path / "m.xml"
    path.write_text("old")
    replaced = os.replace

    def dies(source, target):
        if Path(target).suffix == ".xml":
            raise KeyboardInterrupt
        replaced(source, target)

    monkeypatch.setattr(exporting.os, "replace", dies)
    images = seen({S32: pixels[S32][:8]})
    with pytest.raises(KeyboardInterrupt):
        export(parts, path, to="openvino", images=images, force=True)
    assert not path.exists()


def test_wrong_requests(parts, tmp_path, monkeypatch):
    """Suffix, format and missing packages are refused before any work."""
    with pytest.raises(UsageError, match=r"a \.onnx file for onnx"):
        export(parts, tmp_path / "m.pb", to="onnx")
    with pytest.raises(UnknownNameError, match="onnx, openvino, keras, tflite"):
        export(parts, tmp_path / "m.pb", to="pb")
    file = tmp_path.with_name("a-file")
    file.touch()
    with pytest.raises(UsageError, match="a folder that can be written to"):
        export(parts, file / "m.keras", to="keras")
    with monkeypatch.context() as patch:
        patch.setattr(exporting.os, "access", lambda *_: False)
        with pytest.raises(UsageError, match="written to"):
            export(parts, tmp_path / "m.keras", to="keras")
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"featcache\[export\]"):
        export(parts, tmp_path / "m.onnx", to="onnx")
    assert is_empty(tmp_path)


def test_models_that_are_no_graph(parts, networks, toy_network, tmp_path):
    """Augmented views, int8, baselines and odd types of features are refused."""
    views = replace(parts.members[0], renderings=("plain", "turned"))
    with pytest.raises(ExportError, match="averages over augmented views"):
        export(replace(parts, members=[views]), tmp_path / "m.keras", to="keras",
               images=seen({}))  # fmt: skip
    with pytest.raises(ExportError, match="OpenVINO's quantised network"):
        PixelGraph.of(network(toy_network, 32), make_contract(precision="int8"))
    with pytest.raises(ExportError, match="the baseline metadata"):
        PixelGraph.of(backbones.resolve("metadata"), make_contract())
    odd = PixelGraph(networks[0].model, "bfloat16")
    with pytest.raises(ExportError, match="got bfloat16"):
        model_graph(replace(parts, networks=[odd]))
    assert is_empty(tmp_path)


@pytest.mark.parametrize("to", slow_but(["openvino", "onnx"], "openvino"))
def test_documented_reading_gives_the_probabilities(
    to, parts, pixels, tmp_path, monkeypatch
):
    """The examples of the documents run as they stand, with images of any size."""
    monkeypatch.chdir(tmp_path)
    path = Path(f"model{FORMATS[to].suffix}")
    images = seen({S32: pixels[S32][:8]})
    export(parts, path, to=to, images=images)
    image = phantom.draw(CLASSES[0], 3, size=96).image
    Image.fromarray(image).save("chest.png")
    page = Path(__file__).parents[2] / "docs/how-to/predict.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    (block,) = (one for one in blocks if path.name in one)
    names: dict[str, Any] = {}
    exec(block, names)
    cut = {S32: views.render(Image.fromarray(image), S32)[None]}
    expected = parts.proba(parts.embed(cut))[0]
    np.testing.assert_allclose(names["p"], expected, atol=1e-5)
    assert names["classes"] == CLASSES
