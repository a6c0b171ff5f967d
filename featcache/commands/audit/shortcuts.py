"""FC020 to FC025: what can be had without looking at the subject."""

from functools import partial

import numpy as np
import pandas as pd

from featcache.commands.audit.base import (
    ISSUE,
    TIP,
    Answer,
    Check,
    NotApplicable,
    Row,
    judged,
)
from featcache.commands.audit.context import Case, accuracy, out_of_fold, right
from featcache.dataset.regions import INSIDE, MASK, OUTSIDE, RING, WHOLE, Region
from featcache.evaluation import metrics
from featcache.evaluation.record import UNTRAINED, FeatureBlock
from featcache.evaluation.runs import Run

LARGE = 0.25  # of the best run's advantage: a quarter is not for free
_NAMES = {
    INSIDE: "The masked region alone",
    OUTSIDE: "The picture without the masked region",
    RING: "A network on the outer ring",
}


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


def _free(name: str, case: Case) -> Answer:
    """A finding where a baseline, or a region without the subject, reaches much."""
    row = _reached(name, case)
    return judged(row["share_low"] > LARGE, _told(name, row), [row])


def _lacking(name: str, case: Case) -> Answer:
    """A finding where the subject alone does not reach much."""
    row = _reached(name, case)
    return judged(row["share_high"] < 1 - LARGE, _told(name, row), [row])


def _told(name: str, row: Row) -> str:
    share, least, most = (f"{row[k]:.0%}" for k in ("share", "share_low", "share_high"))
    return (
        f"{_NAMES.get(name, f'{name} alone')} reaches {row['accuracy']:.3f}, the best "
        f"run {row['best_accuracy']:.3f}, the most frequent class "
        f"{row['majority']:.3f}: {share} [{least}, {most}] of the advantage."
    )


def _reached(name: str, case: Case) -> Row:
    best = case.best
    if best is None:
        raise NotApplicable("No run of a network. Run: featcache train-head")
    plain = _best_of(case, best, name)
    groups = case.judged["group"].to_numpy()
    labels = case.judged["label"]
    usual = (labels == labels.mode()[0]).to_numpy()
    hits = right(best)
    low, _ = metrics.group_bootstrap(hits, groups)
    if not low > usual.mean():
        raise NotApplicable("The best run is no better than the most frequent class.")
    value, (least, most) = share(hits, right(plain), usual, groups)
    return {
        "run": plain.run_id, "accuracy": accuracy(plain), "best": best.run_id,
        "best_accuracy": float(hits.mean()), "majority": float(usual.mean()),
        "share": value, "share_low": least, "share_high": most,
    }  # fmt: skip


def _best_of(case: Case, best: Run, name: str) -> Run:
    """The best run on a baseline, or by a network on a region."""
    ids = case.judged["image_id"].tolist()
    has_masks = bool(case.images.get(MASK, pd.Series()).any())
    for run in case.runs:  # the best first
        suits = all(_is_on(name, block, has_masks) for block in run.record.features)
        learns = run.record.head not in UNTRAINED
        if suits and learns and out_of_fold(run)["image_id"].tolist() == ids:
            return run
    if name in _NAMES and Region(name).needs_mask and not has_masks:
        raise NotApplicable(
            f"No masks: the manifest has no column {MASK}, which a scan fills from "
            "masks/ beside images/. Another: featcache extract --mask COLUMN."
        )
    words = f"-b {name}" if name not in _NAMES else _on_region(best, name)
    dataset = case.manifest.dataset
    raise NotApplicable(
        f"No run on {name} that was judged as the best. Run: featcache extract "
        f"--dataset {dataset} {words} && featcache train-head --dataset {dataset} "
        f"{words} with the split and options of the best run"
    )


def _is_on(name: str, block: FeatureBlock, has_masks: bool) -> bool:
    """Whether features are a baseline's, or a network's on a region.

    Masks of other columns count only where there are none in the usual one.
    """
    region = block.shown
    if name not in _NAMES:
        return block.backbone == name and region.kind == WHOLE
    usual = region.mask in ("", MASK) or not has_masks
    return region.kind == name and block.weights != "none" and usual


def _on_region(best: Run, name: str) -> str:
    """The words that ask for the best run's networks on a region."""
    names = [
        f"-b {block.backbone}" + ".keras" * (block.weights == "file")
        for block in best.record.features
        if block.weights != "none"
    ]
    return " ".join([*dict.fromkeys(names), f"--region {name}"])


CHECKS = (
    Check("FC020", "The file alone tells the class", ISSUE,
          partial(_free, "metadata")),
    Check("FC021", "The border alone tells the class", ISSUE,
          partial(_free, "border")),
    Check("FC022", "48x48 pixels tell the class", TIP, partial(_free, "pixels48")),
    Check("FC023", "The picture without the masked region tells the class", ISSUE,
          partial(_free, OUTSIDE)),
    Check("FC024", "The masked region alone does not tell the class", TIP,
          partial(_lacking, INSIDE)),
    Check("FC025", "The outer ring tells the class to a network", ISSUE,
          partial(_free, RING)),
)  # fmt: skip
