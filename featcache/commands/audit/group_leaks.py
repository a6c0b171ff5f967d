"""FC010 and FC011: groups in several parts of a split, or in several classes."""

from dataclasses import replace

from featcache.commands.audit.base import (
    TIP,
    Answer,
    Check,
    NotApplicable,
    Row,
    conclude,
    in_splits,
    of_all,
)
from featcache.commands.audit.context import AuditContext
from featcache.commands.audit.own_splits import crossing_groups
from featcache.core.text import counted
from featcache.dataset.splits import TEST


def _groups(context: AuditContext) -> Answer:
    of_source, crossing = crossing_groups(context)
    none = f"There is no split yet. Run: {context.train_command}"
    if not context.splits and not crossing:
        raise NotApplicable(none)
    rows: list[Row] = []
    divided = broken = 0
    for name, fold_of in context.splits.items():
        if not fold_of:
            broken += 1
            rows.append({"split": name, "problem": "it names no images"})
            continue
        assigned = context.images.assign(place=context.images["image_id"].map(fold_of))
        assigned = assigned.dropna(subset="place").astype({"place": int})
        several = assigned.groupby("group")["place"].transform("nunique") > 1
        for group, of in assigned[several].groupby("group", sort=False):
            where = sorted(of["place"].unique().tolist())
            divided += 1
            paths = of["path"].head(6).tolist()
            parts = ["test" if p == TEST else f"fold {p}" for p in where]
            rows.append({"split": name, "group": str(group), "parts": parts,
                         "images": len(of), "paths": paths})  # fmt: skip
    unread = f"; {counted(broken, 'split file')} cannot be read" if broken else ""
    of_files = (
        f"{counted(divided, 'group is', 'groups are')} in more than one part, "
        f"{in_splits(context, rows)}{unread}."
    )
    message = f"{of_files if context.splits else none}{of_source}"
    answer = conclude(bool(rows or crossing), message, [*rows, *crossing])
    return replace(answer, severity=TIP) if crossing and not rows else answer


def _classes(context: AuditContext) -> Answer:
    table = context.images
    if table["group"].is_unique:
        raise NotApplicable(
            "Every image is a group of its own, so patients are unknown. If a column "
            "names them, put it in the place of COLUMN: "
            f"{context.manifest.scan_by_group()}"
        )
    mixed = table[table.groupby("group")["label"].transform("nunique") > 1]
    rows: list[Row] = [
        {
            "group": str(group),
            "labels": {str(k): int(n) for k, n in of["label"].value_counts().items()},
            "images": len(of),
            "paths": of["path"].head(6).tolist(),
        }
        for group, of in mixed.groupby("group", sort=False)
    ]
    rows.sort(key=lambda row: (-row["images"], row["group"]))
    return conclude(
        bool(rows),
        of_all(len(rows), table["group"].nunique(), "groups", "has", "have")
        + f" images of several classes, {counted(len(mixed), 'image')} in all.",
        rows,
    )


CHECKS = (
    Check("FC010", "Is a group on both sides of a split?", "issue", _groups),
    Check("FC011", "Is a group in several classes?", "tip", _classes),
)
