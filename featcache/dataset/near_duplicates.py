"""Near-duplicates: small grey pictures that correlate as those of one radiograph do."""

import numpy as np
from numpy.typing import NDArray

from featcache.dataset.similar_pairs import pairs_above

# Grey 32x32 pictures of one radiograph correlate above this; two patients' do not.
CORRELATION = 0.99
_FLAT = 1e-6
_MOST = 2**20  # pairs until clusters are joined, which spares comparing within them


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
    pictures = np.stack([thumbs[i] for i in ids])
    first, pairs, n = np.arange(len(ids)), [], 0
    for some in pairs_above(pictures, CORRELATION, scale=unit, joined=first):
        pairs.append((some.i, some.j))
        n += len(some.i)
        if n > _MOST:
            _join(first, pairs)
            pairs, n = [], 0
    _join(first, pairs)
    return {image_id: ids[row] for image_id, row in zip(ids, first, strict=True)}


def _join(
    first: NDArray[np.intp], pairs: list[tuple[NDArray[np.intp], NDArray[np.intp]]]
) -> None:
    """Joins the clusters of pairs; `first` (N,) is the first row of each row's."""
    if not pairs:
        return
    # Here: it takes a fifth of a second, and most scans find their pictures known.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    i, j = map(np.concatenate, zip(*pairs, strict=True))
    graph = csr_array((np.ones(len(i), bool), (first[i], first[j])), (len(first),) * 2)
    _, numbers = connected_components(graph, directed=False)
    _, rows, at = np.unique(numbers[first], return_index=True, return_inverse=True)
    first[:] = rows[at]


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
