"""What the functions take: folders, datasets and names, as text or as objects."""

import os
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from featcache.core.command_lines import CACHE, CACHE_VARIABLE, REPORTS
from featcache.core.options import parameters
from featcache.dataset import manifest as manifests
from featcache.dataset.manifest import Manifest
from featcache.errors import DatasetError
from featcache.evaluation import references
from featcache.evaluation.runs import Run

P = ParamSpec("P")
R = TypeVar("R")
# A function of the face says these itself, or a dataset knows them.
_OWN = {"cache", "dataset", "reporter", "reports"}


class HasManifest(Protocol):
    """A dataset that knows its folders, such as `featcache.Dataset`."""

    @property
    def manifest(self) -> Manifest:
        """Its images."""

    @property
    def reports(self) -> Path:
        """The folder of runs of all datasets."""


DatasetLike = str | Manifest | HasManifest | None


def cache_folder(cache: str | Path | None) -> Path:
    """The cache folder: as given, else ``$FEATCACHE_CACHE``, else ``cache``."""
    return Path(cache or os.environ.get(CACHE_VARIABLE) or CACHE)


def reports_folder(reports: str | Path | None, dataset: DatasetLike = None) -> Path:
    """The reports folder: as given, else the dataset's own, else ``reports``."""
    return Path(reports or getattr(dataset, "reports", None) or REPORTS)


def manifest_of(dataset: DatasetLike, cache: str | Path | None = None) -> Manifest:
    """The manifest of a dataset, by its name or as an object; None for the only one.

    Raises:
        DatasetError: There is no such dataset, or there are several.
    """
    if isinstance(dataset, Manifest):
        return dataset
    if dataset is None or isinstance(dataset, str):
        return manifests.load(manifests.find(cache_folder(cache), dataset))
    return dataset.manifest


def manifest_of_runs(
    dataset: DatasetLike,
    cache: str | Path | None,
    reports: str | Path | None,
    named: Sequence[Any] = (),
) -> Manifest:
    """The same for work on runs; None for the dataset that they determine.

    Raises:
        DatasetError: There is no such dataset, or there are several.
    """
    if dataset is not None:
        return manifest_of(dataset, cache)
    folders = cache_folder(cache), reports_folder(reports)
    names = [reference(run) for run in named]
    return manifests.load(references.find_dataset(*folders, references=names))


def reference(run: Any) -> str:
    """What names a run: its id, or the rank, short id or part of an id as text."""
    return run.run_id if isinstance(run, Run) else str(run)


def manifest_if_there(
    dataset: DatasetLike, cache: str | Path | None
) -> Manifest | None:
    """The manifest where the cache has it: runs can be ranked without."""
    try:
        return manifest_of(dataset, cache)
    except DatasetError:
        return None


def listed(values: Any) -> list[Any]:
    """One value or several, as a list; text and paths are one value."""
    several = isinstance(values, Iterable) and not isinstance(values, str | Path)
    return list(values) if several and not hasattr(values, "get_params") else [values]


def texts(values: Any) -> list[str]:
    """One name or path or several, as texts."""
    return [os.fspath(value) for value in listed(values)]


def with_options_of(
    *sources: Callable[..., Any], without: Sequence[str] = ()
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function's ``**options`` the keywords of others, in name and default.

    ``help`` and completion show them, and a keyword that none of them has is refused
    before any work, with the names that are near.

    Args:
        sources: Functions, whose groups of options are taken apart.
        without: Keywords of theirs that the function makes of its own.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        own = signature(function)
        named = {n: p for n, p in own.parameters.items() if p.kind != p.VAR_KEYWORD}
        further = {
            name: parameter.replace(kind=Parameter.KEYWORD_ONLY)
            for source in sources
            for name, parameter in parameters(source).items()
            if name not in {*named, *_OWN, *without}
            and parameter.default is not Parameter.empty
        }

        @wraps(function)
        def call(*arguments: P.args, **options: P.kwargs) -> R:
            known = [*named, *further]
            for name in list(dict(**options)):
                if name not in known:
                    raise TypeError(_unexpected(function.__name__, name, known))
            return function(*arguments, **options)

        every = [*named.values(), *further.values()]
        call.__signature__ = own.replace(parameters=every)  # type: ignore[attr-defined]
        return call

    return decorate


def _unexpected(function: str, name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, 2)
    more = f". Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"{function}() got an unexpected keyword argument {name!r}{more}"
