"""The data behind the runs: counts, groups, files left out, and the split."""

import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from featcache.core.text import counted, some
from featcache.dataset.manifest import DUPLICATE, OK, UNREADABLE
from featcache.evaluation.runs import TEST
from featcache.report.html.context import ReportContext

_MOST_LINES = 50
_NUMERIC = re.compile(r"[\d.,%() x-]+")
_MANY_IMAGES = 20
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


def tables(context: ReportContext, pairs: list[tuple[str, str]] | None) -> list[Table]:
    """All tables of the data section that the records can fill.

    Args:
        context: The records.
        pairs: Look-alikes in different groups; None if images could not be compared.
    """
    evaluated = context.evaluated
    candidates = [_classes(context), _split(evaluated), _sizes(evaluated)]
    if context.manifest is not None:
        candidates += [_files(context.manifest.table, UNREADABLE)]
        candidates += [_files(context.manifest.table, DUPLICATE)]
        candidates += [_alike(context, pairs or [])]
        candidates += _sources(context)
    return [table for table in candidates if table.rows]


def _classes(context: ReportContext) -> Table:
    """Images and groups that were evaluated, and files that were not, by class."""
    evaluated = context.evaluated
    counts = evaluated.groupby("label").agg(n=("label", "size"), g=("group", "nunique"))
    # A test set may lack a class.
    counts = counts.reindex(context.best.classes, fill_value=0)
    mixed = int((evaluated.groupby("group")["label"].nunique() > 1).sum())
    others: dict[str, pd.Series] = {}
    if context.manifest is not None:
        files = context.manifest.table
        unused = (files["status"] == OK) & ~files["image_id"].isin(evaluated.index)
        others = {
            "excluded duplicates": files["status"] == DUPLICATE,
            "unreadable": files["status"] == UNREADABLE,
        }
        others |= {"not in these runs": unused} if unused.any() else {}
        others = {k: files.loc[v, "label"].value_counts() for k, v in others.items()}
    rows = [
        [name, *map(int, counts.loc[name])]
        + [int(count.get(name, 0)) for count in others.values()]
        for name in context.best.classes
    ]
    note = f"{mixed} groups contain images of several classes." if mixed else ""
    head = ["class", "images", "groups", *others]
    return Table("Images and groups by class", head, _with_sum(rows, evaluated), note)


def _with_sum(rows: list[list[Any]], evaluated: pd.DataFrame) -> list[list[Any]]:
    """A last row over all; a group of several classes counts once."""
    columns = list(zip(*rows, strict=True))[1:]
    sums = [sum(column) for column in columns]
    return [*rows, ["all", sums[0], evaluated["group"].nunique(), *sums[2:]]]


def _split(evaluated: pd.DataFrame) -> Table:
    """Images and groups of each class in each part."""
    classes = sorted(evaluated["label"].unique())
    rows = []
    for fold in sorted(evaluated["fold"].unique(), key=lambda f: (f < 0, f)):
        part = evaluated[evaluated["fold"] == fold]
        name = "test set" if fold < 0 else f"fold {fold}"
        cells = [_both(part[part["label"] == label]) for label in classes]
        rows.append([name, *cells, _both(part)])
    shared = evaluated.groupby("group")["fold"].nunique().max()
    note = "Each cell: images (groups). No group is in two parts."
    if shared > 1:
        note = "Each cell: images (groups). Some groups are in two parts: a leak."
    return Table("The split", ["part", *classes, "all"], rows, note)


def _both(part: pd.DataFrame) -> str:
    return f"{len(part)} ({part['group'].nunique()})"


def _sizes(evaluated: pd.DataFrame) -> Table:
    """How many groups have how many images."""
    sizes = evaluated.groupby("group").size()
    rows = []
    for low, high in _SIZES:
        if count := int(sizes.between(low, high).sum()):
            largest = min(high, int(sizes.max()))
            rows.append([str(low) if low == largest else f"{low} to {largest}", count])
    note = f"The largest group has {sizes.max()} images."
    return Table("Sizes of the groups", ["images", "groups"], rows, note, bars=True)


def _files(table: pd.DataFrame, status: str) -> Table:
    """Files of a status with the reason."""
    files = table[table["status"] == status]
    rows = files[["path", "label", "reason"]].head(_MOST_LINES).to_numpy().tolist()
    names = {UNREADABLE: "Unreadable files", DUPLICATE: "Excluded duplicates"}
    more = len(files) - len(rows)
    note = f"{more} more are in manifest.csv." if more else ""
    return Table(
        f"{names[status]} ({len(files)})", ["path", "class", "reason"], rows, note
    )


def _alike(context: ReportContext, pairs: list[tuple[str, str]]) -> Table:
    images, evaluated = context.images, context.evaluated
    rows = []
    for one, other in pairs:
        apart = evaluated["fold"].get(one) != evaluated["fold"].get(other)
        where = "in different parts" if apart else "in one part"
        rows.append([images["path"][one], images["path"][other], where])
    return Table(
        f"Near-identical images in different groups ({len(pairs)} pairs)",
        ["path", "path of the other image", "in the split"],
        rows[:_MOST_LINES],
        "Correlation of grey 32x32 thumbnails above 0.99.",
    )


def one_class_values(context: ReportContext) -> str:
    """Which values of source columns have one class alone; empty where none has."""
    labels, lines = context.images["label"], []
    for name, values in context.sources.items():
        counts = pd.crosstab(values, labels)
        alone = (counts > 0).sum(axis=1).eq(1) & counts.sum(axis=1).ge(_MANY_IMAGES)
        lines += [
            f"{name} {value} ({counted(int(row.sum()), 'image')}, all {row.idxmax()})"
            for value, row in counts[alone].iterrows()
        ]
    if not lines:
        return ""
    return (
        f"Some values of columns occur with one class only: {some(lines, 4)}. A run "
        "may recognise the value instead of the class, and these images cannot tell "
        "which: leave them out (--exclude), or add images of other classes"
    )


def _sources(context: ReportContext) -> list[Table]:
    """Each source column against the class."""
    images = context.images
    classes = sorted(images["label"].unique())
    by_source = []
    for name, values in context.sources.items():
        counts = pd.crosstab(values, images["label"])
        rows = [
            [str(value), *(int(row.get(label, 0)) for label in classes), int(row.sum())]
            for value, row in counts.iterrows()
        ]
        only = [str(value) for value, row in counts.iterrows() if (row > 0).sum() == 1]
        note = f"Values with a single class: {', '.join(only)}." if only else ""
        by_source.append(
            Table(f"Images by {name}", [name, *classes, "all"], rows, note)
        )
    return by_source


def has_test(evaluated: pd.DataFrame) -> bool:
    """Whether there is a test set."""
    return bool((evaluated["split"] == TEST).any())
