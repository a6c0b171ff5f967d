"""Which runs are ranked together, and why the others are not."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featcache.core.text import some
from featcache.dataset.manifest import Manifest
from featcache.errors import RunError
from featcache.evaluation import runs
from featcache.evaluation.identity import differences
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
class Chosen:
    """What is ranked.

    Attributes:
        entries: Runs with equal evaluation and whole predictions, the newest first.
        left_out: Why the others are not among them, one line each.
    """

    entries: list[Entry]
    left_out: list[str]


def choose(reports: Path, split: str | None, part: str = TRAIN) -> Chosen:
    """Takes the runs of one evaluation: the newest, or the newest of a split.

    Runs without predictions on the part are left out; of the test set, so are
    repeats, which all have the same.

    Raises:
        RunError: There is none.
    """
    found, broken = runs.list_runs(reports)
    left_out = [str(error) for error in broken]
    left_out += [
        f"run {run.run_id} failed: {run.record.reason}" for run in found if run.failed
    ]
    found = [run for run in found if not run.failed]
    alike = _alike([run for run in found if not run.record.split.repeat])
    named = [g for g in alike if split in (None, g[0].record.split.name)]
    if not named:
        left_out += [_told(group, None) for group in alike]
        raise RunError(
            f"runs to compare in {reports}" + (f" on split {split}" if split else ""),
            "; ".join(left_out) or "none",
            "Run: featcache train-head -H all"
            + ("" if not split else ", or take another `split`"),
        )
    chosen, damaged = _whole(named[0], part)
    left_out += damaged
    if not chosen:
        raise RunError(
            f"a run in {reports} to judge "
            + ("out-of-fold" if part == TRAIN else "on its test set"),
            "; ".join(left_out).rstrip("."),
            "Train with `force=True`, or take another `split` or `part`.",
        )
    repeats = [run for run in found if run.record.split.repeat and part == TRAIN]
    entries, alone = _with_repeats(chosen, repeats)
    others = [_told(group, chosen[0]) for group in alike if group is not named[0]]
    return Chosen(entries, left_out + alone + others)


def _alike(found: Sequence[Run]) -> list[list[Run]]:
    """Runs by what they were judged on, the newest evaluation and run first."""
    alike: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(found, key=lambda run: run.record.created, reverse=True):
        alike[run.record.evaluation_id].append(run)
    return list(alike.values())


def _whole(group: Sequence[Run], part: str) -> tuple[list[Run], list[str]]:
    """Parts runs whose predictions are whole, and of a part, from the others."""
    whole, left_out = [], []
    for run in group:
        try:
            _refuse_empty(run, part)
            whole.append(run)
        except RunError as error:
            left_out.append(f"{error.expected}: {error.got}. {error.hint}")
    return whole, left_out


def _refuse_empty(run: Run, part: str) -> None:
    """Refuses a run without predictions of a part.

    Raises:
        RunError: It has none, or they are not as its record says.
    """
    if not (run.table["split"] == part).any():
        other = TRAIN if part == TEST else TEST
        raise RunError(
            f"predictions of run {run.run_id} "
            + ("out-of-fold" if part == TRAIN else "on a test set"),
            "none",
            f"See it with `part={other!r}`.",
        )


def _with_repeats(
    chosen: Sequence[Run], repeats: Sequence[Run]
) -> tuple[list[Entry], list[str]]:
    """Gives each run the repeats of its recipe, and tells of those that fit none."""
    entries = {run.record.recipe_id: Entry(run) for run in reversed(chosen)}
    split = chosen[0].record.split.base
    taken: set[tuple[str, int]] = set()
    left_out, alone = [], []
    for run in sorted(repeats, key=lambda run: run.record.created, reverse=True):
        key = run.record.recipe_id, run.record.split.repeat
        if run.record.split.base != split or key in taken:
            continue
        if key[0] not in entries:
            alone.append(run.run_id)
            continue
        try:
            told = differences(entries[key[0]].run, run, folds=False)
        except RunError as error:
            told = [str(error)]
        if told:
            left_out.append(f"run {run.run_id}, a repeat, differs in {', '.join(told)}")
        else:
            taken.add(key)
            entries[key[0]].repeats.append(run)
    if alone:
        left_out.append(
            f"{len(alone)} runs are repeats of runs that are not in the table: "
            + some(alone, 3)
        )
    return list(entries.values())[::-1], left_out


def _told(group: Sequence[Run], chosen: Run | None) -> str:
    """Says of runs that are judged on something else what that is."""
    record, names = group[0].record, some([run.run_id for run in group], 3)
    split = record.split.name
    told = f"{len(group)} runs cannot be compared with these ({{}}): {names}"
    if chosen is None or split != chosen.record.split.name:
        return told.format(f"split {split}; see them with `split={split!r}`")
    return told.format(
        f"they differ in {_difference(group[0], chosen)}, from before images, labels "
        "or groups changed: train them again"
    )


def _difference(run: Run, chosen: Run) -> str:
    try:
        told = differences(run, chosen)
    except RunError as error:
        told = [str(error)]
    return ", ".join(told) or "their evaluation_id"


def changed_labels(run: Run, manifest: Manifest | None) -> list[str]:
    """Says how many images have another label than when a run was made.

    Args:
        run: A run of those that are ranked, which were all made on the same labels.
        manifest: Of the dataset as it is now; None if it is not here.
    """
    if manifest is None:
        return []
    before = run.table.set_index("image_id")["label"]
    now = manifest.ok.set_index("image_id")["label"].reindex(before.index)
    changed = now.notna() & (now != before)
    if not changed.any():
        return []
    pairs = Counter(zip(before[changed], now[changed], strict=True)).most_common()
    texts = [f"{count} from {old} to {new}" for (old, new), count in pairs]
    return [
        f"The labels of {changed.sum()} of {len(before)} images have changed since "
        f"these runs were made ({some(texts, 3)}); the scores are of the labels of "
        "then. Train again to use the new ones."
    ]


def reference(reports: Path, name: str, chosen: Chosen) -> Run:
    """The run that others are to be held against.

    Raises:
        RunError: It is not among the chosen; the error says what differs.
    """
    run = runs.find(reports, name)
    known = [entry.run for entry in chosen.entries]
    if run.run_id in {one.run_id for one in known}:
        return run
    split, base = known[0].record.split.name, run.record.split.base
    if run.failed:
        got, way_out = f"failed: {run.record.reason}", "Name another run."
    elif run.record.split.repeat:
        got = f"is repeat {run.record.split.repeat} of split {base}"
        way_out = "Name the run of the same recipe that the leaderboard shows."
    else:
        got = f"differs in {_difference(run, known[0])}"
        way_out = f"See it with `split={base!r}`, or train it again."
    raise RunError(
        f"`against` a run that was judged as those of split {split}",
        f"{run.run_id}, which {got}",
        way_out,
    )
