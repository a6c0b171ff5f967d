"""A plan and its parts at a URL, for workers that share no disk with the planner.

``URL/<plan>/`` has what a worker needs; ``exchange.json``, which names all of it, is
written last. A finished part is one object, ``parts/000017.tar``, which is there whole
or not at all; see docs/reference/file-format.md.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from featcache.commands.extract.part_archives import pack, remove_part, unpack
from featcache.commands.extract.part_files import (
    PartRecord,
    install,
    read_part,
    read_record,
)
from featcache.commands.extract.part_plan import (
    ID_DIGITS,
    NETWORKS,
    PARTS,
    PLAN,
    REFERENCE,
    ROWS,
    PartPlan,
    read_plan,
)
from featcache.core import checked, records
from featcache.core.io import sha256_file, temporary_folder
from featcache.core.text import some
from featcache.dataset.manifest import IMAGE, OK, Manifest, Settings
from featcache.dataset.sources import objects, remote
from featcache.dataset.sources.tables import STRIPPED
from featcache.dataset.urls import Location, Url, is_url
from featcache.errors import StoreError, UsageError

SCHEMA = 1
MARK, OPENVINO = "exchange.json", "openvino"
_NAME = re.compile(rf"{PLAN}|{ROWS}|({REFERENCE}|{OPENVINO}|{NETWORKS}/\d+)/[^/.][^/]*")
_PLAN_NAME = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}")
_PART = re.compile(rf"{PARTS}/(\d{{6,7}})\.tar")


@dataclass(frozen=True, kw_only=True)
class ExchangeRecord:
    """What ``exchange.json`` holds, but for its digest.

    Attributes:
        schema: Of this record.
        plan_id: Of the plan.
        dataset: Its name.
        root: What the paths of images are relative to, a URL.
        images: (image_id, path) of those that networks are checked with, or quantised
            again.
        files: SHA-256 of each file, by its name below the plan's URL.
    """

    schema: int = SCHEMA
    plan_id: str
    dataset: str
    root: str
    images: list[list[str]]
    files: dict[str, str]


def checked_url(place: Location | str) -> Url:
    """The URL of a bucket that plans are exchanged at.

    Raises:
        UsageError: It is a path, or a web server, which takes no files.
    """
    url = Url.of(place) if isinstance(place, str) and is_url(place) else place
    if not isinstance(url, Url) or url.scheme in ("http", "https"):
        raise UsageError(
            "`exchange` to be a folder in an object store, such as s3://bucket/folder",
            f"{place}",
            "Where all machines share a disk, keep the cache there and leave "
            "`exchange` out.",
        )
    return url


def notes_on(url: Url) -> list[str]:
    """What the user should know of a URL as it was written."""
    return [STRIPPED] if url.stripped else []


@contextmanager
def reaching() -> Iterator[None]:
    """Lets an error of a URL be one of ours.

    Raises:
        StoreError: The URL may not be read or written, or is not there.
    """
    try:
        yield
    except OSError as error:
        if not is_url(str(error.filename)):
            raise
        raise StoreError(
            f"{error.filename} to be there, and to be read and written",
            str(error.strerror),
            "Check the URL and what its credentials may do (see docs/how-to/cloud.md).",
        ) from error


def find_exchange(url: Url, plan: str | None = None) -> "Exchange":
    """The plan at a URL; by default the only one.

    Raises:
        OSError: The URL may not be read.
        StoreError: There is none, or there are several.
    """
    names = [name for name in objects.folders_in(url) if _PLAN_NAME.fullmatch(name)]
    matching = [name for name in names if name.startswith(plan or "")]
    if len(matching) != 1:
        raise StoreError(
            f"`plan` to be one of: {some(names, 20)}" if names else "a plan of parts",
            f"none at {url}" if not names else repr(plan),
            f"Make it with featcache extract --plan-only --exchange {url}, unless it "
            "was published."
            if not names
            else "Name one; remove the folder of a plan that nobody needs.",
        )
    return Exchange(url / matching[0])


@dataclass(frozen=True)
class Exchange:
    """Where a plan and its parts are exchanged.

    Attributes:
        url: ``URL/<plan>``.
    """

    url: Url

    def upload(
        self, plan: PartPlan, manifest: Manifest, files: dict[str, Path], ids: set[str]
    ) -> None:
        """Uploads a plan with all that a worker needs; parts that are there stay.

        Args:
            plan: The plan.
            manifest: Its dataset, whose images are at URLs.
            files: Of the networks, by name.
            ids: Of images that networks are checked with, or quantised again.

        Raises:
            OSError: The URL may not be written.
        """
        files = {PLAN: plan.folder / PLAN, ROWS: plan.folder / ROWS} | files
        for planned in plan.record.networks:
            name = f"{REFERENCE}/{planned.store}"
            files[name] = plan.folder / name
        images = manifest.ok[manifest.ok["image_id"].isin(ids)]
        at_urls = isinstance(manifest.root, Url)
        record = ExchangeRecord(
            plan_id=plan.record.plan_id,
            dataset=manifest.dataset,
            # Without a root at a URL, no path is relative to it.
            root=str(manifest.root if at_urls else self.url),
            images=images[["image_id", "path"]].to_numpy().tolist(),
            files={name: sha256_file(path) for name, path in files.items()},
        )
        for name, path in files.items():
            objects.put(path, self.url / name, replace=True)
        with temporary_folder(plan.folder / MARK) as temp:
            checked.write_record(temp / MARK, records.to_json(record))
            objects.put(temp / MARK, self.url / MARK, replace=True)

    def fetch(self, cache: Path) -> tuple[Manifest, PartPlan]:
        """Fetches a plan into an empty cache folder, but for the rows of its parts.

        Returns:
            The dataset, with the images that networks are checked with; and the plan.

        Raises:
            OSError: The URL may not be read.
            StoreError: The plan is not there, or not as it was uploaded.
        """
        record = self._read_mark(cache / MARK)
        dataset = cache / record.dataset
        folder = dataset / "plans" / record.plan_id[:ID_DIGITS]
        for name, sha256 in record.files.items():
            if name != ROWS:
                path = (cache if name.startswith(OPENVINO) else folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if objects.fetch(self.url / name, path) != sha256:
                    raise self._changed(name)
        plan = read_plan(folder)
        if plan.record.plan_id != record.plan_id:
            raise self._changed(PLAN)
        table = pd.DataFrame(record.images, columns=["image_id", "path"], dtype=str)
        settings = Settings(record.root, record.root, group_by=IMAGE)
        return Manifest(dataset, settings, table.assign(status=OK)), plan

    def _read_mark(self, path: Path) -> ExchangeRecord:
        try:
            objects.fetch(self.url / MARK, path)
            value = checked.read_record(path)
            record = records.from_json(ExchangeRecord, value, MARK)
            if record.schema != SCHEMA:
                raise ValueError(f"schema {record.schema}, not {SCHEMA}")
            if os.path.basename(record.dataset) != record.dataset.strip("."):
                raise ValueError(f"dataset {record.dataset!r}, which is no name")
            if wrong := [n for n in record.files if not _NAME.fullmatch(n)]:
                raise ValueError(f"{wrong[0]!r}, which is no file of a plan")
        except FileNotFoundError:
            raise self._gone() from None
        except ValueError as error:
            raise self._changed(f"{MARK} ({error})") from error
        return record

    def _changed(self, name: str) -> StoreError:
        return StoreError(
            f"the plan that was uploaded to {self.url}",
            f"another {name}",
            "Make the plan again with the same command and version: it uploads all of "
            "it, and finished parts stay.",
        )

    def _gone(self) -> StoreError:
        return StoreError(
            f"plan {self.url.name} at {self.url.parent}",
            f"no {MARK}: it was published or removed, or is being uploaded",
            "Nothing is left to compute if it was published.",
        )

    def fetch_rows(self, plan: PartPlan, part: int) -> None:
        """Fetches what a part computes, into a file with holes for the others.

        Raises:
            OSError: The URL may not be read.
            StoreError: It is not as it was uploaded.
        """
        where = plan.record.parts[part]
        end = where.offset + where.bytes
        line = remote.read(self.url / ROWS, where.offset, end)
        if hashlib.sha256(line).hexdigest() != where.sha256:
            raise self._changed(ROWS)
        path = plan.folder / ROWS
        path.touch()
        with path.open("r+b") as file:
            file.seek(where.offset)
            file.write(line)

    def uploaded_parts(self) -> set[int]:
        """Parts that are there, whole or damaged; they are listed once.

        Raises:
            OSError: They may not be listed.
        """
        numbers = map(_number, objects.names_below(self.url))
        return {number for number in numbers if number is not None}

    def part_url(self, number: int) -> Url:
        """Where a finished part is."""
        return self.url / PARTS / f"{number:06d}.tar"

    def fetch_part(self, plan: PartPlan, number: int) -> bool:
        """Fetches a part into its plan's folder, if it is there.

        Returns:
            Whether it is there.

        Raises:
            OSError: The URL may not be read, or the disk not written.
            StoreError: It is of another plan, cut short, or has other rows.
            ValueError: Likewise.
        """
        target = plan.part_folder(number)
        target.parent.mkdir(exist_ok=True)
        with temporary_folder(target) as temp:
            packed = temp / "part.tar"
            try:
                objects.fetch(self.part_url(number), packed)
            except FileNotFoundError:
                return False
            unpack(packed, temp, {one.store for one in plan.record.networks})
            packed.unlink()
            try:
                read_part(plan, number, temp)
            except FileNotFoundError as error:
                name = Path(str(error.filename)).name
                raise ValueError(f"no {name} in it") from error
            install(plan, number, temp)
        return True

    def upload_part(self, plan: PartPlan, number: int) -> bool:
        """Uploads a finished part, unless there is a valid one: the first one counts.

        It is not kept here.

        Returns:
            Whether it was this one.

        Raises:
            OSError: The URL may not be written.
            StoreError: The plan is gone.
        """
        if not objects.exists(self.url / MARK):
            raise self._gone()
        folder = plan.part_folder(number)
        record = read_record(folder)
        with temporary_folder(folder) as temp:
            packed = temp / "part.tar"
            pack(folder, packed)
            remove_part(folder)
            if objects.put(packed, self.part_url(number), replace=False):
                return True
            if other := self.fetched_record(plan, number):
                return other == record  # its upload was repeated
            objects.put(packed, self.part_url(number), replace=True)
        return True

    def fetched_record(self, plan: PartPlan, number: int) -> PartRecord | None:
        """What the part that is there says of itself; None without a valid one.

        It is not kept here.

        Raises:
            OSError: The URL may not be read.
        """
        try:
            if not self.fetch_part(plan, number):
                return None
        except (ValueError, StoreError):
            return None
        record = read_record(plan.part_folder(number))
        remove_part(plan.part_folder(number))
        return record

    def remove(self) -> None:
        """Removes a plan that was published: first what says that it is there.

        Raises:
            OSError: It may not be removed.
        """
        names = objects.names_below(self.url)
        own = [n for n in names if _NAME.fullmatch(n) or _number(n) is not None]
        objects.remove([self.url / MARK])
        objects.remove(self.url / name for name in own)


def _number(name: str) -> int | None:
    """The number of the part that an object is."""
    match = _PART.fullmatch(name)
    return int(match[1]) if match else None
