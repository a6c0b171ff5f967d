"""Files with the same bytes: one is kept, and two labels for them are refused."""

import pandas as pd

from featcache.core.text import counted, some
from featcache.dataset.manifest import DUPLICATE, OK
from featcache.dataset.own_split import PART, PARTS, part_of
from featcache.errors import DatasetError


def mark_duplicates(table: pd.DataFrame, on_conflict: str, warnings: list[str]) -> None:
    """Keeps one row a content, and marks the others as duplicates.

    Of copies in several parts of the source's own split that in test stays, else that
    in val, so that none is both trained on and tested on.

    Args:
        table: One row a file with image_id, label, path and status; changed.
        on_conflict: "drop" leaves the same bytes under two labels out.
        warnings: What the user should know is added here.

    Raises:
        DatasetError: The same bytes under two labels.
    """
    ok = table[table["status"] == OK]
    labels = ok.groupby("image_id")["label"].nunique()
    conflicts = ok[ok["image_id"].isin(labels[labels > 1].index)]
    if len(conflicts) and on_conflict != "drop":
        pairs = conflicts.sort_values("image_id", kind="stable")
        raise DatasetError(
            "one label for the same bytes",
            f"{counted(conflicts['image_id'].nunique(), 'image')} with two labels: "
            + some([f"{r.path} ({r.label})" for r in pairs.itertuples()], 8),
            "Remove the wrong copies, or exclude all of them with "
            "`on_conflict='drop'`.",
        )
    if PART in table:
        parts = ok[PART].map(part_of)
        rank = parts.map(lambda part: PARTS.index(part) if part else -1)
        order = rank.sort_values(ascending=False, kind="stable").index
        ok = ok.loc[order]
        several = parts.groupby(ok["image_id"]).nunique() > 1
        if n := int(several.sum()):
            copies = ok.loc[ok["image_id"] == several.idxmax(), "path"].tolist()
            warnings.append(
                f"{counted(n, 'image')} with the same bytes in several parts of the "
                "source's split, such as "
                f"{' and '.join(copies[:2])}; only the copy in test (or else val) is "
                "used"
            )
    later = ok[ok["image_id"].duplicated() & ~ok.index.isin(conflicts.index)]
    kept = ok.drop_duplicates("image_id").set_index("image_id")["path"]
    table.loc[later.index, "status"] = DUPLICATE
    table.loc[later.index, "reason"] = "same bytes as " + later["image_id"].map(kept)
    table.loc[conflicts.index, "status"] = DUPLICATE
    table.loc[conflicts.index, "reason"] = "same bytes under two labels"
