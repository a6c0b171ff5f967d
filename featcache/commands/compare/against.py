"""The run that all others of a leaderboard are tested against."""

from pathlib import Path

from featcache.errors import RunError
from featcache.evaluation import references
from featcache.evaluation.runs import Run
from featcache.evaluation.selection import Selection, difference


def reference(
    reports: Path, name: str, selection: Selection, split: str | None = None
) -> Run:
    """The run that others are to be held against.

    Raises:
        RunError: It is not among the chosen; the error says what differs.
    """
    # A run of another split is found too, so that the error says what differs.
    narrow = split if references.matching(reports, name, split) else None
    run = references.find(reports, name, narrow)
    ranked = [entry.run for entry in selection.entries]
    if run.run_id in {one.run_id for one in ranked}:
        return run
    split, base = ranked[0].record.split.name, run.record.split.base
    if run.failed:
        got, hint = f"failed: {run.record.reason}", "Choose another run."
    elif run.record.split.repeat:
        got = f"is repeat {run.record.split.repeat} of split {base}"
        hint = "Choose the run with the same settings that the leaderboard shows."
    else:
        got = f"differs in {difference(run, ranked[0])}"
        hint = f"Show it with `split={base!r}`, or retrain it."
    raise RunError(
        f"`against` to name a run that was evaluated like those of split {split}",
        f"{run.run_id}, which {got}",
        hint,
    )
