"""FC020 to FC025: the accuracy reached without the region of interest."""

import shlex
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from featcache.commands.audit.base import (
    Answer,
    Check,
    NotApplicable,
    Row,
    conclude,
)
from featcache.commands.audit.context import AuditContext, accuracy, out_of_fold, right
from featcache.core.text import percent
from featcache.dataset.regions import INSIDE, MASK, OUTSIDE, RING, WHOLE, Region
from featcache.evaluation import metrics
from featcache.evaluation.record import UNTRAINED, FeatureBlock
from featcache.evaluation.runs import Run
from featcache.features.extractions import network_words, read_extractions
from featcache.features.store import network_options

_NAMES = {
    INSIDE: "the masked region alone",
    OUTSIDE: "the image without the masked region",
    RING: "the outer ring alone",
}
_BASELINES = {
    "metadata": "the properties of the file alone",
    "border": "the border alone",
    "pixels48": "48x48 pixels alone",
}
_SEEN = _NAMES | _BASELINES  # what a run sees, in words


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
    reached, most, guess = map(float, table.sum(axis=0))
    draws = list(metrics.bootstrap_sums(table, groups).T)
    return metrics.share_of_gain(reached, most, guess, draws)


def _shortcut(name: str, context: AuditContext) -> Answer:
    """A finding where a baseline, or a part without the region, reaches much."""
    row = _advantage(name, context)
    return conclude(row["share_low"] > metrics.LARGE_SHARE, _message(name, row), [row])


def _insufficient(name: str, context: AuditContext) -> Answer:
    """A finding where the masked region alone does not reach much."""
    row = _advantage(name, context)
    return conclude(
        row["share_high"] < 1 - metrics.LARGE_SHARE, _message(name, row), [row]
    )


def _message(name: str, row: Row) -> str:
    return (
        f"Accuracy from {_SEEN[name]} {row['accuracy']:.3f}, of the best run "
        f"{row['best_accuracy']:.3f}, of the most frequent class "
        f"{row['majority']:.3f}: {percent(row['share'])} of the advantage (95 %: "
        f"{100 * row['share_low']:.0f} to {percent(row['share_high'])})."
    )


def _advantage(name: str, context: AuditContext) -> Row:
    best = context.best
    if best is None:
        raise NotApplicable(f"No run of a network. Run: {context.train_command}")
    plain = _best_of(context, best, name)
    groups = context.predictions["group"].to_numpy()
    labels = context.predictions["label"]
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


def _best_of(context: AuditContext, best: Run, name: str) -> Run:
    """The best run on a baseline, or by a network on a region."""
    ids = context.predictions["image_id"].tolist()
    has_masks = bool(context.images.get(MASK, pd.Series()).any())
    for run in context.runs:  # the best first
        suits = all(_is_on(name, block, has_masks) for block in run.record.features)
        learns = run.record.head not in UNTRAINED
        if suits and learns and out_of_fold(run)["image_id"].tolist() == ids:
            return run
    if name in _NAMES and Region(name).needs_mask and not has_masks:
        commands = _missing_commands(context, best, name, "--mask", "COLUMN")
        raise NotApplicable(
            f"No masks: the manifest has no column {MASK}, which scan fills from a "
            "folder masks/ beside images/. If another column names them, put it in the "
            f"place of COLUMN: {commands}"
        )
    commands = _missing_commands(context, best, name)
    raise NotApplicable(
        f"No run on {_SEEN[name]} with the same evaluation as the best run. "
        f"Run: {commands}"
    )


def _is_on(name: str, block: FeatureBlock, has_masks: bool) -> bool:
    """Whether features are a baseline's, or a network's on a region.

    Masks of other columns count only where there are none in the usual one.
    """
    region = block.image_region
    if name not in _NAMES:
        return block.backbone == name and region.kind == WHOLE
    usual = region.mask in ("", MASK) or not has_masks
    return region.kind == name and block.weights != "none" and usual


def _missing_commands(context: AuditContext, best: Run, name: str, *mask: str) -> str:
    """The commands that make a run on a baseline, or by the best networks on a region.

    They are evaluated as the best run is.
    """
    dataset = ["--dataset", context.manifest.dataset]
    region = ["--region", name, *mask] if name in _NAMES else []
    lines, trained = [], ["-b", name]
    if not region:
        lines.append(["extract", *dataset, *trained])
    else:
        trained = []
        calls = read_extractions(context.manifest.folder)
        for block in best.record.features:
            stem = Path(block.store).stem if block.store else block.backbone
            if block.weights != "none" and stem not in trained:
                trained += ["-b", stem]
                file = best.record.network_file
                words = network_words(block.backbone, block.weights, calls, file=file)
                words += network_options(block, block.weights)
                lines.append(["extract", *dataset, *words, *region])
    split = best.record.split_options(context.manifest.settings)
    words = [*trained, *region, *split]
    lines.append(["train-head", *dataset, *words])
    return " && ".join(shlex.join(["featcache", *line]) for line in lines)


CHECKS = (
    Check("FC020", "Do file properties alone predict the class?", "issue",
          partial(_shortcut, "metadata")),
    Check("FC021", "Does the border alone predict the class?", "issue",
          partial(_shortcut, "border")),
    Check("FC022", "Do 48x48 pixels predict the class?", "tip",
          partial(_shortcut, "pixels48")),
    Check("FC023", "Does the image without the masked region predict the class?",
          "issue", partial(_shortcut, OUTSIDE)),
    Check("FC024", "Is the masked region alone too little to predict the class?",
          "tip", partial(_insufficient, INSIDE)),
    Check("FC025", "Does the outer ring predict the class?", "issue",
          partial(_shortcut, RING)),
)  # fmt: skip
