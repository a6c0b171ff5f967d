"""Labels that people have corrected: they hold whenever the source is scanned again.

Two kinds of files in ``cache/<dataset>``: ``corrections.csv`` with the corrections in
effect, a line an image, and ``manifests/NNNN.csv`` with every manifest that a
correction replaced, beside ``NNNN.json``, which says what was changed in it, and why.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfile

import pandas as pd

from featcache.core import checked, records
from featcache.core.io import atomic_path
from featcache.core.text import counted, some
from featcache.dataset import manifest as manifests
from featcache.dataset.manifest import OK, Manifest
from featcache.errors import DatasetError

FILE, FOLDER = "corrections.csv", "manifests"
_COLUMNS = ("image_id", "source_label", "label")


@dataclass(frozen=True)
class Change:
    """A label that was changed.

    Attributes:
        image_id: Of the image.
        path: Its file, as the manifest names it.
        before: Its label.
        after: Its new label.
        readers: Whose answers decided.
    """

    image_id: str
    path: str
    before: str
    after: str
    readers: list[str]


@dataclass(frozen=True)
class Version:
    """What made a manifest out of the one before it.

    Attributes:
        number: Of the manifest that was replaced, from 1.
        created: When, in ISO 8601, UTC.
        rule: By which answers became labels.
        changes: Label by label.
        run_id: The best run on the old labels; None without one.
    """

    number: int
    created: str
    rule: str
    changes: list[Change]
    run_id: str | None = None


def read(folder: Path) -> dict[str, tuple[str, str]]:
    """The corrections in effect: label in the source and corrected label, by image_id.

    Args:
        folder: ``cache/<dataset>``.

    Raises:
        DatasetError: The file is not one of ours.
    """
    path = folder / FILE
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise _unusable(path, str(error).strip().splitlines()[0]) from error
    if tuple(table.columns) != _COLUMNS or (table == "").any(axis=None):
        raise _unusable(path, f"columns {some(list(table.columns))}, or empty cells")
    rows = zip(*(table[name] for name in _COLUMNS), strict=True)
    return {image: (source, label) for image, source, label in rows}


def _unusable(path: Path, got: str) -> DatasetError:
    return DatasetError(
        f"{path} with the columns {', '.join(_COLUMNS)}",
        got,
        "Restore it, or delete it and scan again for the labels of the source.",
    )


def corrected(table: pd.DataFrame, folder: Path, warnings: list[str]) -> pd.DataFrame:
    """The table of a scan with corrected labels in place of those of the source.

    An image whose label in the source is another than the one that was corrected keeps
    it: the source has been edited since.

    Args:
        table: Rows with image_id and label.
        folder: ``cache/<dataset>``.
        warnings: Told how many labels are not those of the source.

    Raises:
        DatasetError: ``corrections.csv`` is not one of ours.
    """
    known = read(folder)
    if not known:
        return table
    source = table["image_id"].map({i: old for i, (old, _) in known.items()})
    label = table["image_id"].map({i: new for i, (_, new) in known.items()})
    holds = (source == table["label"]) & (label != table["label"])
    overtaken = source.notna() & (source != table["label"]) & (label != table["label"])
    if holds.any():
        count = counted(table.loc[holds, "image_id"].nunique(), "label")
        warnings.append(
            f"{count} as corrected by review, and not as in the source (without "
            f"{folder / FILE} they are as there)"
        )
    if overtaken.any():
        images = counted(table.loc[overtaken, "image_id"].nunique(), "image")
        warnings.append(
            f"{images} corrected by review have a new label in the source, which holds"
        )
    return table.assign(label=label.where(holds, table["label"]))


def forget_overtaken(listed: pd.DataFrame, folder: Path) -> None:
    """Drops corrections of images whose label in the source is another now.

    A later review then corrects the label that the source has. Corrections of images
    that are not listed stay. The caller holds the lock of the manifest.

    Args:
        listed: Rows with image_id and label, as in the source.
        folder: ``cache/<dataset>``.

    Raises:
        DatasetError: ``corrections.csv`` is not one of ours.
    """
    known = read(folder)
    if not known:
        return
    images = {*listed["image_id"]}
    labels = {*zip(listed["image_id"], listed["label"], strict=True)}
    kept = {
        image: pair
        for image, pair in known.items()
        if image not in images or (image, pair[0]) in labels
    }
    if kept != known:
        _save(folder, kept)


def versions(folder: Path) -> list[Version]:
    """The corrections that were made, the oldest first; damaged records are left out.

    Args:
        folder: ``cache/<dataset>``.
    """
    return list(_versions(folder))


def _versions(folder: Path) -> Iterator[Version]:
    for path in sorted((folder / FOLDER).glob("[0-9]*.json")):
        try:
            fields = checked.read_record(path)
            yield records.from_json(Version, fields["version"])
        except (OSError, ValueError, KeyError):
            continue


def write(
    dataset: Manifest, changes: Sequence[Change], rule: str, run_id: str | None
) -> tuple[Manifest, Version]:
    """Replaces a manifest by one with other labels; the old one is kept.

    A file that has the bytes of a corrected image is corrected with it. The caller
    holds the lock of the manifest.

    Args:
        dataset: As it is on disk.
        changes: At least one, of usable images.
        rule: By which answers became labels.
        run_id: The best run on the old labels.

    Returns:
        The new manifest, and what is kept of the change.
    """
    folder = dataset.folder / FOLDER
    folder.mkdir(exist_ok=True)
    numbers = [
        int(p.stem) for p in folder.glob("*.csv") if re.fullmatch(r"\d{1,9}", p.stem)
    ]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    version = Version(max(numbers, default=0) + 1, now, rule, [*changes], run_id)
    name = f"{version.number:04d}"
    with atomic_path(folder / f"{name}.csv") as temp:
        copyfile(dataset.folder / "manifest.csv", temp)
    checked.write_record(folder / f"{name}.json", {"version": records.to_json(version)})
    after = {change.image_id: change.after for change in changes}
    _write_corrections(dataset, after)
    table = dataset.table
    new = replace(dataset, table=table.assign(label=relabelled(table, after)))
    manifests.save(new)
    return new, version


def relabelled(table: pd.DataFrame, after: Mapping[str, str]) -> list[str]:
    """The labels (N,) of rows, some of them other ones by image_id."""
    rows = zip(table["image_id"], table["label"], strict=True)
    return [after.get(image_id, label) for image_id, label in rows]


def _write_corrections(dataset: Manifest, after: Mapping[str, str]) -> None:
    """Before the manifest is written: a scan after a crash comes to the same labels."""
    known = read(dataset.folder)
    ok = dataset.table[dataset.table["status"] == OK].set_index("image_id")["label"]
    for image, label in after.items():
        source = known[image][0] if image in known else str(ok[image])
        known[image] = (source, label)
    _save(dataset.folder, known)


def _save(folder: Path, known: Mapping[str, tuple[str, str]]) -> None:
    rows = [(i, old, new) for i, (old, new) in sorted(known.items()) if old != new]
    with atomic_path(folder / FILE) as temp:
        pd.DataFrame(rows, columns=list(_COLUMNS)).to_csv(temp, index=False)
