"""Estimators as text: ``module:Class(argument=value)``, and back again.

The text is what a record, a command and a study file can hold. It is read as data and
never evaluated: only classes built on scikit-learn's ``BaseEstimator`` are called.
"""

import ast
import importlib
import inspect
import math
import re
from typing import Any

from sklearn.base import BaseEstimator

from featcache.errors import HeadError

_PATH = r"\w+(?:\.\w+)*:\w+"
_COLON = ".__colon__."  # the colon of a path, in the letters of Python
_UNRECORDED = {"n_jobs", "verbose"}  # arguments that move no number
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
    whole = text if text.endswith(")") else f"{text}()"
    source = re.sub(rf"({_PATH})\(", lambda m: m[0].replace(":", _COLON), whole)
    try:
        call = ast.parse(source, mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError(text)
        return _build(call)
    except (SyntaxError, ValueError) as error:
        raise HeadError("module:Class", repr(text), _EXAMPLE) from error


def packages(estimator: Any) -> frozenset[str]:
    """The packages that an estimator and those among its arguments come from."""
    parts = [estimator, *estimator.get_params().values()]
    classes = {type(part) for part in parts if isinstance(part, BaseEstimator)}
    return frozenset(cls.__module__.partition(".")[0] for cls in classes)


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
