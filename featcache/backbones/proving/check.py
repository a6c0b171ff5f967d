"""The check of a canary: does the network give the embedding that it should?"""

from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from featcache.backbones import canary
from featcache.backbones.base import FEATUREWISE, PREPROCESS, Network
from featcache.backbones.build import build, with_pixels
from featcache.backbones.descriptor import Canary, Descriptor
from featcache.backbones.engines import openvino
from featcache.backbones.graphs import pixels as graph_pixels
from featcache.backbones.graphs import reading
from featcache.backbones.graphs.readout import readout
from featcache.backbones.proving.search import (
    CLOSE,
    SAME_WAY,
    SECONDS,
    Agreement,
    Cause,
    Search,
    Verdict,
)
from featcache.core.taps import FEATURES
from featcache.core.text import counted, some
from featcache.dataset.views import render
from featcache.errors import WeightsError

if TYPE_CHECKING:
    import keras

PASSED, FAILED, ABSENT = "passed", "failed", "absent"
_MUCH = 10.0  # how many times nearer a change has to come to be worth its words


@dataclass(frozen=True, eq=False)
class CanaryResult:
    """What the check of a canary came to.

    Attributes:
        state: "passed", "failed", or "absent": there is none that could be checked.
        agreement: Of the network with the canary.
        framework: Versions of the libraries that computed the canary.
        input_size: Side of its input in pixels.
        verdict: Which change makes it fit, where it failed.
        error: What to tell the user then.
    """

    state: str
    agreement: Agreement | None = None
    framework: dict[str, str] = field(default_factory=dict)
    input_size: int = 0
    verdict: Verdict | None = None
    error: WeightsError | None = None

    @property
    def cause(self) -> Cause | None:
        """The change that makes it fit, if there is one."""
        return self.verdict.cause if self.verdict else None


def check(
    network: Network, model: "keras.Model | None" = None, *, seconds: float = SECONDS
) -> CanaryResult:
    """Checks a network against its canary, at the canary's own input size.

    Where it fails, the usual mistakes in descriptors are tried, each alone and then
    together, and the fewest that explain it are named.

    Args:
        network: As `backbones.resolve` gave it.
        model: The network as ``build`` gave it, if it is there; else it is built.
        seconds: To spend on mistakes made together.

    Raises:
        WeightsError: The canary cannot be checked: it is of an unknown picture, or of
            another size than the network can take; or the network cannot be used.
    """
    own = own_network(network)
    if own is None:
        return CanaryResult(ABSENT)
    assert own.descriptor
    assert own.descriptor.canary
    one = own.descriptor.canary
    if not own.is_graph and model is None:
        model = build(own)
    agreement = Agreement.of(_embedding(own, model), np.array(one.embedding))
    if agreement.is_close:
        return CanaryResult(PASSED, agreement, one.framework, one.input_size)
    verdict = Search(own, own.descriptor, model, seconds).run()
    error = _error(own, agreement, verdict)
    return CanaryResult(
        FAILED, agreement, one.framework, one.input_size, verdict, error
    )


def own_network(network: Network) -> Network | None:
    """The network as its canary was computed; None where there is no such thing.

    With statistics of the training images in place of its own scaling, there is none
    unless the descriptor says what that is.

    Raises:
        WeightsError: As `check`.
    """
    descriptor = network.descriptor
    if descriptor is None or descriptor.canary is None or network.file is None:
        return None
    mode = descriptor.mode if network.preprocess == FEATUREWISE else network.preprocess
    if mode in (None, FEATUREWISE):
        return None
    side = descriptor.canary.input_size
    _refuse_unknown_picture(network, descriptor.canary)
    own = replace(
        network,
        input_size=side,
        preprocess=str(mode),
        resizing=descriptor.resizing(side),
        numbers=None if mode in PREPROCESS else descriptor.numbers,
    )
    return _with_readout(own, descriptor) if network.is_graph else own


def _with_readout(own: Network, descriptor: Descriptor) -> Network:
    assert own.file is not None
    side, graph = own.input_size, reading.read(own.file, descriptor)
    if graph.side not in (None, side):
        raise WeightsError(
            f"a canary of {graph.side} px in {graph.beside}, as {own.file.name} "
            "takes no other",
            f"one of {side} px",
            "Export it again.",
        )
    return replace(own, readout=readout(graph, side, descriptor))


def _refuse_unknown_picture(network: Network, one: Canary) -> None:
    if one.picture != canary.PICTURE:
        assert network.file is not None
        raise WeightsError(
            f"a canary of the picture {canary.PICTURE} in "
            f"{network.file.with_suffix('.json').name}",
            repr(one.picture[:60]),
            "Export it again with this version of featcache, or install the version "
            "that wrote it.",
        )


def _embedding(own: Network, model: "keras.Model | None") -> np.ndarray:
    """(D,) of the picture, computed as for any image."""
    pixels = render(canary.picture(), own.resize)[None]
    if model is not None:
        outputs = with_pixels(model, own)(pixels, training=False)
        return np.asarray(np.asarray(outputs[FEATURES])[0])
    engine = openvino.OpenVINOEngine(graph_pixels.with_pixels(own), batch_size=1)
    (outputs,) = engine.run([pixels])
    return np.asarray(outputs[FEATURES][0])


def _error(own: Network, agreement: Agreement, verdict: Verdict) -> WeightsError:
    assert own.file
    descriptor = own.descriptor or Descriptor()
    beside, cause = own.file.with_suffix(".json").name, verdict.cause
    problem = f"{own.file.name} fails its canary: {_distance(own, agreement)}"
    if cause:
        return WeightsError(
            f"{problem}. It fits with {cause.words}", _to_do(cause, beside, descriptor)
        )
    ways = counted(verdict.tried, "way")
    problem += f". None of the usual mistakes explains it ({ways} to use it tried"
    problem += ")" if verdict.complete else ", and no time for the rest)"
    return WeightsError(
        problem + _nearest(agreement, verdict.closest),
        "The weights or the graph may be others than those of the canary. Export the "
        f'network again, or remove "canary" from {beside} to use it unproven.',
    )


def _nearest(agreement: Agreement, closest: Cause | None) -> str:
    if not closest or not isfinite(closest.agreement.difference):
        return ""
    if closest.agreement.difference * _MUCH > agreement.difference:
        return ""
    return (
        f"; the nearest, with {closest.words}, leaves a relative difference of "
        f"{closest.agreement.difference:.2g}"
    )


def _distance(own: Network, agreement: Agreement) -> str:
    assert own.descriptor
    assert own.descriptor.canary
    made = some([f"{k} {v}" for k, v in own.descriptor.canary.framework.items()])
    made = f" of {made}" if made else ""
    if agreement.difference == float("inf"):
        width = len(own.descriptor.canary.embedding)
        return f"not {counted(width, 'finite number')}, as the canary{made} has"
    return (
        f"a relative difference of {agreement.difference:.2g} to the embedding{made} "
        f"(at most {CLOSE:g}), cosine {agreement.cosine:.4f} (at least {SAME_WAY:g})"
    )


def _to_do(cause: Cause, beside: str, descriptor: Descriptor) -> str:
    """What to change in the JSON, and which options to leave out."""
    parts = [f"write {cause.line}"] if cause.line else []
    removed = [f'"{k}"' for k in cause.removed if getattr(descriptor, k) is not None]
    parts += [f"remove {' and '.join(removed)}"] if removed else []
    return f"In {beside}, {' and '.join(parts)}."
