"""What a study would do, step by step, without doing any of it."""

from collections.abc import Iterator
from typing import Any

from featcache.backbones import IMAGENET, Backbone, Network, find_weights
from featcache.study.base import Ensemble, Extract, Finetune, Source, Study, Train
from featcache.study.members import spelled


def steps(study: Study) -> list[dict[str, Any]]:
    """The steps of a study in their order.

    Returns:
        One dictionary a step: ``step`` (scan, extract, train, finetune, ensemble,
        compare), ``name``, and its arguments.
    """
    settings = dict(study.dataset)
    scan = {"step": "scan", "name": str(settings.pop("source")), **settings}
    return [
        scan,
        *(_extract(block) for block in study.extracts),
        *(_train(block) for block in study.trains),
        *(_finetune(block) for block in study.finetunes),
        *(_ensemble(block) for block in study.ensembles),
        {"step": "compare", "name": study.name, **study.report},
        *_looks(study),
    ]


def _looks(study: Study) -> Iterator[dict[str, Any]]:
    """The audit and the maps, where they are asked for."""
    if study.audit is not None:
        yield {"step": "audit", "name": study.name, **study.audit}
    if study.explain:
        named = study.explain.run
        name = spelled(named) if named else "the best run"
        yield {"step": "explain", "name": name, **study.explain.settings}


def _extract(block: Extract) -> dict[str, Any]:
    views = {"policy": block.policy.to_dict()} if block.views else {}
    return {
        "step": "extract",
        "name": block.name,
        "backbones": [
            f"{Source(block.name, n).label} ({n.weights})" for n in block.networks
        ],
        "preprocess": list(dict.fromkeys(n.preprocess for n in block.networks)),
        **block.settings,
        **views,
        "to_download": [n.name for n in block.networks if _not_here(n)],
    }


def _not_here(network: Network) -> bool:
    if network.weights != IMAGENET or not isinstance(network.row, Backbone):
        return False
    return find_weights(network.row) is None


def _finetune(block: Finetune) -> dict[str, Any]:
    return {
        "step": "finetune",
        "name": block.name,
        "backbones": [f"{n.name}@{n.input_size} ({n.weights})" for n in block.networks],
        **({"init_head": spelled(block.init_head)} if block.init_head else {}),
        **block.settings,
        "policy": block.policy.to_dict(),
    }


def _train(block: Train) -> dict[str, Any]:
    sets = [
        "+".join(source.label for source in feature_set) for feature_set in block.sets
    ]
    return {"step": "train", "name": block.name, "on": sets, **block.settings}


def _ensemble(block: Ensemble) -> dict[str, Any]:
    return {
        "step": "ensemble",
        "name": block.name,
        "members": [spelled(member) for member in block.members],
        **block.settings,
    }
