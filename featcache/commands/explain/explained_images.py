"""Which images to explain, and finding them where they are now."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from featcache.core.progress import SILENT, Reporter
from featcache.core.text import some
from featcache.dataset import images, sources, views
from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import WHOLE_PICTURE
from featcache.dataset.views import Resize
from featcache.errors import DatasetError, RunError, UnreadableImageError, UsageError
from featcache.evaluation import runs
from featcache.evaluation.runs import PROBABILITY, Run

UNKNOWN = "unknown"  # the part of an image that the run has not to do with
TRAINED_ON = "out-of-fold"  # a part: no test image, so the saved head has seen it
_LEAST_PREFIX = 6


@dataclass(frozen=True, eq=False)
class ExplainedImage:
    """One image to explain.

    Attributes:
        image_id: SHA-256 of its bytes.
        path: Where it is, for people.
        label: Its class; empty if it is not known.
        group: Its group.
        part: "test", "out-of-fold" or "unknown".
        data: The file.
        masks: Paths of its masks by column, below the dataset's root.
    """

    image_id: str
    path: str
    label: str
    group: str
    part: str
    data: bytes
    masks: dict[str, str] = field(default_factory=dict)

    @cached_property
    def picture(self) -> Image.Image:
        """Upright, of mode "L" or "RGB"."""
        return images.decode(self.data)

    def pixels(self, resize: Resize) -> np.ndarray:
        """Its plain view, (side, side, 3) uint8."""
        return views.render(self.picture, resize)


@dataclass(frozen=True, eq=False)
class ImageLoader:
    """Reads images of a dataset, where they are or wherever their bytes are found.

    Args:
        manifest: The dataset.
        run: Whose parts they are of.
        source: A folder to look for moved images in.
        masks: Columns of the manifest that name masks.

    Raises:
        RunError: The run was trained on a region of the images.
    """

    manifest: Manifest
    run: Run
    source: Path | None = None
    masks: Sequence[str] = ()

    def __post_init__(self) -> None:
        regions = {block.image_region for block in self.run.record.features}
        if regions := regions - {WHOLE_PICTURE}:
            raise RunError(
                "a run on whole images to explain",
                f"{self.run.run_id}, a control on region {regions.pop().kind}",
                "Explain a run on whole images; `faithfulness=True` measures the share "
                "of evidence inside masks.",
            )

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The manifest's usable images by image_id."""
        return self.manifest.ok.set_index("image_id")

    @cached_property
    def parts(self) -> dict[str, str]:
        """The part of each image of the run."""
        table = self.run.table
        names = table["split"].map({runs.TEST: runs.TEST, runs.TRAIN: TRAINED_ON})
        return dict(zip(table["image_id"], names, strict=True))

    def read(self, image_id: str) -> ExplainedImage:
        """An image of the manifest.

        Raises:
            DatasetError: It is nowhere to be found.
        """
        row = self.rows.loc[image_id]
        path = str(row["path"])
        try:
            data = sources.read_bytes(self.manifest.root, path)
        except OSError:
            data = b""
        if images.content_id(data) != image_id:
            path, data = self._moved(image_id, path, int(str(row["bytes"])))
        return self._subject(image_id, path, data)

    def find(self, text: str) -> ExplainedImage:
        """An image by its file, its path in the manifest, or the start of its id.

        Raises:
            DatasetError: There is none, or several.
        """
        path = Path(text)
        if path.is_file():
            data = path.read_bytes()
            return self._subject(images.content_id(data), text, data)
        ids = self.rows.index.to_series()
        matches = ids[self.rows["path"] == text]
        if matches.empty and len(text) >= _LEAST_PREFIX:
            matches = ids[ids.str.startswith(text.lower())]
        if len(matches) == 1:
            return self.read(str(matches.iloc[0]))
        raise DatasetError(
            f"an image file, or the path or id of one image of {self.manifest.dataset}",
            f"{text!r}, which matches {len(matches) or 'none'} of {len(ids)}",
            "Check the path: there is no such file. Images of the dataset can also be "
            "named by their paths or the first digits of their ids in manifest.csv.",
        )

    def pixels(self, image_ids: Sequence[str], resize: Resize, most: int) -> np.ndarray:
        """Plain views (n, side, side, 3) of the first images.

        Without ids, of those that the run was not evaluated on.
        """
        ids = list(image_ids) or sorted({*self.rows.index} - {*self.parts})
        loaded = readable(self, ids[:most], SILENT)
        return np.stack([image.pixels(resize) for image in loaded])

    def _subject(self, image_id: str, path: str, data: bytes) -> ExplainedImage:
        part = self.parts.get(image_id, UNKNOWN)
        if image_id not in self.rows.index:
            return ExplainedImage(image_id, path, "", image_id, part, data)
        row = self.rows.loc[image_id]
        masks = {c: str(row[c]) for c in self.masks if str(row.get(c, ""))}
        label, group = str(row["label"]), str(row["group"])
        return ExplainedImage(image_id, path, label, group, part, data, masks)

    def _moved(self, image_id: str, path: str, size: int) -> tuple[str, bytes]:
        for candidate in self._by_size.get(size, []):
            data = candidate.read_bytes()
            if images.content_id(data) == image_id:
                return str(candidate), data
        raise DatasetError(
            f"the image {path} of {self.manifest.dataset} in {self.manifest.root}"
            + (f" or {self.source}" if self.source else ""),
            "no file with the same content",
            "Pass the folder that contains it now as `source`.",
        )

    @cached_property
    def _by_size(self) -> dict[int, list[Path]]:
        """Files below the root and the source by their size: a moved one is among."""
        by_size: dict[int, list[Path]] = {}
        for top in (self.source, self.manifest.root):
            if isinstance(top, Path) and top.is_dir():
                for path in _files(top):
                    by_size.setdefault(path.stat().st_size, []).append(path)
        return by_size


def _files(top: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(top):
        for name in sorted(names):
            path = Path(folder) / name
            if path.suffix.lower() in sources.SUFFIXES and path.is_file():
                yield path


def select(
    loader: ImageLoader,
    names: Sequence[str],
    *,
    errors: int | None,
    per_class: int | None,
    reporter: Reporter,
) -> list[ExplainedImage]:
    """The images that a call asks for.

    Args:
        loader: Of the dataset and the run.
        names: Files, paths or ids; none for a choice from the run's test set, or
            where it has none from its out-of-fold part.
        errors: The so many wrong predictions that are surest.
        per_class: So many images of each class, by the order of their ids, which is
            that of no property of theirs.
        reporter: Hears what is left out.

    Raises:
        UsageError: More than one way of choosing, or nothing to choose.
        DatasetError: An image that cannot be found.
    """
    check_selection(names, errors, per_class)
    if names:
        loaded = [loader.find(name) for name in names]
        return list({one.image_id: one for one in loaded}.values())
    table = evaluated_rows(loader.run)
    table = table[table["image_id"].isin(loader.rows.index)]
    if errors is not None:
        ids = surest_errors(table, loader.run.classes, errors)
    else:
        ids = first_of_each(table, per_class or 3)
    if not ids:
        hint = "Leave `errors` out, or name images."
        raise UsageError("images to explain", "none", hint)
    return readable(loader, ids, reporter)


def readable(
    loader: ImageLoader, ids: Sequence[str], reporter: Reporter
) -> list[ExplainedImage]:
    """Reads images; those that cannot be read are skipped with a message.

    Raises:
        DatasetError: None can be.
    """
    loaded, unreadable = [], []
    for image_id in ids:
        try:
            image = loader.read(image_id)
            _ = image.picture
            loaded.append(image)
        except UnreadableImageError as error:
            unreadable.append(f"{image_id[:8]} ({error.got})")
        except DatasetError as error:
            if not loaded:
                raise
            unreadable.append(f"{image_id[:8]} ({error.got})")
    if unreadable:
        reporter.message(
            f"skipped {len(unreadable)} unreadable images: {some(unreadable, 3)}"
        )
    if not loaded:
        raise DatasetError("a readable image", some(unreadable, 3), "Replace them.")
    return loaded


def evaluated_rows(run: Run) -> pd.DataFrame:
    """The predictions on the test set, or out-of-fold where there is none."""
    test = run.table[run.table["split"] == runs.TEST]
    return test if len(test) else run.table


def first_of_each(table: pd.DataFrame, count: int) -> list[str]:
    """So many ids a class, by the order of the ids."""
    ordered = table.sort_values("image_id")
    first = ordered.groupby("label", sort=False).head(count)
    return [str(i) for i in first.sort_values(["label", "image_id"])["image_id"]]


def surest_errors(table: pd.DataFrame, classes: Sequence[str], count: int) -> list[str]:
    """Ids of wrong predictions, the most probable first."""
    p = table[[PROBABILITY + name for name in classes]].to_numpy(float)
    predicted = np.array(classes)[p.argmax(axis=1)]
    wrong = table.assign(top=p.max(axis=1))[predicted != table["label"]]
    ordered = wrong.sort_values(["top", "image_id"], ascending=[False, True])
    return [str(i) for i in ordered["image_id"].head(count)]


def check_selection(
    names: Sequence[str], errors: int | None, per_class: int | None
) -> None:
    """Checks that images are selected in one way at most.

    Raises:
        UsageError: They are not, or a number is below 1.
    """
    ways = [bool(names), errors is not None, per_class is not None]
    if sum(ways) > 1:
        raise UsageError(
            "only one of `images`, `errors` and `per_class`",
            "several",
            "Give one of them.",
        )
    for flag, number in (("errors", errors), ("per_class", per_class)):
        if number is not None and number < 1:
            raise UsageError(f"`{flag}` of 1 or more", str(number), "Raise it.")
