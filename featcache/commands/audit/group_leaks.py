"""FC010 and FC011: where groups stand, and in how many classes."""

from featcache.commands.audit.base import (
    ISSUE,
    TIP,
    Answer,
    Check,
    NotApplicable,
    Row,
    in_splits,
    judged,
)
from featcache.commands.audit.context import Case
from featcache.dataset.splits import TEST


def _groups(case: Case) -> Answer:
    if not case.splits:
        raise NotApplicable("No split was drawn. Run: featcache train-head")
    rows: list[Row] = []
    torn = broken = 0
    for name, places in case.splits.items():
        if not places:
            broken += 1
            rows.append({"split": name, "problem": "it names no images"})
            continue
        stands = case.images.assign(place=case.images["image_id"].map(places))
        stands = stands.dropna(subset="place").astype({"place": int})
        for group, of in stands.groupby("group", sort=False):
            where = sorted(of["place"].unique().tolist())
            if len(where) > 1:
                torn += 1
                paths = of["path"].head(6).tolist()
                parts = ["test" if p == TEST else f"fold {p}" for p in where]
                rows.append({"split": name, "group": str(group), "parts": parts,
                             "images": len(of), "paths": paths})  # fmt: skip
    unread = f"; {broken} files cannot be read as splits" if broken else ""
    return judged(
        bool(rows),
        f"{torn} groups stand in more than one part, {in_splits(case, rows)}{unread}.",
        rows,
    )


def _classes(case: Case) -> Answer:
    table = case.images
    if table["group"].is_unique:
        raise NotApplicable(
            "Every image is a group of its own, so patients are not known. Run: "
            "featcache scan SOURCE --group-by COLUMN|REGEX"
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
    return judged(
        bool(rows),
        f"{len(rows)} of {table['group'].nunique()} groups have images of several "
        f"classes, {len(mixed)} images in all.",
        rows,
    )


CHECKS = (
    Check("FC010", "A group on both sides of a split", ISSUE, _groups),
    Check("FC011", "A group in several classes", TIP, _classes),
)
