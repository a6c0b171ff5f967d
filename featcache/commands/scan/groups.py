"""Grouping: what must stay together in a split."""

import re

import pandas as pd

from featcache.core.text import counted, some
from featcache.dataset.grouping import DICOM, MISSING, NEAR_DUPLICATE, group_pattern
from featcache.dataset.images import dicom
from featcache.dataset.manifest import IMAGE, UNREADABLE, Manifest, Settings
from featcache.dataset.urls import Url, location
from featcache.errors import DatasetError


def dicom_keyword(group_by: str) -> str:
    """The DICOM element to read: the one to group by, else the patient's id."""
    if not group_by.startswith(DICOM):
        return dicom.PATIENT
    keyword = group_by.removeprefix(DICOM)
    dicom.check_keyword(keyword)
    return keyword


def check_grouping(listed: pd.DataFrame, settings: Settings) -> None:
    """Refuses a grouping that can never work, before any image is read.

    Raises:
        DatasetError: It is neither a column nor anything else.
    """
    by = settings.group_by
    if by not in (IMAGE, NEAR_DUPLICATE, *listed.columns) and not by.startswith(DICOM):
        _pattern(by, listed, settings)


def given_groups(
    table: pd.DataFrame, listed: pd.DataFrame, settings: Settings, warnings: list[str]
) -> pd.Series:
    """Groups from a column, a regular expression, or each image its own.

    Raises:
        DatasetError: No image has a group.
    """
    by = settings.group_by
    if by == IMAGE:
        return table["image_id"]
    if by in listed.columns:
        groups = listed[by].str.strip()
    else:
        groups = _extracted(table, _pattern(by, listed, settings))
    groups = groups.where(groups != "")
    named_missing = groups.str.lower().isin(MISSING)
    groups = groups.mask(named_missing)
    without = int(groups.isna().sum())
    if without == len(table):
        where = "the column" if by in listed.columns else "a file name or folder"
        raise DatasetError(
            f"groups named by {by} (`group_by`)",
            f"none in {where} of any file, e.g. {_inside(table).iloc[0]}",
            "Correct the column or the expression.",
        )
    if without:
        words = sorted({*listed.loc[named_missing, by]} if by in listed else ())
        said = f" ({some(words)} counts as none)" if words else ""
        warnings.append(
            f"{counted(without, 'file has', 'files have')} no group{said}; "
            "each becomes a group of its own"
        )
    copies = groups[table["status"] != UNREADABLE].groupby(table["image_id"])
    several = copies.transform("nunique") > 1
    if several.any():
        paths = table.loc[several[several].index, "path"].tolist()
        warnings.append(f"the same bytes under two groups: {some(paths)}")
    # A copy that names a group tells the others', whichever of them is kept.
    return copies.transform("first").combine_first(groups).fillna(table["image_id"])


def _extracted(table: pd.DataFrame, pattern: re.Pattern[str]) -> pd.Series:
    """What an expression finds in file names; if in none, in the folders as well."""
    names = table["path"].str.rpartition("/")[2]
    groups = names.str.extract(pattern, expand=False)
    if (groups.fillna("") == "").all():
        groups = _inside(table).str.extract(pattern, expand=False)
    return groups


def _inside(table: pd.DataFrame) -> pd.Series:
    """Each path below its class folder; whole where it is in none."""
    pairs = zip(table["path"], table["label"], strict=True)
    below = [f"/{path}".partition(f"/{label}/")[2] or path for path, label in pairs]
    return pd.Series(below, index=table.index)


def _pattern(by: str, listed: pd.DataFrame, settings: Settings) -> re.Pattern[str]:
    if pattern := group_pattern(by):
        return pattern
    beside = location(settings.source) / "metadata.csv"
    is_there = not isinstance(beside, Url) and beside.is_file()
    hint = f" Columns come with a CSV: scan {beside}." if is_there else ""
    columns = ", ".join(c for c in listed.columns if c not in ("path", "label"))
    raise DatasetError(
        "`group_by` with a column, a regular expression with one group, "
        f"dicom:KEYWORD, image or near-duplicate (columns: {columns or 'none'})",
        by,
        f"Name a column, or give an expression such as '(\\d{{8}})_'.{hint}",
    )


def previous_clusters(manifest: Manifest) -> dict[str, str]:
    """Near-duplicate groups of an earlier scan by image_id; empty if it had others."""
    if manifest.settings.group_by != NEAR_DUPLICATE:
        return {}
    return dict(zip(manifest.table["image_id"], manifest.table["group"], strict=True))
