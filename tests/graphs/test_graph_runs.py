"""A network in a file from its images to an answer elsewhere."""

import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from toy_graphs import KERNEL, conv, save, token_network, vector_network
from toys import train_flat

from featcache import study
from featcache.backbones import base, resolve
from featcache.backbones.engines.openvino import core, openvino
from featcache.backbones.graphs import files as graph_files
from featcache.commands.bundle import make_bundle
from featcache.commands.compare import compare
from featcache.commands.extract import extract
from featcache.core.progress import Reporter
from featcache.dataset import images
from featcache.dataset.manifest import Manifest
from featcache.dataset.views import render
from featcache.deploy.bundle.open import open_bundle
from featcache.deploy.bundle.verify import verify
from featcache.deploy.model import Candidate
from featcache.deploy.of_run import ModelSource, of_run
from featcache.errors import (
    ConversionError,
    DatasetError,
    StoreError,
    UsageError,
    WeightsError,
)
from featcache.evaluation.runs import PROBABILITY, TEST
from featcache.features import store


def test_a_study_names_it_beside_itself(
    dataset: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path in a study file is relative to the file, as that of a .keras file is."""
    folder = tmp_path / "study"
    folder.mkdir()
    path = vector_network(folder / "own.onnx", range=[0, 1], mean=[0.5], std=[0.5])
    text = f'[dataset]\nsource = "{dataset.root}"\n'
    text += '[[extract]]\nbackbones = ["own.onnx"]\n[[train]]\n'
    (folder / "study.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    (block,) = study.read(folder / "study.toml").extracts
    assert [network.file for network in block.networks] == [path]


def test_from_extraction_to_a_bundle(dataset: Manifest, tmp_path: Path) -> None:
    """Tokens, regions and a crop: what a run says, its model and its bundle say."""
    path = token_network(
        tmp_path / "vit.onnx",
        range=[0, 1],
        mean=[0.5],
        std=[0.5],
        resize="shortest_edge",
        resize_to=36,
        interpolation="bicubic",
        pooling="cls+mean",
        taps=["patches"],
    )
    result = extract(
        dataset, [resolve(str(path))], pooling="avg+grid2", taps="patches", views=1
    )
    assert (result[0].dim, set(result[0].taps)) == (12, {"features:grid2", "patches"})
    options = {"folds": 2, "test_size": 0.3, "jobs": 1, "tune": False, "taps": "all"}
    reports = tmp_path / "reports"
    (run,) = train_flat(dataset, reports, heads=["logreg"], **options).runs
    table = run.table[run.table["split"] == TEST]
    root = dataset.root
    of_test = dataset.ok.set_index("image_id").loc[table["image_id"], "path"]
    candidates = [
        Candidate(image_id, images.read((root / name).read_bytes()))
        for image_id, name in of_test.items()
    ]
    expected = table[[PROBABILITY + name for name in run.classes]].to_numpy(float)
    model = of_run(run, ModelSource(dataset.folder))
    assert np.abs(model.predict_proba(candidates) - expected).max() < 1e-6
    make_bundle(dataset, run, tmp_path / "model.fcb")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    bundle = open_bundle(shutil.move(tmp_path / "model.fcb", elsewhere))
    assert all(stage.passed for stage in verify(bundle))
    np.testing.assert_allclose(
        bundle.model.predict_proba(candidates), expected, atol=1e-5
    )


def test_another_descriptor_is_another_store(dataset: Manifest, tmp_path: Path) -> None:
    """What the descriptor says of pixels is in the contract: nothing is mixed."""
    path = vector_network(tmp_path / "net.onnx", preprocess="tf")
    first = extract(dataset, [resolve(str(path))])[0]
    assert extract(dataset, [resolve(str(path))])[0].computed == 0
    stores = {first.path}
    for keys in (
        {"preprocess": "none"},
        {"preprocess": "tf", "interpolation": "bicubic"},
        {"preprocess": "tf", "output": "map", "pooling": "max"},
    ):
        vector_network(path, **keys)
        result = extract(dataset, [resolve(str(path))])[0]
        assert result.computed == len(dataset.ok)
        stores.add(result.path)
    assert len(stores) == 4


def apart(path: Path) -> Path:
    """Writes a network whose weights lie in a file beside it."""
    nodes = [conv(), helper.make_node("Mul", ["map", "scale"], ["features"])]
    weights = {"kernel": KERNEL, "scale": np.array(3, np.float32)}
    whole = save(path.parent / "net.onnx", nodes, weights)
    path.with_suffix(".json").write_text('{"preprocess": "tf", "input_size": 32}')
    if path.suffix == ".xml":
        model = core().read_model(whole)
        openvino().save_model(model, path, compress_to_fp16=False)
    else:
        onnx.save(
            *(onnx.load(whole), path),
            save_as_external_data=True,
            location="apart.bin",
            size_threshold=0,
        )
    return path


@pytest.mark.parametrize("name", ["ir.xml", "apart.onnx"])
def test_weights_in_another_file_are_of_the_contract(
    dataset: Manifest, tmp_path: Path, name: str
) -> None:
    """One number in it changes, by which all are multiplied: features are others."""
    path = apart(tmp_path / name)
    first = extract(dataset, [resolve(str(path))])[0]
    content = path.read_bytes()
    old, new = np.array([3, 6], np.float32)
    file = path.with_suffix(".bin")
    assert file.read_bytes().count(old.tobytes()) == 1
    file.write_bytes(file.read_bytes().replace(old.tobytes(), new.tobytes()))
    second = extract(dataset, [resolve(str(path))])[0]
    assert path.read_bytes() == content
    assert second.computed == len(dataset.ok)
    rows = [store.open_store(one.path).read("features") for one in (first, second)]
    np.testing.assert_allclose(rows[1], 2 * rows[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["ir.xml", "apart.onnx"])
def test_a_contract_that_names_the_first_file_alone(
    dataset: Manifest, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As contracts once did: the run still opens, but not with other weights."""
    path = apart(tmp_path / name)
    with monkeypatch.context() as patch:
        patch.setattr(base, "graph_files", SimpleNamespace(key=graph_files.digits))
        (result,) = extract(dataset, [resolve(str(path))])
        (run,) = train_flat(
            dataset, tmp_path / "r", heads=["logreg"], folds=2, jobs=1, tune=False
        ).runs
    contract = store.open_store(result.path).header.contract
    assert contract.architecture != resolve(str(path)).architecture
    (network,) = of_run(run, ModelSource(dataset.folder)).networks
    network.make()  # what predicts
    file = path.with_suffix(".bin")
    file.write_bytes(file.read_bytes()[::-1])
    with pytest.raises(WeightsError, match="candidate files matches"):
        of_run(run, ModelSource(dataset.folder))


def test_the_contract_of_a_single_file_names_its_digest(tmp_path: Path) -> None:
    """Stores in use were named by it."""
    path = vector_network(tmp_path / "net.onnx", preprocess="tf")
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    architecture = f".onnx file sha256 {digits}; vector, nchw"
    assert resolve(str(path)).architecture == architecture


def test_a_changed_descriptor_is_no_longer_the_runs(
    dataset: Manifest, tmp_path: Path
) -> None:
    """A model whose network is now described otherwise is refused, not run."""
    path = vector_network(tmp_path / "net.onnx", preprocess="tf")
    extract(dataset, [resolve(str(path))])
    options = {"folds": 2, "test_size": 0.3, "jobs": 1, "tune": False}
    (run,) = train_flat(dataset, tmp_path / "r", heads=["logreg"], **options).runs
    vector_network(path, preprocess="none")
    with pytest.raises(WeightsError, match=r"preprocess tf.*Restore the JSON"):
        of_run(run, ModelSource(dataset.folder))


def test_the_weights_of_a_descriptor(dataset: Manifest, tmp_path: Path) -> None:
    """A descriptor that names its weights is refused beside others."""
    path = vector_network(
        tmp_path / "net.onnx", preprocess="tf", weights_digest="0" * 64
    )
    with pytest.raises(WeightsError, match="the weights 00000000"):
        extract(dataset, [resolve(str(path))])
    assert not list((dataset.folder / "features").glob("*.h5"))


def test_they_are_compared_at_every_call(dataset: Manifest, tmp_path: Path) -> None:
    """A descriptor of other weights is refused where the features are stored, too."""
    path = vector_network(tmp_path / "net.onnx", preprocess="tf")
    extract(dataset, [resolve(str(path))])
    for scaling in ("tf", "torch"):  # all stored; known weights for a new store
        vector_network(path, preprocess=scaling, weights_digest="0" * 64)
        with pytest.raises(WeightsError, match="the weights 00000000"):
            extract(dataset, [resolve(str(path))])


NOT_ALWAYS_THE_SAME: dict[str, tuple[list[Any], str]] = {
    "not finite": (
        [conv(), helper.make_node("Sqrt", ["map"], ["features"])],
        "finite features in .*; got NaN or infinite numbers for pictures of noise",
    ),
    "the mean of a batch": (
        [
            conv(),
            helper.make_node("ReduceMean", ["map"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["map", "mean"], ["features"]),
        ],
        "features of an image that are the same at every call",
    ),
    "at random": (
        [
            conv(),
            helper.make_node("RandomNormalLike", ["map"], ["noise"]),
            helper.make_node("Add", ["map", "noise"], ["features"]),
        ],
        "features of an image that are the same at every call",
    ),
}


@pytest.mark.parametrize(
    ("nodes", "message"), NOT_ALWAYS_THE_SAME.values(), ids=NOT_ALWAYS_THE_SAME
)
def test_what_no_image_has_of_its_own(
    nodes: list[Any], message: str, dataset: Manifest, tmp_path: Path
) -> None:
    """Numbers that are none, or depend on more than the image, are never stored."""
    path = save(
        tmp_path / "net.onnx", nodes, {"kernel": KERNEL}, preprocess="tf", input_size=32
    )
    with pytest.raises((ConversionError, WeightsError), match=message):
        extract(dataset, [resolve(str(path))])
    assert not list((dataset.folder / "features").glob("*.h5"))


@pytest.mark.parametrize("name", [".", "a/b", "a%2Eb", "%2E", "a:b", "\u00fc <b>"])
def test_names_of_inner_nodes(name: str, dataset: Manifest, tmp_path: Path) -> None:
    """A tap may have any name that the network's file gives it."""
    nodes = [
        conv(y=name),
        helper.make_node("ReduceMean", [name], ["features"], axes=[2, 3], keepdims=0),
    ]
    path, keys = tmp_path / "net.onnx", {"preprocess": "tf", "input_size": 32}
    save(path, nodes, {"kernel": KERNEL}, **keys)
    (result,) = extract(dataset, [resolve(str(path))], taps=name)
    assert store.open_store(result.path).taps == [name]


def test_only_openvino_runs_it(dataset: Manifest, tmp_path: Path) -> None:
    """Another engine is refused; on a GPU machine OpenVINO is taken all the same."""
    path = vector_network(tmp_path / "net.onnx", preprocess="tf")
    with pytest.raises(UsageError, match=r"Only OpenVINO runs net\.onnx"):
        extract(dataset, [resolve(str(path))], engine="tensorflow")
    assert extract(dataset, [resolve(str(path))], engine="auto")[0].engine == "openvino"


def test_no_regions_of_a_vector(dataset: Manifest, tmp_path: Path) -> None:
    """Regions of what is no map are refused before anything is stored."""
    path = vector_network(tmp_path / "net.onnx", preprocess="tf")
    with pytest.raises((UsageError, ConversionError, StoreError), match="pool"):
        extract(dataset, [resolve(str(path))], pooling="grid2")


def test_scores_of_classes_are_named(dataset: Manifest, tmp_path: Path) -> None:
    """1000 numbers are told to be scores of ImageNet's classes."""
    import onnx
    from onnx import numpy_helper

    path = vector_network(tmp_path / "net.onnx", preprocess="tf")
    model = onnx.load(path)
    weights = np.random.default_rng(0).normal(size=(6, 1000)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "dense"))
    model.graph.node[-1].output[0] = "mean"
    model.graph.node.append(helper.make_node("MatMul", ["mean", "dense"], ["features"]))
    onnx.save(model, path)
    lines: list[str] = []

    class Listener(Reporter):
        def message(self, text: str) -> None:
            lines.append(text)

        def progress(self, name: str, done: int, total: int) -> None:
            pass

    extract(dataset, [resolve(str(path))], reporter=Listener())
    assert any("gives 1000 numbers" in line for line in lines)


def test_an_image_whose_features_are_not_finite(
    dataset: Manifest, tmp_path: Path
) -> None:
    """It counts as unreadable; the others are stored; the next call says the same."""
    first = dataset.ok["path"].iloc[0]
    picture = images.read((Path(dataset.root) / first).read_bytes())
    pixels = render(picture.image, 32)
    nodes = [
        conv(),
        helper.make_node("ReduceMean", ["map"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Sub", ["pixels", "picture"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["distance"]),
        helper.make_node("ReduceMax", ["distance"], ["m"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["m", "column"], ["farthest"]),
        helper.make_node("Div", ["mean", "farthest"], ["features"]),
    ]
    weights = {
        "kernel": KERNEL,
        "picture": pixels.transpose(2, 0, 1)[None].astype(np.float32),
        "column": np.array([-1, 1]),
    }
    path, keys = tmp_path / "net.onnx", {"preprocess": "none", "input_size": 32}
    save(path, nodes, weights, **keys)
    for _ in range(2):
        (result,) = extract(dataset, [resolve(str(path))], max_bad=1)
        ((name, reason),) = result.failures
        assert (name, result.rows) == (first, len(dataset.ok) - 1)
        assert reason == "its features are not finite numbers of float32"
    with pytest.raises(DatasetError, match=r"unreadable images.*not finite numbers"):
        extract(dataset, [resolve(str(path))], max_bad=0)


def test_a_leaderboard_has_short_numbers(dataset: Manifest, tmp_path: Path) -> None:
    """A scaling in numbers is shown to three digits; records have them all."""
    path = vector_network(
        tmp_path / "net.onnx", range=[0, 1], mean=[0.456, 0.4, 0.4], std=[0.229]
    )
    extract(dataset, [resolve(str(path))])
    options = {"folds": 2, "test_size": 0.3, "jobs": 1, "tune": False}
    reports = tmp_path / "reports" / dataset.dataset
    train_flat(dataset, reports.parent, heads=["logreg"], **options)
    (row,) = compare(reports).rows
    assert row.preprocess == "rgb x 0.0171 0.0171 0.0171 + -1.99 -1.75 -1.75"
