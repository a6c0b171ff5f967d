"""The sections of a study file: whose arguments their keys are.

A section calls library functions, and its keys are their arguments and the fields of
their groups of options, with the same names, types and defaults. So a new field is a
key without further ado.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from featcache.backbones import FEATUREWISE, IMAGENET, PREPROCESS, resolve_all
from featcache.commands import extract as extracting
from featcache.commands.audit import audit
from featcache.commands.compare import METRICS, compare
from featcache.commands.ensemble import EQUAL, FITTED, ensemble
from featcache.commands.explain import explain
from featcache.commands.extract import extract
from featcache.commands.finetune import finetune
from featcache.commands.scan import scan
from featcache.commands.train_head import train_head
from featcache.core.options import parameters
from featcache.dataset.narrowing import VAL_PARTS
from featcache.dataset.regions import KINDS, MASK, WHOLE
from featcache.dataset.urls import Url
from featcache.dataset.views import Policy

REQUIRED = inspect.Parameter.empty
Function = Callable[..., Any]
Names = Sequence[str]


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        hint: Its type, as in a signature.
        default: What holds where it is left out; `REQUIRED` where it may not be.
    """

    hint: Any
    default: Any = None


@dataclass(frozen=True)
class Section:
    """One section of the file.

    Attributes:
        functions: What it calls, each with the keys that are its arguments.
        own: Keys that are no argument; they win over arguments of their name.
        fixed: Arguments that the study itself gives, and so are no keys.
        renamed: Argument to the key it is called by.
        many: Whether there may be several, as ``[[...]]``.
    """

    functions: tuple[Function, ...] = ()
    own: Mapping[str, Key] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    many: bool = False

    @cached_property
    def keys(self) -> dict[str, Key]:
        """All keys by name, its own first."""
        by_name = dict(self.own)
        for function in self.functions:
            for name, argument in parameters(function).items():
                if name not in self.fixed:
                    key = Key(argument.annotation, argument.default)
                    by_name.setdefault(self.renamed.get(name, name), key)
        return by_name

    def arguments(
        self, function: Function, settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Those of the given keys that are arguments of a function, by their names."""
        names = parameters(function)
        keys = {n: self.renamed.get(n, n) for n in names if n not in self.fixed}
        return {name: settings[key] for name, key in keys.items() if key in settings}


_SHOWN = frozenset({"region", "mask"})  # as the [[extract]] says
_TRAINED = _SHOWN | {"manifest", "reports", "policy", "jobs", "on", "force", "reporter"}
_EXTRACTED = frozenset({"names", "manifest", "networks", "policy", "on", "reporter"})
_NAMED = {"name": Key(str), "label": Key(str)}
_TAPS = {"taps": Key(str | Names, "none")}
TOP = "the top of the file"
SECTIONS = {
    TOP: Section(own={"name": Key(str), "seed": Key(int, 0)}),
    "dataset": Section(
        (scan,),
        fixed=frozenset({"cache", "fewest_classes", "jobs", "reporter"}),
        renamed={"dataset": "name"},
    ),
    "extract": Section(
        (resolve_all, extract, Policy),
        own={
            "name": Key(str),
            "backbones": Key(Names, REQUIRED),
            "input_size": Key(int | Sequence[int]),
            **_TAPS,
            "region": Key(str, WHOLE),
            "mask": Key(str, MASK),
        },
        fixed=_EXTRACTED,
        many=True,
    ),
    "evaluation": Section((train_head,), fixed=_TRAINED | {"backbones", "heads"}),
    "train": Section(
        (train_head,),
        own={**_NAMED, "from": Key(str | Names)},
        fixed=_TRAINED,
        many=True,
    ),
    "finetune": Section(
        (resolve_all, finetune, Policy),
        own={
            **_NAMED,
            "backbones": Key(Names, REQUIRED),
            "init_head": Key(str),
        },
        fixed=_EXTRACTED | {"reports", "force", "region", "repeats"},
        many=True,
    ),
    "ensemble": Section(
        (ensemble,),
        own={**_NAMED, "members": Key(Names, REQUIRED)},
        fixed=frozenset({"reports", "split", "force"}),
        many=True,
    ),
    "audit": Section(
        (audit,), fixed=frozenset({"dataset", "reports", "split", "force", "reporter"})
    ),
    "explain": Section(
        (explain,),
        own={"run": Key(str), "cells": Key(bool, False)},
        fixed=frozenset(
            {"manifest", "run", "files", "source", "seed", "keep", "reporter"}
        ),
    ),
    "report": Section(
        (compare,),
        own={"html": Key(bool | str, False), "formats": Key(Names, ())},
        fixed=frozenset({"reports", "split", "part", "manifest"}),
    ),
}

# Keys whose values are names, and those whose numbers have bounds.
CHOICES: dict[str, Sequence[str]] = {
    "dataset.on_conflict": ("error", "drop"),
    "extract.preprocess": (IMAGENET, FEATUREWISE, *PREPROCESS),
    "extract.region": KINDS,
    "extract.engine": extracting.ENGINES,
    "extract.precision": extracting.PRECISIONS,
    "extract.dtype": extracting.DTYPES,
    "ensemble.weights": (FITTED, EQUAL),
    **dict.fromkeys(
        ("evaluation.val_part", "train.val_part", "finetune.val_part"), VAL_PARTS
    ),
    "report.metric": tuple(METRICS),
    "report.formats": ("markdown", "csv", "json", "latex"),
}
BOUNDS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "per_class": (0, float("inf")),
    "views": (0, 2**16 - 1),
    "batch_size": (1, float("inf")),
    "max_bad": (0, 1),
    "input_size": (32, float("inf")),
    "folds": (2, float("inf")),
    "test_size": (0, 0.9),
    "repeats": (1, float("inf")),
}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of a TOML file is of the type of a signature."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is tuple:
        whole = isinstance(value, list) and len(value) == len(parts)
        return whole and all(map(fits, value, parts))
    if origin is not None:
        return isinstance(value, list) and all(fits(v, parts[0]) for v in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int and isinstance(value, bool):
        return False
    return isinstance(value, str if hint is Path else hint)


_WORDS = {
    str: "a string", Path: "a path", int: "a whole number", float: "a number",
    bool: "true or false", Url: "a URL",
}  # fmt: skip


def in_words(hint: Any) -> str:
    """The type of a signature as a person says it."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(in_words(part) for part in parts if part is not NoneType)
    if origin is tuple:
        return f"a list of {len(parts)} numbers"
    if origin is not None:
        return f"a list of {in_words(parts[0]).removeprefix('a ')}s"
    return _WORDS[hint]
