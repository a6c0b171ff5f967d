"""How long a study takes and how much disk it needs, before it starts: roughly."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from featcache.backbones import Network
from featcache.commands.extract import find_store
from featcache.core.text import duration
from featcache.dataset.manifest import Manifest
from featcache.errors import FeatcacheError
from featcache.features.extractions import read_extractions
from featcache.features.store import open_store
from featcache.heads import HEADS
from featcache.study.base import Study

# Seconds for an image of 224 px, where a network was never run here; without a network.
_GUESS, _GUESS_PLAIN = 0.02, 0.002


def forecast(study: Study, data: Manifest) -> str:
    """The rows that a study has to compute, their time and bytes, and its fits.

    Networks that were run in this cache before take what they took then; others are
    guessed from their input size.

    Args:
        study: What is done.
        data: Its dataset, as it was scanned.
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
            size += missing * 4 * (network.row.dim if network.row else 1000)
    free = shutil.disk_usage(data.folder).free
    parts = [f"{len(data.ok)} images"]
    if rows:
        words = "roughly " if not guessed else "a guess: "
        parts.append(
            f"{rows} embeddings to compute ({words}{duration(seconds)}, "
            f"{size / 2**20:.1f} MiB of {free / 2**30:.0f} GiB free)"
        )
    fits = sum(_fits(study))
    parts += [f"at most {fits} fits of heads"] if fits else []
    parts += [f"{sum(len(b.networks) for b in study.finetunes)} networks to fine-tune"]
    return "; ".join(parts if study.finetunes else parts[:-1])


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


def _fits(study: Study) -> Iterator[int]:
    """Fits of each [[train]]: heads by sets, folds and the refit, and repeats."""
    for block in study.trains:
        heads = block.settings.get("heads", ("all",))
        count = len(HEADS) if "all" in heads else len(heads)
        folds = int(block.settings.get("folds", 5)) + 1
        yield count * len(block.sets) * folds * int(block.settings.get("repeats", 1))
