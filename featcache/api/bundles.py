"""Bundles from Python: make one of a run, and prove one on this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from featcache.api.progress import show
from featcache.api.words import DatasetLike, manifest_of_runs, reports_folder
from featcache.commands import bundle as bundles
from featcache.commands.bundle import BundleResult
from featcache.evaluation import references, runs


def bundle(
    run: str | runs.Run,
    output: str | Path,
    *,
    dataset: DatasetLike = None,
    files: Sequence[str | Path] = (),
    cache: str | Path | None = None,
    reports: str | Path | None = None,
    progress: bool | None = None,
    **options: Any,
) -> BundleResult:
    """Writes a run as one file that answers elsewhere, and proves itself there.

    Args:
        run: Its short id, id, or a part of its id.
        output: The file to write, such as ``model.fcb``.
        dataset: Of the run; None where the run determines it.
        files: ``.keras`` and weights files to look for its networks in.
        cache: The cache folder.
        reports: The reports folder.
        progress: Whether to show a bar; by default in notebooks and terminals.
        **options: ``reference``, ``sensitivity``, ``refuse``, ``intended_use`` and
            ``force``, as of ``featcache bundle make``.

    Raises:
        FeatcacheError: As ``commands.bundle.make_bundle``.
    """
    manifest = manifest_of_runs(dataset, cache, reports, [run])
    home = reports_folder(reports, dataset) / manifest.dataset
    resolved = run if isinstance(run, runs.Run) else references.find(home, str(run))
    with show(progress) as reporter:
        return bundles.make_bundle(
            manifest,
            resolved,
            Path(output),
            files=[Path(file) for file in files],
            reporter=reporter,
            **options,
        )


def verify_bundle(
    path: str | Path, *, files: Sequence[str | Path] = ()
) -> pd.DataFrame:
    """Runs the golden cases of a bundle through every stage on this machine.

    Args:
        path: The bundle.
        files: Of networks that it only names.

    Returns:
        A row a stage, with the columns ``stage``, ``difference``, ``tolerance``,
        ``problem`` and ``passed``.

    Raises:
        BundleError: It is damaged, changed, or of another format.
    """
    stages = bundles.verify_bundle(Path(path), files=[Path(file) for file in files])
    return pd.DataFrame(
        {
            "stage": [stage.name for stage in stages],
            "difference": [stage.difference for stage in stages],
            "tolerance": [stage.tolerance for stage in stages],
            "problem": [stage.problem for stage in stages],
            "passed": [stage.passed for stage in stages],
        }
    )
