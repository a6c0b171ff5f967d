"""Refusal on real X-rays: what is refused, and what passes that should not.

    FEATCACHE_REAL_DATA=... python benchmarks/refusal.py --cache CACHE

Needs in $FEATCACHE_REAL_DATA data/darkcovid/metadata.csv and the weights in
``NETWORKS``. Photographs are the sample pictures of scikit-learn and, where it is
installed, of scikit-image. For each of five outer folds over patients, a refusal is
fitted on the other four (with five folds of its own for the thresholds) and scores the
held-out patients, pictures that were made of held-out X-rays, and foreign pictures; all
are JPEG files like the training images. Prints the share refused and appends it to
benchmarks/refusal.csv with machine, versions and date. ``--time`` measures a fit on
20,000 rows of 1,280 generated columns instead.
"""

import argparse
import os
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import refusal_images
from measurements import append

import featcache
from featcache.dataset import images, manifest
from featcache.dataset.splits import assign_folds
from featcache.deploy.refusal import COLUMNS, PARTS, Refusal, picture_statistics

NETWORKS = {
    "squeezenet1_1": {
        "backbone": "squeezenet1_1_imagenet.keras",
        "preprocess": "caffe",
        "input_size": 224,
    },
    "efficientnet_lite0": {
        "backbone": "efficientnet_lite0_imagenet.keras",
        "preprocess": "none",
    },
}
LIBRARIES = ("featcache", "numpy", "scikit-learn", "scikit-image", "pillow", "openvino")
FOLDS = 5
PATIENTS, IMAGES = "held-out patients", "held-out images"


@dataclass
class Pictures:
    """A set of pictures, decoded from their files.

    Attributes:
        pixels: Of each, what a network is given.
        statistics: (N, 264).
        of: The X-ray that each was made of, by its row; None where they are foreign.
    """

    pixels: list[Any]
    statistics: np.ndarray
    of: np.ndarray | None = None


@dataclass
class Tally:
    """Refusals of one set.

    Attributes:
        count: Of scored rows; foreign pictures count once a fold.
        parts: How many of them each part refused.
    """

    count: int = 0
    parts: Counter[str] = field(default_factory=Counter)

    def add(self, parts: list[str]) -> None:
        """Counts rows by what refused them, "" for nothing."""
        self.count += len(parts)
        self.parts.update(part for part in parts if part)

    def share(self, part: str = "") -> float:
        """Share of the rows that a part, or any, refused."""
        refused = self.parts[part] if part else self.parts.total()
        return refused / self.count


def decoded(files: list[bytes], of: np.ndarray | None = None) -> Pictures:
    """Decodes and measures files."""
    pictures = [images.read(data) for data in files]
    pairs = zip(pictures, files, strict=True)
    rows = [picture_statistics(picture, len(data)) for picture, data in pairs]
    return Pictures([picture.image for picture in pictures], np.stack(rows), of)


def make_sets(xrays: Pictures, sample: int) -> dict[str, Pictures]:
    """Everything that is scored beside the held-out patients."""
    photographs = refusal_images.photographs()
    grey = [picture.convert("L") for picture in photographs]
    colour = [picture for picture in photographs if picture.mode == "RGB"]
    foreign = {
        "photographs in colour": colour,
        "photographs, made grey": grey,
        "grey patches of photographs": refusal_images.patches(photographs),
        "phantoms": refusal_images.phantoms(),
        "blank": refusal_images.blank(),
        "noise": refusal_images.noise(),
    }
    sets = {n: decoded(list(map(refusal_images.encode, p))) for n, p in foreign.items()}
    rows = np.sort(np.random.default_rng(0).permutation(len(xrays.pixels))[:sample])
    for name, change in refusal_images.CHANGES.items():
        changed = [refusal_images.encode(change(xrays.pixels[row])) for row in rows]
        sets[name] = decoded(changed, rows)
    return sets


def folds_of(table: Any, seed: int) -> np.ndarray:
    """Folds over patients."""
    columns = [table[name].to_numpy() for name in ("image_id", "label", "group")]
    folds = assign_folds(*columns, folds=FOLDS, test_size=0, seed=seed)
    return np.array([folds[image] for image in table["image_id"]])


def fit(table: Any, X: np.ndarray, plain: np.ndarray, seed: int, share: float) -> Any:
    """A refusal of some patients, with folds of its own."""
    return Refusal.fit(
        X,
        plain,
        [{}] * len(X),
        table["group"],
        table["label"],
        table["image_id"].tolist(),
        folds_of(table, 100 + seed),
        share=share,
    )


def measure(
    table: Any,
    xrays: Pictures,
    sets: dict[str, Pictures],
    embeddings: dict[str, np.ndarray],
    options: argparse.Namespace,
) -> dict[str, Tally]:
    """Scores held-out patients in every repeat, all other sets in the first."""
    X, groups = embeddings[IMAGES], table["group"].to_numpy()
    tallies = {name: Tally() for name in (PATIENTS, IMAGES, *sets)}
    for seed in range(options.repeats):
        outer = folds_of(table, seed)
        for fold in range(FOLDS):
            held = np.flatnonzero(outer == fold)
            rows = np.flatnonzero(outer != fold)
            train = table.iloc[rows]
            refusal = fit(train, X[rows], xrays.statistics[rows], seed, options.share)
            parts = scored(refusal, X[held], xrays.statistics[held])
            tallies[IMAGES].add(parts)
            first = dict(
                sorted(zip(groups[held], parts, strict=True))
            )  # "" sorts first
            tallies[PATIENTS].add(list(first.values()))
            for name, pictures in sets.items() if seed == 0 else ():
                of = pictures.of
                use = slice(None) if of is None else np.isin(of, held)
                vectors = embeddings[name][use]
                tallies[name].add(scored(refusal, vectors, pictures.statistics[use]))
    return tallies


def scored(refusal: Any, X: np.ndarray, plain: np.ndarray) -> list[str]:
    """What refuses each row."""
    parts: list[str] = refusal.score(X, plain, [{}] * len(X)).part
    return parts


def show(results: dict[str, dict[str, Tally]], counts: dict[str, int]) -> None:
    """Prints the table: refused in all, and by the statistics alone."""
    print(
        f"{'':34}{'number':>7}", *(f"{name:>20}{'statistics':>12}" for name in results)
    )
    for name, number in counts.items():
        cells = [tallies[name] for tallies in results.values()]
        shares = [f"{c.share():20.1%}{c.share('statistics'):12.1%}" for c in cells]
        print(f"{name:34}{number:7}", *shares)


def real(options: argparse.Namespace) -> None:
    """Measures on darkcovid."""
    home = Path(os.environ["FEATCACHE_REAL_DATA"])
    source = home / "data" / "darkcovid" / "metadata.csv"
    featcache.scan(source, group_by="patient", cache=options.cache)
    dataset = manifest.load(Path(options.cache) / "darkcovid")
    table = dataset.ok.reset_index(drop=True)
    paths = [dataset.root / path for path in table["path"]]
    xrays = decoded([path.read_bytes() for path in paths])
    sets = make_sets(xrays, options.sample)
    counts = {PATIENTS: table["group"].nunique(), IMAGES: len(table)}
    counts |= {name: len(pictures.pixels) for name, pictures in sets.items()}
    results = {}
    for network, words in NETWORKS.items():
        file = home / "weights" / str(words["backbone"])
        embedder = featcache.Embedder(
            **words | {"backbone": file}, cache=options.cache, progress=False
        )
        vectors = {IMAGES: embedder.transform([str(path) for path in paths])}
        for name, pictures in sets.items():
            vectors[name] = embedder.transform(pictures.pixels)
        results[network] = measure(table, xrays, sets, vectors, options)
    show(results, counts)
    rows = [
        {
            "network": network,
            "share": options.share,
            "repeats": options.repeats if name in (PATIENTS, IMAGES) else 1,
            "set": name,
            "number": counts[name],
            "refused": round(tally.share(), 4),
            "statistics": round(tally.share("statistics"), 4),
            "distance": round(tally.share("distance"), 4),
        }
        for network, tallies in results.items()
        for name, tally in tallies.items()
    ]
    append(Path(__file__), rows, LIBRARIES)


def timed(count: int = 20_000, width: int = 1280) -> None:
    """Fits on generated rows; scores a thousand."""
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, width + 1, dtype=np.float32) ** -0.7
    X = rng.normal(size=(count, width)).astype(np.float32) * spectrum
    plain = rng.normal(size=(count, len(COLUMNS))).astype(np.float32)
    groups = np.arange(count) // 2
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    refusal = Refusal.fit(
        *(X, plain, [{}] * count, groups, groups % 3),
        [f"{row:064x}" for row in range(count)],
        groups % FOLDS,
    )
    fitted = time.perf_counter()
    refusal.score(X[:1000], plain[:1000], [{}] * 1000)
    scored_at = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"fit on {count} x {width}: {fitted - started:.1f} s")
    print(f"1,000 rows: {scored_at - fitted:.2f} s")
    print(f"peak memory {peak / 2**20:.2f} GiB, {before / 2**20:.2f} before the fit")
    print(dict(zip(PARTS, refusal.calibration.thresholds, strict=True)))


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", help="folder for features", default="cache")
    parser.add_argument("--share", type=float, default=0.01, help="of patients")
    parser.add_argument(
        "--sample", type=int, default=300, help="X-rays that are changed"
    )
    parser.add_argument("--repeats", type=int, default=3, help="draws of outer folds")
    parser.add_argument("--time", action="store_true", help="time a large fit instead")
    options = parser.parse_args()
    if options.time:
        timed()
    else:
        real(options)


if __name__ == "__main__":
    main()
