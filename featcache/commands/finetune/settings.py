"""How a network is to be fine-tuned: every choice, checked."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
class FinetuneSettings:
    """How a network is fine-tuned, whatever its images and its split.

    Attributes:
        head: Shape of a head that is not a run's: "softmax", "mlp" or "mlp-dropout".
        unfreeze: What is trained beside the head: "all", "last-N-blocks", the name of
            a layer (with all behind it), or "none".
        gradual: Epochs after which each further block, from the last on, begins to
            learn; 0 for all at once.
        epochs: Most passes over the training images.
        batch_size: Images a step; on several GPUs, of all together.
        optimizer: "adamw", or "sgd" (momentum 0.9, nesterov) as in the study.
        learning_rate: Of the head, at its highest; by default 3e-4, for sgd 1e-3.
        weight_decay: Share of itself, times the rate, that a weight loses at a step.
        layer_decay: Factor of the rate from block to block, from the head down.
        warmup: Epochs in which the rate rises; then it falls along a cosine.
        clip: Largest norm of all gradients together; 0 for any.
        label_smoothing: Share of the truth that is spread over all classes.
        class_weight: "balanced" gives rare classes larger weights; "none".
        validation: Share of the training images, whole groups, to stop early by; 0
            trains to the end.
        patience: Epochs without a better validation loss before stopping.
        ema: Keep a moving average of the weights with this momentum, such as 0.99;
            0 for none.
        policy: The recipe of the views, a new one each epoch; by default the study's.
        tta: Predict as the mean over the plain view and this many further ones.
        mixed_precision: Compute in float16: "auto" does on GPUs; "on", "off".
        seed: Of the head and the order of the images.

    Raises:
        UsageError: One that can never work.
    """

    head: str = "softmax"
    unfreeze: str = "all"
    gradual: int = 0
    epochs: int = 30
    batch_size: int = 32
    optimizer: str = ADAMW
    learning_rate: float | None = None
    weight_decay: float = 0.01
    layer_decay: float = 0.7
    warmup: float = 1.0
    clip: float = 1.0
    label_smoothing: float = 0.05
    class_weight: str = NONE
    validation: float = 0.1
    patience: int = 6
    ema: float = 0.0
    tta: int = 2
    mixed_precision: str = AUTO
    seed: int = 0
    policy: Policy = Policy()

    def __post_init__(self) -> None:
        _check(self)
        if self.policy.is_identity:  # all views would be alike
            object.__setattr__(self, "tta", 0)

    @property
    def rate(self) -> float:
        """The learning rate, where none is given that of the optimizer."""
        usual = OPTIMIZERS[self.optimizer]
        return usual if self.learning_rate is None else self.learning_rate

    @property
    def views(self) -> int:
        """Views of an image that are trained on at most: a new one each epoch."""
        return 0 if self.policy.is_identity else self.epochs

    def view(self, epoch: int) -> int:
        """The view that an epoch, from 1, trains on."""
        return 0 if self.policy.is_identity else epoch

    def differing(self) -> list[str]:
        """In words, what is not as usual; all but the seed, which is the split's."""
        usual = FinetuneSettings()
        now, then = asdict(self), asdict(usual)
        now |= {k: getattr(self.policy, k) for k in vars(self.policy) if k != "seed"}
        then |= {k: getattr(usual.policy, k) for k in vars(self.policy) if k != "seed"}
        now["learning_rate"] = self.rate
        then["learning_rate"] = OPTIMIZERS[self.optimizer]
        apart = {"seed", "policy"}
        return [
            f"{key.replace('_', ' ')} {_spelled(value)}"
            for key, value in now.items()
            if key not in apart and value != then[key]
        ]

    def params(self) -> dict[str, Any]:
        """All of them, as a run's record keeps them."""
        return asdict(self) | {
            "learning_rate": self.rate,
            "policy": self.policy.to_dict(),
        }


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
    **dict.fromkeys(
        ("label_smoothing", "ema"), (0, _BELOW_1, "at least 0 and below 1")
    ),
    "learning_rate": (_SMALLEST, math.inf, "above 0"),
    "layer_decay": (_SMALLEST, 1, "above 0 and at most 1"),
    "validation": (0, 0.5, "between 0 and 0.5"),
}


def _check(settings: FinetuneSettings) -> None:
    if settings.policy.region != WHOLE_PICTURE:
        raise UsageError(
            "networks can only be fine-tuned on whole images, not on "
            f"`region={settings.policy.region.kind!r}`",
            "Omit it.",
        )
    for name, allowed in _CHOICES.items():
        if getattr(settings, name) not in allowed:
            raise _misfit(settings, name, " or ".join(allowed))
    for name, (low, high, words) in _BOUNDS.items():
        value = settings.rate if name == "learning_rate" else getattr(settings, name)
        if not low <= value <= high:
            raise _misfit(settings, name, words)


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return "-".join(map(_spelled, value)) if isinstance(value, tuple) else str(value)


def _misfit(settings: FinetuneSettings, name: str, words: str) -> UsageError:
    return UsageError(
        f"`{name}` to be {words}",
        repr(getattr(settings, name)),
        "Use another value, or omit it.",
    )
