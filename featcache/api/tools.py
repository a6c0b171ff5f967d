"""Whole studies, the state of the machine, and generated images, as functions."""

import json
from pathlib import Path
from typing import Any

from featcache import study as studies
from featcache.api.progress import show
from featcache.api.results import Checks, Leaderboard, Runs
from featcache.api.words import cache_folder, manifest_if_there, reports_folder
from featcache.commands import doctor as doctors
from featcache.core.io import write_json
from featcache.dataset import phantom
from featcache.report.heatmaps import sheets
from featcache.study import StudyResult


def run_study(
    file: str | Path,
    *,
    jobs: int | None = None,
    on: str = "local",
    cache: str | Path | None = None,
    reports: str | Path | None = None,
    progress: bool | None = None,
) -> StudyResult:
    """Does what is missing of the study in a file; see docs/reference/study.md.

    Args:
        file: The TOML file.
        jobs: Parallel processes for the heads; by default one a core.
        on: Where to extract and train: "local", "dask" or "ray", or a cluster,
            "dask://HOST:PORT" or "ray://HOST:PORT"; see docs/how-to/cluster.md.
        cache: The cache folder.
        reports: The reports folder.
        progress: Whether to show a bar; by default in notebooks and terminals.

    Returns:
        What was done; its ``boards`` are leaderboards, and ``failures`` says what
        could not be done.

    Raises:
        UsageError: The file cannot be used; names the line and the key.
    """
    study, home = studies.read(Path(file)), cache_folder(cache)
    with show(progress) as reporter:
        result = studies.run(
            study,
            home,
            reports=reports_folder(reports),
            jobs=jobs,
            on=on,
            reporter=reporter,
            draw=sheets.write,
        )
    folder = reports_folder(reports) / result.dataset
    manifest = manifest_if_there(result.dataset, home)
    boards = [Leaderboard.of(board, folder, manifest) for board in result.boards]
    named = {
        name: Runs(block_runs, result.new_run_ids)
        for name, block_runs in result.runs.items()
    }
    return StudyResult(**vars(result) | {"boards": boards, "runs": named})


def doctor(
    *,
    offline: bool = False,
    deep: bool = False,
    cache: str | Path | None = None,
    reports: str | Path | None = None,
) -> Checks:
    """Looks at libraries, devices, weights, disks and locks; changes nothing.

    Args:
        offline: Do not ask whether weights can be downloaded.
        deep: Also start TensorFlow and ask it for its GPUs.
        cache: The cache folder.
        reports: The reports folder.
    """
    checks = doctors.doctor(
        cache_folder(cache), reports_folder(reports), offline=offline, deep=deep
    )
    return Checks(checks)


def phantoms(
    folder: str | Path,
    images: int = 120,
    *,
    size: int = 384,
    seed: int = 0,
    shortcut: bool = False,
    small_lesions: bool = False,
    progress: bool | None = None,
) -> Path:
    """Writes generated chest X-rays for experiments; the same call again does nothing.

    Args:
        folder: A new or empty folder.
        images: How many, over three classes.
        size: Height and width in pixels.
        seed: Another seed draws other patients.
        shortcut: Plant a corner marker that gives the class away.
        small_lesions: Findings are one patch in one lung, of 2 to 4 % of the area of
            both lung fields.
        progress: Whether to show a bar; by default in notebooks and terminals.

    Returns:
        The path of ``metadata.csv``, which ``featcache.scan`` takes.

    Raises:
        DatasetError: The folder holds something else.
    """
    home = Path(folder)
    mark, table = home / "phantoms.json", home / "metadata.csv"
    settings: dict[str, Any] = {
        "images": images,
        "size": size,
        "seed": seed,
        "shortcut": shortcut,
        "small_lesions": small_lesions,
    }
    if table.is_file() and mark.is_file() and json.loads(mark.read_text()) == settings:
        return table
    with show(progress) as reporter:
        table = phantom.write(home, **settings, reporter=reporter)
    write_json(mark, settings)
    return table
