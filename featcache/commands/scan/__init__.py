"""``featcache scan``: from a folder or CSV to a manifest that can be trusted."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featcache.commands.scan import thumbs as small
from featcache.commands.scan.decoding import (
    FLAT,
    MEASURED,
    NOTHING,
    Inspected,
    identify,
    measure,
    measured_facts,
)
from featcache.commands.scan.duplicates import mark_duplicates
from featcache.commands.scan.groups import (
    given_groups,
    previous_clusters,
)
from featcache.commands.scan.suspicions import suspicions
from featcache.core.io import lock
from featcache.core.progress import SILENT, Reporter
from featcache.core.text import check_name
from featcache.dataset import manifest, near_duplicates, sources
from featcache.dataset.grouping import DICOM, NEAR_DUPLICATE
from featcache.dataset.manifest import DUPLICATE, OK, UNREADABLE, Manifest, Settings
from featcache.dataset.own_split import NO_SPLIT, PART, PARTS
from featcache.dataset.sources import remote
from featcache.dataset.urls import Location, absolute
from featcache.errors import DatasetError, UsageError


@dataclass(frozen=True)
class ScanResult:
    """What a scan found.

    Attributes:
        manifest: The manifest, as written.
        warnings: What the user should know.
        counts: Usable images of each class, in class order.
        unreadable: (path, reason) of each file that cannot be read.
        duplicates: Files left out because their bytes are there already.
        n_groups: Groups among the usable images.
        n_new: Images that had to be decoded.
        parts: Usable images of each part of the source's own split, if it is kept.
        changed: Whether the manifest is other than before.
    """

    manifest: Manifest
    warnings: list[str]
    counts: dict[str, int]
    unreadable: list[tuple[str, str]]
    duplicates: int
    n_groups: int
    n_new: int
    parts: dict[str, int]
    changed: bool


def scan(
    source: Location,
    cache: Path,
    *,
    dataset: str | None = None,
    group_by: str | None = None,
    per_class: int | None = None,
    on_conflict: str | None = None,
    split_by: str | None = None,
    pool: bool | None = None,
    fewest_classes: int = 2,
    reporter: Reporter = SILENT,
) -> ScanResult:
    """Makes or refreshes the manifest of a source.

    Options left at None keep what the dataset was last scanned with, so that a
    refresh does not silently regroup it.

    Args:
        source: Folder with one sub-folder a class or with a metadata.csv, zip of
            one, or CSV with path,label; here, or as `urls.location` names it.
        cache: The cache folder; the manifest goes to ``cache/<dataset>``.
        dataset: Name; by default the source folder's.
        group_by: A column, a regular expression with one group for the file name (or
            the folders, if it fits no file name), "dicom:" and the keyword of a DICOM
            element, "image", or "near-duplicate" (the default where there is no
            column ``group``).
        per_class: Take the first so many images of each class, in natural order or
            that of the CSV; 0 for all.
        on_conflict: The same bytes under two labels: "error" (default) or "drop".
        split_by: Keep the split that the source brings, its test set as that of every
            evaluation: "folder" for folders called train, val and test, or a column
            with these; "none" for splits that are drawn.
        pool: Join the parts of the split that the source brings.
        fewest_classes: How many there must be; 1 for images that are only scored.
        reporter: Hears how many images are read, as "scan".

    Raises:
        DatasetError: The source or its grouping cannot be used.
        UsageError: An argument that can never work.
    """
    if per_class is not None and per_class < 0:
        raise UsageError(
            "`per_class` of 0 (all) or more", str(per_class), "Give 0 or more."
        )
    if dataset:
        check_name(dataset, "dataset")
    if split_by not in (None, NO_SPLIT) and pool:
        raise UsageError(
            "`split_by` or `pool`", "both", "Keep the source's split, or join it."
        )
    source = absolute(source)
    folder = cache / (dataset or manifest.default_name(source))
    what = f"the manifest of {folder.name}"
    warnings: list[str] = []
    try:
        with lock(folder / ".manifest.lock", what, timeout=60):
            old, known = _existing(folder, source, warnings, named=bool(dataset))
            options = {
                "group_by": group_by, "per_class": per_class,
                "on_conflict": on_conflict, "split_by": split_by, "pool": pool,
            }  # fmt: skip
            listing, settings = _settings(
                source, known, options, fewest_classes, warnings
            )
            return _scan(folder, settings, listing, old, warnings, reporter)
    finally:
        with suppress(OSError):
            folder.rmdir()  # empty only if the scan failed on a new dataset


def _settings(
    source: Location,
    known: Settings | None,
    options: dict[str, Any],
    fewest_classes: int,
    warnings: list[str],
) -> tuple[sources.Listing, Settings]:
    """Lists the source and settles options that were not given."""
    same = known if known and known.source == str(source) else None
    before = same or Settings(str(source), "", "")
    per_class, by = options["per_class"], options["group_by"]
    if before.per_class and per_class is None:
        per_class = before.per_class
        warnings.append(
            f"only the first {per_class} images of each class, as in the last scan; "
            "`per_class=0` takes all"
        )
    split_by, pool = options["split_by"], options["pool"]
    if split_by is None and pool is None:
        split_by, pool = before.split_by, before.pool
    split_by = None if split_by == NO_SPLIT else split_by
    listing = sources.list_source(
        source,
        per_class=per_class or None,
        split_by=split_by,
        pool=bool(pool),
        fewest_classes=fewest_classes,
    )
    by_column = "group" if "group" in listing.table.columns else NEAR_DUPLICATE
    group_by = by or before.group_by or by_column
    if known and not by and group_by != known.group_by:
        warnings.append(f"grouped by {group_by} instead of {known.group_by}")
    return listing, replace(
        before,
        root=str(listing.root),
        group_by=group_by,
        per_class=per_class or None,
        on_conflict=options["on_conflict"] or before.on_conflict,
        split_by=split_by,
        pool=bool(pool),
    )


def _existing(
    folder: Path, source: Location, warnings: list[str], *, named: bool
) -> tuple[Manifest | None, Settings | None]:
    """What an earlier scan left: all of it, its settings alone, or nothing."""
    if not (folder / "manifest.csv").exists():
        return None, None
    old = settings = None
    with suppress(OSError, ValueError, RecursionError):
        settings = manifest.read_settings(folder)
    try:
        old = manifest.load(folder)
    except DatasetError as error:
        # Without dataset.json the last scan was cut short while it wrote.
        if not named and not settings and (folder / "dataset.json").exists():
            raise
        warnings.append(f"the manifest of {folder.name} is made again: {error.got}")
    if not named and settings and settings.source != str(source):
        raise DatasetError(
            f"dataset {folder.name} to be made from {settings.source}",
            str(source),
            "Give this one a name of its own as `dataset` (or "
            f"`dataset={folder.name!r}` to replace the manifest; features are kept).",
        )
    return old, settings


def _scan(
    folder: Path,
    settings: Settings,
    listing: sources.Listing,
    old: Manifest | None,
    warnings: list[str],
    reporter: Reporter,
) -> ScanResult:
    facts = measured_facts(old) if old else {}
    inspected: Inspected = {}
    files = identify(listing, settings.group_by, facts, inspected)
    ids, reasons = [f.image_id for f in files], [f.reason for f in files]
    near = settings.group_by == NEAR_DUPLICATE
    n_new, thumbs = measure(
        listing, ids, reasons, facts, reporter, keep=near, inspected=inspected
    )
    clusters = previous_clusters(old) if old else {}
    if near and (thumbs or not clusters):
        # Which pictures are near one another only all of them together can tell.
        thumbs |= {i: thumb for i, thumb in small.load(folder).items() if i in facts}
        facts = {i: facts[i] for i in thumbs}
        n_reread, more = measure(listing, ids, reasons, facts, reporter, keep=True)
        n_new, thumbs = n_new + n_reread, thumbs | more
        clusters = near_duplicates.cluster({i: thumbs[i] for i in ids if i in thumbs})
    table = listing.table.drop(columns="group", errors="ignore")
    table = table.assign(image_id=ids, bytes=[f.size for f in files], reason=reasons)
    measured = pd.DataFrame([facts.get(i, NOTHING) for i in ids], columns=MEASURED)
    table = table.join(measured)
    table["status"] = np.where(table["reason"] == "", OK, UNREADABLE)
    warnings = [*warnings, *listing.warnings, *_note_flat(table), *remote.repeated()]
    mark_duplicates(table, settings.on_conflict, warnings)
    patients = [f.patient for f in files]
    if near:
        table["group"] = [clusters.get(i, i) for i in ids]
        if len({*patients} - {""}) > 1:
            warnings.append(_PATIENTS_ARE_KNOWN)
    else:
        by, listed = settings.group_by, listing.table
        listed = listed.assign(**{by: patients}) if by.startswith(DICOM) else listed
        table["group"] = given_groups(table, listed, settings, warnings)
    extra = [c for c in table.columns if c not in manifest.COLUMNS]
    result = Manifest(folder, settings, table[[*manifest.COLUMNS, *extra]])
    if result.ok.empty:
        raise DatasetError(
            f"at least one readable image in {settings.source}",
            f"{len(table)} files, none readable ({table['reason'].iloc[0]})",
            "Replace the files.",
        )
    same = old and old.settings == settings and old.table.equals(result.table)
    if not same:
        manifest.save(result)
    if near and thumbs:
        small.save(folder, {i: thumbs[i] for i in ids if i in thumbs})
    return replace(_summary(result, warnings, n_new), changed=not same)


def _note_flat(table: pd.DataFrame) -> list[str]:
    """Turns the column of notes into reasons of usable images; counts the flat ones."""
    flat = (table.pop("note") == FLAT) & (table["status"] == OK)
    table.loc[flat, "reason"] = FLAT
    if not flat.any():
        return []
    images = "1 image is" if flat.sum() == 1 else f"{flat.sum()} images are"
    example = table.loc[flat, "path"].iloc[0]
    return [f"{images} flat (all pixels have one grey value), e.g. {example}"]


_PATIENTS_ARE_KNOWN = (
    "the DICOM files name their patients: `group_by='dicom:PatientID'` keeps the "
    "images of a patient together (under a pseudonym)"
)


def _summary(result: Manifest, warnings: list[str], n_new: int) -> ScanResult:
    table, ok = result.table, result.ok
    bad = table[table["status"] == UNREADABLE]
    counts = ok["label"].value_counts()
    empty = sorted(set(table["label"]) - set(counts.index))
    parts = PARTS if result.settings.split_by else ()
    return ScanResult(
        manifest=result,
        warnings=warnings
        + [f"class {label} has no usable image" for label in empty]
        + suspicions(result),
        counts={label: int(counts[label]) for label in result.classes},
        unreadable=list(zip(bad["path"], bad["reason"], strict=True)),
        duplicates=int((table["status"] == DUPLICATE).sum()),
        n_groups=int(ok["group"].nunique()),
        n_new=n_new,
        parts={part: int((ok[PART] == part).sum()) for part in parts},
        changed=True,
    )
