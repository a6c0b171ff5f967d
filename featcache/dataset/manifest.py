"""The manifest: the table of a dataset's images, and where they come from."""

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from featcache.core import records
from featcache.core.io import atomic_path, write_json
from featcache.core.text import first_line, some
from featcache.dataset.own_split import PART, PARTS
from featcache.dataset.urls import Location, Url, location
from featcache.errors import DatasetError

COLUMNS = (
    "image_id", "path", "label", "group", "width", "height", "mode", "bytes",
    "phash", "status", "reason",
)  # fmt: skip
OK, UNREADABLE, DUPLICATE = "ok", "unreadable", "duplicate"
EXCLUDED = "excluded"  # left out for one evaluation; never written to disk
IMAGE = "image"  # the grouping in which every image stands alone
TABLE = "manifest.csv"
_SCHEMA = 1
_AT_ONCE = 100_000  # rows of a table that is read in pieces
_AS_TEXT: dict[str, Any] = {"dtype": str, "keep_default_na": False}
_IN_FOLDER = (".csv", ".jsonl", ".parquet", ".tar")  # files that a folder names
_LARGEST = 2**63 - 1  # of a number in the table
# Control characters, and the surrogates that stand for bytes that are no UTF-8:
# no CSV keeps them.
ODD = re.compile(r"[\x00-\x1f\ud800-\udfff]")


@dataclass(frozen=True)
class Settings:
    """How a dataset was scanned; kept so that a later scan does the same.

    Attributes:
        source: The folder, zip or CSV, as an absolute path or a URL without secrets.
        root: The folder or zip that the manifest's paths are relative to.
        group_by: Column, regular expression, "dicom:KEYWORD", "image" or
            "near-duplicate".
        per_class: Only the first so many images of each class, or None.
        on_conflict: "error" or "drop": the same bytes under two labels.
        split_by: "folder", or the column that says which images the source's own
            split tests on; None where splits are drawn.
        pool: The parts of the source's own split are joined.
    """

    source: str
    root: str
    group_by: str
    per_class: int | None = None
    on_conflict: Literal["error", "drop"] = "error"
    split_by: str | None = None
    pool: bool = False

    @property
    def options(self) -> list[str]:
        """The words of a command that scans a source in the same way."""
        words = ["--group-by", self.group_by]
        words += ["--per-class", str(self.per_class)] if self.per_class else []
        words += ["--on-conflict", "drop"] if self.on_conflict == "drop" else []
        words += ["--split-by", self.split_by] if self.split_by else []
        return [*words, "--pool"] if self.pool else words


@dataclass(frozen=True)
class Manifest:
    """A dataset's images.

    Attributes:
        folder: ``cache/<dataset>``.
        settings: How it was scanned.
        table: One row a file, in natural order; ``COLUMNS`` first, then the
            source's further columns (all text).
        exclude: What `narrow` has left out.
        own_val: The validation part of the source's own split is one of the folds.
        has_table: Whether the table was read; else it is empty.
    """

    folder: Path
    settings: Settings
    table: pd.DataFrame
    exclude: tuple[str, ...] = ()
    own_val: bool = False
    has_table: bool = True

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self.folder.name

    @property
    def root(self) -> Location:
        """The folder or zip that the paths are relative to."""
        return location(self.settings.root)

    @property
    def ok(self) -> pd.DataFrame:
        """The rows of usable images: one a distinct content."""
        return self.table[self.table["status"] == OK]

    @property
    def excluded_groups(self) -> dict[str, str]:
        """The groups of the images that `narrow` has left out, by their ids."""
        out = self.table[self.table["status"] == EXCLUDED]
        return dict(zip(out["image_id"], out["group"], strict=True))

    @property
    def own_test(self) -> frozenset[str] | None:
        """Ids of the usable test images of the source's own split.

        Those of its part val where it has no test; None where splits are drawn.
        """
        if not self.settings.split_by:
            return None
        ok = self.ok
        held_out = [part for part in PARTS[1:] if (ok[PART] == part).any()]
        return frozenset(ok.loc[ok[PART].isin(held_out[-1:]), "image_id"])

    @property
    def crossing(self) -> pd.DataFrame:
        """Usable images left out of training: their group is held out elsewhere.

        Where val is a fold, that is also so for images of train with a group in val.
        """
        ok, test = self.ok, self.own_test or frozenset()
        rank = ok["image_id"].isin(test).astype(int) * 2
        if self.own_val:
            rank = rank.where(rank > 0, (ok[PART] == PARTS[1]).astype(int))
        return ok[rank < rank.groupby(ok["group"]).transform("max")]

    def scan_again(self, source: str = "SOURCE") -> str:
        """The command that scans the same images, perhaps elsewhere, alike."""
        words = [source, "--dataset", self.dataset, *self.settings.options]
        return f"featcache scan {shlex.join(words)}"

    def scan_by_group(self) -> str:
        """The command that scans the source with a column of patients, to be named."""
        settings = replace(self.settings, group_by="COLUMN")
        words = [settings.source, "--dataset", self.dataset, *settings.options]
        return f"featcache scan {shlex.join(words)}"

    @property
    def classes(self) -> list[str]:
        """The labels of usable images, sorted: the order of classes everywhere."""
        return sorted(self.ok["label"].unique())


def load(folder: Path) -> Manifest:
    """Reads ``cache/<dataset>``.

    Raises:
        DatasetError: There is no manifest, or it is not one of ours.
    """
    with _reading(folder):
        settings = read_settings(folder)
        table = pd.read_csv(folder / TABLE, **_AS_TEXT)
        _check(table, settings)
        for column in ("width", "height", "bytes"):
            table[column] = table[column].astype(int)
    return Manifest(folder, settings, table)


def load_settings(folder: Path) -> Manifest:
    """Reads ``cache/<dataset>`` without the table: for what needs few of its images.

    Raises:
        DatasetError: There is no manifest, or its settings are not ours.
    """
    with _reading(folder):
        settings = read_settings(folder)
        (folder / TABLE).stat()
    table = pd.DataFrame(columns=[*COLUMNS], dtype=str)
    return Manifest(folder, settings, table, has_table=False)


def read_images(folder: Path) -> Iterator[pd.DataFrame]:
    """Reads the ids, paths and states of all images, some 100,000 at a time.

    Raises:
        DatasetError: There is no manifest, or it is not one of ours.
    """
    names = ["image_id", "path", "status"]
    with _reading(folder):
        yield from pd.read_csv(
            folder / TABLE, usecols=names, chunksize=_AT_ONCE, **_AS_TEXT
        )


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Turns errors of reading a manifest into ours."""
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(
            f"a scanned dataset in {folder}",
            "none",
            f"Run: featcache scan SOURCE --dataset {shlex.quote(folder.name)}",
        ) from None
    except (ValueError, RecursionError) as error:
        again = ["SOURCE", "--dataset", folder.name]
        with suppress(OSError, ValueError, RecursionError):
            settings = read_settings(folder)
            again = [settings.source, *again[1:], *settings.options]
        raise DatasetError(
            f"the manifest in {folder} cannot be read ({first_line(error)})",
            f"Scan the source again: featcache scan {shlex.join(again)}",
        ) from error


def read_settings(folder: Path) -> Settings:
    """Reads how the dataset ``cache/<dataset>`` was scanned.

    Raises:
        OSError: There is no ``dataset.json``, or none that one may read.
        ValueError: It is not one of ours.
        RecursionError: It is nested too deeply.
    """
    record = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    head = records.from_json(_Record, record, "dataset.json")
    if head.schema != _SCHEMA:
        raise ValueError(f"schema {head.schema}, not {_SCHEMA}")
    settings = head.settings
    for name in ("source", "root", "group_by"):
        # A lone surrogate is a UnicodeEncodeError, and so a ValueError.
        if b"\0" in (os.fsencode(getattr(settings, name)) or b"\0"):
            raise ValueError(f"settings.{name} is empty or has a NUL in it")
    if settings.per_class is not None and settings.per_class < 1:
        raise ValueError("settings.per_class is below 1")
    return settings


@dataclass(frozen=True)
class _Record:
    """What ``dataset.json`` holds."""

    schema: int
    settings: Settings


def _check(table: pd.DataFrame, settings: Settings) -> None:
    """Raises ValueError for a table that no scan has written."""
    if list(table.columns[: len(COLUMNS)]) != list(COLUMNS):
        raise ValueError(f"columns {some([c[:40] for c in table.columns], 12)}")
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError("rows with more fields than the header")
    if unknown := sorted(set(table["status"]) - {OK, UNREADABLE, DUPLICATE}):
        raise ValueError(f"status {some(unknown)}")
    for column in ("width", "height", "bytes"):
        numbers = table[column].str.fullmatch(r"\d{1,19}")
        if not numbers.all() or (table[column].astype("uint64") > _LARGEST).any():
            raise ValueError(f"{column} that is no number from 0 to 2^63 - 1")
    ok = table[table["status"] == OK]
    if ok.empty:
        raise ValueError("no usable image")
    if not ok["image_id"].str.fullmatch("[0-9a-f]{64}").all():
        raise ValueError("an image_id that is no SHA-256")
    if ok["image_id"].duplicated().any():
        raise ValueError("an image_id in two rows with status ok")
    for column in ("path", "label", "group"):
        if (ok[column] == "").any() or ok[column].str.contains("\0").any():
            raise ValueError(f"a {column} that is empty or has a NUL in it")
    if settings.split_by and not set(ok.get(PART, [""])) <= {*PARTS}:
        raise ValueError(f"column {PART} with other values than {', '.join(PARTS)}")


def save(manifest: Manifest) -> None:
    """Writes the manifest, then its settings as the mark that both fit together."""
    mark = manifest.folder / "dataset.json"
    with atomic_path(manifest.folder / "manifest.csv") as temp:
        manifest.table.to_csv(temp, index=False)
        # Beside the settings of another scan the table would be taken for that one's.
        mark.unlink(missing_ok=True)
    write_json(mark, {"schema": _SCHEMA, "settings": asdict(manifest.settings)})


def find(cache: Path, dataset: str | None) -> Path:
    """Returns the folder of a dataset; without a name, of the only one.

    Raises:
        DatasetError: No such dataset, none at all, or several to choose from.
    """
    names = sorted(p.parent.name for p in cache.glob("*/manifest.csv"))
    if dataset in names:
        return cache / str(dataset)
    if dataset is None and len(names) == 1:
        return cache / names[0]
    if dataset is None and names:
        raise DatasetError(
            f"{cache} has several datasets: {', '.join(names)}",
            "Choose one with `dataset`.",
        )
    raise DatasetError(
        f"`dataset` to be one of: {', '.join(names)}"
        if names
        else f"a scanned dataset in {cache}",
        "no name" if dataset is None else repr(dataset),
        "Choose one." if names else "Run: featcache scan SOURCE",
    )


def refuse_removed(folder: Path) -> None:
    """Raises DatasetError where a dataset's folder is gone while it is written."""
    if not folder.is_dir():
        raise _removed(folder)


def _removed(folder: Path) -> DatasetError:
    return DatasetError(
        f"dataset {folder.name} in {folder.parent}",
        "none any more: it was removed or renamed while this call ran",
        "Run the command again with its new name (featcache dataset ls), or scan "
        "the source again.",
    )


@contextmanager
def in_use(dataset: Manifest) -> Iterator[Callable[[], None]]:
    """Lets an error of the block say so if the dataset was removed meanwhile.

    Yields:
        Raises DatasetError if it was removed by now; for before something is written
        that nobody would look for.
    """
    mark = dataset.folder / "manifest.csv"
    was_there = mark.is_file()

    def check() -> None:
        if was_there and not mark.is_file():
            raise _removed(dataset.folder)

    try:
        yield check
    except Exception:
        check()
        raise


def default_name(source: Location) -> str:
    """A dataset's name: that of the source's folder, or of the zip."""
    suffix = source.suffix.lower()
    if isinstance(source, Url):
        name = (source.parent if suffix in _IN_FOLDER else source).name
        name = name[:-4] if suffix == ".zip" else name
    else:
        zipped = suffix == ".zip" and not source.is_dir()
        folder = source if source.is_dir() else source.parent
        name = source.stem if zipped else folder.resolve().name
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "data"
