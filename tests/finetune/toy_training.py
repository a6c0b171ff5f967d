"""What the tests of fine-tuning share: quick options, settings, images, a run."""

from dataclasses import dataclass
from typing import Any

from featcache.commands.finetune.inputs import Images
from featcache.dataset.manifest import Manifest
from featcache.dataset.views import Policy, Resize
from featcache.evaluation import runs

QUICK = {"epochs": 2, "batch_size": 8, "folds": 2, "learning_rate": 0.01, "tta": 1}
OPTIONS = {
    "head": "mlp-dropout", "ema": 0.5, "epochs": 3, "validation": 0.5, "patience": 3,
    "batch_size": 4, "gradual": 1, "calibrate": False,
}  # fmt: skip


@dataclass(frozen=True)
class Undisturbed:
    """A run on two folds and the test part, and what was told meanwhile."""

    run: runs.Run
    told: list[str]
    ticks: list[tuple[str, int, int]]


def images(dataset: Manifest, **given: Any) -> Images:
    return Images(
        **{"dataset": dataset, "resize": Resize(32), "policy": Policy(), **given}
    )
