"""The proof of an exported network: stage by stage against its own framework."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones import canary
from featcache.backbones.engines import openvino
from featcache.backbones.engines.convert import AGREEMENT
from featcache.backbones.exporting import pixels
from featcache.backbones.exporting.original import Original
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
    ours = original.scaled(pixels.rendered(picture, original.keys))
    (near,) = original.embed(ours)
    return Reference(ours, near, relative(embedding, near))


def prove(path: Path, original: Original, expected: Reference) -> Proof:
    """Runs an exported file with OpenVINO, and holds each stage against the original.

    Args:
        path: The ONNX file.
        original: What it was exported from.
        expected: What that makes of the canary's picture.

    Raises:
        ExportError: Names the stage that differs.
    """
    keys = original.keys
    ours = pixels.scaled(pixels.rendered(canary.picture(), keys), keys)
    difference = _check("the preprocessing", expected.tensor, ours, _SAME_INPUT)
    run = _compiled(path)
    outputs = run(expected.tensor)
    (embedding,) = pixels.pooled(outputs[keys["output"]], keys)
    _check("the network in OpenVINO", expected.embedding, embedding)
    both = run(np.concatenate([ours, ours[:, ::-1]]))
    embedding, _ = pixels.pooled(both[keys["output"]], keys)
    whole = _check("the network on a batch", expected.embedding, embedding)
    for name in keys["taps"]:
        if name not in outputs or not np.isfinite(outputs[name]).all():
            raise _differs(f"the output {name}", "missing or not finite")
    return Proof(difference, whole, expected.resizing)


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


def _compiled(path: Path) -> Any:
    core = openvino.core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    network = core.compile_model(core.read_model(path), "CPU", settings)

    def run(tensor: np.ndarray) -> Mapping[str, np.ndarray]:
        done = network(tensor)
        return {name: done[o] for o in network.outputs for name in o.names}

    return run
