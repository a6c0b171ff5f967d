"""Learning curves as a function."""

from pathlib import Path
from typing import Any

from featcache.api.progress import show
from featcache.api.results import Curve
from featcache.api.words import (
    DatasetLike,
    manifest_of_runs,
    reference,
    reports_folder,
    with_options_of,
)
from featcache.commands import curve as curves
from featcache.evaluation import references


@with_options_of(curves.curve)
def curve(
    dataset: DatasetLike = None,
    run: Any = 1,
    *,
    cache: str | Path | None = None,
    reports: str | Path | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Curve:
    """How a run's score grows with the patients that it is trained on.

    Args:
        dataset: Which; see ``featcache.open``.
        run: A run, its rank or short id, or a part of its id; by default the best.
        cache: The cache folder.
        reports: The reports folder.
        progress: Whether to show a bar; by default in notebooks and terminals.
        options: metric, draws, classes, seed, jobs and on, as in
            docs/reference/commands/curve.md.

    Raises:
        RunError: No such run, or none of a head on cached features.
        FeatcacheError: As ``commands.curve.curve``.
    """
    manifest = manifest_of_runs(dataset, cache, reports, [run])
    folder = reports_folder(reports, dataset) / manifest.dataset
    meant = references.find(folder, reference(run))
    with show(progress) as reporter:
        result = curves.curve(manifest, meant, reporter=reporter, **options)
    return Curve(**vars(result))
