"""How a network is to be fine-tuned: every choice, checked."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from featcache.dataset.regions import WHOLE_PICTURE
from featcache.dataset.views import Policy
from featcache.errors import UsageError

HEADS = ("softmax", "mlp", "mlp-dropout")
ADAMW, SGD = "adamw", "sgd"
OPTIMIZERS = {ADAMW: 3e-4, SGD: 1e-3}  # and their learning rate
NONE, BALANCED = "none", "balanced"
CLASS_WEIGHTS = (NONE, BALANCED)
AUTO, ON, OFF = "auto", "on", "off"
PRECISIONS = (AUTO, ON, OFF)
ALL, TEST = "all", "test"
FOLDS = (ALL, TEST)


@dataclass(frozen=True)
class Settings:
    """What decides a fine-tuned network beside its images; see ``finetune``.

    Attributes:
        policy: The recipe of the views that are trained on.
    """

    head: str
    unfreeze: str
    gradual: int
    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    layer_decay: float
    warmup: float
    clip: float
    label_smoothing: float
    class_weight: str
    validation: float
    patience: int
    ema: float
    tta: int
    mixed_precision: str
    seed: int
    policy: Policy

    @classmethod
    def of(cls, given: dict[str, Any], policy: Policy) -> "Settings":
        """Takes the arguments of ``finetune``, and fills in what depends on others.

        Raises:
            UsageError: One that can never work.
        """
        rate = given["learning_rate"]
        if rate is None:
            rate = OPTIMIZERS.get(given["optimizer"], 1.0)  # which is checked below
        names = [name for name in cls.__dataclass_fields__ if name != "policy"]
        chosen = {name: given[name] for name in names} | {"learning_rate": rate}
        made = cls(**chosen, policy=policy)
        _check(made)
        return made if not policy.is_identity else replace(made, tta=0)

    @property
    def views(self) -> int:
        """Views of an image that are trained on at most: a new one each epoch."""
        return 0 if self.policy.is_identity else self.epochs

    def view(self, epoch: int) -> int:
        """The view that an epoch, from 1, trains on."""
        return 0 if self.policy.is_identity else epoch

    def differing(self, usual: "Settings") -> list[str]:
        """In words, what is not as usual; all but the seed, which is the split's."""
        now, then = asdict(self), asdict(usual)
        now |= {k: getattr(self.policy, k) for k in vars(self.policy) if k != "seed"}
        then |= {k: getattr(usual.policy, k) for k in vars(self.policy) if k != "seed"}
        then["learning_rate"] = OPTIMIZERS[self.optimizer]
        apart = {"seed", "policy"}
        return [
            f"{key.replace('_', ' ')} {_spelled(value)}"
            for key, value in now.items()
            if key not in apart and value != then[key]
        ]

    def params(self) -> dict[str, Any]:
        """All of them, as a run's record keeps them."""
        return asdict(self) | {"policy": self.policy.to_dict()}


_CHOICES: dict[str, Sequence[str]] = {
    "head": HEADS,
    "optimizer": tuple(OPTIMIZERS),
    "class_weight": CLASS_WEIGHTS,
    "mixed_precision": PRECISIONS,
}
_SMALLEST = math.ulp(0.0)  # above 0
_BELOW_1 = math.nextafter(1, 0)
_BOUNDS: dict[str, tuple[float, float, str]] = {
    **dict.fromkeys(("epochs", "batch_size", "patience"), (1, math.inf, "1 or more")),
    **dict.fromkeys(
        ("gradual", "tta", "weight_decay", "warmup", "clip", "seed"),
        (0, math.inf, "0 or more"),
    ),
    **dict.fromkeys(("label_smoothing", "ema"), (0, _BELOW_1, "0 or more, below 1")),
    "learning_rate": (_SMALLEST, math.inf, "more than 0"),
    "layer_decay": (_SMALLEST, 1, "more than 0, at most 1"),
    "validation": (0, 0.5, "0 to 0.5"),
}


def _check(made: Settings) -> None:
    if made.policy.region != WHOLE_PICTURE:
        raise UsageError(
            "whole pictures", f"--region {made.policy.region.kind}", "Leave it out."
        )
    for name, allowed in _CHOICES.items():
        if getattr(made, name) not in allowed:
            raise _misfit(made, name, ", ".join(allowed))
    for name, (low, high, words) in _BOUNDS.items():
        if not low <= getattr(made, name) <= high:
            raise _misfit(made, name, words)


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return "-".join(map(_spelled, value)) if isinstance(value, tuple) else str(value)


def _misfit(made: Settings, name: str, words: str) -> UsageError:
    flag = name.replace("_", "-")
    return UsageError(
        f"--{flag} {words}", repr(getattr(made, name)), "Give another, or leave it out."
    )
