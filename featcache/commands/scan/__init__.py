"""``featcache scan``: from a folder or CSV to a manifest that can be trusted."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from os.path import abspath
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from featcache.commands.scan import thumbs as small
from featcache.commands.scan.groups import (
    DICOM,
    NEAR_DUPLICATE,
    given_groups,
    near_duplicates,
)
from featcache.core.io import lock
from featcache.core.progress import SILENT, Reporter
from featcache.dataset import images, manifest, sources
from featcache.dataset.images import dicom
from featcache.dataset.manifest import (
    DUPLICATE,
    OK,
    UNREADABLE,
    Manifest,
    Settings,
    some,
)
from featcache.errors import DatasetError, UnreadableImageError, UsageError


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
    """

    manifest: Manifest
    warnings: list[str]
    counts: dict[str, int]
    unreadable: list[tuple[str, str]]
    duplicates: int
    n_groups: int
    n_new: int


def scan(
    source: Path,
    cache: Path,
    *,
    dataset: str | None = None,
    group_by: str | None = None,
    per_class: int | None = None,
    on_conflict: str | None = None,
    reporter: Reporter = SILENT,
) -> ScanResult:
    """Makes or refreshes the manifest of a source.

    Options left at None keep what the dataset was last scanned with, so that a
    refresh does not silently regroup it.

    Args:
        source: Folder with one sub-folder a class, zip of one, or CSV with
            path,label.
        cache: The cache folder; the manifest goes to ``cache/<dataset>``.
        dataset: Name; by default the source folder's.
        group_by: A column, a regular expression with one group for the file name,
            "dicom:" and the keyword of a DICOM element, "image", or "near-duplicate"
            (the default where there is no column ``group``).
        per_class: Take the first so many images of each class, in natural order or
            that of the CSV; 0 for all.
        on_conflict: The same bytes under two labels: "error" (default) or "drop".
        reporter: Hears how many images are read, as "scan".

    Raises:
        DatasetError: The source or its grouping cannot be used.
        UsageError: An argument that can never work.
    """
    if per_class is not None and per_class < 0:
        raise UsageError(
            "`per_class` of 0 (all) or more", str(per_class), "Give 0 or more."
        )
    if dataset and (Path(dataset).name != dataset or dataset.startswith(".")):
        raise UsageError("`dataset` with a plain name", dataset, "Name no folder.")
    source = Path(abspath(source))
    folder = cache / (dataset or manifest.default_name(source))
    what = f"the manifest of {folder.name}"
    warnings: list[str] = []
    try:
        with lock(folder / ".manifest.lock", what, timeout=60):
            old = _known(folder, source, warnings, named=bool(dataset))
            asked = {"group_by": group_by, "on_conflict": on_conflict}
            listing, settings = _settings(source, old, asked, per_class, warnings)
            return _scan(folder, settings, listing, old, warnings, reporter)
    finally:
        with suppress(OSError):
            folder.rmdir()  # empty only if the scan failed on a new dataset


def _settings(
    source: Path,
    old: Manifest | None,
    asked: dict[str, str | None],
    per_class: int | None,
    warnings: list[str],
) -> tuple[sources.Listing, Settings]:
    """Lists the source and settles what was not asked for."""
    before = old.settings if old and old.settings.source == str(source) else None
    if before and before.per_class and per_class is None:
        per_class = before.per_class
        warnings.append(
            f"takes the first {per_class} images of each class, as the last scan did; "
            "`per_class=0` takes all"
        )
    listing = sources.list_source(source, per_class=per_class or None)
    by_column = "group" if "group" in listing.table.columns else NEAR_DUPLICATE
    group_by = asked["group_by"] or (before.group_by if before else by_column)
    if old and not asked["group_by"] and group_by != old.settings.group_by:
        warnings.append(
            f"grouped by {group_by}, and no more by {old.settings.group_by}"
        )
    on_conflict = asked["on_conflict"] or (before.on_conflict if before else "error")
    root = str(listing.root)
    return listing, Settings(
        str(source), root, group_by, per_class or None, on_conflict
    )


def _known(
    folder: Path, source: Path, warnings: list[str], *, named: bool
) -> Manifest | None:
    if not (folder / "manifest.csv").exists():
        return None
    try:
        old = manifest.load(folder)
    except DatasetError as error:
        # Without dataset.json the last scan was cut short while it wrote.
        if not named and (folder / "dataset.json").exists():
            raise
        warnings.append(f"the manifest of {folder.name} is made anew: {error.got}")
        return None
    if not named and old.settings.source != str(source):
        raise DatasetError(
            f"dataset {folder.name} to be made from {old.settings.source}",
            str(source),
            "Give this one a name of its own as `dataset` (or "
            f"`dataset={folder.name!r}` to replace the manifest; features are kept).",
        )
    return old


def _scan(
    folder: Path,
    settings: Settings,
    listing: sources.Listing,
    old: Manifest | None,
    warnings: list[str],
    reporter: Reporter,
) -> ScanResult:
    files = _identify(listing, _keyword(settings.group_by))
    ids, reasons = [f.image_id for f in files], [f.reason for f in files]
    facts = _measured(old) if old else {}
    near = settings.group_by == NEAR_DUPLICATE
    n_new, thumbs = _measure(listing, ids, reasons, facts, reporter, keep=near)
    clusters = _clusters(old) if old else {}
    if near and (thumbs or not clusters):
        # Which pictures are near one another only all of them together can tell.
        thumbs |= {i: thumb for i, thumb in small.load(folder).items() if i in facts}
        facts = {i: facts[i] for i in thumbs}
        n_known, known = _measure(listing, ids, reasons, facts, reporter, keep=True)
        n_new, thumbs = n_new + n_known, thumbs | known
        clusters = near_duplicates({i: thumbs[i] for i in ids if i in thumbs})
    table = listing.table.drop(columns="group", errors="ignore")
    table = table.assign(image_id=ids, bytes=[f.size for f in files], reason=reasons)
    measured = pd.DataFrame([facts.get(i, _NOTHING) for i in ids], columns=_MEASURED)
    table = table.join(measured)
    table["status"] = np.where(table["reason"] == "", OK, UNREADABLE)
    _mark_duplicates(table, settings.on_conflict)
    warnings = warnings + listing.warnings
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
    if old is None or old.settings != settings or not old.table.equals(result.table):
        manifest.save(result)
    if near and thumbs:
        small.save(folder, {i: thumbs[i] for i in ids if i in thumbs})
    return _summary(result, warnings, n_new)


_MEASURED = ("width", "height", "mode", "phash")
_NOTHING = (0, 0, "", "")
_PATIENTS_ARE_KNOWN = (
    "the DICOM files name their patients: `group_by='dicom:PatientID'` keeps the "
    "images of a patient together (under a pseudonym)"
)
_Facts = dict[str, tuple[int, int, str, str]]


class _File(NamedTuple):
    """A file as its bytes tell: without an id it could not be read."""

    image_id: str
    size: int
    reason: str
    patient: str


def _keyword(group_by: str) -> str:
    """The DICOM element to read: the one to group by, else the patient's id."""
    if not group_by.startswith(DICOM):
        return dicom.PATIENT
    keyword = group_by.removeprefix(DICOM)
    dicom.check_keyword(keyword)
    return keyword


def _identify(listing: sources.Listing, keyword: str) -> list[_File]:
    def one(path: str) -> _File:
        try:
            if path in listing.refused:
                return _File("", 0, listing.refused[path], "")
            data = sources.read_bytes(listing.root, path)
        except OSError as error:
            return _File("", 0, _reason(error), "")
        patient = dicom.pseudonym(data, keyword) if dicom.is_dicom(data) else ""
        return _File(images.content_id(data), len(data), "", patient)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, listing.table["path"]))


def _reason(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"


def _clusters(old: Manifest) -> dict[str, str]:
    """The groups that an earlier scan found by near-duplicates."""
    if old.settings.group_by != NEAR_DUPLICATE:
        return {}
    return dict(zip(old.table["image_id"], old.table["group"], strict=True))


def _measured(old: Manifest) -> _Facts:
    known = old.table[old.table["status"] != UNREADABLE]
    values = known[list(_MEASURED)].itertuples(index=False, name=None)
    return dict(zip(known["image_id"], values, strict=True))


def _measure(
    listing: sources.Listing,
    ids: list[str],
    reasons: list[str],
    facts: _Facts,
    reporter: Reporter,
    *,
    keep: bool,
) -> tuple[int, dict[str, np.ndarray]]:
    """Decodes each distinct unknown content once; fills ``facts`` and ``reasons``.

    Returns:
        How many were decoded, and, if they are to be kept, their small pictures.
    """
    first: dict[str, str] = {}
    for image_id, path, reason in zip(ids, listing.table["path"], reasons, strict=True):
        if image_id not in facts and not reason:
            first.setdefault(image_id, path)
    thumbs: dict[str, np.ndarray] = {}
    failed: dict[str, str] = {}

    def one(item: tuple[str, str]) -> tuple[str, images.Inspection | str]:
        try:
            data = sources.read_bytes(listing.root, item[1])
            return item[0], images.inspect(data)
        except UnreadableImageError as error:
            return item[0], error.got
        except OSError as error:
            return item[0], _reason(error)

    with ThreadPoolExecutor() as pool:
        for done, (image_id, found) in enumerate(pool.map(one, first.items()), 1):
            if isinstance(found, str):
                failed[image_id] = found
            else:
                facts[image_id] = (found.width, found.height, found.mode, found.phash)
                if keep:
                    thumbs[image_id] = found.thumb
            reporter.progress("scan", done, len(first))
    for row, image_id in enumerate(ids):
        reasons[row] = reasons[row] or failed.get(image_id, "")
    return len(first), thumbs


def _mark_duplicates(table: pd.DataFrame, on_conflict: str) -> None:
    """Keeps one row a content; the same bytes under two labels is a conflict."""
    ok = table[table["status"] == OK]
    labels = ok.groupby("image_id")["label"].nunique()
    conflicts = ok[ok["image_id"].isin(labels[labels > 1].index)]
    if len(conflicts) and on_conflict != "drop":
        pairs = conflicts.sort_values("image_id", kind="stable")
        raise DatasetError(
            "one label for the same bytes",
            f"{conflicts['image_id'].nunique()} pictures under two labels: "
            + some([f"{r.path} ({r.label})" for r in pairs.itertuples()], 8),
            "Remove the wrong copies, or leave all of them out with "
            "`on_conflict='drop'`.",
        )
    later = ok[ok["image_id"].duplicated() & ~ok.index.isin(conflicts.index)]
    kept = ok.drop_duplicates("image_id").set_index("image_id")["path"]
    table.loc[later.index, "status"] = DUPLICATE
    table.loc[later.index, "reason"] = "same bytes as " + later["image_id"].map(kept)
    table.loc[conflicts.index, "status"] = DUPLICATE
    table.loc[conflicts.index, "reason"] = "same bytes under two labels"


def _summary(result: Manifest, warnings: list[str], n_new: int) -> ScanResult:
    table, ok = result.table, result.ok
    bad = table[table["status"] == UNREADABLE]
    counts = ok["label"].value_counts()
    lost = sorted(set(table["label"]) - set(counts.index))
    return ScanResult(
        manifest=result,
        warnings=warnings + [f"class {label} has no usable image" for label in lost],
        counts={label: int(counts[label]) for label in result.classes},
        unreadable=list(zip(bad["path"], bad["reason"], strict=True)),
        duplicates=int((table["status"] == DUPLICATE).sum()),
        n_groups=int(ok["group"].nunique()),
        n_new=n_new,
    )
