"""Near-duplicates: small grey pictures that correlate as those of one radiograph do."""

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

# Grey 32x32 pictures of one radiograph correlate above this; two patients' do not.
CORRELATION = 0.99
_BLOCK = 1024
_FLAT = 1e-6


def cluster(thumbs: dict[str, np.ndarray]) -> dict[str, str]:
    """Clusters pictures whose grey 32x32 forms correlate above 0.99.

    Args:
        thumbs: (1024,) uint8 by image_id.

    Returns:
        image_id to the id of the cluster's first picture.
    """
    ids = list(thumbs)
    if not ids:
        return {}
    pictures = unit(np.stack([thumbs[i] for i in ids]))
    rows, columns = [], []
    for start in range(0, len(ids), _BLOCK):
        near = pictures[start : start + _BLOCK] @ pictures.T > CORRELATION
        row, column = np.nonzero(near)
        rows.append(row + start)
        columns.append(column)
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = csr_array((np.ones(len(row), bool), (row, column)), (len(ids),) * 2)
    _, numbers = connected_components(graph, directed=False)
    first = {number: ids[i] for i, number in reversed(list(enumerate(numbers)))}
    return {image_id: first[n] for image_id, n in zip(ids, numbers, strict=True)}


def unit(rows: np.ndarray) -> np.ndarray:
    """Removes each row's mean and brings it to unit norm, (N, D) float32.

    The product of two is their correlation; a picture of one grey becomes zeros.
    """
    rows = rows.astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    out = np.zeros_like(rows)
    np.divide(rows, norms, out=out, where=norms > _FLAT)
    return out
