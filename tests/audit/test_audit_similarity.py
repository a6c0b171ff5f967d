"""Pairs that look the same are those of brute force, each once."""

import sqlite3
from itertools import product

import numpy as np
import pytest
from PIL import Image

from featcache.commands.audit import similarity
from featcache.commands.audit.similarity import PairTable, cut_alike, near_hashes
from featcache.dataset.near_duplicates import CORRELATION, unit
from featcache.dataset.similar_pairs import Pairs, pairs_above


def test_a_flat_picture_is_like_no_other() -> None:
    """Pictures of one grey, or lost ones, are no near-duplicates."""
    flat = np.full((3, 1024), 7, np.uint8)
    (pairs,) = PairTable(pairs_above(flat, CORRELATION, scale=unit)).chunks()
    assert pairs.empty


def test_each_pair_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair stands once with its largest product, the most alike first."""
    monkeypatch.setattr(similarity, "_CHUNK", 2)
    i, j = np.array([[2, 0], [3, 1], [0, 3], [0, 2], [3, 2], [5, 4]]).T
    some = Pairs(i, j, np.array([0.7, 0.8, 0.6, 1.0, 0.6, 0.8]))
    chunks = [*PairTable([some, Pairs(j, i, some.product - 0.1)]).chunks()]
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    assert np.concatenate(chunks)[:, :3].tolist() == [
        [0, 2, 1.0], [1, 3, 0.8], [4, 5, 0.8], [0, 3, 0.6], [2, 3, 0.6],
    ]  # fmt: skip
    (empty,) = PairTable([]).chunks()
    assert [*empty] == ["a", "b", "product", "detail"]


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the folder that is full, and as an error that the command line knows."""
    connect = sqlite3.connect

    def small(name: str) -> sqlite3.Connection:
        base = connect(name)
        base.execute("PRAGMA max_page_count = 3")
        return base

    monkeypatch.setattr(sqlite3, "connect", small)
    i = np.arange(5000)
    with pytest.raises(OSError, match=r"full.*TMPDIR"):
        PairTable([Pairs(i, i + 1, np.ones(5000))])


def cuts(pictures: np.ndarray) -> list[np.ndarray]:
    """Pictures (N, 1024) without some of their edges, each resized by itself."""
    boxes = [(left, top, 32 - right, 32 - bottom)
             for left, top, right, bottom in product((0, 1), repeat=4)]  # fmt: skip
    squares = [Image.fromarray(one.reshape(32, 32)) for one in pictures]
    return [
        np.stack([
            np.asarray(one.resize((32, 32), Image.Resampling.BILINEAR, box=box)).ravel()
            for one in squares
        ])
        for box in boxes[1:]
    ]  # fmt: skip


def test_cut_pairs_equal_brute_force() -> None:
    """Every cut of each picture is compared with all others as they are."""
    x, y = np.indices((32, 32)) / 31
    at = np.random.default_rng(0).uniform(0, 2, (150, 4))
    waves = [np.sin(5 * a * x + b) + np.cos(3 * c * y + d) for a, b, c, d in at]
    pictures = np.stack([(60 * w + 128).ravel() for w in waves]).astype(np.uint8)
    whole = unit(pictures).astype(float)
    best = np.max([unit(cut).astype(float) @ whole.T for cut in cuts(pictures)], axis=0)
    best = np.maximum(best, best.T)
    only = (best > CORRELATION) & (whole @ whole.T <= CORRELATION)
    expected = [(i, j, best[i, j]) for i, j in np.argwhere(np.triu(only, k=1))]
    assert len(expected) > 5
    (pairs,) = PairTable(cut_alike(pictures, CORRELATION)).chunks()
    rows = pairs.sort_values(["a", "b"])[["a", "b", "product"]].to_numpy()
    np.testing.assert_allclose(rows, expected, atol=1e-9)


def test_hash_pairs_equal_brute_force() -> None:
    """None is missed and none comes twice, of equal hashes and of near ones."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(2**63, size=40, dtype=np.uint64).repeat(10)
    flips = rng.integers(64, size=(len(hashes), 3)).astype(np.uint64)
    for flip, some in zip(flips.T, (100, 200, 400), strict=True):
        hashes[:some] ^= np.uint64(1) << flip[:some]
    differ = np.bitwise_count(hashes[:, None] ^ hashes)
    expected = sorted(map(tuple, np.argwhere(np.triu(differ <= 2, k=1)).tolist()))
    listed = [
        (*sorted((int(i), int(j))), value)
        for some in near_hashes(hashes)
        for i, j, value in zip(*some, strict=True)
    ]
    assert sorted(pair[:2] for pair in listed) == expected
    assert all(value == 1 - differ[i, j] / 32 for i, j, value in listed)
