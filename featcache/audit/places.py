"""FC010: a group on both sides of a split."""

from featcache.audit.base import ISSUE, Answer, Check, NotApplicable, Row, judged
from featcache.audit.case import Case
from featcache.splits import TEST


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
        f"{torn} groups stand in more than one part, in {len(case.splits)} splits"
        f"{unread}.",
        rows,
    )


CHECKS = (Check("FC010", "A group on both sides of a split", ISSUE, _groups),)
