"""Generated chest phantoms: a labelled set of X-rays that needs no download.

A phantom is made as a radiograph is: the optical depth of the body is added up
along each ray (soft tissue, less the air of the lungs, plus bone, plus findings),
goes through quantum noise and blur, and is shown through a window. A phantom is for
trying the tool out and says nothing of patients.
"""

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from featcache.core.io import write_text
from featcache.core.parallel import in_threads
from featcache.core.progress import SILENT, Reporter
from featcache.dataset.phantom.base import Field, Mask, draw_chest, resized
from featcache.dataset.phantom.findings import FINDINGS, SMALL_FINDINGS
from featcache.errors import DatasetError, UsageError

CLASSES: tuple[str, ...] = tuple(FINDINGS)
COLUMNS = ("path", "label", "patient", "image", "mask", "lesion", "shortcut")

_HONEST = 0.95  # share of the planted markers that tell the true class
# Streams of random numbers: more draws from one never shift another.
_BODY, _VISITS, _FINDING, _EXPOSURE, _MARKER = range(1, 6)


@dataclass(frozen=True)
class Phantom:
    """One drawn X-ray and the truth about it; every field is (H, W).

    Attributes:
        image: Grey levels, air black and bone white.
        lungs: The visible lung fields.
        lesions: What makes the image abnormal; always within the lungs.
        marker: The plate of the planted marker; all False where there is none.
    """

    image: NDArray[np.uint8]
    lungs: Mask
    lesions: Mask
    marker: Mask


def draw(
    label: str,
    patient: int,
    image: int = 0,
    *,
    size: int = 384,
    seed: int = 0,
    shortcut: bool = False,
    small_lesions: bool = False,
) -> Phantom:
    """Draws one X-ray, the same for the same arguments.

    Args:
        label: One of ``CLASSES``.
        patient: Decides the anatomy and, with the label, the findings.
        image: Decides exposure, noise and position.
        size: Height and width in pixels.
        seed: Another seed is another world of patients.
        shortcut: Plant a corner marker that tells the class in 95 % of the images;
            nothing outside its plate changes.
        small_lesions: Findings are one patch in one lung, of 2 to 4 % of the area of
            both lung fields.

    Raises:
        UnknownNameError: A label that is no class.
        UsageError: A number below 0, or a size below 64.
    """
    if min(patient, image, seed) < 0 or size < 64:
        raise UsageError(
            "patient, image and seed of at least 0, and a size of at least 64",
            f"patient={patient}, image={image}, seed={seed}, size={size}",
            "Give larger numbers.",
        )
    find = (SMALL_FINDINGS if small_lesions else FINDINGS)[label]
    chest = draw_chest(size, _rng(seed, patient, _BODY))
    finding = find(chest.halved(), _rng(seed, patient, _FINDING, CLASSES.index(label)))
    added = np.maximum(resized(finding, size), 0) * np.minimum(chest.air, 1)
    seen = chest.lungs & (added > 0.2 * added.max())
    parts = chest.lungs.astype(np.uint8) + seen
    rng = _rng(seed, patient, _EXPOSURE, image)
    depth, where = _placed(rng, chest.depth + added, parts)
    grey, marker = _exposed(rng, depth, where > 0), np.zeros_like(where, bool)
    if shortcut:
        grey, marker = _marked(grey, _marker(label, patient, image, seed))
    return Phantom(grey, where > 0, where > 1, marker)


def write(
    folder: Path,
    images: int,
    *,
    size: int = 384,
    seed: int = 0,
    shortcut: bool = False,
    small_lesions: bool = False,
    reporter: Reporter = SILENT,
) -> Path:
    """Writes a set of phantoms, one to three images a patient, and its CSV.

    The CSV comes last, so a set that was cut short has none. A larger set begins
    with the images of a smaller one of the same seed and size.

    Args:
        folder: A new or empty folder.
        images: Number of images, spread over the classes as evenly as it goes.
        size: Height and width in pixels.
        seed: Another seed is another world of patients.
        shortcut: Plant markers, see ``draw``; the CSV names each marker's corner.
        small_lesions: Findings are small patches, see ``draw``.
        reporter: Hears of each image written, as "phantoms".

    Returns:
        The path of ``metadata.csv``, with ``COLUMNS`` and paths relative to it.

    Raises:
        UsageError: Fewer than three images.
        DatasetError: A folder that is not empty.
    """
    if images < len(CLASSES):
        raise UsageError(
            f"at least {len(CLASSES)} images, one per class",
            str(images),
            "Raise the number.",
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DatasetError(
            "a new or empty folder for the phantoms",
            f"{folder}, which is not empty",
            "Choose another folder, or remove this one.",
        )
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(COLUMNS)
    kind: dict[str, Any] = {"shortcut": shortcut, "small_lesions": small_lesions}

    def row_of(one: tuple[str, int, int, int]) -> list[Any]:
        label, number, patient, image = one
        phantom = draw(label, patient, image, size=size, seed=seed, **kind)
        paths = _save(phantom, folder, label, number)
        corner = _marker(label, patient, image, seed) if shortcut else "none"
        return [paths[0], label, f"phantom-{patient:04d}", image, *paths[1:], corner]

    all_rows = in_threads(row_of, _plan(images, seed), min(os.cpu_count() or 1, 8))
    for done, row in enumerate(all_rows, 1):
        rows.writerow(row)
        reporter.progress("phantoms", done, images)
    write_text(folder / "metadata.csv", table.getvalue())
    return folder / "metadata.csv"


def _plan(images: int, seed: int) -> Iterator[tuple[str, int, int, int]]:
    """Yields (label, number within the class, patient, image of the patient)."""
    for which, label in enumerate(CLASSES):
        share = images // len(CLASSES) + (which < images % len(CLASSES))
        visits = (
            (patient, image)
            for patient in count(which + 1, len(CLASSES))
            for image in range(_rng(seed, patient, _VISITS).integers(1, 4))
        )
        for number, (patient, image) in enumerate(islice(visits, share), 1):
            yield label, number, patient, image


def _save(phantom: Phantom, folder: Path, label: str, number: int) -> list[str]:
    """Writes image, lung mask and lesion mask; returns their relative paths."""
    layers = {
        "images": phantom.image,
        "masks": phantom.lungs,
        "lesions": phantom.lesions,
    }
    paths = []
    for kind, layer in layers.items():
        path = Path(label) / kind / f"{label} ({number}).png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        grey = layer if layer.dtype == np.uint8 else layer.astype(np.uint8) * 255
        Image.fromarray(grey).save(folder / path, compress_level=1)
        paths.append(path.as_posix())
    return paths


def _rng(*key: int) -> np.random.Generator:
    # SeedSequence pads keys with zeros, so only keys of one length never meet.
    return np.random.default_rng([*key, *[0] * (4 - len(key))])


def _placed(
    rng: np.random.Generator, depth: Field, parts: NDArray[np.uint8]
) -> tuple[Field, NDArray[np.uint8]]:
    """Turns, scales, leans and shifts both alike, within what was drawn."""
    size = len(depth)
    turn, zoom = rng.uniform(-0.04, 0.04), rng.uniform(0.84, 0.91)
    a, b, lean = zoom * np.cos(turn), zoom * np.sin(turn), rng.uniform(-0.02, 0.02)
    move = rng.uniform(-0.02, 0.02, 2).tolist()
    rows = [[a, b + lean], [-b, a]]
    shift = [size / 2 * (1 + by - sum(row)) for by, row in zip(move, rows, strict=True)]
    matrix = (*rows[0], shift[0], *rows[1], shift[1])
    how = Image.Transform.AFFINE, matrix
    layer = Image.fromarray(depth.astype(np.float32))
    moved = layer.transform((size, size), *how, Image.Resampling.BILINEAR)
    where = Image.fromarray(parts).transform((size, size), *how)
    return np.asarray(moved), np.asarray(where)


def _exposed(rng: np.random.Generator, depth: Field, lungs: Mask) -> NDArray[np.uint8]:
    """Adds noise and blur, evens the field out, and shows it through a window."""
    size = len(depth)
    photons = 10 ** rng.uniform(3.8, 4.8) * (512 / size) ** 2
    noise = rng.standard_normal(depth.shape, np.float32) * photons**-0.5
    depth = depth + noise * np.exp(0.5 * depth)
    depth = ndimage.gaussian_filter(depth, rng.uniform(0.5, 1.1) * size / 512)
    coarse = np.asarray(Image.fromarray(depth).resize((32, 32), Image.Resampling.BOX))
    veil = resized(ndimage.gaussian_filter(coarse, 3), size)
    depth -= rng.uniform(0.1, 0.45) * veil
    low = float(np.percentile(depth[lungs], 5))
    high = float(np.percentile(depth[size // 4 :: 4, ::4], 90))
    black = low - rng.uniform(0.15, 0.6) * (high - low)
    white = high + rng.uniform(0.0, 0.3) * (high - low)
    grey = np.maximum((depth - black) / (white - black), 0) ** rng.uniform(0.8, 1.3)
    window: Field = np.minimum(np.tanh(1.15 * grey) / np.tanh(1.15), 1)
    return (255 * window).astype(np.uint8)


# Where a class has its marker (x, y of the plate) and the letter on it, in plates.
_MARKERS = {
    "top-left": ((0.02, 0.02), [(0.3, 0.2), (0.3, 0.8), (0.7, 0.8)]),
    "top-right": ((0.89, 0.02), [(0.25, 0.8), (0.5, 0.2), (0.75, 0.8)]),
    "bottom-left": ((0.02, 0.89), [(0.25, 0.2), (0.75, 0.2), (0.5, 0.2), (0.5, 0.8)]),
}


def _marker(label: str, patient: int, image: int, seed: int) -> str:
    rng = _rng(seed, patient, _MARKER, image)
    own = CLASSES.index(label)
    other = (own + int(rng.integers(1, len(CLASSES)))) % len(CLASSES)
    return list(_MARKERS)[own if rng.random() < _HONEST else other]


def _marked(grey: NDArray[np.uint8], corner: str) -> tuple[NDArray[np.uint8], Mask]:
    """Burns a white letter on a black plate into a corner."""
    size = len(grey)
    (left, top), letter = _MARKERS[corner]
    side = round(0.09 * size)
    plate = Image.new("L", (side, side))
    points = [(x * side, y * side) for x, y in letter]
    ImageDraw.Draw(plate).line(points, fill=255, width=max(1, side // 8))
    rows, columns = round(top * size), round(left * size)
    where = np.s_[rows : rows + side, columns : columns + side]
    marked, marker = grey.copy(), np.zeros(grey.shape, bool)
    marked[where], marker[where] = np.asarray(plate), True
    return marked, marker
