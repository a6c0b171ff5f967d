"""Int8: a network quantised after training by NNCF, and how far it drifts."""

import contextlib
import io
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.engines.openvino import failed, openvino, read, write
from featcache.errors import UsageError


def quantise(path: Path, out: Path, calibration: Iterable[np.ndarray]) -> None:
    """Writes an int8 network: the same images give the same weights file.

    Weights and activations are symmetric (NNCF's "performance" preset): on X-rays
    faster than the "mixed" preset, and no further from float32.

    Args:
        path: The float32 network's ``.xml`` file.
        out: The ``.xml`` file to write.
        calibration: Batches (n, H, W, 3) uint8, some 100 images in all.

    Raises:
        UsageError: NNCF is not installed, or there is no image.
        ConversionError: NNCF cannot quantise this network, or it cannot be written.
    """
    images = [image[None] for batch in calibration for image in batch]
    if not images:
        raise UsageError("images for calibrating int8", "none", "Provide about 100.")
    nncf, model = require_nncf(), read(path)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # progress bars
            quantised = nncf.quantize(
                model,
                nncf.Dataset(images),
                preset=nncf.QuantizationPreset.PERFORMANCE,
                subset_size=len(images),
            )
        write(quantised, out)
    except Exception as error:  # NNCF's own have no common base
        raise failed("a network that NNCF can quantise", error) from error


def require_nncf() -> Any:
    """NNCF, which nothing else of a conversion needs.

    Raises:
        UsageError: It is not installed.
    """
    openvino()  # first: it keeps the telemetry out
    try:
        import nncf
    except ImportError as error:
        raise UsageError(
            "NNCF for `precision='int8'`",
            "it is not installed",
            "Run: pip install 'featcache[int8]'.",
        ) from error
    nncf.set_log_level(logging.CRITICAL)
    return nncf


def drift(reference: np.ndarray, quantised: np.ndarray) -> tuple[float, float]:
    """Mean and smallest cosine between the rows of two feature matrices.

    Args:
        reference: (N, D), N at least 1.
        quantised: (N, D), the same images. Two rows of zeros have cosine 1, a row
            of zeros and another have 0.
    """
    a, b = reference.astype(np.float64), quantised.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    same = (a == b).all(axis=1).astype(np.float64)
    cosines = np.divide((a * b).sum(axis=1), norms, out=same, where=norms > 0)
    return float(cosines.mean()), float(cosines.min())
