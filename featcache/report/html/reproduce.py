"""From a run's record back to the command lines that make the run."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featcache.commands.finetune import finetune
from featcache.core.options import parameters
from featcache.dataset.manifest import Manifest, Settings
from featcache.evaluation.record import FeatureBlock, RunRecord
from featcache.features.extractions import Extraction, network_words
from featcache.features.store import (
    Store,
    network_options,
    recipe_options,
    seed_options,
    tap_options,
)
from featcache.report.html.context import store_names

_ELSEWHERE = {"policy", "seed", "init_head"}  # words of their own say these
_PLAIN = {"flip": False, "brightness": (1.0, 1.0), "zoom": (1.0, 1.0)}


@dataclass(frozen=True)
class Known:
    """What can be looked up; what cannot becomes a word in capitals.

    Attributes:
        manifest: The dataset, which knows its source.
        stores: Its feature stores by file name, which know their contracts.
        extracts: Records of the calls of extract, which know the files of networks.
        records: Records of further runs by run_id, for the members of an ensemble.
    """

    manifest: Manifest | None = None
    stores: Mapping[str, Store] = field(default_factory=dict)
    extracts: Sequence[Extraction] = ()
    records: Mapping[str, RunRecord] = field(default_factory=dict)

    @property
    def settings(self) -> Settings | None:
        """How the dataset was scanned, where that is known."""
        return self.manifest.settings if self.manifest else None


def commands(record: RunRecord, known: Known, *, repeats: int = 1) -> list[str]:
    """The command lines that make a run, in their order.

    Args:
        record: Its run.json.
        known: Where to look up what the record does not say.
        repeats: How many draws of the folds there are.
    """
    lines = []
    for member in record.members:
        lines += commands(known.records[member], known, repeats=repeats)
    start = known.records.get(record.init_head or "")
    if start:
        lines += commands(start, known, repeats=repeats)
    if record.members:
        lines.append(shlex.join(_ensemble(record)))
    elif record.trainings:
        lines.append(shlex.join(_finetune(record, known)))
    else:
        lines += [shlex.join(words) for words in _extracts(record, known)]
        lines.append(shlex.join(_train(record, known, repeats)))
    return list(dict.fromkeys(lines))


def _extracts(record: RunRecord, known: Known) -> list[list[str]]:
    """A call for each store of a run."""
    by_store: dict[str, list[FeatureBlock]] = {}
    for block in record.features:
        by_store.setdefault(str(block.store), []).append(block)
    return [
        [
            *("featcache", "extract", *_source(record, known.manifest)),
            *_network(mine[0], known.stores.get(name), known.extracts),
            *_views(record, known.stores.get(name)),
            *mine[0].image_region.options,
            *tap_options([block.tap for block in mine if block.tap]),
        ]
        for name, mine in by_store.items()
    ]


def _source(record: RunRecord, manifest: Manifest | None) -> list[str]:
    if manifest is None:
        return ["SOURCE", "--dataset", record.dataset]
    settings = manifest.settings
    words = [settings.source, "--dataset", manifest.dataset]
    return words + settings.options


def _network(
    block: FeatureBlock, features: Store | None, extracts: Sequence[Extraction]
) -> list[str]:
    """Backbone, weights, and what of the contract is not as usual."""
    words = network_words(block.backbone, block.weights, extracts)
    contract = features.header.contract if features else block
    return words + network_options(contract, block.weights)


def _views(record: RunRecord, features: Store | None) -> list[str]:
    """Augmented views, and the seed of these or of random weights."""
    policy = record.policy
    if record.views and policy:
        return ["--views", str(record.views), *recipe_options(policy)]
    return seed_options(features.header.weights_key) if features else []


def _train(record: RunRecord, known: Known, repeats: int) -> list[str]:
    head_is = record.head_is
    words = ["featcache", "train-head", "--dataset", record.dataset]
    words += ["-b", _features(record), "-H", record.head]
    words += record.features[0].image_region.options
    words += ["--views", str(record.views), *_policy(record, known)]
    if record.taps:
        words += ["--taps", ",".join(record.taps)]
    if "tune" in head_is.params:
        words.append("--tune" if head_is.params["tune"] else "--no-tune")
    if embedding := head_is.embedding:
        words += ["--transform", embedding.transform, "--pca", str(embedding.pca)]
    if record.views:
        words.append("--tta" if record.tta else "--no-tta")
    words += [] if record.calibration else ["--no-calibrate"]
    words += ["--repeats", str(repeats)] if repeats > 1 else []
    return [*words, *record.split_options(known.settings)]


def _finetune(record: RunRecord, known: Known) -> list[str]:
    """A fine-tuned network: what differs from the defaults of `FinetuneSettings`."""
    params = record.head_is.params
    words = ["featcache", "finetune", "--dataset", record.dataset]
    block = record.features[0]
    words += network_words(
        block.backbone, block.weights, known.extracts, file=record.network_file
    )
    words += network_options(block, block.weights)
    if record.init_head:
        words += ["--init-head", record.init_head]
    usual = parameters(finetune)
    for name in sorted(usual.keys() & params.keys() - _ELSEWHERE):
        if params[name] not in (None, usual[name].default):
            words += [f"--{name.replace('_', '-')}", _spelled(params[name])]
    recipe = record.policy or _PLAIN
    words += recipe_options({k: v for k, v in recipe.items() if k != "seed"})
    if record.max_minutes is not None:
        words += ["--max-minutes", f"{record.max_minutes:g}"]
    if not any(training.fold >= 0 for training in record.trainings):
        words += ["--fold", "test"]
    elif not record.calibration:
        words.append("--no-calibrate")
    return [*words, *record.split_options(known.settings)]


def _spelled(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _features(record: RunRecord) -> str:
    """The stores by their file names, which no other store has."""
    names = [Path(name).stem for name in store_names(record)]
    return "+".join(names) or record.backbone


def _policy(record: RunRecord, known: Known) -> list[str]:
    """Which recipe of the store the views are of, where it is not the newest."""
    features = known.stores.get(str(record.features[0].store))
    policies = features.header.policies if features else []
    if not record.views or not record.policy or record.policy in policies[-1:]:
        return []
    return ["--policy", str(policies.index(record.policy))] if policies else []


def _ensemble(record: RunRecord) -> list[str]:
    params = record.head_is.params
    words = ["featcache", "ensemble", *record.members]
    words += ["--dataset", record.dataset]
    words += ["--weights", str(params["weights"])]
    return [*words, "--calibrate" if params["calibrate"] else "--no-calibrate"]
