"""FC001 to FC006: the same image twice."""

import numpy as np
import pandas as pd

from featcache.commands.audit.base import (
    Answer,
    Check,
    NotApplicable,
    conclude,
    in_splits,
    of_all,
    records,
)
from featcache.commands.audit.context import AuditContext
from featcache.commands.audit.own_splits import sorted_copies
from featcache.commands.audit.similarity import alike, cut_alike
from featcache.core.text import counted
from featcache.dataset.grouping import NEAR_DUPLICATE
from featcache.dataset.manifest import DUPLICATE, UNREADABLE
from featcache.dataset.near_duplicates import CORRELATION

BITS = 2  # of 64 that may differ between perceptual hashes of one picture
CONFLICT = "same bytes under two labels"


def perceptual(context: AuditContext) -> pd.DataFrame:
    """Pairs whose perceptual hashes differ in at most 2 of 64 bits: a, b, bits."""
    known = context.images["phash"].str.fullmatch("[0-9a-f]{16}")
    at = np.flatnonzero(known)
    if not len(at):
        raise NotApplicable("The manifest has no perceptual hashes.")
    hashes = bytes.fromhex("".join(context.images["phash"][known]))
    rows = np.frombuffer(hashes, np.uint8).reshape(-1, 8)
    pairs = alike(rows, 1 - (2 * BITS + 1) / 64, _signs)
    bits = ((1 - pairs["product"]) * 32).round().astype(int)
    return pd.DataFrame({"a": at[pairs["a"]], "b": at[pairs["b"]], "bits": bits})


def _signs(hashes: np.ndarray) -> np.ndarray:
    """Hashes (N, 8) uint8 as rows (N, 64) of unit length, 1/8 or -1/8 for each bit."""
    return (np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1) / 8


def with_images(context: AuditContext, pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs with the path, label and group of both."""
    table = pairs.copy()
    for side in ("a", "b"):
        rows = context.images.iloc[pairs[side].to_numpy(int)]
        for column in ("image_id", "path", "label", "group"):
            table[f"{column}_{side}"] = rows[column].to_numpy()
    return table.drop(columns=["a", "b"])


def _bytes(context: AuditContext) -> Answer:
    readable = int((context.manifest.table["status"] != UNREADABLE).sum())
    copies, of_copies = sorted_copies(context)
    counts = of_all(
        len(copies),
        readable,
        "files",
        "is a byte-identical copy",
        "are byte-identical copies",
    )
    return conclude(
        bool(len(copies)),
        f"{counts} of another, excluded from all results.{of_copies}",
        records(copies),
    )


def _labels(context: AuditContext) -> Answer:
    table = context.manifest.table
    exact = table[(table["status"] == DUPLICATE) & (table["reason"] == CONFLICT)]
    rows = records(exact[["path", "label", "reason"]])
    try:
        near = with_images(context, context.near)
    except NotApplicable:
        if exact.empty:
            raise
        near = pd.DataFrame(columns=["label_a", "label_b"])
    near = near[near["label_a"] != near["label_b"]]
    return conclude(
        bool(len(exact) + len(near)),
        f"{counted(len(exact), 'byte-identical file')} and "
        f"{counted(len(near), 'pair')} of near-duplicates with different labels.",
        [*records(near), *rows],
    )


def made_by_scan(context: AuditContext) -> bool:
    """Whether the groups are scan's own near-duplicates, by the same threshold.

    Scan compared the files; the pictures of a store differ a little from these, so
    that a pair at the threshold may fall on either side of it.
    """
    return context.manifest.settings.group_by == NEAR_DUPLICATE


def _across_groups(
    context: AuditContext,
    pairs: pd.DataFrame,
    how: str,
    *,
    unreadable: int = 0,
    settled: bool = False,
) -> Answer:
    table = with_images(context, pairs)
    apart = table["group_a"] != table["group_b"]
    across, within = table[apart], table[~apart]
    unseen = f" {counted(unreadable, 'image')} cannot be read." if unreadable else ""
    if settled and len(across):
        unseen += " The groups are scan's own near-duplicates, so these are no leak."
    return conclude(
        bool(len(across)) and not settled,
        f"{counted(len(table), 'pair looks', 'pairs look')} the same ({how}): "
        f"{len(within)} within a group, "
        f"which a split keeps together, and {len(across)} in two different groups."
        f"{unseen}",
        [{**row, "within_group": False} for row in records(across)]
        + [{**row, "within_group": True} for row in records(within)],
    )


def _near(context: AuditContext) -> Answer:
    how = f"correlation above {CORRELATION}"
    return _across_groups(
        context,
        context.near,
        how,
        unreadable=context.unreadable,
        settled=made_by_scan(context),
    )


def _perceptual(context: AuditContext) -> Answer:
    return _across_groups(
        context, perceptual(context), f"at most {BITS} of 64 hash bits differ"
    )


def _cut(context: AuditContext) -> Answer:
    pairs = cut_alike(context.thumbs, CORRELATION)
    known = pd.MultiIndex.from_frame(context.near[["a", "b"]])
    new = pairs[~pd.MultiIndex.from_frame(pairs[["a", "b"]]).isin(known)]
    how = f"correlation above {CORRELATION} only after an edge is cropped"
    return _across_groups(
        context,
        new.rename(columns={"product": "correlation"}),
        how,
        unreadable=context.unreadable,
    )


def _across_parts(context: AuditContext) -> Answer:
    if not context.splits:
        raise NotApplicable(f"There is no split yet. Run: {context.train_command}")
    table, rows, total, tested = with_images(context, context.near), [], 0, 0
    for name, fold_of in context.splits.items():
        a, b = table["image_id_a"].map(fold_of), table["image_id_b"].map(fold_of)
        apart = a.notna() & b.notna() & (a != b)
        if made_by_scan(context):  # of its groups none may be parted
            apart &= table["group_a"] == table["group_b"]
        parted = table[apart].assign(split=name, place_a=a[apart], place_b=b[apart])
        parted["part"] = np.where(parted[["place_a", "place_b"]].min(axis=1) < 0,
                                 "test", "fold")  # fmt: skip
        total += len(parted)
        tested += int((parted["part"] == "test").sum())
        rows += records(parted.astype({"place_a": int, "place_b": int}))
    return conclude(
        bool(rows),
        f"{counted(total, 'pair')} of near-duplicates on both sides "
        f"{in_splits(context, rows)}: {tested} between train and test, "
        f"{total - tested} between two folds.",
        rows,
    )


CHECKS = (
    Check("FC001", "Are files byte-identical?", "tip", _bytes),
    Check("FC002", "Is an image under two labels?", "issue", _labels),
    Check("FC003", "Are near-duplicates in two groups?", "issue", _near),
    Check("FC004", "Are there near-duplicates by perceptual hash?", "tip", _perceptual),
    Check(
        "FC005", "Are near-duplicates on both sides of a split?", "issue", _across_parts
    ),
    Check("FC006", "Are there near-duplicates with cropped edges?", "tip", _cut),
)
