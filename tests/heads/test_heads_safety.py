"""Saved heads that were forged or damaged: refused before anything in them runs."""

import json
import random
import sys
import zipfile
from functools import partial
from operator import methodcaller

import numpy as np
import pytest
import skops.io
from sklearn.dummy import DummyClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils._testing import assert_run_python_script_without_output as run_script
from toy_heads import CUSTOM, X, Y, fitted, resealed

from featcache import heads
from featcache.core import checked
from featcache.errors import HeadError
from featcache.heads import files

# --- forged files -----------------------------------------------------------------


def _pipeline(*steps):
    codes = np.arange(len(X)) % 3
    transforms = [FunctionTransformer(call, kw_args=kw) for call, kw in steps]
    return Pipeline(
        [
            ("scale", StandardScaler().fit(X)),
            *((str(i), transform) for i, transform in enumerate(transforms)),
            ("classify", DummyClassifier().fit(X, codes)),
        ]
    )


def _script(path):
    """Runs Python code once a prediction is made, with functions of libraries alone."""
    code = f"open({str(path)!r}, 'w')"
    return _pipeline(
        (np.full_like, {"fill_value": code, "dtype": "O"}),
        (np.take, {"indices": 0}),
        (run_script, {}),
    )


FORGED = {
    "functions of libraries": _script,
    "a ufunc": lambda path: _pipeline((np.exp, {})),
    "a method": lambda path: _pipeline((StandardScaler().fit(X).transform, {})),
    "a partial": lambda path: _pipeline((partial(np.multiply, 2), {})),
    "an operator": lambda path: _pipeline((methodcaller("copy"), {})),
    "a type that is called": lambda path: _pipeline((np.memmap, {})),
    "an estimator of no head": lambda path: KNeighborsClassifier().fit(X, Y),
}


@pytest.mark.parametrize("name", ["logreg", CUSTOM])
@pytest.mark.parametrize("kind", FORGED)
def test_a_file_that_would_run_code_is_refused(name, kind, tmp_path):
    """One line names what is refused, and nothing in the file has been called."""
    if kind == "an estimator of no head" and name == CUSTOM:
        kind = "functions of libraries"
    fitted(name).save(tmp_path)
    skops.io.dump(FORGED[kind](tmp_path / "ran"), tmp_path / "model.skops")
    resealed(tmp_path)
    with pytest.raises(HeadError, match="no functions") as caught:
        heads.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def _edit_schema(path, change):
    """Rewrites the tree of a skops file."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    schema = json.loads(members.pop("schema.json"))
    change(schema)
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
        file.writestr("schema.json", json.dumps(schema))


@pytest.mark.parametrize(
    ("loader", "module", "cls"),
    [
        ("ListNode", "subprocess", "Popen"),
        ("DictNode", "os", "system"),
        ("TupleNode", "a_module_that_is_not_there", "Thing"),
        ("ConstructorFromReduceNode", "builtins", "eval"),
        ("LossNode", "sklearn.utils._testing", "assert_run_python_script"),
        ("NdArrayNode", "numpy", "load"),
        ("CachedNode", "builtins", "list"),
        ("NoSuchNode", "builtins", "list"),
    ],
)
def test_every_loader_makes_only_its_own_types(loader, module, cls, tmp_path):
    """A list is a list: no loader is told to call anything else."""
    fitted(CUSTOM).save(tmp_path)
    node = {"__loader__": loader, "__module__": module, "__class__": cls}
    node |= {"content": [], "type": "numpy", "file": "x.npy"}
    path = tmp_path / "model.skops"
    _edit_schema(path, lambda schema: schema["content"].update(forged=node))
    resealed(tmp_path)
    with pytest.raises(HeadError, match=rf"got .*{module}\.{cls}"):
        heads.load(tmp_path)


def test_types_beyond_those_recorded_are_refused(tmp_path):
    """A head of one's own rebuilds what its file needed when it was written."""
    fitted(CUSTOM).save(tmp_path)
    assert (
        "sklearn.naive_bayes.GaussianNB"
        in checked.read_record(tmp_path / files.RECORD)["types"]
    )
    skops.io.dump(KNeighborsClassifier().fit(X, Y), tmp_path / "model.skops")
    resealed(tmp_path)
    with pytest.raises(HeadError, match=r"got .*KNeighborsClassifier"):
        heads.load(tmp_path)


def test_no_module_is_imported_because_a_record_names_it(tmp_path, monkeypatch):
    """A package has to be named by who runs the program."""
    (tmp_path / "planted_head.py").write_text("raise RuntimeError('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "run"
    fitted(CUSTOM).save(folder)
    params = checked.read_record(folder / files.RECORD)["params"]
    for path in ("planted_head:Head", f"{CUSTOM}(priors=planted_head:Head())"):
        resealed(folder, params=params | {"path": path})
        with pytest.raises(HeadError, match="FEATCACHE_TRUST=planted_head"):
            heads.load(folder)
    assert "planted_head" not in sys.modules
    monkeypatch.setenv("FEATCACHE_TRUST", "other, planted_head")
    with pytest.raises(RuntimeError, match="it ran"):
        heads.load(folder)


def test_a_keras_file_holds_layers_of_keras_alone(tmp_path):
    """Code, functions and other modules are refused before Keras reads the file."""
    forged = [
        {"class_name": "Lambda", "module": "keras.layers", "config": {}},
        {"class_name": "function", "module": "builtins", "config": "exec"},
        {"class_name": "function", "module": "keras.utils", "config": "get_file"},
        {"class_name": "Popen", "module": "subprocess", "config": {}},
        {"class_name": "StringLookup", "module": "keras.layers", "config": {}},
        {"class_name": "__lambda__", "config": {"value": ""}},
    ]
    path = tmp_path / fitted("softmax").save(tmp_path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    for part in forged:
        config = json.loads(members["config.json"])
        config["config"]["layers"].append(part)
        with zipfile.ZipFile(path, "w") as file:
            for name, data in members.items():
                file.writestr(name, data)
        with pytest.raises(HeadError, match="changed after it was written"):
            heads.load(tmp_path)
        with zipfile.ZipFile(path, "w") as file:
            for name, data in members.items():
                text = json.dumps(config) if name == "config.json" else data
                file.writestr(name, text)
        resealed(tmp_path)
        with pytest.raises(HeadError, match="no plain layer of Keras"):
            heads.load(tmp_path)


# --- damaged files ----------------------------------------------------------------


def mutated(data, rng):
    """One bit flipped, a part cut off, or nothing left."""
    kind = rng.randrange(10)
    if kind == 0:
        return b""
    if kind <= 2:
        return data[: rng.randrange(len(data))]
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


MODELS = {"logreg": "model.skops", "xgboost": "model.ubj", "softmax": "model.keras"}


def mutate(folder, name, count):
    """How loading a saved head ends, with one file of it damaged many times."""
    path, rng = folder / name, random.Random(0)
    whole, ends = path.read_bytes(), []
    for _ in range(count):
        path.write_bytes(mutated(whole, rng))
        if path.read_bytes() == whole:
            continue
        with pytest.raises(HeadError) as caught:
            heads.load(folder)
        assert "\n" not in str(caught.value)
        ends.append(str(caught.value))
    path.write_bytes(whole)
    heads.load(folder)
    return ends


@pytest.mark.parametrize("head", MODELS)
def test_a_damaged_file_is_one_line(head, tmp_path):
    """Whatever bit is flipped, no library opens the file."""
    fitted(head).save(tmp_path)
    for name in (files.RECORD, MODELS[head]):
        assert len(mutate(tmp_path, name, 15)) == 15


@pytest.mark.slow
def test_hundreds_of_damaged_files_are_one_line_each(tmp_path):
    """The same for 500 mutations of records and model files."""
    total = 0
    for head, model in MODELS.items():
        fitted(head).save(tmp_path / head)
        total += len(mutate(tmp_path / head, model, 85))
        total += len(mutate(tmp_path / head, files.RECORD, 85))
    assert total > 500


def test_a_file_of_no_record_is_not_opened(tmp_path):
    """A model file that head.json does not name is not read."""
    fitted("logreg").save(tmp_path)
    (tmp_path / "embedding.skops").write_bytes(b"")
    with pytest.raises(HeadError, match=r"embedding\.skops, of which no SHA-256"):
        heads.load(tmp_path)


def test_a_forged_file_of_trees_is_one_line(tmp_path):
    """What XGBoost itself refuses is an error of ours."""
    fitted("xgboost").save(tmp_path)
    (tmp_path / "model.ubj").write_bytes(b"{L\x00")
    resealed(tmp_path)
    with pytest.raises(HeadError) as caught:
        heads.load(tmp_path)
    assert "\n" not in str(caught.value)
