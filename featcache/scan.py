"""``featcache scan``: from a folder or CSV to a manifest that can be trusted."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from os.path import abspath
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from featcache import images, manifest, sources
from featcache._io import lock, sha256_file
from featcache.errors import DatasetError, UnreadableImageError, UsageError
from featcache.manifest import DUPLICATE, OK, UNREADABLE, Manifest, Settings, some

NEAR_DUPLICATE, IMAGE = "near-duplicate", "image"
# Grey 32x32 pictures of one radiograph correlate above this; two patients' do not.
NEAR_DUPLICATE_CORRELATION = 0.99
Progress = Callable[[int, int], None]


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
    progress: Progress | None = None,
) -> ScanResult:
    """Makes or refreshes the manifest of a source.

    Options left at None keep what the dataset was last scanned with, so that a
    refresh does not silently regroup it.

    Args:
        source: Folder with one sub-folder a class, or CSV with path,label.
        cache: The cache folder; the manifest goes to ``cache/<dataset>``.
        dataset: Name; by default the source folder's.
        group_by: A column, a regular expression with one group for the file name,
            "image", or "near-duplicate" (the default where there is no column
            ``group``).
        per_class: Take the first so many images of each class, in natural order or
            that of the CSV; 0 for all.
        on_conflict: The same bytes under two labels: "error" (default) or "drop".
        progress: Called with (images read, images).

    Raises:
        DatasetError: The source or its grouping cannot be used.
        UsageError: An argument that can never work.
    """
    if per_class is not None and per_class < 0:
        raise UsageError(
            "--per-class N of 0 (all) or more", str(per_class), "Give 0 or N."
        )
    if dataset and (Path(dataset).name != dataset or dataset.startswith(".")):
        raise UsageError("--dataset with a plain name", dataset, "Name no folder.")
    source = Path(abspath(source))
    folder = cache / (dataset or manifest.default_name(source))
    what = f"the manifest of {folder.name}"
    warnings: list[str] = []
    try:
        with lock(folder / ".manifest.lock", what, timeout=60):
            old = _known(folder, source, warnings, named=bool(dataset))
            asked = {"group_by": group_by, "on_conflict": on_conflict}
            listing, settings = _settings(source, old, asked, per_class, warnings)
            return _scan(folder, settings, listing, old, warnings, progress)
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
            "--per-class 0 takes all"
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
            "Give this one a name of its own with --dataset NAME (or name "
            f"--dataset {folder.name} to replace the manifest; features are kept).",
        )
    return old


def _scan(
    folder: Path,
    settings: Settings,
    listing: sources.Listing,
    old: Manifest | None,
    warnings: list[str],
    progress: Progress | None,
) -> ScanResult:
    table = listing.table.drop(columns="group", errors="ignore")
    paths = [listing.root / path for path in table["path"]]
    ids, sizes, reasons = _identify(paths)
    facts = _measured(old) if old else {}
    n_new, thumbs = _measure(paths, ids, reasons, facts, progress)
    near = settings.group_by == NEAR_DUPLICATE
    clusters = _clusters(old) if old else {}
    if near and (thumbs or not clusters):
        # Which pictures are near one another only all of them together can tell.
        facts = {i: facts[i] for i in thumbs}
        n_known, known = _measure(paths, ids, reasons, facts, progress)
        n_new, thumbs = n_new + n_known, thumbs | known
        clusters = _near_duplicates({i: thumbs[i] for i in ids if i in thumbs})
    measured = pd.DataFrame([facts.get(i, _NOTHING) for i in ids], columns=_MEASURED)
    table = table.assign(image_id=ids, bytes=sizes, reason=reasons).join(measured)
    table["status"] = np.where(table["reason"] == "", OK, UNREADABLE)
    _mark_duplicates(table, settings.on_conflict)
    warnings = warnings + listing.warnings
    if near:
        table["group"] = [clusters.get(i, i) for i in ids]
    else:
        table["group"] = _given_groups(table, listing.table, settings, warnings)
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
    return _summary(result, warnings, n_new)


_MEASURED = ("width", "height", "mode", "phash")
_NOTHING = (0, 0, "", "")
_Facts = dict[str, tuple[int, int, str, str]]


def _identify(paths: list[Path]) -> tuple[list[str], list[int], list[str]]:
    """Returns each file's SHA-256, size in bytes, and reason if it has none."""

    def one(path: Path) -> tuple[str, int, str]:
        try:
            return sha256_file(path), path.stat().st_size, ""
        except OSError as error:
            return "", 0, f"cannot be read: {error.strerror}"

    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(one, paths))
    return [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]


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
    paths: list[Path],
    ids: list[str],
    reasons: list[str],
    facts: _Facts,
    progress: Progress | None,
) -> tuple[int, dict[str, np.ndarray]]:
    """Decodes each distinct unknown content once; fills ``facts`` and ``reasons``."""
    first: dict[str, Path] = {}
    for image_id, path, reason in zip(ids, paths, reasons, strict=True):
        if image_id not in facts and not reason:
            first.setdefault(image_id, path)
    thumbs: dict[str, np.ndarray] = {}
    failed: dict[str, str] = {}

    def one(item: tuple[str, Path]) -> tuple[str, images.Inspection | str]:
        try:
            return item[0], images.inspect(item[1].read_bytes())
        except UnreadableImageError as error:
            return item[0], error.got
        except OSError as error:
            return item[0], f"cannot be read: {error.strerror}"

    with ThreadPoolExecutor() as pool:
        for done, (image_id, found) in enumerate(pool.map(one, first.items()), 1):
            if isinstance(found, str):
                failed[image_id] = found
            else:
                facts[image_id] = (found.width, found.height, found.mode, found.phash)
                thumbs[image_id] = found.thumb
            if progress:
                progress(done, len(first))
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
            "--on-conflict drop.",
        )
    later = ok[ok["image_id"].duplicated() & ~ok.index.isin(conflicts.index)]
    kept = ok.drop_duplicates("image_id").set_index("image_id")["path"]
    table.loc[later.index, "status"] = DUPLICATE
    table.loc[later.index, "reason"] = "same bytes as " + later["image_id"].map(kept)
    table.loc[conflicts.index, "status"] = DUPLICATE
    table.loc[conflicts.index, "reason"] = "same bytes under two labels"


def _given_groups(
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
            f"--group-by {by} to name a group",
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
        "--group-by with a column, a regular expression with one group, image or "
        f"near-duplicate (columns: {columns or 'none'})",
        by,
        f"Name a column, or write an expression such as '(\\d{{8}})_'.{hint}",
    )


def _near_duplicates(thumbs: dict[str, np.ndarray]) -> dict[str, str]:
    """Clusters pictures whose grey 32x32 forms correlate above 0.99.

    Returns:
        image_id to the id of the cluster's first picture.
    """
    ids = list(thumbs)
    if not ids:
        return {}
    pictures = np.stack([thumbs[i] for i in ids])
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
