"""What a study would do, step by step, without doing any of it."""

from typing import Any

from featcache.backbones import IMAGENET, Backbone, Network, find_weights
from featcache.study.base import Extract, Finetune, Source, Study, Train
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
        *(_extract(asked) for asked in study.extracts),
        *(_train(asked) for asked in study.trains),
        *(_finetune(asked) for asked in study.finetunes),
        *(
            {
                "step": "ensemble",
                "name": several.name,
                "members": [spelled(member) for member in several.members],
                **several.settings,
            }
            for several in study.ensembles
        ),
        {"step": "compare", "name": study.name, **study.report},
    ]


def _extract(asked: Extract) -> dict[str, Any]:
    views = {"policy": asked.policy.to_dict()} if asked.views else {}
    return {
        "step": "extract",
        "name": asked.name,
        "backbones": [
            f"{Source(asked.name, n).label} ({n.weights})" for n in asked.networks
        ],
        "preprocess": list(dict.fromkeys(n.preprocess for n in asked.networks)),
        **asked.settings,
        **views,
        "to_download": [n.name for n in asked.networks if _not_here(n)],
    }


def _not_here(network: Network) -> bool:
    if network.weights != IMAGENET or not isinstance(network.row, Backbone):
        return False
    return find_weights(network.row) is None


def _finetune(asked: Finetune) -> dict[str, Any]:
    return {
        "step": "finetune",
        "name": asked.name,
        "backbones": [f"{n.name}@{n.input_size} ({n.weights})" for n in asked.networks],
        **({"init_head": spelled(asked.init_head)} if asked.init_head else {}),
        **asked.settings,
        "policy": asked.policy.to_dict(),
    }


def _train(asked: Train) -> dict[str, Any]:
    sets = ["+".join(source.label for source in chosen) for chosen in asked.sets]
    return {"step": "train", "name": asked.name, "on": sets, **asked.settings}
