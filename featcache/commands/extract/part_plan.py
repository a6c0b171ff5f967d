"""The plan of an extraction in parts: all that its parts have to agree on.

``cache/<dataset>/plans/<id>/`` holds ``plan.json``, ``rows.jsonl`` with a line for each
part, a few reference rows of each network, and the finished parts; see
docs/reference/file-format.md.
"""

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featcache import backbones
from featcache.backbones import FEATUREWISE, FILE, IMAGENET, PREPROCESS, Network
from featcache.commands.extract.plan import ExtractRequest
from featcache.commands.extract.planned_images import ManifestFile
from featcache.core import checked, records
from featcache.core.io import canonical_json, digest, parse_json
from featcache.core.text import some
from featcache.dataset.manifest import OK, Manifest
from featcache.dataset.views import Policy
from featcache.errors import StoreError
from featcache.features import store
from featcache.features.keys import RenderingQuery
from featcache.features.store import Header, Store

SCHEMA = 1
PLAN, ROWS, REFERENCE, PARTS = "plan.json", "rows.jsonl", "reference", "parts"
NETWORKS = "networks"
ID_DIGITS = 12  # of the id, in the name of the folder
Image = tuple[str, ...]  # image_id, path; SHA-256 and path of its mask, or ""


@dataclass(frozen=True, kw_only=True)
class PlannedNetwork:
    """A network of a plan, and its store.

    Attributes:
        name: Of the table, or its file; with the next four, what `backbones.resolve`
            takes.
        weights: Their tag or file.
        preprocess: Input scaling; "imagenet" is the network's own.
        input_size: Side in pixels; None for a baseline.
        seed: Of random weights.
        store: Name of the store's file.
        contract: Of its rows.
        weights_key: Identifies the weights without building the network.
        taps: Outputs beside the embedding.
        rows: To be computed in all parts.
    """

    name: str
    weights: str
    preprocess: str
    input_size: int | None
    seed: int
    store: str
    contract: dict[str, Any]
    weights_key: str
    taps: list[str]
    rows: int

    @classmethod
    def words(cls, network: Network) -> dict[str, Any]:
        """What `backbones.resolve` makes a network of again."""
        own_file = network.file if network.row is None else None
        file = str(network.file.resolve()) if network.file else ""
        weights = file if network.weights == FILE else network.weights
        has_name = network.preprocess in (*PREPROCESS, FEATUREWISE)
        plain = network.is_baseline
        return {
            "name": file if own_file else network.name,
            "weights": IMAGENET if own_file or plain else weights,
            "preprocess": network.preprocess if has_name and not plain else IMAGENET,
            "input_size": None if plain else network.input_size,
            "seed": network.seed,
        }

    def network_from(self, folder: Path) -> Network:
        """The network, not built yet: of its files in a folder, if that is there."""
        if not folder.is_dir():
            return self.network

        def moved(word: str) -> str:
            path = Path(word)
            return str(folder / path.name) if path.is_absolute() else word

        own = replace(self, name=moved(self.name), weights=moved(self.weights))
        return own.network

    @property
    def network(self) -> Network:
        """The network, not built yet."""
        return backbones.resolve(
            self.name,
            self.weights,
            preprocess=self.preprocess,
            input_size=self.input_size,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class PlannedPart:
    """Where the rows of a part are in ``rows.jsonl``.

    Attributes:
        offset: Of its line, in bytes.
        bytes: Of its line.
        sha256: Of its line.
        rows: Of all networks.
    """

    offset: int
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What the call asked for; as in `ExtractRequest`."""

    views: int
    policy: dict[str, Any]
    taps: str
    tap_pooling: str
    pooling: str
    engine: str
    precision: str
    dtype: str
    batch_size: int

    def request(self, manifest: Manifest) -> ExtractRequest:
        """The request of the call that made the plan."""
        options = records.to_json(self) | {"policy": Policy.of(self.policy)}
        return ExtractRequest(manifest=manifest, **options)


@dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """What ``plan.json`` holds, but for its digest.

    Attributes:
        schema: Of this record.
        plan_id: SHA-256 of what is computed: see `content_id`.
        created: ISO 8601.
        images: Usable images of the dataset.
        images_sha256: Of their ids and paths.
        options: Of the call.
        networks: What is run.
        parts: In order.
        files: SHA-256 of the reference rows' files, by name.
        failures: From path to reason: images that have no row in the plan.
        versions: Of the libraries that made the plan.
        manifest: The file that the images were in.
    """

    schema: int
    plan_id: str
    created: str
    images: int
    images_sha256: str
    options: PlanOptions
    networks: list[PlannedNetwork]
    parts: list[PlannedPart]
    files: dict[str, str]
    failures: dict[str, str]
    versions: dict[str, str]
    manifest: ManifestFile | None = None

    @property
    def content_id(self) -> str:
        """SHA-256 (64 hex digits) of all that decides what the parts compute."""
        names = ("images_sha256", "options", "networks", "parts")
        return digest([records.plain(getattr(self, name)) for name in names])


@dataclass(frozen=True)
class PartRows:
    """What a part computes.

    Attributes:
        images: Of all networks, each once, in the manifest's order.
        image_of: For each network, (n,) number of the image of each row.
        draw_of: Likewise, 0 for the plain rendering or the number of the draw.
    """

    images: list[Image]
    image_of: list[np.ndarray]
    draw_of: list[np.ndarray]

    def table(self, mask_column: str) -> pd.DataFrame:
        """The images as a manifest has them, as far as computing them needs it.

        Args:
            mask_column: The column that names their masks; empty for none.
        """
        columns = ["image_id", "path", "mask_id", mask_column or "mask"]
        images = pd.DataFrame(self.images, columns=columns, dtype=str)
        return images.assign(status=OK)

    @property
    def has_mask_paths(self) -> bool:
        """Whether it names all masks; earlier versions did not."""
        return all(path or not mask for *_, mask, path in self.images)

    def line(self) -> bytes:
        """As ``rows.jsonl`` has it."""
        rows = [
            [image.tolist(), draw.tolist()]
            for image, draw in zip(self.image_of, self.draw_of, strict=True)
        ]
        value = {"images": [list(one) for one in self.images], "rows": rows}
        return canonical_json(value).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> "PartRows":
        """Reads what ``line`` has written."""
        value = parse_json(line)
        image_of, draw_of = zip(*value["rows"], strict=True)
        return cls(
            [(*one, "")[:4] for one in value["images"]],
            [np.asarray(numbers, int) for numbers in image_of],
            [np.asarray(numbers, int) for numbers in draw_of],
        )

    def missing(
        self, number: int, header: Header, options: PlanOptions
    ) -> pd.DataFrame:
        """The rows of one network, as a job has them.

        Args:
            number: Of the network.
            header: Of its store.
            options: Of the plan.
        """
        policy = Policy.of(options.policy)
        masks = {image_id: mask for image_id, _, mask, _ in self.images}
        query = RenderingQuery(options.views, options.policy, policy.region, masks)
        keys = query.keys([image_id for image_id, *_ in self.images], header)
        image, draw = self.image_of[number], self.draw_of[number]
        paths = np.array([path for _, path, *_ in self.images], object)
        rows: pd.DataFrame = keys.iloc[image * (options.views + 1) + draw]
        return rows.assign(path=paths[image]).reset_index(drop=True)


@dataclass(frozen=True)
class PartPlan:
    """A plan that was read.

    Attributes:
        folder: ``cache/<dataset>/plans/<id>``.
        record: What it says.
    """

    folder: Path
    record: PlanRecord

    @property
    def name(self) -> str:
        """The digits that name it."""
        return self.folder.name

    @property
    def networks(self) -> list[Network]:
        """What is run, not built yet."""
        folder = self.folder / NETWORKS  # of a plan that was fetched from a URL
        return [
            planned.network_from(folder / str(number))
            for number, planned in enumerate(self.record.networks)
        ]

    @cached_property
    def references(self) -> list[Store]:
        """Of each network the header of its rows, and a few rows to compare with."""
        paths = [self.folder / REFERENCE / one.store for one in self.record.networks]
        for path in paths:
            try:
                checked.refuse_changed_file(path, self.record.files)
            except (OSError, ValueError) as error:
                raise damaged(self.folder, error) from error
        return [store.open_store(path) for path in paths]

    def rows(self, part: int) -> PartRows:
        """Reads what a part computes.

        Raises:
            StoreError: The file is not the one that was written.
        """
        where = self.record.parts[part]
        try:
            with (self.folder / ROWS).open("rb") as file:
                file.seek(where.offset)
                line = file.read(where.bytes)
        except OSError as error:
            raise damaged(self.folder, error) from error
        if hashlib.sha256(line).hexdigest() != where.sha256:
            raise damaged(self.folder, f"{ROWS}, which was changed")
        return PartRows.of_line(line)

    def part_folder(self, part: int) -> Path:
        """Where a finished part is."""
        return self.folder / PARTS / f"{part:06d}"

    def present_parts(self) -> set[int]:
        """Parts that are there, whole or damaged; the folder is listed once."""
        try:
            with os.scandir(self.folder / PARTS) as entries:
                names = {entry.name for entry in entries if entry.is_dir()}
        except (FileNotFoundError, NotADirectoryError):  # before the first part
            names = set()
        count = range(len(self.record.parts))
        return {part for part in count if self.part_folder(part).name in names}


def plans_folder(manifest: Manifest) -> Path:
    """The folder of a dataset's plans."""
    return manifest.folder / "plans"


def open_plan(manifest: Manifest, name: str | None = None) -> PartPlan:
    """Reads a plan of a dataset; by default the only one.

    Args:
        manifest: The dataset.
        name: The first digits of its id.

    Raises:
        StoreError: There is none, it is not as it was written, or there are several.
    """
    folders = sorted(path.parent for path in plans_folder(manifest).glob(f"*/{PLAN}"))
    names = [folder.name for folder in folders if not folder.name.startswith(".")]
    matching = [one for one in names if one.startswith(name or "")]
    if len(matching) != 1:
        raise StoreError(
            f"`plan` to be one of: {some(names, 20)}" if names else "a plan of parts",
            f"none in {plans_folder(manifest)}" if not names else repr(name),
            "Make it with featcache extract --plan-only, unless it was published."
            if not names
            else "Name one; remove the folder of a plan that nobody needs.",
        )
    return read_plan(plans_folder(manifest) / matching[0])


def read_plan(folder: Path) -> PartPlan:
    """Reads the plan in a folder.

    Raises:
        StoreError: It is not as it was written.
    """
    try:
        value = checked.read_record(folder / PLAN)
        record = records.from_json(PlanRecord, value, PLAN)
        if record.schema != SCHEMA:
            raise ValueError(f"schema {record.schema}, not {SCHEMA}")
        if record.content_id != record.plan_id:
            raise ValueError("another plan_id than its content has")
        for one in record.networks:
            if os.path.basename(one.store) != one.store:
                raise ValueError(f"store {one.store}, which is no name of a file")
    except (OSError, ValueError) as error:
        raise damaged(folder, error) from error
    return PartPlan(folder, record)


def damaged(folder: Path, reason: object) -> StoreError:
    """The error of a plan that is not as it was written."""
    return StoreError(
        f"the plan that was written to {folder}",
        str(reason),
        "Delete that folder and plan again.",
    )
