"""The optimizer: AdamW or SGD with warm-up, cosine, and a rate for each block."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featcache.commands.finetune.settings import ADAMW, FinetuneSettings
from featcache.core.tf import tensorflow

if TYPE_CHECKING:
    import keras

_END = 0.01  # of the learning rate, where the cosine ends


def compiled(
    trainer: "keras.Model",
    settings: FinetuneSettings,
    *,
    depths: Sequence[int],
    rates: Any,
    steps: int,
    mixed: bool,
) -> None:
    """Compiles a network from pixels to logits.

    Args:
        trainer: The network.
        settings: How it is trained.
        depths: For each trainable weight, which of ``rates`` is its own.
        rates: Variable of factors of the learning rate; may change between epochs.
        steps: Of an epoch.
        mixed: Whether gradients are float16 and need their loss scaled.
    """
    import keras

    common: dict[str, Any] = {
        "learning_rate": schedule(settings, steps),
        "global_clipnorm": settings.clip or None,
        "use_ema": settings.ema > 0,
        "ema_momentum": settings.ema,
    }
    if settings.optimizer == ADAMW:
        optimizer = layerwise(keras.optimizers.Adam, settings, depths, rates)(**common)
    else:
        optimizer = layerwise(keras.optimizers.SGD, settings, depths, rates)(
            momentum=0.9, nesterov=True, **common
        )
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if mixed else optimizer
    optimizer.build(trainer.trainable_variables)
    trainer.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=settings.label_smoothing
        ),
        metrics=["accuracy"],
        auto_scale_loss=False,
    )


def schedule(settings: FinetuneSettings, steps: int) -> Any:
    """From 0 up to the learning rate, then along a cosine down to a hundredth.

    Args:
        settings: The learning rate, the epochs, and how many of them are warm-up.
        steps: Of an epoch.
    """
    import keras

    total = settings.epochs * steps
    rising = min(round(settings.warmup * steps), total - 1)
    rate = settings.rate
    if rising < 1:
        return keras.optimizers.schedules.CosineDecay(rate, total, alpha=_END)
    return keras.optimizers.schedules.CosineDecay(
        rate / rising,
        max(total - rising, 1),
        alpha=_END,
        warmup_target=rate,
        warmup_steps=rising,
    )


def layerwise(
    base: type[Any], settings: FinetuneSettings, depths: Sequence[int], rates: Any
) -> type[Any]:
    """An optimizer of Keras with a rate for each block and weight decay apart.

    The decay is that of AdamW (Loshchilov and Hutter, ICLR 2019): it goes with the
    block's own rate, and leaves biases and scales alone.
    """
    import keras

    one_replica = tensorflow().distribute.get_strategy().num_replicas_in_sync == 1

    class Layerwise(base):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            rate = rates[depths[self._get_variable_index(variable)]] * learning_rate
            if settings.weight_decay and len(variable.shape) > 1:
                decay = keras.ops.cast(settings.weight_decay * rate, variable.dtype)
                self.assign_sub(variable, variable * decay)
            super().update_step(gradient, variable, rate)

        def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
            # Summing over replicas leaks each network's graph and weights in
            # TensorFlow up to 2.21 (tensorflow/tensorflow#97697).
            if one_replica:
                return grads_and_vars
            return super()._all_reduce_sum_gradients(grads_and_vars)

    return Layerwise
