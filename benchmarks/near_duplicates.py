r"""Near-duplicates: the time by bounds, and by comparing each picture with all others.

    FEATCACHE_REAL_DATA=... python benchmarks/near_duplicates.py --images 20000 100000
    FEATCACHE_REAL_DATA=... python benchmarks/near_duplicates.py --ways cropped

The pictures are 32x32 greys of phantoms, or, with $FEATCACHE_REAL_DATA, of darkcovid.
Two at a time are mixed, shifted and magnified along both axes, brightened or darkened,
and get noise; 2 % are copies of others with more noise. Any two correlate about as much
as two radiographs do, which the table says.

Each way is measured in one run on the same pictures: "bounds" as audit does, "clusters"
as scan does, "cropped" as audit does for edges that are cut off, and "all pairs" by
products of blocks of 1024 rows, up to ``--all-pairs`` images, whose pairs are compared
with those of "bounds". CPU seconds are of all threads together; memory is
what the process grew by at most, the list of pairs included, and 0 where the system
does not say. Prints a table and appends it to benchmarks/near_duplicates.csv with
machine, versions and date.
"""

import argparse
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measurements import append
from PIL import Image

from featcache.commands.audit.similarity import PairTable, cut_alike
from featcache.dataset.near_duplicates import CORRELATION, cluster, unit
from featcache.dataset.phantom import draw
from featcache.dataset.similar_pairs import pairs_above
from featcache.dataset.thumbs import read_thumbs

BLOCK = 1024
SIDE = 32
WAYS = ["bounds", "clusters", "cropped", "all pairs"]
CLASSES = ("COVID", "NORMAL", "Viral Pneumonia")
LIBRARIES = ("featcache", "numpy", "scipy", "scikit-learn")


def originals() -> tuple[str, np.ndarray]:
    """The name and the greys (n, 1024) uint8 that pictures are made from."""
    if home := os.environ.get("FEATCACHE_REAL_DATA"):
        root = Path(home) / "data" / "darkcovid"
        paths = sorted(str(p.relative_to(root)) for p in root.glob("*/*.*"))
        return "darkcovid", read_thumbs(root, paths)
    chests = (draw(CLASSES[n % 3], patient=n).image for n in range(300))
    small = [Image.fromarray(c).resize((SIDE, SIDE)).convert("L") for c in chests]
    return "phantoms", np.stack([np.asarray(one).ravel() for one in small])


def resampled(rng: np.random.Generator, n: int) -> np.ndarray:
    """Matrices (n, 32, 32) that shift and magnify along an axis."""
    middle = (SIDE - 1) / 2
    zoom, shift = rng.uniform(0.9, 1.1, (n, 1)), rng.uniform(-2, 2, (n, 1))
    at = (np.arange(SIDE) - middle) * zoom + middle + shift
    apart = np.abs(np.clip(at, 0, SIDE - 1)[:, :, None] - np.arange(SIDE))
    weights: np.ndarray = np.maximum(0, 1 - apart).astype(np.float32)
    return weights


def pictures(base: np.ndarray, n: int) -> np.ndarray:
    """Makes pictures that are as alike as radiographs, (n, 1024) uint8."""
    rng = np.random.default_rng(n)
    rows = np.empty((n, SIDE**2), np.uint8)
    for start in range(0, n, 4096):
        m = len(rows[start : start + 4096])
        two = base[rng.integers(len(base), size=(2, m))].astype(np.float32)
        share = rng.uniform(0.5, 1, (m, 1)).astype(np.float32)
        mixed = (share * two[0] + (1 - share) * two[1]).reshape(m, SIDE, SIDE)
        mixed = resampled(rng, m) @ mixed @ resampled(rng, m).transpose(0, 2, 1)
        mixed = 255 * (mixed / 255) ** rng.uniform(0.7, 1.4, (m, 1, 1))
        mixed += rng.normal(0, 2, mixed.shape)
        rows[start : start + m] = np.clip(mixed, 0, 255).reshape(m, -1)
    to, of = rng.permutation(n)[: n // 50], rng.integers(n, size=n // 50)
    noise = rng.normal(0, rng.uniform(0.5, 5, (len(of), 1)), (len(of), SIDE**2))
    rows[to] = np.clip(rows[of] + noise, 0, 255)
    return rows


def by_bounds(rows: np.ndarray) -> set[tuple[int, int]]:
    """As audit does."""
    return listed(PairTable(pairs_above(rows, CORRELATION, scale=unit)))


def by_cropped(rows: np.ndarray) -> int:
    """As audit does for cut edges; how many pairs."""
    return len(listed(PairTable(cut_alike(rows, CORRELATION))))


def listed(pairs: PairTable) -> set[tuple[int, int]]:
    """All pairs of a table."""
    return {
        pair
        for chunk in pairs.chunks()
        for pair in zip(chunk["a"].tolist(), chunk["b"].tolist(), strict=True)
    }


def by_all_pairs(rows: np.ndarray) -> set[tuple[int, int]]:
    """Each block with all rows behind it."""
    scaled, pairs = unit(rows), set[tuple[int, int]]()
    for start in range(0, len(rows), BLOCK):
        near = scaled[start : start + BLOCK] @ scaled[start:].T > CORRELATION
        i, j = np.nonzero(np.triu(near, k=1)) + np.array(start)
        pairs |= set(zip(i.tolist(), j.tolist(), strict=True))
    return pairs


def by_clusters(rows: np.ndarray) -> int:
    """As scan does; how many clusters."""
    return len(set(cluster({str(i): row for i, row in enumerate(rows)}).values()))


def timed(call: Callable[[np.ndarray], Any], rows: np.ndarray) -> tuple[Any, dict]:
    """What a call returns; seconds, CPU seconds, and by what memory grew at most."""
    before, start, cpu = peak(reset=True), time.perf_counter(), time.process_time()
    value = call(rows)
    return value, {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "grown_mib": round(peak() - before),
    }


def peak(*, reset: bool = False) -> float:
    """The most memory of the process in MiB, from now on if it is reset."""
    process = Path("/proc/self")
    if not (process / "clear_refs").exists():
        return 0.0
    if reset:
        (process / "clear_refs").write_text("5")
    (line,) = re.findall(r"VmHWM:\s+(\d+)", (process / "status").read_text())
    return int(line) / 1024


def measure(
    name: str, base: np.ndarray, n: int, ways: list[str], most: int
) -> list[dict[str, Any]]:
    """The rows of the table for a number of images."""
    rows = pictures(base, n)
    some = unit(rows[:2000])
    products = (some @ some.T)[np.triu_indices(len(some), 1)]
    median, high = np.percentile(products, [50, 99.9]).round(3).tolist()
    about = {"pictures": name, "images": n, "median_r": median, "r_999": high}
    table, pairs = [], set[tuple[int, int]]()
    if "bounds" in ways:
        pairs, spent = timed(by_bounds, rows)
        table.append({**about, "way": "bounds", "pairs": len(pairs), **spent})
    if "clusters" in ways:
        n_clusters, spent = timed(by_clusters, rows)
        table.append({**about, "way": "clusters", "pairs": n - n_clusters, **spent})
    if "cropped" in ways:
        n_pairs, spent = timed(by_cropped, rows)
        table.append({**about, "way": "cropped", "pairs": n_pairs, **spent})
    if "all pairs" in ways and n <= most:
        expected, spent = timed(by_all_pairs, rows)
        table.append({**about, "way": "all pairs", "pairs": len(expected), **spent})
        print(f"{n} images: {len(pairs ^ expected)} pairs differ")
    return table


def main() -> None:
    """Measures, prints and appends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 20_000])
    parser.add_argument("--all-pairs", type=int, default=20_000, metavar="MOST")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    options = parser.parse_args()
    name, base = originals()
    by_bounds(pictures(base, 500))  # what is imported on first use
    for n in options.images:
        table = measure(name, base, n, options.ways, options.all_pairs)
        for row in table:
            print("  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
        append(Path(__file__), table, LIBRARIES)


if __name__ == "__main__":
    main()
