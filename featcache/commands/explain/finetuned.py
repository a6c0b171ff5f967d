"""Fine-tuned runs: one network with its head on top, cut at the embedding."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from featcache.backbones.engines.base import Engine
from featcache.backbones.unroll import maps_of
from featcache.commands.explain.attribution.maps import MEAN
from featcache.commands.explain.networks import Part, Pixels, engine, passed
from featcache.core.tf import tensorflow
from featcache.dataset.views import Resize
from featcache.deploy import finetuned
from featcache.errors import RunError
from featcache.evaluation.record import FINETUNED
from featcache.evaluation.runs import Run
from featcache.features.store import FEATURES

if TYPE_CHECKING:
    import keras

_MEAN_OF = 100  # images whose mean is what an embedding is compared with


class Renderer(Protocol):
    """Renders at most so many of some images."""

    def __call__(self, image_ids: Sequence[str], resize: Resize, most: int) -> Pixels:
        """Plain views (n, side, side, 3)."""


class FinetunedHead:
    """The layers after the embedding, with the interface of ``featcache.heads``.

    Args:
        model: From embeddings (N, D) to probabilities (N, C).

    Attributes:
        model_: The same.
        classes_: (C,) class codes.
    """

    name = FINETUNED

    def __init__(self, model: "keras.Model") -> None:
        self.model_ = model
        self.classes_ = np.arange(model.output_shape[-1])

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities (N, C) of embeddings (N, D)."""
        rows = tensorflow().constant(X, "float32")
        p = self.model_(rows, training=False).numpy().astype(np.float64)
        return np.asarray(p / p.sum(axis=1, keepdims=True))


class FinetunedNet:
    """The layers before the embedding, with the interface of ``networks.Net``.

    Args:
        name: The backbone.
        model: The whole network, from uint8 pixels to probabilities.
        pooling: Its layer that gives the embedding.
        pixels: How images are looked at.
        resize: How they are brought to its input.
    """

    taps: Sequence[str] = ()
    is_int8 = False
    has_maps = True
    is_graph = False

    def __init__(
        self,
        name: str,
        model: "keras.Model",
        pooling: Any,
        pixels: Renderer,
        resize: Resize,
    ) -> None:
        self.name, self._model, self._pooling, self._look = name, model, pooling, pixels
        self.resize = resize
        self.parts = [Part(FEATURES, int(pooling.output.shape[-1]), MEAN)]

    @property
    def layers(self) -> list[str]:
        """Names of its layers that give maps, from the input on."""
        return [*maps_of(self._model)]

    def mean(self, image_ids: Sequence[str]) -> np.ndarray:
        """Mean (D,) of the embeddings of the hundred images with the lowest ids.

        These are digests, so all classes are among them.
        """
        pixels = self._look(sorted(image_ids), self.resize, _MEAN_OF)
        return np.asarray(self.embed(pixels).mean(axis=0))

    def embed(self, pixels: Pixels) -> np.ndarray:
        """Embeddings (N, D) of rendered pixels."""
        return passed(self._pooled, pixels)[FEATURES]

    def see(self, pixels: Pixels) -> list[np.ndarray]:
        """The last maps (N, h, w, c), whose means the embeddings are."""
        return [passed(self._mapping, pixels)[FEATURES]]

    def maps(self, pixels: Pixels, layers: Sequence[str]) -> dict[str, np.ndarray]:
        """Maps (N, h, w, c) of inner layers, by their names, and the last."""
        outputs = {name: self._model.get_layer(name).output for name in layers}
        return passed(self._graph(outputs | {FEATURES: self._pooling.input}), pixels)

    @cached_property
    def _pooled(self) -> Engine:
        return self._graph({FEATURES: self._pooling.output})

    @cached_property
    def _mapping(self) -> Engine:
        return self._graph({FEATURES: self._pooling.input})

    def _graph(self, outputs: dict[str, Any]) -> Engine:
        import keras

        return engine(keras.Model(self._model.input, outputs))


def of_run(run: Run, pixels: Renderer | None) -> tuple[FinetunedHead, FinetunedNet]:
    """Cuts a fine-tuned run's network at its embedding.

    Raises:
        RunError: Its file is gone, or its head sees more than the mean of last maps.
    """
    if pixels is None:
        raise RunError(f"images for {run.run_id}", "none", "Name some.")
    model = finetuned.load_network(run)
    import keras

    pooling, taps = finetuned.pooling_of(model), run.record.taps
    if taps or pooling is None:
        raise RunError(
            f"a head on the mean of the last maps, to explain {run.run_id}",
            f"one on taps ({', '.join(taps) or 'no pooling'})",
            "Explain a head trained on the same features.",
        )
    behind = keras.Model(pooling.output, model.output)
    head = keras.models.clone_model(behind)  # whose layers are in no other network
    head.set_weights(behind.get_weights())
    (block,) = run.record.features
    resize = Resize.from_text(block.resize, block.input_size)
    net = FinetunedNet(run.record.backbone, model, pooling, pixels, resize)
    return FinetunedHead(head), net
