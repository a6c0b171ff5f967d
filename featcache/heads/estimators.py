"""Estimators as text: ``module:Class(argument=value)``, and back again.

The text is what a record, a command and a study file can hold. It is read as data and
never evaluated: only classes built on scikit-learn's ``BaseEstimator`` are called.
"""

import ast
import importlib
import inspect
import math
import os
import re
from typing import Any

from sklearn.base import BaseEstimator

from featcache.errors import HeadError

_PATH = r"\w+(?:\.\w+)*:\w+"
_COLON = ".__colon__."  # the colon of a path, in the letters of Python
_UNRECORDED = {"n_jobs", "verbose"}  # arguments that move no number
TRUST = "FEATCACHE_TRUST"  # packages whose classes may be rebuilt from a record
KNOWN = frozenset({"sklearn", "xgboost"})
_named: set[str] = set()  # packages that heads were made of in this process
# Parts of estimators of these packages that are no estimators and hold only data.
_PARTS = frozenset({
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._ball_tree.BallTree64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neighbors._kd_tree.KDTree64",
    "xgboost.core.Booster",
    *(
        f"sklearn.metrics._dist_metrics.{metric}Distance{bits}"
        for metric in ("Chebyshev", "Euclidean", "Manhattan", "Minkowski")
        for bits in ("", 32, 64)
    ),
    *(f"sklearn._loss.link.{name}" for name in (
        "HalfLogitLink", "IdentityLink", "Interval", "LogLink", "LogitLink",
        "MultinomialLogit",
    )),
    *(f"sklearn._loss.loss.{name}" for name in (
        "ExponentialLoss", "HalfBinomialLoss", "HalfMultinomialLoss",
    )),
    *(f"sklearn.gaussian_process.kernels.{name}" for name in (
        "CompoundKernel", "ConstantKernel", "DotProduct", "ExpSineSquared",
        "Exponentiation", "Hyperparameter", "Matern", "Product", "RBF",
        "RationalQuadratic", "Sum", "WhiteKernel",
    )),
})  # fmt: skip
_EXAMPLE = "Write it like sklearn.neighbors:KNeighborsClassifier(n_neighbors=3)."


def to_text(estimator: Any) -> str:
    """Writes an estimator with the arguments that differ from their defaults.

    Args:
        estimator: An estimator of scikit-learn or built like one; other estimators
            may be among its arguments. It need not be fitted.

    Raises:
        HeadError: Its class cannot be imported by its name, or an argument is neither
            a number, text, None, a list, tuple or dictionary of these, nor an
            estimator.
    """
    params = estimator.get_params(deep=False)
    usual = inspect.signature(type(estimator).__init__).parameters
    arguments = [
        f"{name}={_value(value, estimator)}"
        for name, value in sorted(params.items())
        if name not in _UNRECORDED
        and not (name in usual and _same(value, usual[name].default))
    ]
    path = _public_path(type(estimator))
    return f"{path}({', '.join(arguments)})" if arguments else path


def from_text(text: str) -> Any:
    """Builds the unfitted estimator of a text.

    Raises:
        HeadError: The text does not name one, or its class refuses the arguments.
    """
    call = _parsed(text)
    try:
        return _build(call)
    except (SyntaxError, ValueError) as error:
        raise HeadError("module:Class", repr(text), _EXAMPLE) from error


def modules(text: str) -> set[str]:
    """The modules that building the estimator of a text imports.

    Raises:
        HeadError: The text does not name one.
    """
    calls = [one for one in ast.walk(_parsed(text)) if isinstance(one, ast.Call)]
    paths = [ast.unparse(call.func).replace(_COLON, ":") for call in calls]
    return {path.partition(":")[0] for path in paths}


def trust(text: str) -> None:
    """Trusts the packages of a text that the user has named."""
    _named.update(module.partition(".")[0] for module in modules(text))


def refuse_unknown(text: str) -> None:
    """Refuses a text of a record whose modules nobody here has named.

    A record may come from elsewhere, and importing a module runs it. Imported are
    modules of scikit-learn and XGBoost, of packages that a head was made of in this
    process (`trust`), and of those that ``$FEATCACHE_TRUST`` names.

    Raises:
        HeadError: It names another module.
    """
    own = os.environ.get(TRUST, "").replace(",", " ").split()
    trusted = {*KNOWN, *_named, *own}
    for module in sorted(modules(text)):
        package = module.partition(".")[0]
        if package not in trusted:
            raise HeadError(
                "a head of scikit-learn or XGBoost, or of a package that you trust",
                f"{text!r}, whose module {module} would be run",
                f"If it is your own, set {TRUST}={package} in the environment.",
            )


def is_data(name: str, text: str) -> bool:
    """Whether a type may be in the file of the estimator that a text names.

    Only what builds an estimator is: estimators of scikit-learn and XGBoost, their
    known parts, and the classes of packages that the text names itself.

    Args:
        name: The type, as ``module.Class``; its module is imported only where its
            package is one of these.
        text: As `from_text` takes it.
    """
    module, _, cls_name = name.rpartition(".")
    package = module.partition(".")[0]
    if name in _PARTS:
        return True
    named = {one.partition(".")[0] for one in modules(text)}
    if package not in {"sklearn", *named}:
        return False
    try:
        cls = getattr(importlib.import_module(module), cls_name, None)
    except ImportError:
        return False
    is_own = package not in KNOWN
    return inspect.isclass(cls) and (is_own or issubclass(cls, BaseEstimator))


def _parsed(text: str) -> ast.Call:
    whole = text if text.endswith(")") else f"{text}()"
    source = re.sub(rf"({_PATH})\(", lambda m: m[0].replace(":", _COLON), whole)
    try:
        call = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise HeadError("module:Class", repr(text), _EXAMPLE) from error
    if not isinstance(call, ast.Call):
        raise HeadError("module:Class", repr(text), _EXAMPLE)
    return call


def _same(value: Any, default: Any) -> bool:
    return value is default or (
        type(value) is type(default) and repr(value) == repr(default)
    )


def _value(value: Any, owner: Any) -> str:
    if isinstance(value, BaseEstimator):
        text = to_text(value)
        return text if text.endswith(")") else f"{text}()"
    if isinstance(value, list | tuple):
        inner = ", ".join(_value(one, owner) for one in value)
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, dict):
        pairs = (f"{_value(k, owner)}: {_value(v, owner)}" for k, v in value.items())
        return f"{{{', '.join(pairs)}}}"
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()  # a number of NumPy
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"  # what Python reads as infinite
    if value is None or isinstance(value, str | bytes | bool | int | float):
        return repr(value)
    raise HeadError(
        f"arguments of {type(owner).__name__} that a record can hold: numbers, texts, "
        "lists, dictionaries and estimators",
        f"{type(value).__module__}.{type(value).__qualname__}",
        "Set such an argument in a subclass of your own, in a module.",
    )


def _public_path(cls: type[Any]) -> str:
    """``module:Class``, by the shortest module that has the class."""
    parts = cls.__module__.split(".")
    if parts[0] != "__main__":
        for count in range(1, len(parts) + 1):
            module = ".".join(parts[:count])
            try:
                named = getattr(importlib.import_module(module), cls.__name__, None)
            except ImportError:
                break
            if named is cls:
                return f"{module}:{cls.__name__}"
    raise HeadError(
        f"a head {cls.__name__} that other processes can import",
        f"{cls.__module__}.{cls.__qualname__}",
        "Move the class into a module (a .py file) and import it from there.",
    )


def _build(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=func, args=[], keywords=keywords):
            cls = _class(ast.unparse(func).replace(_COLON, ":"))
            arguments = {str(pair.arg): _build(pair.value) for pair in keywords}
            try:
                return cls(**arguments)
            except TypeError as error:
                raise HeadError(
                    f"{cls.__name__} to have a default for every argument that is not "
                    "set, and to accept those that are",
                    str(error),
                    _EXAMPLE,
                ) from error
        case ast.List(elts=elements):
            return [_build(one) for one in elements]
        case ast.Tuple(elts=elements):
            return tuple(_build(one) for one in elements)
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {_build(k): _build(v) for k, v in pairs if k is not None}
        case _:
            value = ast.literal_eval(node)
            return value.replace(_COLON, ":") if isinstance(value, str) else value


def _class(path: str) -> type[Any]:
    if not re.fullmatch(_PATH, path):
        raise HeadError("module:Class", repr(path), _EXAMPLE)
    module, _, name = path.partition(":")
    try:
        cls = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise HeadError(
            f"an importable module {module}",
            str(error),
            "Install it, or add its folder to PYTHONPATH.",
        ) from error
    if not (inspect.isclass(cls) and issubclass(cls, BaseEstimator)):
        raise not_a_classifier(path, "no such name" if cls is None else repr(cls))
    return cls


def not_a_classifier(path: str, got: str) -> HeadError:
    """The error of a name that is no classifier.

    Args:
        path: ``module:Class``, with or without arguments.
        got: What it is.
    """
    module, _, name = path.partition("(")[0].partition(":")
    return HeadError(
        f"a scikit-learn classifier {name} in {module}",
        got,
        "Use a class derived from sklearn.base.ClassifierMixin.",
    )
