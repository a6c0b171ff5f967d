"""What the svm head loses by landmarks: the whole kernel against some of its rows.

    python benchmarks/svm_landmarks.py
    python benchmarks/svm_landmarks.py --store cache/chest/features/....h5 --views 2

Each seed draws which groups are held out (a quarter) and which rows are landmarks; all
variants are fitted on the same rows, one thread. Prints means over the seeds, and the
difference to the whole kernel with its standard error, and appends every fit to
benchmarks/svm_landmarks.csv.
"""

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from heads import generate, read
from measurements import append

LIBRARIES = ("featcache", "scikit-learn", "numpy")
WHOLE = 0  # landmarks


def fits(data: dict[str, Any], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every variant on every seed's split."""
    from featcache import heads
    from featcache.core.parallel import one_thread
    from featcache.evaluation.fitting import fit_predict
    from featcache.heads.tuning import scores

    names, lines = np.unique(data["groups"]), []
    for seed in range(options.seeds):
        shuffled = np.random.default_rng(seed).permutation(names)
        held_out = np.isin(data["groups"], shuffled[: len(names) // 4])
        for landmarks in (WHOLE, *options.landmarks):
            exact = 0 if landmarks else 10**9
            head = heads.make("svm", seed=seed, tune=options.tuned).set_params(
                exact_rows=exact, components=landmarks or 1
            )
            started = time.perf_counter()
            with one_thread():
                fit = fit_predict(
                    head,
                    **data,
                    train=np.flatnonzero(~held_out),
                    held_out=np.flatnonzero(held_out),
                    n_classes=3,
                )
            line = {
                "data": options.store.stem if options.store else "generated",
                "tuned": options.tuned,
                "seed": seed,
                "rows": int((~held_out).sum()) * data["X"].shape[1],
                "width": data["X"].shape[2],
                "landmarks": landmarks,
                "seconds": round(time.perf_counter() - started, 1),
            }
            line |= scores(data["y"][held_out], fit.p)
            print(line, flush=True)
            lines.append(line)
    return lines


def show(lines: list[dict[str, Any]]) -> None:
    """A row for each number of landmarks."""
    whole = [one for one in lines if one["landmarks"] == WHOLE]
    print(f"{'landmarks':>9}{'fit s':>8}{'accuracy':>10}{'difference':>18}", end="")
    print(f"{'log-loss':>10}{'difference':>18}")
    for landmarks in dict.fromkeys(one["landmarks"] for one in lines):
        ones = [one for one in lines if one["landmarks"] == landmarks]
        text = f"{landmarks or 'whole':>9}{np.mean([x['seconds'] for x in ones]):8.1f}"
        for name in ("accuracy", "log_loss"):
            gaps = [x[name] - w[name] for x, w in zip(ones, whole, strict=True)]
            error = np.std(gaps, ddof=1) / len(gaps) ** 0.5 if len(gaps) > 1 else np.nan
            text += f"{np.mean([x[name] for x in ones]):10.4f}"
            text += f"{np.mean(gaps):+10.4f} ({error:.4f})"
        print(text)


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, help="a feature store; else generated")
    parser.add_argument("--views", type=int, default=2, help="of the store")
    parser.add_argument("--images", type=int, default=8000, help="generated")
    parser.add_argument("--width", type=int, default=1024, help="generated")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--landmarks", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--tuned", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.store:
        data = read(options.store, options.views)
    else:
        data = generate(options.images, options.width, 0)
    lines = fits(data, options)
    show(lines)
    append(Path(__file__), lines, LIBRARIES)


if __name__ == "__main__":
    main()
