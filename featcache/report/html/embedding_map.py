"""Two-dimensional maps of embeddings: PCA, t-SNE, and UMAP where it is installed."""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pandas as pd

from featcache.core.text import percent

MOST = 1500  # points; more are drawn by lot, the same share of each class
_COMPONENTS = 50
_STEPS = 500  # of t-SNE: neighbours are kept as well as by 1000, in half the time
_SEED = 0


@dataclass(frozen=True)
class Layout:
    """One map.

    Attributes:
        name: "PCA", "t-SNE" or "UMAP".
        xy: (N, 2) places, 0 to 1, on one scale for both axes.
        x: Title of the horizontal axis.
        y: Title of the vertical axis.
        note: How to read it.
    """

    name: str
    xy: np.ndarray
    x: str
    y: str
    note: str


def sample(labels: pd.Series, most: int = MOST) -> pd.Index:
    """At most ``most`` of the images, the same share of each class, seeded."""
    if len(labels) <= most:
        return labels.index
    share = most / len(labels)
    sampled = labels.groupby(labels).sample(frac=share, random_state=_SEED).index
    return labels.index[labels.index.isin(sampled[:most])]


def layouts(X: np.ndarray) -> list[Layout]:
    """Maps of embeddings (N, D), each column first put on one scale.

    t-SNE and UMAP start from the first 50 principal components. Both are seeded,
    but other versions of the libraries may draw other maps.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(np.asarray(X, np.float64))
    count = min(_COMPONENTS, *scaled.shape)
    if count < 2:
        return []
    pca = PCA(
        count,
        svd_solver="full" if min(X.shape) < 500 else "randomized",
        random_state=_SEED,
    )
    reduced = pca.fit_transform(scaled)
    first, second = np.nan_to_num(pca.explained_variance_ratio_[:2])
    maps = [
        Layout(
            "PCA",
            _unit(reduced[:, :2]),
            f"component 1 ({percent(first)} of the variance)",
            f"component 2 ({percent(second)})",
            "A linear projection of the embeddings; its two components explain "
            f"{percent(first + second)} of the variance.",
        )
    ]
    if len(X) > 5:
        maps.append(_tsne(reduced))
        if find_spec("umap"):
            maps.append(_umap(reduced))
    return maps


def _tsne(reduced: np.ndarray) -> Layout:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(reduced) - 1) / 3)
    xy = TSNE(
        perplexity=perplexity,
        init="pca",
        random_state=_SEED,
        n_jobs=-1,
        max_iter=_STEPS,
    ).fit_transform(reduced)
    note = (
        f"Shows which images are neighbours (perplexity {perplexity:.0f}); cluster "
        "sizes and distances between clusters have no meaning."
    )
    return Layout("t-SNE", _unit(xy), "t-SNE 1", "t-SNE 2", note)


def _umap(reduced: np.ndarray) -> Layout:
    umap = import_module("umap")
    xy = umap.UMAP(random_state=_SEED).fit_transform(reduced)
    note = "Shows which images are neighbours; distances between clusters mean little."
    return Layout("UMAP", _unit(xy), "UMAP 1", "UMAP 2", note)


def _unit(xy: np.ndarray) -> np.ndarray:
    """Fits places into the unit square without stretching either axis."""
    centred = xy - (xy.max(axis=0) + xy.min(axis=0)) / 2
    return np.asarray(centred / (2 * np.abs(centred).max() or 1.0) + 0.5)
