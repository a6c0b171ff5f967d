"""The proof of an exported network: stage by stage against its own framework."""

from dataclasses import dataclass

import numpy as np

from featcache.backbones import canary
from featcache.backbones.base import NCHW, Network, Preprocess
from featcache.backbones.descriptor import Descriptor
from featcache.backbones.engines import openvino
from featcache.backbones.engines.convert import AGREEMENT
from featcache.backbones.exporting.original import Original
from featcache.backbones.graphs.pixels import with_pixels
from featcache.core import records
from featcache.core.taps import FEATURES
from featcache.dataset import views
from featcache.errors import ExportError

_SAME_INPUT = 1e-5  # relative; one grey level is 4e-3


@dataclass(frozen=True, eq=False)
class Reference:
    """What the original framework makes of the canary's picture.

    Attributes:
        tensor: (1, ...) the input.
        embedding: (D,) float32.
        resizing: How far the embedding is from that with the framework's own resizing,
            relative to its largest number; None where that is featcache's as well.
    """

    tensor: np.ndarray
    embedding: np.ndarray
    resizing: float | None = None


@dataclass(frozen=True)
class Proof:
    """How far an exported network is from its own framework.

    Attributes:
        pixels: Largest difference of the input on the canary's picture, relative to
            its largest number.
        embedding: Likewise of the embedding, from the picture to the end.
        resizing: That of the framework's own resizing, where it is another.
    """

    pixels: float
    embedding: float
    resizing: float | None = None


def reference(original: Original) -> Reference:
    """Runs the original on the canary's picture, with its own transforms.

    Where the framework does not resize to whole grey levels with Pillow, the picture is
    resized by featcache, and the difference that this makes is measured.
    """
    picture = canary.picture()
    tensor = original.tensor(picture)
    (embedding,) = original.embed(tensor)
    if original.resizes_whole_greys:
        return Reference(tensor, embedding)
    descriptor = records.from_json(Descriptor, original.keys)
    side = original.keys["input_size"]
    ours = original.scaled(views.render(picture, descriptor.resizing(side) or side))
    (near,) = original.embed(ours)
    return Reference(ours, near, relative(embedding, near))


def prove(network: Network, expected: Reference) -> Proof:
    """Runs an exported network as features are extracted; compares with the original.

    Args:
        network: The ONNX file with its descriptor.
        expected: What the original makes of the canary's picture.

    Raises:
        ExportError: Names the stage that differs.
        UnknownNameError: It lacks a tap of the descriptor.
    """
    pixels = views.render(canary.picture(), network.resize)
    difference = _check(
        "the preprocessing", expected.tensor, scaled(pixels, network), _SAME_INPUT
    )
    model = with_pixels(network, taps=network.taps)
    engine = openvino.OpenVINOEngine(model, batch_size=4)
    (outputs,) = engine.run([np.stack([pixels, pixels[::-1], pixels[:, ::-1]])])
    for tap in network.taps:
        if not np.isfinite(outputs[tap]).all():
            raise _differs(f"the tap {tap}", "numbers that are not finite")
    embedding = outputs[FEATURES][0]
    whole = _check("the network in OpenVINO", expected.embedding, embedding)
    return Proof(difference, whole, expected.resizing)


def scaled(pixels: np.ndarray, network: Network) -> np.ndarray:
    """(S, S, 3) uint8 pixels as the network's input: (1, C, S, S) or (1, S, S, C)."""
    values = (network.scaling or Preprocess()).apply(pixels, network.channels)
    is_first = network.readout is not None and network.readout.layout == NCHW
    return (values.transpose(2, 0, 1) if is_first else values)[None]


def relative(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference, relative to the other's largest number."""
    return float(np.abs(one - other).max() / np.abs(other).max())


def _check(
    stage: str, expected: np.ndarray, got: np.ndarray, tolerance: float = AGREEMENT
) -> float:
    if expected.shape != got.shape:
        raise _differs(stage, f"shape {got.shape}, not {expected.shape}")
    difference = relative(got, expected)
    if not difference <= tolerance:  # NaN is off, too
        raise _differs(stage, f"a relative difference of {difference:.2g}")
    return difference


def _differs(stage: str, got: str) -> ExportError:
    return ExportError(
        f"{stage} to agree with the original framework",
        f"{got}. Nothing was written",
        "This is an error of featcache, of the exporter or of OpenVINO; other releases "
        "of them may agree.",
    )
