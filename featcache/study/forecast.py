"""How long a study takes and how much disk it needs, before it starts: roughly."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones import Network
from featcache.commands.extract import find_store
from featcache.commands.finetune.settings import FinetuneSettings
from featcache.commands.train_head import plan_call, train_head
from featcache.commands.train_head.forecast import (
    Effort,
    Timings,
    effort_of,
    past_records,
    together,
)
from featcache.commands.train_head.plan import (
    ALL,
    RunPlan,
    baseline_heads,
    head_names,
)
from featcache.core.options import arguments
from featcache.core.text import counted, duration
from featcache.dataset.manifest import Manifest
from featcache.errors import FeatcacheError
from featcache.evaluation import runs
from featcache.evaluation.record import RunRecord
from featcache.features import split_path
from featcache.features.extractions import read_extractions
from featcache.features.store import open_store
from featcache.study.base import Finetune, Source, Study, Train
from featcache.study.training_rows import training_rows

# Seconds for an image of 224 px, where a network was never run here; without a network.
_GUESS, _GUESS_PLAIN = 0.02, 0.002
_WIDTH = 1000  # of an embedding, where it is not known


def forecast(
    study: Study, data: Manifest, reports: Path, jobs: int | None = None
) -> str:
    """The rows that a study has to compute, their time and bytes, and its fits.

    Networks that were run in this cache before, and heads and networks that were
    trained in these reports, take what they took then. The time of other extractions
    is guessed; that of other fits is not told.

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
            stored = _stored_rows(data, network, block.dtype)
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
    is_training = study.trains or study.finetunes
    past = list(past_records(reports.glob("[!.]*/"))) if is_training else []
    parts += _fits_text(study, data, past, reports, jobs or os.cpu_count() or 1)
    parts += _finetunes_text(study, data, past)
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
        path = find_store(data, network, dtype=dtype)
        return len(open_store(path).keys) if path else 0
    return 0


def _width(network: Network) -> int:
    return network.row.dim if network.row else _WIDTH


def _fits_text(
    study: Study, data: Manifest, past: Sequence[RunRecord], reports: Path, jobs: int
) -> list[str]:
    """The number of fits that are not done, and the time that they may take."""
    if not study.trains:
        return []
    timings = Timings(past)
    fits = [fit for block in study.trains for fit in _fits(study, block, data, reports)]
    if not fits:
        return ["all heads are trained"]
    time = together(map(timings.bounds, fits), jobs).text or "never timed here"
    return [f"at most {counted(len(fits), 'fit')} of heads to do ({time})"]


def _fits(
    study: Study, block: Train, data: Manifest, reports: Path
) -> Iterator[Effort]:
    """Each fit of a ``[[train]]`` that is not done."""
    for sources in block.sets:
        rows = training_rows(study, block, sources)
        call = arguments(train_head, block.settings | rows)
        plans = _plans(study, data, reports, sources, call)
        if plans is None:
            yield from _all_fits(data, sources, call)
        for plan in plans or ():
            if not runs.is_done(plan.folder):
                yield from [effort_of(plan.record)] * len(plan.parts)


def _plans(
    study: Study,
    data: Manifest,
    reports: Path,
    sources: Sequence[Source],
    call: Mapping[str, Any],
) -> list[RunPlan] | None:
    """The runs on a feature set; None without its features, when none can be done."""
    split, dtypes = call["split"], {one.name: one.dtype for one in study.extracts}
    with suppress(FeatcacheError, OSError):
        dataset = split.narrow(data)
        paths = [find_store(data, s.network, dtype=dtypes[s.extract]) for s in sources]
        stems = [path.stem for path in paths if path]
        if len(stems) == len(paths) and split_path(dataset, split).is_file():
            heads, names = call.get("heads", (ALL,)), ["+".join(stems)]
            return plan_call(dataset, reports, names, heads, call["options"], split)
    return None


def _all_fits(
    data: Manifest, sources: Sequence[Source], call: Mapping[str, Any]
) -> Iterator[Effort]:
    """Each fit on a feature set: folds and the refit, repeated."""
    heads, options, split = call.get("heads", (ALL,)), call["options"], call["split"]
    names = head_names(heads, options)
    if all(source.network.is_baseline for source in sources):
        names = baseline_heads(heads, names)
    widths = [_width(source.network) for source in sources]
    rows = len(data.ok) * (options.views + 1)
    for name in names:
        effort = Effort.of(options.describe(name, widths), rows, sum(widths))
        yield from [effort] * ((split.folds + 1) * split.repeats)


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
    text = f"{counted(len(wanted), 'network')} to fine-tune, unless done"
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
