"""FC020 to FC022: what can be had without looking at the subject."""

from functools import partial

import numpy as np

from featcache import metrics
from featcache.audit.base import ISSUE, TIP, Answer, Check, NotApplicable, judged
from featcache.audit.case import (
    MAJORITY,
    UNTRAINED,
    Case,
    accuracy,
    blocks,
    out_of_fold,
    right,
)
from featcache.runs import Run

LARGE = 0.25  # of the best run's advantage: a quarter is not for free


def share(
    best: np.ndarray, plain: np.ndarray, usual: np.ndarray, groups: np.ndarray
) -> tuple[float, tuple[float, float]]:
    """The share of an advantage over majority that is reached, with its interval.

    (accuracy of plain - majority) / (accuracy of best - majority). The interval is of
    2.5 to 97.5 % of the same quotient over resamples of whole groups, drawn together
    for all three.

    Args:
        best: Whether the best run is right, (N,).
        plain: Whether the plain run is right, (N,).
        usual: Whether the most frequent class is right, (N,).
        groups: (N,).
    """
    table = np.stack([plain, best, usual], axis=1).astype(float)
    whole = table.sum(axis=0)
    draws = metrics.bootstrap_sums(table, groups)
    gain = np.maximum(draws[:, 1] - draws[:, 2], 1e-9)
    low, high = np.quantile((draws[:, 0] - draws[:, 2]) / gain, [0.025, 0.975])
    return float((whole[0] - whole[2]) / (whole[1] - whole[2])), (low, high)


def _reached(name: str, case: Case) -> Answer:
    best = case.best
    if best is None:
        raise NotApplicable("No run of a network. Run: featcache train-head")
    plain = _best_of(case, name)
    groups = case.judged["group"].to_numpy()
    labels = case.judged["label"]
    usual = (labels == labels.mode()[0]).to_numpy()
    hits = right(best)
    low, _ = metrics.group_bootstrap(hits, groups)
    if not low > usual.mean():
        raise NotApplicable("The best run is no better than the most frequent class.")
    value, (least, most) = share(hits, right(plain), usual, groups)
    row = {
        "run": plain.run_id, "accuracy": accuracy(plain), "best": best.run_id,
        "best_accuracy": float(hits.mean()), "majority": float(usual.mean()),
        "share": value, "share_low": least, "share_high": most,
    }  # fmt: skip
    return judged(
        least > LARGE,
        f"{name} alone reaches {row['accuracy']:.3f}, the best run "
        f"{row['best_accuracy']:.3f}, the most frequent class {row['majority']:.3f}: "
        f"{value:.0%} [{least:.0%}, {most:.0%}] of the advantage.",
        [row],
    )


def _best_of(case: Case, name: str) -> Run:
    ids = case.judged["image_id"].tolist()
    for run in case.runs:  # the best first
        named = {block["backbone"] for block in blocks(run)} == {name}
        learns = run.record["head"] not in (MAJORITY, UNTRAINED)
        if named and learns and out_of_fold(run)["image_id"].tolist() == ids:
            return run
    dataset = case.manifest.dataset
    raise NotApplicable(
        f"No run on {name} that was judged as the best. Run: featcache extract "
        f"--dataset {dataset} -b {name} && featcache train-head --dataset {dataset} "
        f"-b {name} with the split and options of the best run"
    )


CHECKS = (
    Check("FC020", "The file alone tells the class", ISSUE,
          partial(_reached, "metadata")),
    Check("FC021", "The border alone tells the class", ISSUE,
          partial(_reached, "border")),
    Check("FC022", "48x48 pixels tell the class", TIP, partial(_reached, "pixels48")),
)  # fmt: skip
