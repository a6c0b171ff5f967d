"""``maps.npz``: heat maps with thumbnails of their images, as arrays."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featcache.commands.explain import ExplainResult, HeatMap, MeanMap
from featcache.core.io import atomic_path
from featcache.core.text import file_name
from featcache.report.heatmaps.drawing import fitted

if TYPE_CHECKING:
    from PIL.Image import Image

FILE = "maps.npz"
TILE = 190  # pixels of a thumbnail's longer side
ERRORS, MEAN = "errors", "mean-"
_IMAGE_COLUMNS = {
    "image_id": "image_id",
    "image_name": "name",
    "image_label": "label",
    "image_part": "part",
    "image_count": "count",
}  # arrays, with the fields of `ShownImage`
# Kinds of NumPy's types, and dimensions; the other columns are text.
_EXPECTED: dict[str, tuple[str, tuple[int, ...]]] = {
    "maps": ("f", (3,)),
    "image": ("iu", (1,)),
    "image_count": ("iu", (1,)),
    "probability": ("f", (1,)),
    "scale": ("f", (1,)),
}
_THUMBNAIL = "u", (2, 3)
_MAP_COLUMNS = ("sheet", "title", "target", "method", "probability", "scale")


@dataclass(frozen=True, eq=False)
class ShownImage:
    """An image that maps are laid over, or the mean image of a class.

    Attributes:
        image_id: SHA-256 of its bytes; empty for a mean.
        name: Its path, or the class.
        label: The true class; empty where it is not known.
        part: Part of the split.
        count: How many images it is the mean of; 1 for an image.
        pixels: (h, w) or (h, w, 3) uint8.
    """

    image_id: str
    name: str
    label: str
    part: str
    count: int
    pixels: np.ndarray

    @property
    def picture(self) -> "Image":
        """Its pixels, for Pillow."""
        from PIL import Image

        return Image.fromarray(self.pixels)


@dataclass(frozen=True, eq=False)
class ShownMap:
    """One map.

    Attributes:
        image: What it is laid over.
        target: The class that is explained.
        method: What made the map.
        probability: Of the class; NaN for a mean.
        values: (h, w) float32, in margin per pixel.
    """

    image: ShownImage
    target: str
    method: str
    probability: float
    values: np.ndarray

    @property
    def density(self) -> np.ndarray:
        """Its values in margin per 1 % of the image, whatever its pixels are."""
        return density(self.values)


@dataclass(frozen=True, eq=False)
class Sheet:
    """Maps that are shown together.

    Attributes:
        name: Of its PNG without the ending: "errors", "class-<label>", "unlabelled",
            or "mean-<method>".
        title: What it shows.
        maps: Those of one image in a row.
        scales: By method, the density at which the colours are full.
    """

    name: str
    title: str
    maps: list[ShownMap]
    scales: dict[str, float]

    @property
    def is_mean(self) -> bool:
        """Whether its maps are means of classes."""
        return self.name.startswith(MEAN)

    @property
    def strips(self) -> list[list[ShownMap]]:
        """The maps of each image."""
        by_image: dict[tuple[str, str], list[ShownMap]] = {}
        for one in self.maps:
            key = one.image.image_id, one.image.name
            by_image.setdefault(key, []).append(one)
        return list(by_image.values())


def density(values: np.ndarray) -> np.ndarray:
    """A map in margin per 1 % of the image, whatever its pixels are."""
    return values * (values.size / 100)


def limit_of(densities: Iterable[np.ndarray]) -> float:
    """One scale for several maps: half of them reach its ends."""
    peaks = [float(np.abs(one).max()) for one in densities]
    return float(np.median(peaks)) or 1.0


def sheets_of(result: ExplainResult) -> list[Sheet]:
    """The maps of a call by sheet: errors or labels, then means of each method."""
    images: dict[str, ShownImage] = {}
    by_name: dict[str, list[ShownMap]] = {}
    titles: dict[str, str] = {}
    for one in result.maps:
        image = images.setdefault(one.image.image_id, _image(one))
        name, title = sheet_name(result, one)
        titles[name] = title
        by_name.setdefault(name, []).append(
            ShownMap(image, one.label, one.method, one.probability, _float32(one))
        )
    for mean in result.means:
        name = MEAN + file_name(mean.method)
        titles[name] = "Mean maps"
        by_name.setdefault(name, []).append(_mean(mean))
    return [_sheet(name, titles[name], maps) for name, maps in by_name.items()]


def sheet_name(result: ExplainResult, one: HeatMap) -> tuple[str, str]:
    """Name and title of the sheet that a map is on."""
    if result.of_errors:
        return ERRORS, "Most confident errors"
    if not one.image.label:
        return "unlabelled", "Images without a label"
    label = one.image.label
    return f"class-{file_name(label)}", f"Images labelled {label}"


def _sheet(name: str, title: str, maps: list[ShownMap]) -> Sheet:
    methods = dict.fromkeys(one.method for one in maps)
    scales = {
        method: limit_of(one.density for one in maps if one.method == method)
        for method in methods
    }
    return Sheet(name, title, maps, scales)


def _image(one: HeatMap) -> ShownImage:
    thumbnail = fitted(one.picture, TILE)
    about = one.image.image_id, one.image.path, one.image.label, one.image.part
    return ShownImage(*about, 1, np.asarray(thumbnail))


def _mean(one: MeanMap) -> ShownMap:
    image = ShownImage("", one.label, one.label, one.part, one.images, one.picture)
    return ShownMap(image, one.label, one.method, float("nan"), _float32(one))


def _float32(one: HeatMap | MeanMap) -> np.ndarray:
    return one.values.astype(np.float32)


def save(sheets: Sequence[Sheet], folder: Path) -> None:
    """Writes ``maps.npz``; sheets of an earlier call that have other names stay."""
    try:
        earlier = load(folder)
    except (OSError, ValueError):
        earlier = []
    by_name = {sheet.name: sheet for sheet in [*earlier, *sheets]}
    maps = [(sheet, one) for sheet in by_name.values() for one in sheet.maps]
    images = list(dict.fromkeys(one.image for _, one in maps))
    number = {image: n for n, image in enumerate(images)}
    columns = [
        (sheet.name, sheet.title, one.target, one.method, one.probability,
         sheet.scales[one.method])
        for sheet, one in maps
    ]  # fmt: skip
    about = [
        tuple(getattr(image, f) for f in _IMAGE_COLUMNS.values()) for image in images
    ]
    arrays = {
        "maps": np.array([one.values for _, one in maps], np.float32),
        "image": np.array([number[one.image] for _, one in maps], int),
        **_columns(_MAP_COLUMNS, columns),
        **_columns(list(_IMAGE_COLUMNS), about),
        **{f"thumbnail_{n}": image.pixels for n, image in enumerate(images)},
    }
    with atomic_path(folder / FILE) as temp, temp.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _columns(
    names: Sequence[str], rows: Sequence[tuple[str | float, ...]]
) -> dict[str, np.ndarray]:
    values = zip(*rows, strict=True) if rows else [()] * len(names)
    return {name: np.array(one) for name, one in zip(names, values, strict=True)}


def load(folder: Path) -> list[Sheet]:
    """The sheets that ``explain`` recorded for a run.

    Args:
        folder: ``reports/<dataset>/explain/<run_id>``.

    Raises:
        FileNotFoundError: There are none.
        ValueError: The file is damaged.
    """
    try:
        with (folder / FILE).open("rb") as file, np.load(file) as arrays:
            return _loaded({name: arrays[name] for name in arrays.files})
    except FileNotFoundError:
        raise
    except Exception as error:  # those of NumPy and zipfile have no common base
        raise ValueError(f"not a record of maps ({error})") from error


def _check(arrays: dict[str, np.ndarray]) -> None:
    """Raises ValueError for arrays that `save` does not write."""
    for name, array in arrays.items():
        is_thumbnail = name.startswith("thumbnail_")
        kinds, ranks = _THUMBNAIL if is_thumbnail else _EXPECTED.get(name, ("U", (1,)))
        is_empty = array.ndim > 1 and not array.size
        if array.dtype.kind not in kinds or array.ndim not in ranks or is_empty:
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
    images = arrays["image"]
    if not ((images >= 0) & (images < len(arrays["image_id"]))).all():
        raise ValueError("image has a number that no image has")
    if not np.isfinite(arrays["maps"]).all() or not np.isfinite(arrays["scale"]).all():
        raise ValueError("maps or scale are not finite")


def _loaded(arrays: dict[str, np.ndarray]) -> list[Sheet]:
    _check(arrays)
    about = zip(*(arrays[name].tolist() for name in _IMAGE_COLUMNS), strict=True)
    images = [
        ShownImage(image_id, name, label, part, count, arrays[f"thumbnail_{n}"])
        for n, (image_id, name, label, part, count) in enumerate(about)
    ]
    columns = zip(*(arrays[name].tolist() for name in _MAP_COLUMNS), strict=True)
    by_name: dict[str, Sheet] = {}
    for row, image, values in zip(
        columns, arrays["image"], arrays["maps"], strict=True
    ):
        name, title, target, method, probability, scale = row
        sheet = by_name.setdefault(name, Sheet(name, title, [], {}))
        sheet.maps.append(ShownMap(images[image], target, method, probability, values))
        sheet.scales[method] = scale
    return list(by_name.values())
