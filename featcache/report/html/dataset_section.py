"""The data behind the runs: counts, groups, files left out, and the split."""

import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from featcache.dataset.manifest import DUPLICATE, OK, UNREADABLE
from featcache.evaluation.runs import TEST
from featcache.report.html.context import Material, source_columns

_MOST_LINES = 50
_NUMERIC = re.compile(r"[\d.,%() x-]+")
_SIZES = ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 10**9))


@dataclass(frozen=True)
class Table:
    """A table for the page.

    Attributes:
        caption: What it shows.
        head: Headings; the first column names the row.
        rows: Cells; numbers stay numbers.
        note: A line below; may be empty.
        bars: The last column is also drawn as bars.
    """

    caption: str
    head: list[str]
    rows: list[list[Any]]
    note: str = ""
    bars: bool = False

    def is_numeric(self, column: int) -> bool:
        """Whether a column holds numbers, or texts made of them."""
        return all(_NUMERIC.fullmatch(str(row[column])) for row in self.rows)


def tables(material: Material, pairs: list[tuple[str, str]] | None) -> list[Table]:
    """All tables of the data section that the records can fill.

    Args:
        material: The records.
        pairs: Look-alikes in different groups; None where nobody looked.
    """
    judged = material.judged
    found = [_classes(material), _split(judged), _sizes(judged)]
    if material.manifest is not None:
        found += [_files(material.manifest.table, UNREADABLE)]
        found += [_files(material.manifest.table, DUPLICATE)]
        found += [_alike(material, pairs or [])]
        found += _sources(material.images)
    return [table for table in found if table.rows]


def _classes(material: Material) -> Table:
    """Images and groups that were judged, and files that were not, by class."""
    judged = material.judged
    counts = judged.groupby("label").agg(n=("label", "size"), g=("group", "nunique"))
    mixed = int((judged.groupby("group")["label"].nunique() > 1).sum())
    others: dict[str, pd.Series] = {}
    if material.manifest is not None:
        files = material.manifest.table
        chosen = (files["status"] == OK) & ~files["image_id"].isin(judged.index)
        others = {
            "duplicates left out": files["status"] == DUPLICATE,
            "unreadable": files["status"] == UNREADABLE,
        }
        others |= {"not in these runs": chosen} if chosen.any() else {}
        others = {k: files.loc[v, "label"].value_counts() for k, v in others.items()}
    rows = [
        [name, *map(int, counts.loc[name])]
        + [int(count.get(name, 0)) for count in others.values()]
        for name in material.best.classes
    ]
    note = f"{mixed} groups hold images of several classes." if mixed else ""
    head = ["class", "images", "groups", *others]
    return Table("Images and groups by class", head, _with_sum(rows, judged), note)


def _with_sum(rows: list[list[Any]], judged: pd.DataFrame) -> list[list[Any]]:
    """A last row over all; a group of several classes counts once."""
    columns = list(zip(*rows, strict=True))[1:]
    sums = [sum(column) for column in columns]
    return [*rows, ["all", sums[0], judged["group"].nunique(), *sums[2:]]]


def _split(judged: pd.DataFrame) -> Table:
    """Images and groups of each class in each part."""
    classes = sorted(judged["label"].unique())
    rows = []
    for fold in sorted(judged["fold"].unique(), key=lambda f: (f < 0, f)):
        part = judged[judged["fold"] == fold]
        name = "test set" if fold < 0 else f"fold {fold}"
        cells = [_both(part[part["label"] == label]) for label in classes]
        rows.append([name, *cells, _both(part)])
    shared = judged.groupby("group")["fold"].nunique().max()
    note = "Each cell: images (groups). No group stands in two parts."
    if shared > 1:
        note = "Each cell: images (groups). Some groups stand in two parts: a leak."
    return Table("The split", ["part", *classes, "all"], rows, note)


def _both(part: pd.DataFrame) -> str:
    return f"{len(part)} ({part['group'].nunique()})"


def _sizes(judged: pd.DataFrame) -> Table:
    """How many groups have how many images."""
    sizes = judged.groupby("group").size()
    rows = []
    for low, high in _SIZES:
        if count := int(sizes.between(low, high).sum()):
            largest = min(high, int(sizes.max()))
            rows.append([str(low) if low == largest else f"{low} to {largest}", count])
    note = f"The largest group has {sizes.max()} images."
    return Table("Sizes of the groups", ["images", "groups"], rows, note, bars=True)


def _files(table: pd.DataFrame, status: str) -> Table:
    """Files of a status with the reason."""
    found = table[table["status"] == status]
    rows = found[["path", "label", "reason"]].head(_MOST_LINES).to_numpy().tolist()
    names = {UNREADABLE: "Unreadable files", DUPLICATE: "Duplicates that were left out"}
    more = len(found) - len(rows)
    note = f"{more} more are in manifest.csv." if more else ""
    return Table(
        f"{names[status]} ({len(found)})", ["path", "class", "reason"], rows, note
    )


def _alike(material: Material, pairs: list[tuple[str, str]]) -> Table:
    images, judged = material.images, material.judged
    rows = []
    for one, other in pairs:
        apart = judged["fold"].get(one) != judged["fold"].get(other)
        where = "in different parts" if apart else "in one part"
        rows.append([images["path"][one], images["path"][other], where])
    return Table(
        f"Images of different groups that look the same ({len(pairs)} pairs)",
        ["path", "path of the other", "in the split"],
        rows[:_MOST_LINES],
        "Small grey pictures that correlate above 0.99.",
    )


def _sources(images: pd.DataFrame) -> list[Table]:
    """Each source column against the class."""
    classes = sorted(images["label"].unique())
    found = []
    for name, values in source_columns(images).items():
        counts = pd.crosstab(values, images["label"])
        rows = [
            [str(value), *(int(row.get(label, 0)) for label in classes), int(row.sum())]
            for value, row in counts.iterrows()
        ]
        only = [str(value) for value, row in counts.iterrows() if (row > 0).sum() == 1]
        note = f"One class alone: {', '.join(only)}." if only else ""
        found.append(Table(f"Images by {name}", [name, *classes, "all"], rows, note))
    return found


def has_test(judged: pd.DataFrame) -> bool:
    """Whether there is a test set."""
    return bool((judged["split"] == TEST).any())
