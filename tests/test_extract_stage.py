"""Extraction at full strength: taps, engines, precision, statistics, records."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toys import Heard, slow_but

import featcache
from featcache import backbones, features
from featcache.backbones.engines import choose, convert, openvino
from featcache.commands.extract import extract, pipeline
from featcache.commands.extract.record import recording
from featcache.core.io import read_json
from featcache.core.tf import tensorflow
from featcache.dataset import rendering
from featcache.dataset.manifest import Manifest
from featcache.dataset.narrowing import narrow
from featcache.errors import (
    ConversionError,
    DatasetError,
    StoreError,
    UnknownNameError,
    UsageError,
)
from featcache.features import store

OV = {"engine": "openvino"}
NOT_NEEDED = {
    *("tensorflow", "keras", "sklearn", "scipy", "xgboost", "joblib", "jinja2"),
    *("imagehash", "pydicom", "nncf"),
}


@pytest.fixture
def layers(toy_network: Path) -> list[str]:
    """The toy network's layers that have maps, in order."""
    core = backbones.build(backbones.resolve(str(toy_network)))
    return [layer.name for layer in core.layers[1:] if len(layer.output.shape) == 4]


def test_the_engines_give_the_same_numbers(dataset, toy, tmp_path: Path) -> None:
    """OpenVINO and TensorFlow agree to 1e-4 relative, taps included."""
    other = replace(dataset, folder=tmp_path / "cache2" / "chest")
    one, two = toy(dataset, views=1), toy(other, views=1, **OV)
    assert (one.engine, two.engine) == ("tensorflow", "openvino")
    assert one.path.name == two.path.name
    a, b = (featcache.load(r.path, views=1) for r in (one, replace_root(two, dataset)))
    assert np.abs(a.X - b.X).max() / np.abs(a.X).max() < 1e-4


def replace_root(result, dataset: Manifest):
    """Puts the manifest beside a store that was made in another folder."""
    from featcache.dataset import manifest

    manifest.save(replace(dataset, folder=result.path.parent.parent))
    return result


def test_a_network_is_converted_once(dataset, toy, monkeypatch, tmp_path: Path) -> None:
    """Another dataset of the same cache builds no Keras network at all."""
    toy(dataset, **OV)
    monkeypatch.setattr(backbones, "build", None)
    shutil.rmtree(dataset.folder / "features")  # from where rows would be copied
    other = replace(dataset, folder=dataset.folder.parent / "again")
    assert toy(other, **OV).computed == 36


@pytest.mark.parametrize("suffix", [".bin", ".xml", ".json"])
def test_a_converted_network_that_rotted_is_converted_anew(
    dataset, toy, suffix: str
) -> None:
    """Damage to any of its files is noticed, told, and mended."""
    toy(dataset, **OV)
    (path,) = (dataset.folder.parent / "openvino").glob(f"toynet-*{suffix}")
    data = bytearray(path.read_bytes())
    data[100] ^= 0xFF
    path.write_bytes(data)
    said: list[str] = []
    assert toy(dataset, views=1, reporter=Heard(said), **OV).computed == 36
    assert "converted again" in said[0]


DAMAGED_MEMOS = {
    "cut": lambda text: "{",
    "empty": lambda text: "",
    "a list": lambda text: "[]",
    "an empty object": lambda text: "{}",
    "a number": lambda text: '{"weights_digest": 5}',
    "nested": lambda text: "[" * 100_000,
    "edited": lambda text: re.sub('("weights_digest": ")....', r"\g<1>0000", text),
}


@pytest.mark.parametrize("kind", DAMAGED_MEMOS)
def test_a_damaged_memo_of_weights_is_as_if_it_was_not_there(
    dataset, toy, kind: str
) -> None:
    """The digest of the weights is measured again; a wrong one enters no contract."""
    before = store.open_store(toy(dataset).path).header.contract
    (memo,) = (dataset.folder.parent / "openvino").glob("weights-*.json")
    whole = memo.read_text()
    memo.write_text(DAMAGED_MEMOS[kind](whole))
    other = replace(dataset, folder=dataset.folder.parent / "again")
    assert store.open_store(toy(other).path).header.contract == before
    assert memo.read_text() == whole


def test_where_openvino_cannot_tensorflow_does(dataset, toy, monkeypatch) -> None:
    """The fall-back is told, and the store says which engine it was."""

    def refuse(*_: object) -> None:
        raise ConversionError("a network", "an odd one", "Use `engine='tensorflow'`.")

    monkeypatch.setattr(openvino, "convert", refuse)
    said: list[str] = []
    result = toy(dataset, reporter=Heard(said), **OV)
    assert result.engine == "tensorflow"
    assert "an odd one" in said[0]
    assert store.open_store(result.path).header.engine == "tensorflow"


def test_a_conversion_with_other_numbers_is_not_used(dataset, toy, monkeypatch) -> None:
    """Each converted network is held against TensorFlow before its first use."""
    monkeypatch.setattr(convert, "AGREEMENT", 0.0)
    said: list[str] = []
    assert toy(dataset, reporter=Heard(said), **OV).engine == "tensorflow"
    assert "relative difference" in said[0]
    assert not list((dataset.folder.parent / "openvino").glob("*.xml"))


def test_taps_are_pooled_maps_of_inner_layers(
    dataset, toy, toy_network: Path, layers: list[str]
) -> None:
    """A tap is the mean (and the maximum) of its layer's map, in the same rows."""
    result = toy(dataset, taps=layers[0], tap_pooling="avg+max")
    tensorflow()  # first, so that Keras does not start it with all threads
    import keras

    assert result.taps == [layers[0], f"{layers[0]}:max"]
    X, _, _, meta = featcache.load(result.path, taps="all")
    assert X.shape == (36, 12 + 8 + 8)
    from featcache.dataset import images, views

    path = dataset.root / meta["path"].iloc[5]
    pixels = views.render(images.decode(path.read_bytes()), 32)[None] / 127.5 - 1
    core = backbones.build(backbones.resolve(str(toy_network)))
    tapped = keras.Model(core.input, core.get_layer(layers[0]).output)
    map_ = np.asarray(tapped(pixels))[0]
    np.testing.assert_allclose(X[5, 12:20], map_.mean(axis=(0, 1)), 1e-4, 1e-5)
    np.testing.assert_allclose(X[5, 20:], map_.max(axis=(0, 1)), 1e-4, 1e-5)


def test_further_taps_cost_a_pass_and_say_so(dataset, toy, layers: list[str]) -> None:
    """Embeddings stay as they were; the new tap is filled in for their rows."""
    before = toy(dataset)
    X = featcache.load(before.path).X
    said: list[str] = []
    after = toy(dataset, taps=layers[-1], reporter=Heard(said))
    assert said == [
        "toynet@32: 36 stored rows lack these taps and need one more pass each."
    ]
    assert (after.rows, after.computed, after.taps) == (36, 36, [layers[-1]])
    assert np.array_equal(featcache.load(after.path).X, X)
    assert toy(dataset, taps=layers[-1]).computed == 0
    assert toy(dataset, views=1).computed == 36
    with pytest.raises(StoreError, match=f"{layers[-1]} of every row"):
        featcache.load(after.path, views=1, taps="all")


def test_an_unknown_tap_offers_the_nearest(dataset, toy, layers: list[str]) -> None:
    """At extraction and at loading; a network without default taps says so."""
    with pytest.raises(UnknownNameError, match=f"mean {layers[0]}"):
        toy(dataset, taps=layers[0] + "x")
    with pytest.raises(UsageError, match="but it has no default taps"):
        toy(dataset, taps="default")
    result = toy(dataset, taps=layers[0])
    with pytest.raises(UnknownNameError, match="stored tap"):
        featcache.load(result.path, taps="nothing")


def test_float16_halves_the_bytes(dataset, toy) -> None:
    """Another contract: the same embeddings to three digits, in a store of its own."""
    whole, half = toy(dataset), toy(dataset, dtype="float16")
    assert whole.path != half.path
    a, b = featcache.load(whole.path).X, featcache.load(half.path).X
    assert b.dtype == np.float32
    assert np.abs(a - b).max() / np.abs(a).max() < 1e-3
    assert not np.array_equal(a, b)


def test_featurewise_standardises_by_the_training_part(dataset, toy_network) -> None:
    """Statistics are those of the split's training images, and in the contract."""
    network = replace(backbones.resolve(str(toy_network)), preprocess="featurewise")
    (result,) = extract(dataset, [network], engine="tensorflow", batch_size=8)
    statistics = store.open_store(result.path).header.contract.statistics
    (path,) = dataset.folder.glob("splits-*.json")
    assert statistics.split in path.name
    from featcache.dataset import images, views

    places = json.loads(path.read_text())["images"]
    pixels = np.stack(
        [
            views.render(images.decode((dataset.root / row.path).read_bytes()), 32)
            for row in dataset.ok.itertuples()
            if places[row.image_id] >= 0
        ]
    ).astype(float)
    np.testing.assert_allclose(statistics.mean, pixels.mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(statistics.std, pixels.std((0, 1, 2)), atol=1e-4)
    (again,) = extract(dataset, [network], engine="tensorflow", batch_size=8)
    assert again.computed == 0


def test_statistics_of_the_named_split(dataset, toy_network) -> None:
    """Without a scan, too: a store of another split's training images is not taken."""
    number = dataset.table.groupby("label")["group"].rank("dense").astype(int)
    part = np.where(number > 1, "train", "test")
    table = dataset.table.assign(part=part)
    dataset, told = replace(dataset, table=table), []
    network = replace(backbones.resolve(str(toy_network)), preprocess="featurewise")
    words = {"engine": "tensorflow", "reporter": Heard(told)}
    (drawn,) = extract(dataset, [network], **words)
    (own,) = extract(dataset, [network], split_by="part", **words)
    (again,) = extract(dataset, [network], split_by="part", **words)
    assert (own.path, own.rows, again.computed) == (again.path, own.computed, 0)
    assert drawn.path != own.path
    statistics = store.open_store(own.path).header.contract.statistics
    split = features.draw_split(narrow(dataset, split_by="part"))
    assert statistics.split == split.name
    assert not any("same for every split" in line for line in told)
    plain = replace(network, preprocess="none")
    extract(dataset, [plain], split_by="part", **words)
    assert any("`split_by='part'` in training" in line for line in told)
    with pytest.raises(DatasetError, match="column"):
        extract(dataset, [plain], split_by="ward", **words)


def test_int8_is_another_contract_with_its_drift_measured(dataset, toy) -> None:
    """Store, digest and drift are recorded; a second call computes nothing."""
    result = toy(dataset, precision="int8")
    header = store.open_store(result.path).header
    assert header.contract.precision == "int8"
    assert len(header.contract.quantised or "") == 64
    assert header.notes["drift"]["mean_cosine"] > 0.9
    assert len(header.notes["calibration"]) == sum(
        place >= 0
        for place in json.loads(next(dataset.folder.glob("splits-*.json")).read_text())[
            "images"
        ].values()
    )
    assert toy(dataset, precision="int8").computed == 0
    assert toy(dataset, precision="int8", views=1).path == result.path


def test_each_image_is_decoded_once_for_all_networks(
    dataset, toy_network: Path, monkeypatch
) -> None:
    """Three stores, two input sizes, two views: 36 decodes."""
    seen: list[str] = []
    read = rendering.read

    def counted(root: Path, path: str, image_id: str):
        seen.append(image_id)
        return read(root, path, image_id)

    monkeypatch.setattr(rendering, "read", counted)
    network = backbones.resolve(str(toy_network))
    asked = [
        network,
        replace(network, input_size=48),
        replace(network, preprocess="tf"),
    ]
    asked[2] = replace(asked[2], preprocess="caffe")
    results = extract(dataset, asked, views=1, batch_size=8, engine="tensorflow")
    assert [r.computed for r in results] == [72, 72, 72]
    assert sorted(seen) == sorted(dataset.ok["image_id"])


def test_every_call_leaves_a_record(dataset, toy, monkeypatch) -> None:
    """Who, what, versions, counts and how it ended; a failure is recorded too."""
    toy(dataset)

    def records() -> list[dict]:
        paths = sorted(dataset.folder.glob("extract-*.json"))
        return [json.loads(path.read_text()) for path in paths]

    (first,) = records()
    assert first["status"] == "done"
    assert first["stores"][0]["computed"] == 36
    assert first["arguments"]["views"] == 0
    assert {"user", "host", "pid", "versions", "seconds"} <= set(first)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for path in dataset.folder.glob("extract-*.json"):
        path.unlink()
    monkeypatch.setattr(pipeline, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        toy(dataset, views=1)
    assert records()[0]["status"] == "interrupted"


def age(path: Path, shift: float) -> None:
    """Makes a store look as if other versions had computed other numbers."""
    found = store.open_store(path)
    header = replace(found.header, versions=found.header.versions | {"keras": "1.0"})
    X = found.features() + np.float32(shift)
    path.unlink()
    store.seal(path, header, {"features": X}, found.keys)
    store.publish(path, header)


def test_a_new_release_that_drifts_is_stopped(dataset, toy) -> None:
    """A few stored rows are recomputed first; both versions and the drift are told."""
    path = toy(dataset).path
    age(path, 0.0)
    assert toy(dataset, views=1).computed == 36
    age(path, 0.1)
    with pytest.raises(StoreError, match=r"difference of .*keras 1\.0 before, 3"):
        toy(dataset, views=2)


def test_auto_is_tensorflow_on_a_gpu_and_openvino_on_a_cpu(monkeypatch) -> None:
    """The choice looks at the machine, not at an import."""
    exists = Path.exists
    for gpu, engine in ((True, "tensorflow"), (False, "openvino")):
        monkeypatch.setattr(
            Path,
            "exists",
            lambda p, gpu=gpu: gpu if p.name == "nvidiactl" else exists(p),
        )
        assert choose.preferred("auto") == engine
    assert choose.preferred("tensorflow") == "tensorflow"


def test_little_is_loaded_for_a_converted_network(
    dataset, toy, toy_network: Path, image_folder: Path
) -> None:
    """A second call, and a list of what is stored, load no library without need."""
    toy(dataset, **OV)
    options = ["--cache", str(dataset.folder.parent)]
    extraction = [str(image_folder), "-b", str(toy_network), "--views", "1"]
    calls = [["extract", *extraction, "--json"], ["cache", "ls"], ["dataset", "ls"]]
    code = (
        "import sys; from featcache.cli import cli\n"
        f"for call in {calls}:\n"
        f"    cli([*call, *{options}], standalone_mode=False)\n"
        f"sys.exit(str({NOT_NEEDED} & {{*sys.modules}} or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
    assert '"engine": "openvino"' in done.stdout
    assert '"computed": 36' in done.stdout


FIRST_USE = """
import sys, threading
from pathlib import Path
import numpy as np
from featcache.backbones.engines.openvino import OpenVINOEngine
engines = [OpenVINOEngine(Path(sys.argv[1])) for _ in range(4)]
gate = threading.Barrier(4)
def use(engine):
    gate.wait()
    list(engine.run([np.zeros((3, 32, 32, 3), np.uint8)] * 3))
threads = [threading.Thread(target=use, args=[e]) for e in engines]
sys.setswitchinterval(1e-6)
for t in threads: t.start()
for t in threads: t.join()
"""


@pytest.mark.parametrize("processes", slow_but([3, 10], 3))
def test_engines_may_be_used_in_threads_from_the_first_image_on(
    dataset, toy, processes: int
) -> None:
    """Fresh processes whose engines start at once all come to an end."""
    toy(dataset, **OV)
    (path,) = (dataset.folder.parent / "openvino").glob("toynet-*.xml")
    for _ in range(processes):
        subprocess.run([sys.executable, "-c", FIRST_USE, path], check=True, timeout=60)


def test_two_calls_in_a_second_keep_two_records(tmp_path: Path) -> None:
    """One says where a network's file is; the other must not replace it."""
    for number in range(3):
        with recording(tmp_path, {"networks": [], "call": number}):
            pass
    calls = [read_json(p)["arguments"]["call"] for p in tmp_path.glob("extract-*.json")]
    assert sorted(calls) == [0, 1, 2]
