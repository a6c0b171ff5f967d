"""Pairs of pictures that look the same."""

import numpy as np

# Grey 32x32 pictures of one radiograph correlate above this; two patients' do not.
CORRELATION = 0.99
_BLOCK = 1024
_FLAT = 1e-6


def alike(rows: np.ndarray, least: float) -> list[tuple[int, int, float]]:
    """Pairs of rows whose product is above a limit.

    Args:
        rows: (N, D) of one length, or zeros.
        least: The limit.

    Returns:
        (i, j, product) with i < j, the largest product first.
    """
    found: list[tuple[int, int, float]] = []
    for start in range(0, len(rows), _BLOCK):
        products = rows[start : start + _BLOCK] @ rows[start:].T
        i, j = np.nonzero(np.triu(products > least, k=1))
        at = (i + start).tolist(), (j + start).tolist()
        found += zip(*at, products[i, j].tolist(), strict=True)
    return sorted(found, key=lambda pair: -pair[2])


def unit(rows: np.ndarray) -> np.ndarray:
    """Removes each row's mean and brings it to unit norm, (N, D) float32.

    The product of two is their correlation; a picture of one grey becomes zeros.
    """
    rows = rows.astype(np.float32)
    rows = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(norms > _FLAT, rows / np.maximum(norms, _FLAT), 0)
