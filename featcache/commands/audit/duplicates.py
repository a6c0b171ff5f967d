"""FC001 to FC006: the same image twice."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from featcache.commands.audit.base import (
    Answer,
    Check,
    NotApplicable,
    Tally,
    conclude,
    in_splits,
    of_all,
    records,
)
from featcache.commands.audit.context import AuditContext
from featcache.commands.audit.detail import MOST
from featcache.commands.audit.own_splits import sorted_copies
from featcache.commands.audit.similarity import (
    BITS,
    PairTable,
    cut_alike,
    near_hashes,
)
from featcache.core.text import counted
from featcache.dataset.grouping import NEAR_DUPLICATE
from featcache.dataset.manifest import DUPLICATE, UNREADABLE
from featcache.dataset.near_duplicates import CORRELATION
from featcache.dataset.similar_pairs import Pairs

CONFLICT = "same bytes under two labels"


def perceptual(context: AuditContext) -> Iterator[Pairs]:
    """Pairs whose perceptual hashes differ in at most 2 of 64 bits."""
    known = context.images["phash"].str.fullmatch("[0-9a-f]{16}")
    at = np.flatnonzero(known)
    if not len(at):
        raise NotApplicable("The manifest has no perceptual hashes.")
    hashes = bytes.fromhex("".join(context.images["phash"][known]))
    for i, j, value in near_hashes(np.frombuffer(hashes, ">u8").astype(np.uint64)):
        yield Pairs(at[i], at[j], value)


def _differ(context: AuditContext, pairs: pd.DataFrame, column: str) -> np.ndarray:
    """Which pairs differ in a column of their images, (n,) bool."""
    values = context.images[column].to_numpy()
    return np.asarray(values[pairs["a"]] != values[pairs["b"]])


def with_images(
    context: AuditContext, pairs: pd.DataFrame, *, in_bits: bool = False
) -> pd.DataFrame:
    """Pairs with the path, label and group of both, and how alike they are."""
    table = pairs.rename(columns={"product": "bits" if in_bits else "correlation"})
    if in_bits:
        table["bits"] = ((1 - table["bits"]) * 32).round().astype(int)
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
    near = Tally()
    try:
        for pairs in context.near.chunks():
            table = with_images(context, pairs[_differ(context, pairs, "label")])
            near.add(table)
            context.write_rows("FC002", table)
    except NotApplicable:
        if exact.empty:
            raise
    return conclude(
        bool(len(exact) + near.count),
        f"{counted(len(exact), 'byte-identical file')} and "
        f"{counted(near.count, 'pair')} of near-duplicates with different labels.",
        [*near.rows, *rows],
    )


def made_by_scan(context: AuditContext) -> bool:
    """Whether the groups are scan's own near-duplicates, by the same threshold.

    Scan compared the files; the pictures of a store differ a little from these, so
    that a pair at the threshold may fall on either side of it.
    """
    return context.manifest.settings.group_by == NEAR_DUPLICATE


def compared(similar: PairTable) -> str:
    """What the comparison in detail changed: sentences, or nothing."""
    text = ""
    if similar.dropped:
        more = counted(similar.dropped, "more pair looks", "more pairs look")
        text = f" {more} the same only when small, and not in detail."
    if similar.unconfirmed:
        pairs = counted(similar.unconfirmed, "pair was", "pairs were")
        text += (
            f" {pairs} not compared in detail: a file cannot be read, or there are "
            f"more than {MOST:,} pairs."
        )
    return text


def _across_groups(
    context: AuditContext,
    code: str,
    similar: PairTable,
    how: str,
    *,
    unreadable: int = 0,
    settled: bool = False,
    in_bits: bool = False,
) -> Answer:
    across, within = Tally(), Tally()
    for is_within, tally in ((False, across), (True, within)):
        for pairs in similar.chunks():
            of_kind = pairs[_differ(context, pairs, "group") != is_within]
            table = with_images(context, of_kind, in_bits=in_bits)
            table["within_group"] = is_within
            tally.add(table)
            context.write_rows(code, table)
    unseen = compared(similar)
    if unreadable:
        unseen += f" {counted(unreadable, 'image')} cannot be read."
    if settled and across.count:
        unseen += " The groups are scan's own near-duplicates, so these are no leak."
    total = across.count + within.count
    return conclude(
        bool(across.count) and not settled,
        f"{counted(total, 'pair looks', 'pairs look')} the same ({how}): "
        f"{within.count} within a group, "
        f"which a split keeps together, and {across.count} in two different groups."
        f"{unseen}",
        [*across.rows, *within.rows],
    )


def _near(context: AuditContext) -> Answer:
    return _across_groups(
        context,
        "FC003",
        context.near,
        f"correlation above {CORRELATION}",
        unreadable=context.unreadable,
        settled=made_by_scan(context),
    )


def _perceptual(context: AuditContext) -> Answer:
    how = f"at most {BITS} of 64 hash bits differ"
    table = context.confirmed(perceptual(context))
    return _across_groups(context, "FC004", table, how, in_bits=True)


def _cut(context: AuditContext) -> Answer:
    context.near  # noqa: B018  (not applicable where that is not)
    return _across_groups(
        context,
        "FC006",
        context.confirmed(cut_alike(context.thumbs, CORRELATION)),
        f"correlation above {CORRELATION} only after an edge is cropped",
        unreadable=context.unreadable,
    )


def _across_parts(context: AuditContext) -> Answer:
    if not context.splits:
        raise NotApplicable(f"There is no split yet. Run: {context.train_command}")
    ids, scans_own = context.images["image_id"], made_by_scan(context)
    fold_of = {name: ids.map(of).to_numpy(float) for name, of in context.splits.items()}
    tallies, tested = {name: Tally() for name in fold_of}, 0
    for pairs in context.near.chunks():
        if scans_own:  # of its groups none may be parted
            pairs = pairs[~_differ(context, pairs, "group")]
        for name, fold in fold_of.items():
            a, b = fold[pairs["a"]], fold[pairs["b"]]
            apart = ~np.isnan(a) & ~np.isnan(b) & (a != b)
            a, b = a[apart].astype(int), b[apart].astype(int)
            parted = with_images(context, pairs[apart])
            parted = parted.assign(split=name, place_a=a, place_b=b)
            parted["part"] = np.where(np.minimum(a, b) < 0, "test", "fold")
            tallies[name].add(parted)
            tested += int((parted["part"] == "test").sum())
            context.write_rows("FC005", parted)
    rows = [row for tally in tallies.values() for row in tally.rows]
    total = sum(tally.count for tally in tallies.values())
    return conclude(
        bool(total),
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
