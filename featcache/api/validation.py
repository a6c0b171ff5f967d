"""External validation from Python."""

import warnings
from collections.abc import Mapping, Sequence
from os import fspath
from pathlib import Path

from featcache.api.progress import show
from featcache.api.words import (
    DatasetLike,
    cache_folder,
    manifest_of,
    reports_folder,
    texts,
)
from featcache.commands import validate as validating
from featcache.deploy.opening import Place, open_model
from featcache.evaluation.external.validation import Validation


def validate(
    model: str | Path,
    external: DatasetLike,
    *,
    mapping: Mapping[str, str] | None = None,
    by: str | Sequence[str] = (),
    dataset: str | None = None,
    files: Sequence[str | Path] = (),
    cache: str | Path | None = None,
    reports: str | Path | None = None,
    progress: bool | None = None,
) -> Validation:
    """Scores a frozen model on a dataset that it never saw, and keeps the result.

    Args:
        model: The file of a bundle, or a run: its short id, id, or part of its id.
        external: The other dataset, as ``featcache.scan`` returns it, or its name.
        mapping: Its labels that are named otherwise than the model's classes.
        by: Columns of its manifest whose values are subgroups.
        dataset: Of the run; None where the run determines it.
        files: ``.keras`` and weights files to look for the run's networks in.
        cache: The cache folder.
        reports: The reports folder.
        progress: Whether to show a bar; by default in notebooks and terminals.

    Returns:
        All figures with their intervals; ``to_json()`` has them as plain values. A
        warning says how many images are of the model's own dataset.

    Raises:
        FeatcacheError: As ``commands.validate.validate``, or the model cannot be used.
    """
    home = reports_folder(reports)
    place = Place(cache_folder(cache), home, dataset, [Path(file) for file in files])
    with (
        show(progress) as reporter,
        open_model(
            fspath(model),
            place,
            needs_refusal=False,
            with_hashes=True,
            reporter=reporter,
        ) as opened,
    ):
        result = validating.validate(
            opened,
            manifest_of(external, cache),
            mapping=mapping,
            by=texts(by),
            reporter=reporter,
        )
        validating.keep(result, opened, home)
    if result.own_in_words:
        warnings.warn(result.own_in_words, stacklevel=2)
    return result
