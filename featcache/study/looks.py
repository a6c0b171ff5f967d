"""The last steps of a study: its audit, and the maps of a run."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from featcache.commands import audit as audits
from featcache.commands.audit import audit
from featcache.commands.compare import Leaderboard
from featcache.commands.explain import MASKS, explain
from featcache.core.io import digest, read_json, sha256_file, write_json
from featcache.core.progress import Indented, Reporter
from featcache.core.text import counted
from featcache.dataset.manifest import Manifest
from featcache.errors import RunError
from featcache.evaluation.runs import Run
from featcache.study.base import Explain

Draw = Callable[..., Any]  # of an explanation, into a folder, with its cells or not
MARK, MAPS = "study.json", "maps.json"


def audit_again(
    data: Manifest, reports: Path, settings: dict[str, Any], reporter: Reporter
) -> bool:
    """Audits the dataset, unless that was done of the same data and runs.

    Returns:
        Whether there is a new audit.
    """
    if audits.is_current(data, reports, **settings):
        reporter.message("  still that of the same images and runs")
        return False
    result = audit(data, reports, force=True, reporter=Indented(reporter), **settings)
    issues = [one for one in result.findings if one.is_issue]
    reporter.message(f"  {counted(len(issues), 'issue')}")
    for one in issues:
        reporter.message(f"  {one.code} {one.message}")
    if result.run_id is None:
        reporter.message("  There is no run of a network, so no run was checked.")
    return True


def explain_again(
    data: Manifest,
    run: Run,
    request: Explain,
    files: Sequence[Path],
    draw: Draw,
    reporter: Reporter,
) -> bool:
    """Draws the maps of a run, unless those of the same settings are there.

    Args:
        data: The dataset.
        run: Of the study.
        request: The settings.
        files: Of the networks of the study.
        draw: Draws what ``explain`` returns.
        reporter: Hears of the maps.

    Returns:
        Whether there are new maps.
    """
    folder = run.folder.parents[1] / "explain" / run.run_id
    mark = _made_of(data, run, request)
    if _mark_of(folder) == mark and (folder / MAPS).is_file():
        reporter.message(f"  the maps of {run.short_id} {run.run_id} are there")
        return False
    (folder / MARK).unlink(missing_ok=True)
    result = explain(
        data,
        run,
        files=files,
        keep=lambda first: draw(first, folder, cells=request.cells),
        reporter=Indented(reporter),
        **request.settings,
    )
    draw(result, folder, cells=request.cells)
    write_json(folder / MARK, {"made_of": mark})
    count_text = counted(len(result.maps), "map")
    reporter.message(f"  {count_text} of {run.short_id} {run.run_id} in {folder}")
    return True


def _made_of(data: Manifest, run: Run, request: Explain) -> str:
    """Digest of what maps depend on: run, settings, code, and the manifest's words."""
    record = sha256_file(run.folder / "run.json")
    columns = {"image_id", "label", "group"}
    if request.settings.get("faithfulness"):
        columns |= {*request.settings.get("masks", MASKS)}
    table = data.ok[[name for name in data.ok if name in columns]]
    about = [record, request.settings, request.cells, version("featcache")]
    return digest([*about, table.to_csv(index=False)])


def _mark_of(folder: Path) -> object:
    try:
        record = read_json(folder / MARK)
    except (OSError, ValueError):
        return None
    return record.get("made_of") if isinstance(record, dict) else None


def best_of(boards: Sequence[Leaderboard], members: Sequence[Run] | None) -> Run:
    """The run to explain: the best of a block, or of the first leaderboard.

    Baselines and ensembles have no maps of their own.

    Args:
        boards: The leaderboards of the study.
        members: Runs of the named block; None for any.

    Raises:
        RunError: There is none.
    """
    names = None if members is None else {run.run_id for run in members}
    for board in boards:
        for scored in board.scored:
            run = scored.run
            wanted = names is None or run.run_id in names
            if wanted and not run.record.is_baseline and not run.record.members:
                return run
    raise RunError(
        "no run to explain: none of a single network is on the leaderboard",
        "Name another block as run, or train a head on a network.",
    )
