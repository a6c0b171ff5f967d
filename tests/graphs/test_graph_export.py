"""Exported runs whose networks are in ONNX files, or see a part of images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from toy_graphs import (
    KERNEL,
    SIDE,
    conv,
    map_network,
    save,
    token_network,
    vector_network,
)
from toys import train_flat

from featcache.backbones import resolve
from featcache.commands.export import export
from featcache.commands.extract import extract
from featcache.core.tf import tensorflow
from featcache.dataset import images, views
from featcache.dataset.manifest import Manifest
from featcache.dataset.views import Resize
from featcache.deploy.formats import FORMATS
from featcache.deploy.graph import ModelParts, PixelGraph
from featcache.errors import ExportError
from featcache.evaluation.runs import PROBABILITY, TEST, Run

OPTIONS: dict[str, Any] = {"folds": 2, "test_size": 0.3, "jobs": 1, "tune": False}
CROP = {"resize": "shortest_edge", "resize_to": 36, "interpolation": "bicubic"}


def trained(dataset: Manifest, tmp_path: Path, *paths: Path, **options: Any) -> Run:
    """Logistic regression on the features of networks."""
    for path in paths:
        extract(dataset, [resolve(str(path))], **options)
    taps = "all" if options else "none"
    keywords = {"backbones": ["+".join(path.stem for path in paths)], "taps": taps}
    return train_flat(
        dataset, tmp_path / "r", heads=["logreg"], **OPTIONS, **keywords
    ).runs[0]


def answers(
    dataset: Manifest, run: Run, path: Path, inputs: dict[str, Resize], to: str
) -> tuple[np.ndarray, np.ndarray]:
    """What a file says of the test images, and what the run predicted."""
    table = run.table[run.table["split"] == TEST]
    names = dataset.ok.set_index("image_id").loc[table["image_id"], "path"]
    pictures = [images.decode((dataset.root / name).read_bytes()) for name in names]
    pixels = {
        name: np.stack([views.render(one, resize) for one in pictures])
        for name, resize in inputs.items()
    }
    expected = table[[PROBABILITY + name for name in run.classes]].to_numpy(float)
    return FORMATS[to].load(path)(pixels), expected


def test_onnx_networks_go_to_openvino(dataset: Manifest, tmp_path: Path) -> None:
    """Tokens, regions and a crop: the file says what the run predicted."""
    path = token_network(
        tmp_path / "vit.onnx", preprocess="tf", pooling="cls+mean", **CROP
    )
    run = trained(dataset, tmp_path, path, pooling="avg+grid2", taps="patches")
    exported = export(dataset, run, tmp_path / "m.xml", to="openvino")
    inputs = {"pixels": resolve(str(path)).resize}
    assert exported.inputs == {"pixels": SIDE}
    assert exported.parity.difference < 1e-5
    p, expected = answers(dataset, run, tmp_path / "m.xml", inputs, "openvino")
    np.testing.assert_allclose(p, expected, atol=1e-5)
    text = (tmp_path / "m.xml").read_text()
    assert "the middle of an image: shortest edge 36, centre crop, bicubic" in text
    with pytest.raises(ExportError, match="vit, which OpenVINO alone runs"):
        export(dataset, run, tmp_path / "m.keras", to="keras")
    assert not (tmp_path / "m.keras").exists()


def test_two_ways_to_see_an_image_are_two_inputs(
    dataset: Manifest, tmp_path: Path
) -> None:
    """A network that crops and one that does not are given pixels of their own."""
    plain = vector_network(tmp_path / "plain.onnx", preprocess="tf")
    cropping = map_network(
        tmp_path / "cropping.onnx", preprocess="none", input_size=SIDE, **CROP
    )
    run = trained(dataset, tmp_path, cropping, plain)
    exported = export(dataset, run, tmp_path / "m.xml", to="openvino")
    assert exported.inputs == {"pixels_32": SIDE, "pixels_32_2": SIDE}
    inputs = {
        "pixels_32": Resize(SIDE),
        "pixels_32_2": resolve(str(cropping)).resize,
    }
    p, expected = answers(dataset, run, tmp_path / "m.xml", inputs, "openvino")
    np.testing.assert_allclose(p, expected, atol=1e-5)


def test_a_network_for_single_images_is_refused(
    dataset: Manifest, tmp_path: Path
) -> None:
    """A graph that is fixed to one image a batch makes no file for many."""
    nodes = [
        conv(),
        helper.make_node("Reshape", ["map", "shape"], ["flat"]),
        helper.make_node("ReduceMean", ["flat"], ["features"], axes=[2], keepdims=0),
    ]
    weights = {"kernel": KERNEL, "shape": np.array([1, 6, 16], np.int64)}
    inputs: dict[str, Any] = {"pixels": (1, 3, SIDE, SIDE)}
    path = save(tmp_path / "net.onnx", nodes, weights, inputs=inputs, preprocess="tf")
    run = trained(dataset, tmp_path, path)
    with pytest.raises(ExportError, match="free batch size"):
        export(dataset, run, tmp_path / "m.xml", to="openvino")


def test_keras_networks_that_crop_are_exported(
    dataset: Manifest, toy_network: Path, tmp_path: Path
) -> None:
    """Images of the check, and the words in the file, are those of the crop."""
    path = tmp_path / "net.keras"
    path.write_bytes(toy_network.read_bytes())
    described = {"preprocess": "tf", "input_size": 32, **CROP}
    path.with_suffix(".json").write_text(json.dumps(described))
    run = trained(dataset, tmp_path, path)
    export(dataset, run, tmp_path / "m.xml", to="openvino")
    inputs = {"pixels": resolve(str(path)).resize}
    p, expected = answers(dataset, run, tmp_path / "m.xml", inputs, "openvino")
    np.testing.assert_allclose(p, expected, atol=1e-5)
    assert "centre crop, bicubic" in (tmp_path / "m.xml").read_text()


def test_inputs_are_named_by_side_and_number() -> None:
    """One is "pixels"; several have their side, and a number where that is shared."""
    tensorflow()
    import keras

    def graph(resize: Resize) -> PixelGraph:
        x = keras.Input((resize.side, resize.side, 3), dtype="uint8")
        return PixelGraph(keras.Model(x, {"features": x[:, 0, 0]}), resizing=resize)

    ways = [Resize(40), Resize(32, "letterbox"), Resize(32)]
    parts = ModelParts(["a", "b"], [graph(one) for one in ways], [])
    assert parts.inputs == {
        "pixels_32": Resize(32),
        "pixels_32_2": Resize(32, "letterbox"),
        "pixels_40": Resize(40),
    }
    assert ModelParts(["a", "b"], [graph(ways[0])], []).inputs == {"pixels": ways[0]}
