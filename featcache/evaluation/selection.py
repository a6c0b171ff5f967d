"""Which runs are ranked together, and why the others are not."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

import numpy as np

from featcache.core.text import counted, some
from featcache.dataset.manifest import Manifest
from featcache.errors import RunError
from featcache.evaluation import metrics, runs
from featcache.evaluation.identity import differences, relabelled
from featcache.evaluation.runs import TEST, TRAIN, Run


@dataclass
class Entry:
    """A run of the leaderboard with its repeats.

    Attributes:
        run: On the first draw of the folds.
        repeats: The same recipe on further draws.
    """

    run: Run
    repeats: list[Run] = field(default_factory=list)


@dataclass(frozen=True)
class Selection:
    """What is ranked.

    Attributes:
        entries: Runs with equal evaluation and whole predictions, the newest first.
        excluded: Why the others are not among them, one line each.
        test_only: Runs with equal evaluation and predictions on the test set alone.
        replaced: By run_id of a run that is excluded for it, the run_id of the newer
            one of the same recipe that is among the entries.
    """

    entries: list[Entry]
    excluded: list[str]
    test_only: list[Run] = field(default_factory=list)
    replaced: dict[str, str] = field(default_factory=dict)


def choose(reports: Path, split: str | None, part: str = TRAIN) -> Selection:
    """Takes the runs of one evaluation: the newest, or the newest of a split.

    Runs without predictions on the part are left out, but those on the test set
    alone stand in a list of their own; of the test set, repeats are left out, which
    all have the same.

    Raises:
        RunError: There is none.
    """
    all_runs, broken = runs.list_runs(reports)
    excluded = [str(error) for error in broken]
    excluded += [
        f"run {run.run_id} failed: {run.record.reason}"
        for run in all_runs
        if run.failed
    ]
    all_runs = [run for run in all_runs if not run.failed]
    alike = _alike([run for run in all_runs if not run.record.split.repeat])
    named = [g for g in alike if split in (None, g[0].record.split.name)]
    if not named:
        excluded += [_describe_excluded(group, None) for group in alike]
        raise RunError(
            f"runs to compare in {reports}" + (f" on split {split}" if split else ""),
            "; ".join(excluded) or "none",
            f"Run: featcache train-head --dataset {quote(reports.name)} -H all"
            + ("" if not split else ", or choose another `split`"),
        )
    ranked, damaged = _whole(named[0], part)
    tested = _whole(named[0], TEST)[0] if part == TRAIN else []
    test_only = [run for run in tested if not (run.table["split"] == TRAIN).any()]
    names = {run.run_id for run in test_only} if ranked else set()
    excluded += [str(error) for run_id, error in damaged.items() if run_id not in names]
    if not ranked:
        raise RunError(
            f"a run in {reports} with predictions "
            + ("out of fold" if part == TRAIN else "on a test set"),
            "; ".join(excluded).rstrip("."),
            "Train with `force=True`, or choose another `split` or `part`.",
        )
    repeats = [run for run in all_runs if run.record.split.repeat and part == TRAIN]
    entries, alone = _with_repeats(ranked, repeats)
    replaced = _replaced(ranked, entries)
    excluded += [
        f"run {old} is not ranked: run {new} has the same recipe and is newer"
        for old, new in replaced.items()
    ]
    others = [
        _describe_excluded(group, ranked[0]) for group in alike if group is not named[0]
    ]
    return Selection(entries, excluded + alone + others, test_only, replaced)


def rank_key(
    run: Run, scores: Mapping[str, float], metric: str
) -> tuple[bool, bool, float, str]:
    """Sorts the best first, controls last; what has no score after the rest."""
    value = scores[metric] * (-1 if metrics.METRICS[metric] else 1)
    return run.record.is_baseline, bool(np.isnan(value)), value, run.run_id


def _alike(all_runs: Sequence[Run]) -> list[list[Run]]:
    """Runs by what they were judged on, the newest evaluation and run first."""
    alike: dict[str, list[Run]] = defaultdict(list)
    for run in runs.newest_first(all_runs):
        alike[run.record.evaluation_id].append(run)
    return list(alike.values())


def _whole(group: Sequence[Run], part: str) -> tuple[list[Run], dict[str, RunError]]:
    """Runs with intact predictions of a part, and why others have none, by run_id."""
    whole, excluded = [], {}
    for run in group:
        try:
            _refuse_empty(run, part)
            whole.append(run)
        except RunError as error:
            excluded[run.run_id] = error
    return whole, excluded


def _refuse_empty(run: Run, part: str) -> None:
    """Refuses a run without predictions of a part.

    Raises:
        RunError: It has none, or they are not as its record says.
    """
    if not (run.table["split"] == part).any():
        other = TRAIN if part == TEST else TEST
        raise RunError(
            f"run {run.run_id} has no "
            + ("out-of-fold predictions" if part == TRAIN else "test set"),
            f"Show it with `part={other!r}`.",
        )


def _with_repeats(
    ranked: Sequence[Run], repeats: Sequence[Run]
) -> tuple[list[Entry], list[str]]:
    """Gives each run the repeats of its recipe, and tells of those that fit none."""
    entries = {run.record.recipe_id: Entry(run) for run in reversed(ranked)}
    split = ranked[0].record.split.base
    taken: set[tuple[str, int]] = set()
    excluded, alone = [], []
    for run in runs.newest_first(repeats):
        key = run.record.recipe_id, run.record.split.repeat
        if run.record.split.base != split or key in taken:
            continue
        if key[0] not in entries:
            alone.append(run.run_id)
            continue
        try:
            reasons = differences(entries[key[0]].run, run, folds=False)
        except RunError as error:
            reasons = [str(error)]
        if reasons:
            excluded.append(
                f"run {run.run_id}, a repeat, differs in {', '.join(reasons)}"
            )
        else:
            taken.add(key)
            entries[key[0]].repeats.append(run)
    if alone:
        excluded.append(
            f"{counted(len(alone), 'repeat')} of runs that are not in the table: "
            + some(alone, 3)
        )
    return list(entries.values())[::-1], excluded


def _replaced(ranked: Sequence[Run], entries: Sequence[Entry]) -> dict[str, str]:
    """The ids of runs that are no entries, and of those of their recipe that are."""
    newest = {entry.run.record.recipe_id: entry.run.run_id for entry in entries}
    pairs = {run.run_id: newest[run.record.recipe_id] for run in ranked}
    return {old: new for old, new in pairs.items() if old != new}


def _describe_excluded(group: Sequence[Run], first: Run | None) -> str:
    """Says of runs that are judged on something else what that is."""
    record, names = group[0].record, some([run.run_id for run in group], 3)
    split = record.split.name
    text = f"{counted(len(group), 'run')} cannot be compared with these ({{}}): {names}"
    if first is None or split != first.record.split.name:
        return text.format(f"split {split}; show them with `split={split!r}`")
    subject = "they differ" if len(group) > 1 else "it differs"
    return text.format(
        f"{subject} in {difference(group[0], first)}, which changed since: train again"
    )


def difference(run: Run, first: Run) -> str:
    """In what the evaluation of a run differs from that of another."""
    try:
        reasons = differences(run, first)
    except RunError as error:
        reasons = [str(error)]
    return ", ".join(reasons) or "their evaluation_id"


def changed_labels(run: Run, manifest: Manifest | None) -> list[str]:
    """Says how many images have another label than when a run was made.

    Args:
        run: A run of those that are ranked, which were all made on the same labels.
        manifest: Of the dataset as it is now; None if it is not here.
    """
    if manifest is None:
        return []
    changed = relabelled(run, manifest.ok)
    if changed.empty:
        return []
    pairs = Counter(zip(changed["before"], changed["now"], strict=True)).most_common()
    texts = [f"{count} from {old} to {new}" for (old, new), count in pairs]
    return [
        f"The labels of {len(changed)} of {len(run.table)} images have changed since "
        f"these runs were made ({some(texts, 3)}); the scores refer to the old "
        "labels. Train again to use the new ones."
    ]
