"""Grouping: what must stay together in a split."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from featcache.dataset.manifest import UNREADABLE, Settings, some
from featcache.errors import DatasetError

NEAR_DUPLICATE, IMAGE = "near-duplicate", "image"
DICOM = "dicom:"
# Grey 32x32 pictures of one radiograph correlate above this; two patients' do not.
NEAR_DUPLICATE_CORRELATION = 0.99


def given_groups(
    table: pd.DataFrame, listed: pd.DataFrame, settings: Settings, warnings: list[str]
) -> pd.Series:
    """Groups from a column, a regular expression, or each image its own."""
    by = settings.group_by
    if by == IMAGE:
        return table["image_id"]
    if by in listed.columns:
        groups = listed[by].str.strip()
    else:
        names = table["path"].map(lambda path: Path(path).name)
        groups = names.str.extract(_pattern(by, listed, settings), expand=False)
    groups = groups.where(groups != "")
    without = int(groups.isna().sum())
    if without == len(table):
        raise DatasetError(
            f"`group_by={by}` to name a group",
            f"no file with one, e.g. {table['path'].iloc[0]}",
            "Correct the column or the expression.",
        )
    if without:
        warnings.append(f"{without} files name no group; each is a group of its own")
    copies = groups[table["status"] != UNREADABLE].groupby(table["image_id"])
    several = copies.transform("nunique") > 1
    if several.any():
        paths = table.loc[several[several].index, "path"].tolist()
        warnings.append(f"the same bytes under two groups: {some(paths)}")
    # A copy that names a group tells the others', whichever of them is kept.
    return copies.transform("first").combine_first(groups).fillna(table["image_id"])


def _pattern(by: str, listed: pd.DataFrame, settings: Settings) -> re.Pattern[str]:
    try:
        pattern = re.compile(by)
        if pattern.groups == 1:
            return pattern
    except re.error:
        pass
    beside = Path(settings.source) / "metadata.csv"
    hint = f" Columns come with a CSV: scan {beside}." if beside.is_file() else ""
    columns = ", ".join(c for c in listed.columns if c not in ("path", "label"))
    raise DatasetError(
        "`group_by` with a column, a regular expression with one group, "
        f"dicom:KEYWORD, image or near-duplicate (columns: {columns or 'none'})",
        by,
        f"Name a column, or write an expression such as '(\\d{{8}})_'.{hint}",
    )


def near_duplicates(thumbs: dict[str, np.ndarray]) -> dict[str, str]:
    """Clusters pictures whose grey 32x32 forms correlate above 0.99.

    Args:
        thumbs: (1024,) uint8 by image_id.

    Returns:
        image_id to the id of the cluster's first picture.
    """
    ids = list(thumbs)
    if not ids:
        return {}
    pictures = unit(np.stack([thumbs[i] for i in ids]))
    rows, columns = [], []
    for start in range(0, len(ids), 1024):
        near = pictures[start : start + 1024] @ pictures.T > NEAR_DUPLICATE_CORRELATION
        row, column = np.nonzero(near)
        rows.append(row + start)
        columns.append(column)
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = csr_array((np.ones(len(row), bool), (row, column)), (len(ids),) * 2)
    _, cluster = connected_components(graph, directed=False)
    first = {c: ids[i] for i, c in reversed(list(enumerate(cluster)))}
    return {image_id: first[c] for image_id, c in zip(ids, cluster, strict=True)}


def unit(thumbs: np.ndarray) -> np.ndarray:
    """Removes each picture's mean and brings it to unit norm, (N, 1024) float32.

    The product of two is their correlation; a picture of one grey becomes zeros.
    """
    pictures = thumbs.astype(np.float32)
    pictures -= pictures.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(pictures, axis=1, keepdims=True)
    np.divide(pictures, norms, out=pictures, where=norms > 0)
    return pictures
