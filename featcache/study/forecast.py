"""How long a study takes and how much disk it needs, before it starts: roughly."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from featcache.backbones import Network
from featcache.commands.extract import find_store
from featcache.commands.finetune.settings import FinetuneSettings
from featcache.commands.train_head.forecast import Forecast, cost
from featcache.commands.train_head.plan import baseline_heads
from featcache.core.text import counted, duration
from featcache.dataset.manifest import Manifest
from featcache.errors import FeatcacheError
from featcache.evaluation import runs
from featcache.evaluation.record import RunRecord
from featcache.features.extractions import read_extractions
from featcache.features.store import open_store
from featcache.heads import HEADS
from featcache.study.base import Finetune, Source, Study, Train

# Seconds for an image of 224 px, where a network was never run here; without a network.
_GUESS, _GUESS_PLAIN = 0.02, 0.002
_GUESS_FIT = 5e-7  # seconds for a cost of one on one row, where no head was ever fitted
_WIDTH = 1000  # of an embedding, where it is not known


def forecast(
    study: Study, data: Manifest, reports: Path, jobs: int | None = None
) -> str:
    """The rows that a study has to compute, their time and bytes, and its fits.

    Networks that were run in this cache before, and heads and networks that were
    trained in these reports, take what they took then; others are guessed.

    Args:
        study: What is done.
        data: Its dataset, as it was scanned.
        reports: The folder of runs of all datasets.
        jobs: Parallel processes for the heads; by default one a core.
    """
    rates = _measured(data.folder.parent)
    rows, seconds, size, guessed = 0, 0.0, 0.0, []
    for block in study.extracts:
        for network in block.networks:
            stored = _stored_rows(data, network, str(block.settings.get("dtype", "")))
            missing = max(0, len(data.ok) * (block.views + 1) - stored)
            rows += missing
            rate = rates.get((network.name, network.input_size))
            if rate is None and missing:
                guessed.append(network.name)
            seconds += missing * (_guess(network) if rate is None else rate)
            size += missing * 4 * _width(network)
    free = shutil.disk_usage(data.folder).free
    parts = [f"{len(data.ok)} images"]
    if rows:
        words = "roughly " if not guessed else "a guess: "
        parts.append(
            f"{rows} embeddings to compute ({words}{duration(seconds)}, "
            f"{size / 2**20:.1f} MiB of {free / 2**30:.0f} GiB free)"
        )
    past = list(_past(reports)) if study.trains or study.finetunes else []
    parts += _fits_text(study, data, past, jobs) + _finetunes_text(study, data, past)
    return "; ".join(parts)


def _measured(cache: Path) -> dict[tuple[str, int], float]:
    """Seconds an embedding took, by name and input size; the newest call counts."""
    return {
        (one.backbone, one.input_size): one.seconds / one.computed
        for folder in sorted(cache.glob("[!.]*/"))
        for extraction in read_extractions(folder)
        for one in extraction.stores
        if one.computed and np.isfinite(one.seconds)
    }


def _guess(network: Network) -> float:
    if network.is_baseline:
        return _GUESS_PLAIN
    return _GUESS * (network.input_size / 224) ** 2


def _stored_rows(data: Manifest, network: Network, dtype: str) -> int:
    with suppress(FeatcacheError, OSError):
        path = find_store(data, network, dtype=dtype or "float32")
        return len(open_store(path).keys) if path else 0
    return 0


def _width(network: Network) -> int:
    return network.row.dim if network.row else _WIDTH


def _past(reports: Path) -> Iterator[RunRecord]:
    """The runs of all datasets that were trained and can be read."""
    for folder in sorted(reports.glob("[!.]*/")):
        for run in runs.list_runs(folder)[0]:
            if not run.failed and not run.record.members:
                yield run.record


def _fits_text(
    study: Study, data: Manifest, past: Sequence[RunRecord], jobs: int | None
) -> list[str]:
    """The number of fits, and the time that they may take."""
    new = [fit for block in study.trains for fit in _fits(study, block, data)]
    if not new:
        return []
    ended = [_ended(record) for record in past if not record.trainings]
    words = "roughly" if ended else "a guess:"
    ended = ended or [("", 1.0, _GUESS_FIT)]
    efforts = [(head, effort) for head, effort, _ in ended] + new
    rates = Forecast(
        [head for head, _ in efforts],
        [effort for _, effort in efforts],
        jobs or os.cpu_count() or 1,
        {number: seconds for number, (*_, seconds) in enumerate(ended)},
    )
    time = f"{words} {duration(rates.remaining())}"
    return [f"at most {counted(len(new), 'fit')} of heads ({time})"]


def _ended(record: RunRecord) -> tuple[str, float, float]:
    """Head, cost and seconds of all fits of a run together."""
    seconds = [record.fit_seconds, *record.fold_seconds]
    columns = sum(block.dim for block in record.features)
    rows = record.n_images * (record.views + 1)
    effort = cost(record.head, columns) * rows * len(seconds)
    return record.head, effort, sum(seconds)


def _fits(study: Study, block: Train, data: Manifest) -> Iterator[tuple[str, float]]:
    """Head and cost of each fit of a ``[[train]]``: folds and the refit, repeated."""
    named = block.settings.get("heads", ("all",))
    every = list(HEADS) if "all" in named else list(named)
    folds = int(block.settings.get("folds", 5)) + 1
    count = folds * int(block.settings.get("repeats", 1))
    for sources in block.sets:
        plain = all(source.network.is_baseline for source in sources)
        columns = sum(_width(source.network) for source in sources)
        rows = len(data.ok) * (_views(study, block, sources) + 1)
        for head in baseline_heads(named, every) if plain else every:
            yield from [(head, cost(head, columns) * rows)] * count


def _views(study: Study, block: Train, sources: Sequence[Source]) -> int:
    """Augmented views that a ``[[train]]`` trains on."""
    views = block.settings.get("views", "all")
    if views != "all":
        return int(views)
    names = {source.extract for source in sources}
    return min(one.views for one in study.extracts if one.name in names)


def _finetunes_text(
    study: Study, data: Manifest, past: Sequence[RunRecord]
) -> list[str]:
    """The number of networks to fine-tune, and the time that they may take."""
    wanted = [(block, one) for block in study.finetunes for one in block.networks]
    if not wanted:
        return []
    rates = {
        (one.backbone, one.input_size): _seconds_of_epoch(one) / one.n_images
        for one in past
        if one.trainings
    }
    seconds = [
        rates.get((one.name, one.input_size), np.nan) * len(data.ok) * _epochs(block)
        for block, one in wanted
    ]
    text = f"{counted(len(wanted), 'network')} to fine-tune"
    if np.isfinite(seconds).all():
        return [f"{text} (at most {duration(sum(seconds))})"]
    return [f"{text} (each is timed as it starts)"]


def _seconds_of_epoch(record: RunRecord) -> float:
    epochs = sum(one.epochs for one in record.trainings)
    minutes = sum(one.minutes for one in record.trainings)
    return 60 * minutes / epochs if epochs else np.nan


def _epochs(block: Finetune) -> int:
    """Of all its trainings, for the folds and for the test set, at most."""
    settings = block.settings
    folds = 0 if settings.get("fold") == "test" else int(settings.get("folds", 5))
    return (folds + 1) * int(settings.get("epochs", FinetuneSettings().epochs))
