"""The network that is trained: one flat graph from pixels to probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.backbones import Network, Preprocess, flat
from featcache.backbones.build import map_of
from featcache.backbones.pooling import POOLINGS
from featcache.commands.finetune.optimizer import compiled
from featcache.commands.finetune.settings import ALL, NONE, FinetuneSettings
from featcache.commands.finetune.start import InitialHead
from featcache.core.registry import Registry
from featcache.core.taps import AVG, MAX, split_tap
from featcache.core.tf import seeded, tensorflow
from featcache.errors import UsageError

if TYPE_CHECKING:
    import keras

HEAD = "head_"  # how the names of its layers begin


@dataclass(frozen=True, eq=False)
class Net:
    """A network under training.

    Attributes:
        model: From (N, S, S, 3) uint8 pixels to (N, C) probabilities.
        trainer: The same layers, compiled, to (N, C) logits.
        rates: Factors of the learning rate: of the head, then of each trained block
            from the last to the first.
        depths: Which of them is whose, by trainable weight.
    """

    model: "keras.Model"
    trainer: "keras.Model"
    rates: Any
    depths: list[int]

    @property
    def blocks(self) -> int:
        """Blocks of the backbone that are trained."""
        return max(self.depths)

    @property
    def trainable(self) -> list[Any]:
        """The weights that are trained."""
        return list(self.trainer.trainable_variables)

    @property
    def variables(self) -> list[Any]:
        """Everything that changes in training."""
        return [*self.model.variables, *self.trainer.optimizer.variables]

    def count(self) -> dict[str, int]:
        """Numbers in all weights, and in those that are trained."""
        return {
            "parameters": self.model.count_params(),
            "trainable_parameters": sum(int(np.prod(v.shape)) for v in self.trainable),
        }

    def open(self, epoch: int, settings: FinetuneSettings) -> None:
        """Sets the rates of an epoch, from 1: what is not open yet has rate 0.

        With ``gradual`` = g, the last block opens after g epochs, the one before it
        after 2 g (Howard and Ruder, ACL 2018).
        """
        depths = range(self.blocks + 1)
        self.rates.assign(
            [
                settings.layer_decay**d if epoch > d * settings.gradual else 0.0
                for d in depths
            ]
        )

    def averaged(self) -> list[np.ndarray]:
        """The trainable weights, or their moving averages where these are kept."""
        now = values(self.trainable)
        self.trainer.optimizer.finalize_variable_values(self.trainable)
        averages = values(self.trainable)
        assign(self.trainable, now)
        return averages

    def predict(self, batches: Any) -> np.ndarray:
        """Probabilities, (N, C), of batches of pixels."""
        p = np.asarray(self.model.predict(batches, verbose=0), np.float64)
        return np.asarray(p / p.sum(axis=1, keepdims=True))


def values(variables: Sequence[Any]) -> list[np.ndarray]:
    """The values of variables."""
    return [variable.numpy() for variable in variables]


def assign(variables: Sequence[Any], arrays: Sequence[np.ndarray]) -> None:
    """Gives variables their values."""
    for variable, value in zip(variables, arrays, strict=True):
        variable.assign(value)


def make(
    core: "keras.Model",
    network: Network,
    initial_head: InitialHead,
    settings: FinetuneSettings,
    *,
    n_classes: int,
    steps: int,
    statistics: Preprocess | None = None,
) -> Net:
    """Builds a network to be trained; on several GPUs each has its own.

    Args:
        core: The frozen backbone.
        network: What it was built from.
        initial_head: The head at the start.
        settings: How it is to be trained.
        n_classes: C.
        steps: Of an epoch.
        statistics: The scaling of "featurewise" preprocessing.

    Raises:
        UsageError: Nothing of the backbone can be unfrozen as asked.
        UnknownNameError: It has no such layer.
    """
    import keras

    with strategy().scope(), seeded(settings.seed):
        mixed = is_mixed(settings)
        base = flat.graph(
            core,
            network,
            statistics=statistics,
            dtype="mixed_float16" if mixed else None,
        )
        depth_of = _unfreeze(base, settings.unfreeze)
        logits = _head(
            _embedding(base, initial_head.taps), initial_head, n_classes, settings.seed
        )
        softmax = keras.layers.Activation(
            "softmax", dtype="float32", name=f"{HEAD}softmax"
        )
        model = keras.Model(base.input, softmax(logits), name="finetuned")
        if initial_head.weights:
            _set_head(model, initial_head)
        trainer = keras.Model(base.input, logits)
        depths = _depths(trainer, depth_of)
        rates = keras.Variable(
            np.ones(max(depths) + 1), dtype="float32", trainable=False, name="rates"
        )
        compiled(
            trainer, settings, depths=depths, rates=rates, steps=steps, mixed=mixed
        )
    return Net(model, trainer, rates, depths)


def _depths(trainer: "keras.Model", depth_of: dict[str, int]) -> list[int]:
    by_id = {
        id(variable): depth_of.get(layer.name, 0)
        for layer in trainer.layers
        for variable in layer.trainable_variables
    }
    return [by_id[id(variable)] for variable in trainer.trainable_variables]


def strategy() -> Any:
    """All GPUs at once where there are several, else where TensorFlow is anyhow."""
    tf = tensorflow()
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def is_mixed(settings: FinetuneSettings) -> bool:
    """Whether to compute in float16: by default on GPUs."""
    gpus = tensorflow().config.list_logical_devices("GPU")
    return {"auto": bool(gpus), "on": True}.get(settings.mixed_precision, False)


def _embedding(base: "keras.Model", taps: Sequence[str]) -> Any:
    import keras

    pooled = [base.output]
    pools = {
        AVG: keras.layers.GlobalAveragePooling2D,
        MAX: keras.layers.GlobalMaxPooling2D,
    }
    for tap in taps:
        layer, pooling = split_tap(tap)
        maps = map_of(base, layer)
        if pooling not in pools:
            pooled.append(POOLINGS[pooling](maps, keras.ops))
            continue
        pooled.append(pools[pooling](name=f"{HEAD}{tap.replace(':', '_')}")(maps))
    if len(pooled) == 1:
        return pooled[0]
    return keras.layers.Concatenate(name=f"{HEAD}taps")(pooled)


def _head(x: Any, initial_head: InitialHead, n_classes: int, seed: int) -> Any:
    """Dense layers as those of ``heads.networks.network``, up to the logits."""
    import keras

    layers, glorot = keras.layers, keras.initializers.GlorotUniform
    for depth, width in enumerate(initial_head.units, start=1):
        x = layers.Dense(
            width,
            activation="relu",
            kernel_initializer=glorot(seed + depth),
            name=f"{HEAD}dense_{depth}",
        )(x)
        if depth == 1 and initial_head.dropout:
            x = layers.Dropout(initial_head.dropout, seed=seed, name=f"{HEAD}dropout")(
                x
            )
    return layers.Dense(
        n_classes,
        kernel_initializer=glorot(seed),
        dtype="float32",
        name=f"{HEAD}logits",
    )(x)


def _set_head(model: "keras.Model", initial_head: InitialHead) -> None:
    import keras

    dense = [
        layer
        for layer in model.layers
        if layer.name.startswith(HEAD) and isinstance(layer, keras.layers.Dense)
    ]
    pairs = zip(initial_head.weights[::2], initial_head.weights[1::2], strict=True)
    for layer, pair in zip(dense, pairs, strict=True):
        layer.set_weights(list(pair))


def _unfreeze(base: "keras.Model", unfreeze: str) -> dict[str, int]:
    """Unfreezes layers; gives each the depth of its block: 1 is the last.

    Raises:
        UsageError: That is none.
        UnknownNameError: No such layer.
    """
    block_of = flat.blocks(base)
    layers = _layers_to_train(base, block_of, unfreeze)
    if not layers and unfreeze != NONE:
        raise UsageError(
            f"`unfreeze={unfreeze!r}` selects no trainable layer of {base.name}",
            f"It has {1 + max(block_of.values(), default=-1)} blocks and ends with "
            f"{', '.join([*block_of][-3:])}; to train only the head, use none.",
        )
    last = max((block_of[name] for name in layers), default=0)
    for name in layers:
        flat.unfreeze(base.get_layer(name))
    return {name: 1 + last - block_of[name] for name in layers}


def _layers_to_train(
    base: "keras.Model", block_of: dict[str, int], unfreeze: str
) -> list[str]:
    if unfreeze in (ALL, NONE):
        return list(block_of) if unfreeze == ALL else []
    words = unfreeze.split("-")
    if len(words) == 3 and words[0] == "last" and words[2] in ("block", "blocks"):
        first = 1 + max(block_of.values(), default=-1) - _number(unfreeze, words[1])
        return [name for name, block in block_of.items() if block >= first]
    names = [layer.name for layer in base.layers]
    if unfreeze not in names:
        table = Registry(
            "layer", dict.fromkeys(names), hint="Or use all, last-N-blocks or none."
        )
        raise table.unknown(unfreeze)
    behind = set(names[names.index(unfreeze) :])
    return [name for name in block_of if name in behind]


def _number(unfreeze: str, word: str) -> int:
    if not word.isdecimal():
        raise UsageError(
            "a number N in `unfreeze` last-N-blocks",
            repr(unfreeze),
            "Try last-2-blocks.",
        )
    return int(word)
