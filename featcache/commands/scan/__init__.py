"""``featcache scan``: from a folder or CSV to a manifest that can be trusted."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featcache.commands.scan import thumbs as small
from featcache.commands.scan.columns import FLAT, Columns, facts_of
from featcache.commands.scan.duplicates import mark_duplicates
from featcache.commands.scan.groups import (
    check_grouping,
    dicom_keyword,
    given_groups,
    previous_clusters,
)
from featcache.commands.scan.journal import Journal
from featcache.commands.scan.reading import Options, Reader
from featcache.commands.scan.suspicions import suspicions
from featcache.core.io import lock
from featcache.core.progress import SILENT, Reporter
from featcache.core.text import check_name
from featcache.core.workers import check_jobs
from featcache.dataset import corrections, manifest, near_duplicates, sources
from featcache.dataset.grouping import DICOM, NEAR_DUPLICATE
from featcache.dataset.manifest import DUPLICATE, OK, UNREADABLE, Manifest, Settings
from featcache.dataset.own_split import NO_SPLIT, PART, PARTS
from featcache.dataset.sources import remote
from featcache.dataset.urls import Location, Url, absolute, is_url
from featcache.errors import DatasetError, UsageError

WAIT_SECONDS = 60.0  # for another scan of the dataset


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
    jobs: int | None = None,
    reporter: Reporter = SILENT,
) -> ScanResult:
    """Makes or refreshes the manifest of a source.

    A scan that was killed goes on where it was: what it has read is in a journal beside
    the manifest.

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
        jobs: Parallel processes; by default one a core for 10,000 files here or more,
            and threads of this process for fewer and for those at URLs. The result is
            the same.
        reporter: Hears how many files are read, as "scan", and how many of them have to
            be decoded later, as "decode".

    Raises:
        DatasetError: The source or its grouping cannot be used.
        UsageError: An argument that can never work.
    """
    if per_class is not None and per_class < 0:
        raise UsageError(
            "`per_class` of 0 (all) or more", str(per_class), "Give 0 or more."
        )
    check_jobs(jobs)
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
        with lock(folder / ".manifest.lock", what, timeout=WAIT_SECONDS):
            old, known = _existing(folder, source, warnings, named=bool(dataset))
            options = {
                "group_by": group_by, "per_class": per_class,
                "on_conflict": on_conflict, "split_by": split_by, "pool": pool,
            }  # fmt: skip
            listing, settings = _settings(
                source, known, options, fewest_classes, warnings
            )
            reading = {"jobs": jobs, "reporter": reporter}
            return _scan(folder, settings, listing, old, warnings, reading)
    finally:
        with suppress(OSError):
            folder.rmdir()  # empty only if a new dataset has neither file nor journal


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
    reading: dict[str, Any],
) -> ScanResult:
    check_grouping(listing.table, settings)
    near = settings.group_by == NEAR_DUPLICATE
    keyword = dicom_keyword(settings.group_by)
    options = Options(keyword, keep_thumbs=near, **reading)
    with Journal(folder, settings.source, keyword) as journal:
        reader = Reader(listing, options, journal)
        _read(reader, listing, old)
        clusters = _clusters(reader, folder, old) if near else {}
        columns, thumbs = reader.columns, reader.thumbs
        table = _table(listing, columns)
        warnings = [*warnings, *listing.warnings, *_note_flat(table, columns.flat)]
        listed_labels = table[["image_id", "label"]]
        table = corrections.corrected(table, folder, warnings)
        warnings += remote.repeated()
        mark_duplicates(table, settings.on_conflict, warnings)
        ids = columns.image_id
        if near:
            table["group"] = [clusters.get(i, i) for i in ids]
            if len({*columns.patient} - {""}) > 1:
                warnings.append(_PATIENTS_ARE_KNOWN)
        else:
            by, listed = settings.group_by, listing.table
            if by.startswith(DICOM):
                listed = listed.assign(**{by: columns.patient})
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
        corrections.forget_overtaken(listed_labels, folder)
        if near and thumbs:
            small.save(folder, {i: thumbs[i] for i in ids if i in thumbs})
        journal.remove()
    n_new = pd.Series(ids[reader.decoded & (ids != "")]).nunique()
    return replace(_summary(result, warnings, n_new), changed=not same)


def _read(reader: Reader, listing: sources.Listing, old: Manifest | None) -> None:
    """Reads all files; an image that an earlier scan has measured is not decoded."""
    decode = np.full(len(listing.table), old is None)
    if old:
        # A new name may be that of a known image, which its bytes tell. What is far is
        # not fetched twice for that.
        paths = listing.table["path"]
        is_far = isinstance(listing.root, Url) | paths.map(is_url)
        decode = (is_far & ~paths.isin(old.table["path"])).to_numpy(bool)
    reader.resume()
    reader.read(decode)
    if old:
        reader.columns.fill(facts_of(old))
    reader.decode_missing()


def _clusters(reader: Reader, folder: Path, old: Manifest | None) -> dict[str, str]:
    """Near-duplicate groups by image_id."""
    clusters = previous_clusters(old) if old else {}
    if clusters and not reader.thumbs:
        return clusters
    # Which pictures are near one another only all of them together can tell.
    reader.thumbs |= small.load(folder)
    reader.decode_missing(thumbs=True)
    ids = reader.columns.image_id[reader.columns.reason == ""]
    return near_duplicates.cluster({i: reader.thumbs[i] for i in ids})


def _table(listing: sources.Listing, columns: Columns) -> pd.DataFrame:
    """The listing with what was read of each file."""
    names = ("image_id", "width", "height", "mode", "phash", "reason")
    return listing.table.drop(columns="group", errors="ignore").assign(
        bytes=columns.size,
        status=np.where(columns.reason == "", OK, UNREADABLE),
        **{name: getattr(columns, name) for name in names},
    )


def _note_flat(table: pd.DataFrame, flat: np.ndarray) -> list[str]:
    """Gives usable images of one grey value that as their reason; counts them."""
    flat = flat & (table["status"] == OK)
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
