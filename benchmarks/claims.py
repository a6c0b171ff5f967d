"""Claims about an order of runs, held against a truth that is known.

    python benchmarks/claims.py
    python benchmarks/claims.py --draws 200 --groups 150 --spread 0

Draws datasets of groups of unequal size (1 to 12 images, most of them small), and runs
whose accuracies are known: a run is right on an image where its ability, a share of the
image's and group's difficulty that all runs have in common, and a part of its own (of
the group and of the image) add up to more than zero. Prints

    reliability   of the pairs whose P(not better) lies in a band, the share in which
                  the run is in truth at least as good; of a pair named beforehand, and
                  of each run against the best of the table, which was selected on the
                  same images
    ranks         how often the ranks of all runs lie in their intervals at once, and
                  how wide these are

and appends every table to benchmarks/claims.csv.
"""

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from measurements import append
from scipy.stats import norm

from featcache.evaluation import metrics

LIBRARIES = ("featcache", "numpy", "scipy")
BANDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0001)
OWN = 0.8  # variance that is a run's own; the rest of 1 is common to all
IN_GROUP = 0.5  # share of either variance that images of a group share


def dataset(rng: np.random.Generator, groups: int, abilities: np.ndarray) -> Any:
    """Groups (N,) and whether each run is right on each image, (K, N)."""
    sizes = 1 + rng.geometric(0.5, groups).clip(max=12) * (rng.random(groups) < 0.4)
    members = np.repeat(np.arange(groups), sizes)

    def part(variance: float, *shape: int) -> np.ndarray:
        of_group = rng.normal(size=(*shape, groups))[..., members]
        of_image = rng.normal(size=(*shape, len(members)))
        mixed = np.sqrt(IN_GROUP) * of_group + np.sqrt(1 - IN_GROUP) * of_image
        return np.asarray(np.sqrt(variance) * mixed)

    latent = part(1 - OWN) + part(OWN, len(abilities))
    return members, latent + abilities[:, None] > 0


def probabilities(right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and two-class probabilities of a run that is right on these images."""
    y = np.zeros(len(right), int)
    p = np.where(right, 0.9, 0.1)
    return y, np.column_stack([p, 1 - p])


def differing(right: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Groups in which two runs have different numbers of images right, (K, K)."""
    counts = np.stack([np.bincount(members, one) for one in right])
    return np.asarray((counts[:, None] != counts[None]).sum(axis=2))


def trials(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What is claimed of each dataset, and what is true."""
    rng = np.random.default_rng(options.seed)
    for _ in range(options.draws):
        spread = options.spread * rng.normal(size=options.runs)
        abilities = norm.ppf(options.accuracy) + spread
        members, right = dataset(rng, options.groups, abilities)
        apart = differing(right, members)
        posterior, resampled = [], []
        for one in right:
            y, P = probabilities(one)
            posterior.append(metrics.bayesian_bootstrap(y, P, members, "accuracy"))
            table = np.column_stack([one, np.ones(len(one))]).astype(float)
            hits, images = metrics.bootstrap_sums(table, members).T
            resampled.append(hits / images)
        yield {
            "truth": norm.cdf(abilities),
            "scores": right.mean(axis=1),
            "apart": apart,
            "posterior": posterior,
            "ranks": metrics.rank_intervals(
                right.mean(axis=1), resampled, apart, groups=options.groups
            ),
        }


def claims(trial: dict[str, Any], i: int, j: int) -> tuple[float, bool]:
    """P(run i at least as good as run j), and whether it is."""
    change = trial["posterior"][i] - trial["posterior"][j]
    p = metrics.at_least_as_good(change, differing=int(trial["apart"][i, j]))
    return p, bool(trial["truth"][i] >= trial["truth"][j])


def in_ranks(trial: dict[str, Any]) -> bool:
    """Whether the ranks that each run truly shares lie in its interval."""
    truth = trial["truth"]
    first = [1 + (truth > one).sum() for one in truth]
    last = [(truth >= one).sum() for one in truth]
    within = zip(trial["ranks"], first, last, strict=True)
    return all(low <= start and end <= high for (low, high), start, end in within)


def print_reliability(name: str, pairs: list[tuple[float, bool]]) -> str:
    """Prints the share that is true in each band of P; the table in one line."""
    p, true = (np.array(column, float) for column in zip(*pairs, strict=True))
    print(f"\n{name}\nP(not better)   pairs   mean P   at least as good")
    cells = []
    for low, high in pairwise(BANDS):
        band = (p >= low) & (p < high)
        if not band.any():
            continue
        pairs_in, mean, share = band.sum(), p[band].mean(), true[band].mean()
        ends = f"{low:.2f} to {min(high, 1):.2f}"
        print(f"{ends} {pairs_in:8d} {mean:8.3f} {share:12.3f}")
        cells.append(f"{mean:.3f}={share:.3f}({pairs_in})")
    return " ".join(cells)


def main() -> None:
    """Prints both tables and appends them to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--groups", type=int, default=300)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--accuracy", type=float, default=0.85)
    parser.add_argument("--spread", type=float, default=0.15, help="of the abilities")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    named, selected, covered, widths = [], [], [], []
    for trial in trials(options):
        best = int(trial["scores"].argmax())
        named.append(claims(trial, 0, 1))
        selected += [claims(trial, i, best) for i in range(options.runs) if i != best]
        covered.append(in_ranks(trial))
        widths.append(np.mean([high - low + 1 for low, high in trial["ranks"]]))
    size = f"{options.groups}x{options.runs} accuracy {options.accuracy}"
    size += f" spread {options.spread} draws {options.draws}"
    print(size)
    tables = {
        "a pair named beforehand": print_reliability("a pair named beforehand", named),
        "against the best": print_reliability("against the best", selected),
        "ranks": f"covered={np.mean(covered):.3f} width={np.mean(widths):.2f}",
    }
    print(f"\nranks: {tables['ranks']}")
    rows = [{"table": name, "size": size, "result": t} for name, t in tables.items()]
    append(Path(__file__), rows, LIBRARIES)


if __name__ == "__main__":
    main()
