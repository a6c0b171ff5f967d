"""FC001 to FC006: the same picture twice."""

import numpy as np
import pandas as pd

from featcache.commands.audit.base import (
    ISSUE,
    TIP,
    Answer,
    Check,
    NotApplicable,
    in_splits,
    judged,
    records,
)
from featcache.commands.audit.context import Case
from featcache.commands.audit.similarity import alike, cut_alike
from featcache.dataset.manifest import DUPLICATE, UNREADABLE
from featcache.dataset.near_duplicates import CORRELATION

BITS = 2  # of 64 that may differ between perceptual hashes of one picture
CONFLICT = "same bytes under two labels"


def perceptual(case: Case) -> pd.DataFrame:
    """Pairs whose perceptual hashes differ in at most 4 of 64 bits: a, b, bits."""
    known = case.images["phash"].str.fullmatch("[0-9a-f]{16}")
    at = np.flatnonzero(known)
    if not len(at):
        raise NotApplicable("The manifest has no perceptual hashes.")
    numbers = np.array([list(bytes.fromhex(h)) for h in case.images["phash"][known]])
    signs = np.unpackbits(numbers.astype(np.uint8), axis=1).astype(np.float32) * 2 - 1
    pairs = alike(signs, 64 - 2 * BITS - 1)
    rows = [(at[a], at[b], round((64 - dot) / 2)) for a, b, dot in pairs]
    return pd.DataFrame(rows, columns=["a", "b", "bits"])


def told(case: Case, pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs with the path, label and group of both."""
    table = pairs.copy()
    for side in ("a", "b"):
        rows = case.images.iloc[pairs[side].to_numpy(int)]
        for column in ("image_id", "path", "label", "group"):
            table[f"{column}_{side}"] = rows[column].to_numpy()
    return table.drop(columns=["a", "b"])


def _bytes(case: Case) -> Answer:
    table = case.manifest.table
    readable = table[table["status"] != UNREADABLE]
    again = readable[readable["status"] == DUPLICATE]
    rows = records(again[["path", "label", "reason"]])
    return judged(
        bool(len(again)),
        f"{len(again)} of {len(readable)} files have the bytes of another, and are "
        "left out of all figures.",
        rows,
    )


def _labels(case: Case) -> Answer:
    table = case.manifest.table
    exact = table[(table["status"] == DUPLICATE) & (table["reason"] == CONFLICT)]
    rows = records(exact[["path", "label", "reason"]])
    try:
        near = told(case, case.near)
    except NotApplicable:
        if exact.empty:
            raise
        near = pd.DataFrame(columns=["label_a", "label_b"])
    near = near[near["label_a"] != near["label_b"]]
    return judged(
        bool(len(exact) + len(near)),
        f"{len(exact)} files of the same bytes and {len(near)} pairs of "
        "near-duplicates stand under two labels.",
        [*records(near), *rows],
    )


def _across_groups(
    case: Case, pairs: pd.DataFrame, how: str, *, lost: int = 0
) -> Answer:
    table = told(case, pairs)
    apart = table["group_a"] != table["group_b"]
    across, within = table[apart], table[~apart]
    unseen = f" {lost} images cannot be read." if lost else ""
    return judged(
        bool(len(across)),
        f"{len(table)} pairs look the same ({how}): {len(within)} within "
        f"a group, which a split keeps together, {len(across)} in two groups.{unseen}",
        [{**row, "within_group": False} for row in records(across)]
        + [{**row, "within_group": True} for row in records(within)],
    )


def _near(case: Case) -> Answer:
    how = f"correlation above {CORRELATION}"
    return _across_groups(case, case.near, how, lost=case.lost)


def _perceptual(case: Case) -> Answer:
    return _across_groups(case, perceptual(case), f"at most {BITS} of 64 bits differ")


def _cut(case: Case) -> Answer:
    known = set(zip(case.near["a"], case.near["b"], strict=True))
    pairs = cut_alike(case.thumbs, CORRELATION)
    new = [pair for pair in pairs if pair[:2] not in known]
    how = f"correlation above {CORRELATION} once an edge is cut, and not before"
    return _across_groups(
        case,
        pd.DataFrame(new, columns=["a", "b", "correlation"]),
        how,
        lost=case.lost,
    )


def _across_parts(case: Case) -> Answer:
    if not case.splits:
        raise NotApplicable("No split was drawn. Run: featcache train-head")
    table, rows = told(case, case.near), []
    for name, places in case.splits.items():
        a, b = table["image_id_a"].map(places), table["image_id_b"].map(places)
        apart = a.notna() & b.notna() & (a != b)
        found = table[apart].assign(split=name, place_a=a[apart], place_b=b[apart])
        found["part"] = np.where(found[["place_a", "place_b"]].min(axis=1) < 0,
                                 "test", "fold")  # fmt: skip
        rows += records(found.astype({"place_a": int, "place_b": int}))
    tested = sum(row["part"] == "test" for row in rows)
    return judged(
        bool(rows),
        f"{len(rows)} times two near-duplicates stand on both sides, "
        f"{in_splits(case, rows)}: {tested} of train and test, {len(rows) - tested} of "
        "two folds.",
        rows,
    )


CHECKS = (
    Check("FC001", "Files with the same bytes", TIP, _bytes),
    Check("FC002", "The same picture under two labels", ISSUE, _labels),
    Check("FC003", "Near-duplicates in two groups", ISSUE, _near),
    Check("FC004", "Near-duplicates by perceptual hash", TIP, _perceptual),
    Check("FC005", "Near-duplicates on both sides of a split", ISSUE, _across_parts),
    Check("FC006", "Near-duplicates with edges cut off", TIP, _cut),
)
