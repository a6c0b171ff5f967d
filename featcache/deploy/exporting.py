"""``featcache export``: one file from pixels to probabilities, checked before it is."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.engines.convert import AGREEMENT
from featcache.core.io import atomic_path, temporary_folder
from featcache.core.output_file import check_output
from featcache.core.text import some
from featcache.dataset.views import EXACT, LETTERBOX, SHORTEST_EDGE, Resize
from featcache.deploy.formats import FORMATS, OPENVINO, Predict, save_openvino
from featcache.deploy.graph import (
    PIXELS,
    PROBABILITIES,
    ModelParts,
    Outputs,
    Pixels,
    joined_model,
    model_graph,
    split_probe,
)
from featcache.deploy.parity_images import ParityImages, generated
from featcache.errors import ExportError, UsageError

TOLERANCE = 1e-4  # of a probability
USE = "For research use only; not a medical device."
_BATCH = 8


@dataclass(frozen=True)
class Parity:
    """How well a file agrees with the model that it was made of.

    Attributes:
        images: On which both were run.
        difference: Largest one of a probability, over the images not on an edge.
        on_edge: Images where the head itself jumps: boosted trees, and the votes of
            support vector machines, are steps, and where an embedding stands on one,
            the last bit of a sum decides.
    """

    images: int
    difference: float
    on_edge: int = 0


@dataclass(frozen=True)
class Exported:
    """A written file.

    Attributes:
        path: The file.
        to: Its format.
        size: In bytes, with the files beside it.
        inputs: Names of its inputs, and their sides in pixels.
        classes: Labels, in the order of the probabilities.
        parity: What it was checked by.
        checked_on: What the images of the check are, such as "64 images of chest".
    """

    path: Path
    to: str
    size: int
    inputs: dict[str, int]
    classes: list[str]
    parity: Parity
    checked_on: str


def export(
    parts: ModelParts,
    path: Path,
    *,
    to: str,
    images: ParityImages | None = None,
    about: dict[str, Any] | None = None,
    force: bool = False,
) -> Exported:
    """Writes a model as one graph, from uint8 pixels to calibrated probabilities.

    The file is first written under a temporary name and run in its own runtime. Only
    if its probabilities are those of the model does it get its name.

    Args:
        parts: The model.
        path: The file; for OpenVINO the ``.xml``, whose weights go into a ``.bin``.
        to: "onnx", "openvino", "keras" or "tflite".
        images: To check it on; by default 64 generated ones.
        about: Further facts for the description in the file.
        force: Replace a file that is there.

    Raises:
        ExportError: The model is no single graph, the format cannot hold it, or the
            file gives other probabilities; nothing was written.
        UsageError: A wrong suffix, a file that is there, or a package that is not.
        UnknownNameError: No such format.
    """
    files = check_request(path, to, force=force)
    refuse_carried(parts, to)
    form = FORMATS[to]
    build: Callable[..., Any] = joined_model if parts.carried else model_graph
    write = save_openvino if parts.carried else form.write
    images, inputs = images or generated(parts.resizes), parts.inputs
    graph = build(parts)
    description = _described(parts.classes, inputs) | (about or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path) as folder:
        temp = folder / path.name
        try:
            write(graph, temp, description)
            p = _run(form.load(temp), inputs, images.pixels)
        except OSError:
            raise
        except Exception as error:  # converters raise anything
            raise _cannot(to, error) from error

        def probe() -> np.ndarray:
            other = temp.with_stem("probe")
            write(build(parts, probe=True), other, description)
            return _run(form.load(other), inputs, images.pixels)

        parity = check_parity(parts, p, images.pixels, probe)
        if len(files) > 1:  # never an old graph beside new weights
            path.unlink(missing_ok=True)
        for file in reversed(files):  # the named one last: it says that all is there
            with atomic_path(file) as target:
                os.replace(folder / file.name, target)
    size = sum(file.stat().st_size for file in files)
    sides = {name: one.side for name, one in inputs.items()}
    return Exported(path, to, size, sides, list(parts.classes), parity, images.text)


def check_request(path: Path, to: str, *, force: bool = False) -> list[Path]:
    """The files that an export would write.

    Args:
        path: See `export`, as the others.
        to: See `export`.
        force: See `export`.

    Raises:
        UsageError: A wrong suffix, a file that is there, a package that is not, or a
            folder that cannot be written to.
        UnknownNameError: No such format.
    """
    form = FORMATS[to]
    if path.suffix != form.suffix:
        raise UsageError(
            f"`output` a {form.suffix} file for {to}", str(path), "Change its suffix."
        )
    form.refuse_missing_packages()
    files = [path, *(path.with_suffix(suffix) for suffix in form.also)]
    for file in files:
        check_output(file, "output", force=force)
    folder = next(one for one in path.absolute().parents if one.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise UsageError(
            "`output` in a folder that can be written to",
            str(folder),
            "Name another folder.",
        )
    return files


def refuse_carried(parts: ModelParts, to: str) -> None:
    """Refuses a format that networks in OpenVINO's format cannot be written in.

    Raises:
        ExportError: Names them.
    """
    if not parts.carried or to == OPENVINO:
        return
    if parts.in_files:
        raise ExportError(
            f"networks that can be converted to {to}",
            f"{some(parts.in_files)}, which OpenVINO alone runs",
            "Use `to='openvino'`, or a run on networks of Keras.",
        )
    raise ExportError(
        f"networks that can be converted to {to}",
        f"a bundle, which carries {some(parts.carried)} in OpenVINO's format",
        "Use `to='openvino'`, or export the run that it was made of.",
    )


def check_parity(
    parts: ModelParts,
    p: np.ndarray,
    pixels: Pixels,
    probe: Callable[[], np.ndarray] | None = None,
) -> Parity:
    """Holds a file's probabilities against those of the model's own heads.

    Args:
        parts: The model.
        p: (N, C) what the file gave.
        pixels: What it was given.
        probe: Gives what a file with embeddings gives for the same pixels; see
            ``graph.split_probe``. Called where probabilities differ.

    Raises:
        ExportError: They differ by more than `TOLERANCE`, and not because the head
            has a step there.
    """
    embedded = parts.embed(pixels)
    expected = parts.proba(embedded)
    if p.shape != expected.shape:
        raise _differs(f"an output of shape {p.shape}, not {expected.shape}")
    difference = np.abs(p - expected).max(axis=1)
    off = ~(difference <= TOLERANCE)  # NaN is off, too
    if off.any():
        on_edge = _on_edge(parts, p, embedded, probe()) if probe else ~off
        if not on_edge[off].all():
            worst = float(difference[off].max())
            raise _differs(f"a largest difference of {worst:.3g}")
    return Parity(len(p), float(difference[~off].max(initial=0.0)), int(off.sum()))


def _on_edge(
    parts: ModelParts, p: np.ndarray, embedded: Sequence[Outputs], probed: np.ndarray
) -> np.ndarray:
    """Whether nothing but the last bits of embeddings explain other probabilities.

    The file's embeddings are those of the model, as exactly as engines agree; of them
    the model's own head makes the file's probabilities; and the file that shows them
    gives the same as the one that does not.
    """
    own, near = split_probe(probed, len(parts.classes), embedded)
    right = np.abs(own - p).max(axis=1) <= TOLERANCE
    right &= np.abs(own - parts.proba(near)).max(axis=1) <= TOLERANCE
    for outputs, reference in zip(near, embedded, strict=True):
        for name, values in reference.items():
            distance = np.abs(outputs[name] - values).max(axis=1)
            right &= distance <= AGREEMENT * np.abs(values).max()
    return np.asarray(right)


def _run(predict: Predict, inputs: dict[str, Resize], pixels: Pixels) -> np.ndarray:
    count = len(next(iter(pixels.values())))
    batches = [
        predict({name: pixels[one][at : at + _BATCH] for name, one in inputs.items()})
        for at in range(0, count, _BATCH)
    ]
    return np.concatenate(batches)


def _described(classes: Sequence[str], inputs: dict[str, Resize]) -> dict[str, Any]:
    """What the file says of itself."""
    ways = {name: _resized(one) for name, one in inputs.items()}
    text = ways.popitem()[1] if len({*ways.values()}) == 1 else str(ways)
    scaling = "Scaling is part of the graph"
    return {
        "classes": list(classes),
        "inputs": {name: one.side for name, one in inputs.items()},
        PIXELS: f"(N, S, S, 3) uint8, RGB, 0-255; {text}. {scaling}.",
        PROBABILITIES: "(N, C) float32, calibrated, in the order of the classes",
        "use": USE,
    }


def _resized(resize: Resize) -> str:
    """How an image has to be brought to an input, in words."""
    return {
        EXACT: f"a whole image resized to a square, {resize.text}",
        SHORTEST_EDGE: f"the middle of an image: {resize.text}",
        LETTERBOX: f"a whole image with black bars: {resize.text}",
    }[resize.rule]


def _cannot(to: str, error: Exception) -> ExportError:
    got = " ".join(str(error).split())[:300] or type(error).__name__
    others = some([name for name in FORMATS if name != to])
    return ExportError(
        f"a model that can be converted to {to}",
        f"{got}. Nothing was written",
        f"Try another format: {others}.",
    )


def _differs(got: str) -> ExportError:
    return ExportError(
        f"a file that gives the model's probabilities within {TOLERANCE:g}",
        f"{got}. Nothing was written",
        "Try another format; if none agrees, this is an error of featcache.",
    )
