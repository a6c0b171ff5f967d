"""Heat maps from bundles: where on an image a class has its evidence.

The map adds up to the score, as that of ``featcache explain``. It needs a network in
the bundle whose features are means over places, and a head that splits its score over
features by itself: a bundle has no training mean to compare with.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from featcache.backbones.base import NCHW, NHWC, Readout
from featcache.backbones.engines.openvino import OpenVINOEngine, openvino
from featcache.backbones.graphs.maps import averaged
from featcache.commands.explain.attribution import METHODS, margins
from featcache.commands.explain.attribution.maps import spread, upsampled
from featcache.commands.explain.attribution.stages import stages
from featcache.commands.explain.frame import Frame
from featcache.commands.explain.heatmaps import SIDE
from featcache.dataset import rendering
from featcache.dataset.views import Policy
from featcache.deploy.model import Candidate, FeatureNetwork, Member, Model, PassOn
from featcache.errors import HeadError

_CLOSED = ("linear", "treeshap")  # methods that need no training mean
_AGREEMENT = 1e-3  # of the score and the sum of its map
_MAP = "map:"


@dataclass(frozen=True, eq=False)
class AdditiveMap:
    """Where a class has its evidence.

    Attributes:
        label: The class.
        score: Its margin before calibration, of the plain image.
        base: The part of it that no feature has.
        values: (SIDE, SIDE) over the frame; they sum to ``score - base``.
        frame: What the networks see of the image.
        method: How the score was split.
        even_share: Share of the evidence that has no place, and is spread evenly.
    """

    label: str
    score: float
    base: float
    values: np.ndarray
    frame: Frame
    method: str
    even_share: float


class NoMapError(HeadError):
    """A bundle whose score cannot be laid over the image."""


class Explainer:
    """Makes maps of a bundle's model.

    Args:
        model: The model.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._lock = threading.Lock()

    @property
    def _member(self) -> Member:
        return self.model.members[0]

    @cached_property
    def reason(self) -> str:
        """Why there are no maps; empty where there are."""
        try:
            self._check()
            for number in {number for number, _ in self._member.columns}:
                _with_maps(self.model.networks[number])
        except NoMapError as error:
            return error.problem
        return ""

    def _check(self) -> None:
        if len(self.model.members) > 1:
            raise _no_map("it is an ensemble, whose members have maps of their own")
        if isinstance(self._member.head, PassOn):
            raise _no_map("it is a fine-tuned network without a head of its own")
        X = np.zeros((1, self._width))
        parts = stages(self._member.head)
        if not any(METHODS[n](parts, X, background=X[0]) for n in _CLOSED):
            raise _no_map(
                "its head splits its score only beside the mean of the training images"
            )

    @property
    def _width(self) -> int:
        networks = self.model.networks
        return sum(
            networks[number].widths[networks[number].outputs.index(name)]
            for number, name in self._member.columns
        )

    @cached_property
    def _engines(self) -> dict[int, OpenVINOEngine]:
        numbers = {number for number, _ in self._member.columns}
        return {n: OpenVINOEngine(_with_maps(self.model.networks[n])) for n in numbers}

    def explain(self, candidate: Candidate, label: str) -> AdditiveMap:
        """The map of a class on an image.

        Raises:
            NoMapError: There is none, or it does not add up to the score.
        """
        if self.reason:
            raise _no_map(self.reason)
        with self._lock:
            outputs = dict(self._outputs(candidate))
        blocks = [outputs[number] for number, _ in self._member.columns]
        names = [name for _, name in self._member.columns]
        pairs = list(zip(blocks, names, strict=True))
        X = np.concatenate([block[name] for block, name in pairs], axis=1)
        maps = [block[_MAP + name][0] for block, name in pairs]
        return self._spread(candidate, label, X.astype(np.float64), maps)

    def _outputs(self, candidate: Candidate) -> Iterator[tuple[int, dict[str, Any]]]:
        cut = rendering.cutter(candidate.picture.image, Policy(), candidate.image_id)
        for number, engine in self._engines.items():
            network = self.model.networks[number]
            pixels = network.pixels(candidate, lambda resize: cut(resize, 0))
            (outputs,) = engine.run([pixels[None]])
            yield number, outputs

    def _spread(
        self, candidate: Candidate, label: str, X: np.ndarray, maps: list[np.ndarray]
    ) -> AdditiveMap:
        head, size = self._member.head, candidate.picture.image.size
        code = [self.model.classes[c] for c in head.classes_].index(label)
        method, phi, base = self._split(X, code)
        score = float(margins(head.predict_proba(X.astype(np.float32)))[0, code])
        resizes = [self.model.networks[n].resize for n, _ in self._member.columns]
        frame, start, values = Frame.of(resizes, size), 0, np.zeros((SIDE, SIDE))
        lost = 0.0
        for A, resize in zip(maps, resizes, strict=True):
            own = phi[start : start + A.shape[2]]
            part, start = spread(A, own), start + A.shape[2]
            values += upsampled(part.cells, SIDE, frame.area(resize, size))
            lost += part.even_share * float(np.abs(own).sum())
        if abs(base + values.sum() - score) > _AGREEMENT * max(1.0, abs(score)):
            raise _no_map("its map does not add up to its score on this image")
        share = lost / (float(np.abs(phi).sum()) or 1.0)
        return AdditiveMap(label, score, base, values, frame, method, share)

    def _split(self, X: np.ndarray, code: int) -> tuple[str, np.ndarray, float]:
        parts = stages(self._member.head)
        for name in _CLOSED:
            if split := METHODS[name](parts, X, background=X[0]):
                phi, base = split(np.array([code]))
                return name, phi[0], float(np.ravel(base)[0])
        raise _no_map("its head has no closed form on this image")


def _with_maps(network: FeatureNetwork) -> Any:
    """A carried network that also gives the maps that its features are means of."""
    if network.carried is None:
        raise _no_map(f"the bundle only names its network {network.name}")
    graph = network.carried()
    for output in list(graph.outputs):
        name = output.node.friendly_name
        source = output.node.input_value(0)
        maps = [
            averaged(source, Readout(layout=layout), name) for layout in (NCHW, NHWC)
        ]
        inner = next((one for one in maps if one and one.has_grid), None)
        if inner is None:
            raise _no_map(f"the output {name} of {network.name} is no mean over places")
        result = openvino().opset13.result(inner.values)
        result.set_friendly_name(_MAP + name)
        graph.add_results([result])
    graph.validate_nodes_and_infer_types()
    return graph


def _no_map(reason: str) -> NoMapError:
    return NoMapError(reason, "Use featcache explain on the run.")
