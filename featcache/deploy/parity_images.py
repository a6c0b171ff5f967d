"""Images that an exported file is held against its model on."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from featcache.core.text import counted
from featcache.dataset import phantom, rendering, views
from featcache.dataset.manifest import Manifest
from featcache.dataset.views import Resize
from featcache.deploy.bundle import golden
from featcache.deploy.bundle.open import Bundle
from featcache.deploy.graph import Pixels
from featcache.errors import UnreadableImageError
from featcache.evaluation import runs
from featcache.evaluation.runs import Run

IMAGES = 64
_SMALLEST_PHANTOM = 64
_Row = list[np.ndarray]  # an image for each input, (S, S, 3) uint8


@dataclass(frozen=True, eq=False)
class ParityImages:
    """Images, cut for the networks of a model.

    Attributes:
        pixels: (N, S, S, 3) uint8 RGB for each way to resize them.
        text: What they are, such as "64 images of chest".
    """

    pixels: Pixels
    text: str


def generated(resizes: Sequence[Resize], count: int = IMAGES) -> ParityImages:
    """Generated X-rays.

    Args:
        resizes: How images are brought to the inputs.
        count: How many.
    """
    return _filled([], "", resizes, count)


def of_dataset(
    run: Run, dataset: Manifest, resizes: Sequence[Resize], count: int = IMAGES
) -> ParityImages:
    """Images of a run's dataset; generated ones instead of those that are not there.

    Images of the test set come first: boosted trees split at the very numbers of
    training images. They are even over the classes, and the same at every call.

    Args:
        run: The run.
        dataset: On which it was trained.
        resizes: How images are brought to the inputs.
        count: How many.
    """
    paths = dict(zip(dataset.ok["image_id"], dataset.ok["path"], strict=True))
    rows = []
    for image_id in _selected(run.table, count):
        with suppress(UnreadableImageError, KeyError):  # no file, or not in the table
            picture = rendering.read(dataset.root, paths[image_id], image_id)
            rows.append(_cut(picture.image, resizes))
    name = dataset.dataset
    text = counted(len(rows), f"image of {name}", f"images of {name}")
    return _filled(rows, text, resizes, count)


def of_bundle(
    bundle: Bundle, resizes: Sequence[Resize], count: int = IMAGES
) -> ParityImages:
    """The golden cases of a bundle, and generated X-rays.

    Args:
        bundle: The bundle.
        resizes: How images are brought to the inputs.
        count: How many in all.
    """
    files = (bundle.archive.read(f"golden/{name}") for name in bundle.record.golden)
    cases = [_cut(golden.candidate(data).picture.image, resizes) for data in files]
    return _filled(cases, counted(len(cases), "golden case"), resizes, count)


def _filled(
    rows: list[_Row], text: str, resizes: Sequence[Resize], count: int
) -> ParityImages:
    """Images, and generated ones behind them up to a count."""
    missing = count - len(rows)
    if missing > 0:
        phantoms = counted(missing, "generated picture")
        text = f"{text} and {phantoms}" if rows else phantoms
        rows = [*rows, *(_cut(image, resizes) for image in _phantoms(resizes, missing))]
    columns = map(np.stack, zip(*rows, strict=True))
    return ParityImages(dict(zip(resizes, columns, strict=True)), text)


def _selected(table: pd.DataFrame, count: int) -> list[str]:
    """Ids of images from a run's predictions, each class in turn, test images first."""
    table = table.drop_duplicates("image_id").sort_values("image_id")
    turn = table.groupby(["split", "label"]).cumcount()
    order = table.assign(training=table["split"] != runs.TEST, turn=turn)
    order = order.sort_values(["training", "turn", "label"])
    return order["image_id"].head(count).tolist()


def _phantoms(resizes: Sequence[Resize], count: int) -> Iterator[Image.Image]:
    side = max(_SMALLEST_PHANTOM, *(one.side for one in resizes))
    labels = phantom.CLASSES
    for n in range(count):
        yield Image.fromarray(phantom.draw(labels[n % len(labels)], n, size=side).image)


def _cut(image: Image.Image, resizes: Sequence[Resize]) -> _Row:
    """An image as each of several networks sees it."""
    return [views.render(image, resize) for resize in resizes]
