"""The run that all others of a leaderboard are tested against."""

from pathlib import Path

from featcache.errors import RunError
from featcache.evaluation import references
from featcache.evaluation.runs import TEST, Run
from featcache.evaluation.selection import Selection, difference


def reference(
    reports: Path, name: str, selection: Selection, split: str | None = None
) -> Run:
    """The run that others are to be held against.

    Raises:
        RunError: It is not among the chosen; the error says why.
    """
    # A run of another split is found too, so that the error says what differs.
    narrow = split if references.matching(reports, name, split) else None
    run = references.find(reports, name, narrow)
    ranked = [entry.run for entry in selection.entries]
    if run.run_id in {one.run_id for one in ranked}:
        return run
    if newer := selection.replaced.get(run.run_id):
        got = f"has the same recipe as run {newer}, which is newer and ranked instead"
        hint = "Choose that one."
    elif run.run_id in {one.run_id for one in selection.test_only}:
        got = "has no out-of-fold predictions"
        hint = f"Compare with `part={TEST!r}`, or choose another run."
    else:
        got, hint = _what_differs(run, ranked[0])
    raise RunError(
        "`against` to name a run that is ranked on split "
        f"{ranked[0].record.split.name}",
        f"{run.run_id}, which {got}",
        hint,
    )


def _what_differs(run: Run, ranked: Run) -> tuple[str, str]:
    """Why a run is not on a leaderboard, and the way out."""
    base = run.record.split.base
    if run.failed:
        return f"failed: {run.record.reason}", "Choose another run."
    if run.record.split.repeat:
        return (
            f"is repeat {run.record.split.repeat} of split {base}",
            "Choose the run with the same settings that the leaderboard shows.",
        )
    return (
        f"differs in {difference(run, ranked)}",
        f"Show it with `split={base!r}`, or retrain it.",
    )
