"""Which runs are ranked together, and why the others are not."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from featcache.core.text import some
from featcache.dataset.manifest import Manifest
from featcache.errors import RunError
from featcache.evaluation import runs
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
    """

    entries: list[Entry]
    excluded: list[str]


def choose(reports: Path, split: str | None, part: str = TRAIN) -> Selection:
    """Takes the runs of one evaluation: the newest, or the newest of a split.

    Runs without predictions on the part are left out; of the test set, so are
    repeats, which all have the same.

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
    excluded += damaged
    if not ranked:
        raise RunError(
            f"a run in {reports} with predictions "
            + ("out of fold" if part == TRAIN else "on a test set"),
            "; ".join(excluded).rstrip("."),
            "Train with `force=True`, or choose another `split` or `part`.",
        )
    repeats = [run for run in all_runs if run.record.split.repeat and part == TRAIN]
    entries, alone = _with_repeats(ranked, repeats)
    others = [
        _describe_excluded(group, ranked[0]) for group in alike if group is not named[0]
    ]
    return Selection(entries, excluded + alone + others)


def _alike(all_runs: Sequence[Run]) -> list[list[Run]]:
    """Runs by what they were judged on, the newest evaluation and run first."""
    alike: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(all_runs, key=lambda run: run.record.created, reverse=True):
        alike[run.record.evaluation_id].append(run)
    return list(alike.values())


def _whole(group: Sequence[Run], part: str) -> tuple[list[Run], list[str]]:
    """Separates runs with intact predictions of a part from the others."""
    whole, excluded = [], []
    for run in group:
        try:
            _refuse_empty(run, part)
            whole.append(run)
        except RunError as error:
            excluded.append(str(error))
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
    for run in sorted(repeats, key=lambda run: run.record.created, reverse=True):
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
            f"{len(alone)} runs are repeats of runs that are not in the table: "
            + some(alone, 3)
        )
    return list(entries.values())[::-1], excluded


def _describe_excluded(group: Sequence[Run], first: Run | None) -> str:
    """Says of runs that are judged on something else what that is."""
    record, names = group[0].record, some([run.run_id for run in group], 3)
    split = record.split.name
    text = f"{len(group)} runs cannot be compared with these ({{}}): {names}"
    if first is None or split != first.record.split.name:
        return text.format(f"split {split}; show them with `split={split!r}`")
    return text.format(
        f"they differ in {_difference(group[0], first)}, which changed since: "
        "retrain them"
    )


def _difference(run: Run, first: Run) -> str:
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


def reference(reports: Path, name: str, selection: Selection) -> Run:
    """The run that others are to be held against.

    Raises:
        RunError: It is not among the chosen; the error says what differs.
    """
    run = runs.find(reports, name)
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
        got = f"differs in {_difference(run, ranked[0])}"
        hint = f"Show it with `split={base!r}`, or retrain it."
    raise RunError(
        f"`against` to name a run that was evaluated like those of split {split}",
        f"{run.run_id}, which {got}",
        hint,
    )
