"""Files with the same bytes: one is kept, and two labels for them are refused."""

import pandas as pd

from featcache.core.text import counted, some
from featcache.dataset.manifest import DUPLICATE, OK, PART, PARTS
from featcache.errors import DatasetError


def mark_duplicates(
    table: pd.DataFrame, on_conflict: str, warnings: list[str], *, parted: bool
) -> None:
    """Keeps one row a content, and marks the others as duplicates.

    Args:
        table: One row a file with image_id, label, path and status; changed.
        on_conflict: "drop" leaves the same bytes under two labels out.
        warnings: What the user should know is added here.
        parted: The source's own split is kept: of copies in several parts that of
            test stays, else that of val, so that none is trained on.

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
    if parted:
        ok = ok.sort_values(PART, key=lambda c: -c.map(PARTS.index), kind="stable")
        several = ok.groupby("image_id")[PART].nunique() > 1
        if several.any():
            warnings.append(
                f"{counted(several.sum(), 'image has', 'images have')} the same bytes "
                "in two parts of the "
                "source's split; only the copies in test (or else val) are used"
            )
    later = ok[ok["image_id"].duplicated() & ~ok.index.isin(conflicts.index)]
    kept = ok.drop_duplicates("image_id").set_index("image_id")["path"]
    table.loc[later.index, "status"] = DUPLICATE
    table.loc[later.index, "reason"] = "same bytes as " + later["image_id"].map(kept)
    table.loc[conflicts.index, "status"] = DUPLICATE
    table.loc[conflicts.index, "reason"] = "same bytes under two labels"
