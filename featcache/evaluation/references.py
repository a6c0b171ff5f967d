"""How a person names a run: by its id, its short id, its rank, or a part of its id."""

from collections.abc import Sequence
from pathlib import Path

from featcache.core.text import some
from featcache.dataset import manifest as manifests
from featcache.errors import RunError
from featcache.evaluation import metrics, runs
from featcache.evaluation.identity import SHORTEST, digest_of, ids_in, short_id
from featcache.evaluation.runs import Run
from featcache.evaluation.selection import choose, rank_key

_LISTED = 10  # runs that an error names
_METRIC = "accuracy"  # by which compare ranks where no other is named


def by_rank(reports: Path, split: str | None = None) -> list[str]:
    """The ids of runs in the order in which `compare` ranks them by default.

    Args:
        reports: ``reports/<dataset>``.
        split: Whose runs; by default the newest run's.

    Returns:
        Ids by rank; none where there is nothing to rank.
    """
    try:
        entries = choose(reports, split).entries
    except RunError:
        return []
    keys = []
    for entry in entries:
        part = entry.run.predictions()
        scores = metrics.scores(part.y, part.p)
        keys.append(rank_key(entry.run, scores, _METRIC))
    return [run_id for *_, run_id in sorted(keys)]


def matching(reports: Path, reference: str, split: str | None = None) -> list[str]:
    """The ids of the runs that a reference may mean.

    Args:
        reports: ``reports/<dataset>``.
        reference: The id of a run; else the first digits of its digest, four or more;
            else, if it is a number, its rank; else any part of its id.
        split: The runs of this split alone, or of its repeats.
    """
    names = _on(reports, split)
    exact = [name for name in names if name == reference]
    if not exact and len(reference) >= SHORTEST:
        exact = [name for name in names if digest_of(name).startswith(reference)]
    if not exact and _is_number(reference):
        ranked = by_rank(reports, split)
        exact = ranked[int(reference) - 1 :][:1] if int(reference) else []
        if not exact and len(reference) < SHORTEST:
            return []
    return exact or [name for name in names if reference in name]


def find(reports: Path, reference: str, split: str | None = None) -> Run:
    """Finds a run by its id, short id or rank, or a part of its id that is unique.

    Args:
        reports: ``reports/<dataset>``.
        reference: See `matching`.
        split: The runs of this split alone.

    Raises:
        RunError: No run fits, or several do, which the error lists.
    """
    matches = matching(reports, reference, split)
    if len(matches) == 1:
        return runs.load(reports / "runs" / matches[0])
    on = f" on split {split}" if split else ""
    hint = "featcache compare shows the ranks, and the short ids in the column run."
    if not matches and _is_number(reference) and len(reference) < SHORTEST:
        n = len(by_rank(reports, split))
        raise RunError(
            f"a rank from 1 to {n}{on}" if n else f"ranked runs in {reports}{on}",
            reference,
            hint,
        )
    candidates = [f"{short_id(reports / 'runs' / n)} ({n})" for n in matches[:_LISTED]]
    if len(matches) > _LISTED:
        candidates.append(f"{len(matches) - _LISTED} more")
    raise RunError(
        "the rank or short id of one run, or a unique part of its id",
        f"{reference!r}, which matches {len(matches) or 'none'} of the "
        f"{len(_on(reports, split))} runs{on}"
        + (f": {', '.join(candidates)}" if matches else ""),
        hint,
    )


def dataset_of(
    reports: Path, references: Sequence[str] = (), cache: Path | None = None
) -> str | None:
    """Name of the dataset whose runs are meant, where that is certain.

    It is the only one with runs; of several, the only one with runs that all
    references may mean. A rank says nothing here: every dataset has a first.

    Args:
        reports: The folder of runs of all datasets.
        references: Of runs; see `matching`.
        cache: The cache folder, where the dataset has to be as well.
    """
    names = [
        folder.parent.name
        for folder in sorted(reports.glob("*/runs"))
        if ids_in(folder)
        and (cache is None or (cache / folder.parent.name / "manifest.csv").is_file())
    ]
    ids = [one for one in references if len(one) >= SHORTEST or not _is_number(one)]
    if len(names) > 1 and ids:
        names = [n for n in names if all(matching(reports / n, one) for one in ids)]
    return names[0] if len(names) == 1 else None


def find_dataset(
    cache: Path,
    reports: Path,
    name: str | None = None,
    references: Sequence[str] = (),
) -> Path:
    """The folder in the cache of the dataset whose runs are meant.

    Args:
        cache: The cache folder.
        reports: The folder of runs of all datasets.
        name: Of the dataset; without, see `dataset_of`; else the only dataset.
        references: Of runs.

    Raises:
        DatasetError: No such dataset, none at all, or several to choose from.
    """
    return manifests.find(cache, name or dataset_of(reports, references, cache))


def _is_number(reference: str) -> bool:
    return reference.isascii() and reference.isdigit()


def _on(reports: Path, split: str | None) -> list[str]:
    """The ids of all runs, or of those on a split.

    Raises:
        RunError: No run is on it; the error names the splits that there are.
    """
    if split is None:
        return ids_in(reports / "runs")
    usable, _ = runs.list_runs(reports)
    infos = {run.run_id: run.record.split for run in usable}
    names = [name for name, info in infos.items() if split in (info.name, info.base)]
    if not names:
        splits = sorted({info.name for info in infos.values()})
        raise RunError(
            f"`split` to be one of: {some(splits, _LISTED) or 'none'}",
            repr(split),
            "Choose one, or omit it.",
        )
    return names
