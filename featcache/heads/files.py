"""Model files that are safe to read: digests, and closed lists of types.

A file that skops writes is a tree of nodes: each names the function that rebuilds it
(its loader) and a type. Both come from closed lists, and nothing that a file names is
imported before it is on them. Functions, methods and constructors are on none.
"""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from featcache.core import checked
from featcache.core.text import some
from featcache.errors import HeadError

RECORD = "head.json"  # what a run folder says of its head

_SUFFIXES = {".skops", ".ubj", ".keras"}  # of model files
_ONLY_SAFE = "Models are never pickled: use a classifier without such parts."
_RETRAIN = "Train it again with `force=True`."
_OBJECT = "ObjectNode"
# All that our heads write: estimators of scikit-learn with nothing but data in them.
TYPES = frozenset({
    "sklearn.calibration.CalibratedClassifierCV",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.decomposition._pca.PCA",
    "sklearn.dummy.DummyClassifier",
    "sklearn.kernel_approximation.Nystroem",
    "sklearn.linear_model._logistic.LogisticRegression",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.svm._classes.LinearSVC",
    "sklearn.svm._classes.SVC",
})  # fmt: skip
_NUMBERS = frozenset(
    f"numpy.{name}"
    for name in (
        "bool", "bool_", "float16", "float32", "float64", "int8", "int16", "int32",
        "int64", "intp", "str_", "uint8", "uint16", "uint32", "uint64",
    )
)  # fmt: skip
# What data is made of: by loader, the types that it may be told to make.
_DATA = {
    "DictNode": {"builtins.dict", "collections.OrderedDict"},
    "JsonNode": {
        "builtins.str", "builtins.int", "builtins.float", "builtins.bool",
        "builtins.NoneType",
    },
    "ListNode": {"builtins.list"},
    "NdArrayNode": {"numpy.ndarray", *_NUMBERS},
    "TupleNode": {"builtins.tuple"},
    "TypeNode": {"builtins.str", "builtins.int", "builtins.float", *_NUMBERS},
}  # fmt: skip
# The same of a classifier that is not ours.
_MORE_DATA = {
    "BytearrayNode": {"builtins.bytearray"},
    "BytesNode": {"builtins.bytes"},
    "DTypeNode": {"numpy.dtype"},
    "LossNode": {
        f"sklearn._loss._loss.Cy{name}"
        for name in ("ExponentialLoss", "HalfBinomialLoss", "HalfMultinomialLoss")
    },
    "MaskedArrayNode": {"numpy.ma.MaskedArray", "numpy.ma.core.MaskedArray"},
    "RandomGeneratorNode": {"numpy.random._generator.Generator"},
    "RandomStateNode": {"numpy.random.mtrand.RandomState"},
    "SetNode": {"builtins.set"},
    "SliceNode": {"builtins.slice"},
    "SparseMatrixNode": {
        f"scipy.sparse._{name}.{name}_{kind}"
        for name in ("csr", "csc")
        for kind in ("matrix", "array")
    },
    "TreeNode": {"sklearn.tree._tree.Tree"},
}

Allowed = Callable[[str], bool]


def read_record(folder: Path) -> dict[str, Any]:
    """Reads the record beside a saved model file, and checks the files it names.

    Raises:
        HeadError: There is none, or it or a model file is not what was written.
    """
    expected = f"a saved head in {folder}"
    try:
        record = checked.read_record(folder / RECORD)
        for path in sorted(folder.iterdir()):
            if path.suffix in _SUFFIXES or path.name in record["files"]:
                checked.refuse_changed_file(path, record["files"])
        missing = [name for name in record["files"] if not (folder / name).is_file()]
        if missing:
            raise ValueError(f"no {missing[0]}")
    except FileNotFoundError:
        raise HeadError(expected, f"no {RECORD}", "Retrain the head.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder / RECORD, error) from error
    return record


def damaged(path: Path, error: Exception) -> HeadError:
    """The error for a file that is not as its writer left it."""
    got = " ".join(str(error).split())[:300] or type(error).__name__
    return HeadError(f"a saved head in {path.parent}", got, _RETRAIN)


def ours(name: str) -> bool:
    """Whether a type is one that our own heads write."""
    return name in TYPES


def write_model(model: Any, path: Path, allowed: Allowed = ours) -> list[str]:
    """Writes a fitted estimator.

    Args:
        model: The estimator.
        path: Where to.
        allowed: Whether it may have parts of a type, named ``module.Class``.

    Returns:
        Those types.

    Raises:
        HeadError: It has parts that no safe file can hold.
    """
    import skops.io
    from skops.io.exceptions import UnsupportedTypeException

    try:
        data = skops.io.dumps(model)
    except UnsupportedTypeException as error:
        raise HeadError(
            "a model that skops can write", str(error), _ONLY_SAFE
        ) from error
    types = _check(data, allowed)
    path.write_bytes(data)
    return types


def read_model(path: Path, allowed: Allowed = ours) -> Any:
    """Reads what `write_model` wrote.

    Raises:
        HeadError: The file holds other types, functions, or is damaged; nothing in it
            was imported or called.
    """
    import skops.io

    try:
        data = path.read_bytes()
        types = _check(data, allowed)
        trusted = [*types, *(t for kinds in _all_data().values() for t in kinds)]
        return skops.io.loads(data, trusted=trusted)
    except HeadError:
        raise
    except Exception as error:  # a file may raise anything of what it is made of
        raise damaged(path, error) from error


def _check(data: bytes, allowed: Allowed) -> list[str]:
    """The types of objects in a file, none of them imported here.

    Raises:
        HeadError: One is not allowed, or is not loaded as an object.
        ValueError: It is no such file.
    """
    data_types = _DATA if allowed is ours else _all_data()
    types: set[str] = set()
    refused: set[str] = set()
    for loader, name in _nodes(data):
        if loader == _OBJECT:
            (types if allowed(name) else refused).add(name)
        elif name not in data_types.get(loader, ()):
            refused.add(name)
    if refused:
        raise HeadError(
            "a model made of the types that its head writes, and of no functions",
            some(sorted(refused)),
            _ONLY_SAFE,
        )
    return sorted(types)


def _all_data() -> dict[str, set[str]]:
    return _DATA | _MORE_DATA


def _nodes(data: bytes) -> Iterator[tuple[str, str]]:
    """The loader and the type of every node of a file."""
    from skops.io._protocol import PROTOCOL

    with zipfile.ZipFile(io.BytesIO(data)) as file:
        if any(info.compress_type != zipfile.ZIP_STORED for info in file.infolist()):
            raise ValueError("a compressed file, which skops does not write")
        schema = json.loads(file.read("schema.json"))
    if schema.get("protocol") != PROTOCOL:
        raise ValueError("a file of another version of skops")
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "__loader__" in value:
                name = f"{value.get('__module__')}.{value.get('__class__')}"
                yield str(value["__loader__"]), name
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
