"""How long a study takes and how much disk it needs, before it starts: roughly."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featcache import features
from featcache.backbones import Network, weights_key
from featcache.commands.extract import find_store
from featcache.commands.finetune import finetune
from featcache.commands.finetune.plan import plan_run
from featcache.commands.finetune.settings import TEST
from featcache.commands.train_head import plan_call, train_head
from featcache.commands.train_head.forecast import (
    Bounds,
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
from featcache.errors import FeatcacheError, StoreError
from featcache.evaluation import runs
from featcache.evaluation.record import RunRecord
from featcache.features import split_path
from featcache.features.extractions import Extraction, read_extractions
from featcache.features.store import open_store
from featcache.study import guesses
from featcache.study.base import Extract, Finetune, Source, Study, Train
from featcache.study.training_rows import training_rows

# While a network is trained: its model, and the checkpoint with its best weights, its
# weights and two numbers of the optimizer for each.
_COPIES = 5
_FIT_BYTES = 2**19  # of a run, for each of its fits: predictions and the model


@dataclass
class Cost:
    """What is to be done of one kind, and its seconds.

    Attributes:
        count: How much.
        seconds: At most.
        is_guess: Whether some of it was never timed.
    """

    count: int = 0
    seconds: float = 0.0
    is_guess: bool = False

    def add(self, count: int, each: float | None, guess: float) -> None:
        """Adds work of which one takes so long, or is guessed to."""
        self.count += count
        self.seconds += count * (guess if each is None else each)
        self.is_guess |= each is None and count > 0

    @property
    def time(self) -> str:
        """Its time in words."""
        word = "at a guess" if self.is_guess else "about"
        return f"{word} {duration(self.seconds)}"


@dataclass
class Disk:
    """Bytes that a study will need.

    Attributes:
        embeddings: Of embeddings, and of nothing else.
        others: Of inner layers, taken to be as wide, converted networks, runs, and
            networks being trained.
    """

    embeddings: int = 0
    others: int = 0


def forecast(
    study: Study, data: Manifest, reports: Path, jobs: int | None = None
) -> str:
    """What a study has to compute, its time, and the disk that it needs.

    Networks that were run in this cache before, and heads and networks that were
    trained in these reports, take what they took then; other times are guesses.

    Args:
        study: What is done.
        data: Its dataset, as it was scanned.
        reports: The folder of runs of all datasets.
        jobs: Parallel processes for the heads; by default one a core.

    Raises:
        StoreError: The embeddings alone do not fit on the disk.
    """
    disk = Disk()
    rows = _extractions(study, data, disk)
    is_training = study.trains or study.finetunes
    past = list(past_records(reports.glob("[!.]*/"))) if is_training else []
    fits = _fits_cost(study, data, past, reports, jobs or os.cpu_count() or 1)
    disk.others += fits.count * _FIT_BYTES
    networks = _finetunes_cost(study, data, past, reports, disk)
    parts = [f"{len(data.ok)} images"]
    if rows.count:
        parts.append(f"{rows.count} embeddings to compute ({rows.time})")
    if fits.count:
        what = counted(fits.count, "fit")
        parts.append(f"at most {what} of heads to do ({fits.time})")
    elif study.trains:
        parts.append("all heads are trained")
    if networks.count:
        what = counted(networks.count, "network")
        parts.append(f"{what} to fine-tune ({networks.time} without early stopping)")
    kinds = [cost for cost in (rows, fits, networks) if cost.count]
    if len(kinds) > 1:
        whole = Cost(0, sum(cost.seconds for cost in kinds))
        whole.is_guess = any(cost.is_guess for cost in kinds)
        parts.append(f"in all {whole.time}")
    return "; ".join([*parts, *_room(disk, data.folder)])


def _room(disk: Disk, folder: Path) -> list[str]:
    """What is needed of the disk, and what it has."""
    need, free = disk.embeddings + disk.others, shutil.disk_usage(folder).free
    if disk.embeddings > free:
        raise StoreError(
            f"{_size(disk.embeddings)} of disk for the embeddings of this study",
            f"{_size(free)} free in {folder}",
            "Free some space, put `cache` on another disk, or ask for fewer views; "
            '`dtype="float16"` halves the space.',
        )
    if not need:
        return []
    text = f"up to {_size(need)} of disk, {_size(free)} free"
    return [f"{text}: that may not be enough" if need > free else text]


def _size(size: int) -> str:
    """Bytes in words."""
    if size < 2**30:
        return f"{size / 2**20:.1f} MiB"
    return f"{size / 2**30:.1f} GiB"


@dataclass
class _Planned:
    """What a study will have stored of one network when a block begins."""

    rows: int = 0
    taps: set[str] = field(default_factory=set)


def _extractions(study: Study, data: Manifest, disk: Disk) -> Cost:
    """The rows to compute; blocks of the same network share theirs."""
    cost, rates = Cost(), _measured(data.folder.parent)
    planned: dict[tuple[Network, str], _Planned] = {}
    for block in study.extracts:
        for network in block.networks:
            key = (network, block.dtype)
            if key not in planned:
                planned[key] = _stored(data, network, block.dtype)
            new = _new_rows(len(data.ok), block, network, planned[key], disk)
            each = rates.get((network.name, network.input_size))
            cost.add(new, each, guesses.embedding_seconds(network))
    return cost


def _new_rows(
    images: int, block: Extract, network: Network, stored: _Planned, disk: Disk
) -> int:
    """The rows of a block that are not stored, which then are."""
    rows, taps = images * (block.views + 1), {*block.taps(network)}
    new = max(0, rows - stored.rows)
    size = guesses.width(network) * (2 if block.dtype == "float16" else 4)
    disk.embeddings += new * size
    new_taps = taps - stored.taps
    disk.others += rows * len(new_taps) * size
    if (new or new_taps) and not network.is_baseline:
        disk.others += guesses.weights_bytes(network)
    stored.rows = max(rows, stored.rows)
    stored.taps |= taps
    return rows if new_taps else new


def _stored(data: Manifest, network: Network, dtype: str) -> _Planned:
    with suppress(FeatcacheError, OSError):
        path = find_store(data, network, dtype=dtype)
        if path:
            opened = open_store(path)
            return _Planned(len(opened.keys), {*opened.dims})
    return _Planned()


def _measured(cache: Path) -> dict[tuple[str, int], float]:
    """Seconds an embedding took, by name and input size; the newest call counts."""
    return {
        (one.backbone, one.input_size): one.seconds * _share(extraction) / one.computed
        for folder in sorted(cache.glob("[!.]*/"))
        for extraction in read_extractions(folder)
        for one in extraction.stores
        if one.computed and np.isfinite(one.seconds)
    }


def _share(extraction: Extraction) -> float:
    """What part of the time of each network of a call is its own.

    Networks that are run side by side each take the time of all.
    """
    spent = sum(one.seconds for one in extraction.stores)
    known = spent > 0 and extraction.seconds > 0
    return min(1.0, extraction.seconds / spent) if known else 1.0


def _fits_cost(
    study: Study, data: Manifest, past: Sequence[RunRecord], reports: Path, jobs: int
) -> Cost:
    """The fits that are not done, and the time that they may take."""
    timings = Timings(past)
    fits = [fit for block in study.trains for fit in _fits(study, block, data, reports)]
    if not fits:
        return Cost()
    bounds = {fit: timings.bounds(fit) for fit in {*fits}}
    guessed = {fit for fit in bounds if bounds[fit].high == float("inf")}
    for fit in guessed:
        bounds[fit] = Bounds(0.0, guesses.fit_seconds(fit))
    time = together([bounds[fit] for fit in fits], jobs)
    return Cost(len(fits), time.high, bool(guessed))


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
    widths = [guesses.width(source.network) for source in sources]
    rows = len(data.ok) * (options.views + 1)
    for name in names:
        effort = Effort.of(options.describe(name, widths), rows, sum(widths))
        yield from [effort] * ((split.folds + 1) * split.repeats)


def _finetunes_cost(
    study: Study,
    data: Manifest,
    past: Sequence[RunRecord],
    reports: Path,
    disk: Disk,
) -> Cost:
    """The networks to fine-tune, and the time that they may take."""
    cost = Cost()
    rates = {
        (one.backbone, one.input_size): _seconds_of_epoch(one) / one.n_images
        for one in past
        if sum(training.epochs for training in one.trainings)
    }
    for block in study.finetunes:
        for network in block.networks:
            call = arguments(finetune, block.settings | {"policy": block.policy})
            head = _init_head(study, data, reports, block, network)
            if _is_done(data, reports, network, head, call):
                continue
            trainings = 1 if call.get("fold") == TEST else call["split"].folds + 1
            images = len(data.ok) * trainings * call["settings"].epochs
            each = rates.get((network.name, network.input_size))
            guess = images * guesses.training_seconds(network)
            guess += trainings * guesses.BUILDING
            cost.add(1, None if each is None else images * each, guess)
            disk.others += _COPIES * guesses.weights_bytes(network)
    return cost


def _init_head(
    study: Study, data: Manifest, reports: Path, block: Finetune, network: Network
) -> str | None:
    """The run whose head a network starts from; empty if there is none yet."""
    if not block.init_head:
        return None
    name, head = block.init_head
    (train,) = (one for one in study.trains if one.name == name)
    for sources in train.sets:
        own = [(one.network.name, one.network.input_size) for one in sources]
        if own == [(network.name, network.input_size)]:
            rows = training_rows(study, train, sources)
            call = arguments(train_head, train.settings | rows)
            plans = _plans(study, data, reports, sources, call) or ()
            ids = [p.folder.name for p in plans if head in (None, p.record.head)]
            return ids[0] if len(ids) == 1 else ""
    return ""


def _is_done(
    data: Manifest,
    reports: Path,
    network: Network,
    head: str | None,
    call: Mapping[str, Any],
) -> bool:
    """Whether a network is trained."""
    split, settings, fold = call["split"], call["settings"], call.get("fold", "all")
    with suppress(FeatcacheError, OSError):
        dataset = split.narrow(data)
        is_here = weights_key(network) is not None and head != ""
        if is_here and split_path(dataset, split).is_file():
            plan = plan_run(
                dataset,
                network,
                reports=reports,
                settings=settings,
                split=features.draw_split(dataset, split),
                init_head=head,
                named_split=split.split,
                fold=fold,
                calibrate=call.get("calibrate", True),
                minutes=call.get("max_minutes"),
            )
            return plan.done is not None
    return False


def _seconds_of_epoch(record: RunRecord) -> float:
    epochs = sum(one.epochs for one in record.trainings)
    return 60 * sum(one.minutes for one in record.trainings) / epochs
