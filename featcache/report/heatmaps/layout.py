"""What lies where on a sheet of pictures, kept inside the PNG for who cuts it up."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.core.io import atomic_path

if TYPE_CHECKING:
    from PIL.Image import Image

_KEY = "featcache"  # of the text in the PNG
IMAGE, OVERLAY, MAP = "image", "overlay", "map"


@dataclass(frozen=True)
class Panel:
    """One picture on a sheet.

    Attributes:
        kind: "image", "overlay" or "map".
        box: Left, top, right and bottom, in pixels.
        label: The class that a map is of; empty for an image.
        method: What made the map; likewise.
        probability: Of the class; None for an image or a mean.
    """

    kind: str
    box: tuple[int, int, int, int]
    label: str = ""
    method: str = ""
    probability: float | None = None


@dataclass(frozen=True)
class Strip:
    """Panels that belong together: an image with its maps, or the mean of a class.

    Attributes:
        name: Path of the image, or the class.
        label: The true class; empty where it is not known.
        part: Part of the split.
        images: How many it is the mean of; 1 for an image.
        panels: From left to right.
    """

    name: str
    label: str
    part: str
    images: int
    panels: list[Panel] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """A sheet.

    Attributes:
        title: What it shows.
        scales: Where the colours of each method are full.
        strips: In reading order.
    """

    title: str
    scales: Mapping[str, float]
    strips: list[Strip] = field(default_factory=list)


def save(image: "Image", path: Path, plan: Plan | None = None) -> None:
    """Writes a PNG, whole or not at all, with what is known of its panels."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    if plan is not None:
        text.add_itxt(_KEY, json.dumps(asdict(plan)))
    with atomic_path(path) as temp:
        image.save(temp, "PNG", pnginfo=text)


def plan_of(image: "Image") -> Plan:
    """What `save` was told of a picture that was opened.

    Raises:
        ValueError: Nothing, or nothing that can be used.
    """
    try:
        found = json.loads(image.info[_KEY])
        strips = [_strip(one) for one in found["strips"]]
        scales = {str(k): float(v) for k, v in found["scales"].items()}
        return Plan(str(found["title"]), scales, strips)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no list of its panels ({error})") from error


def _strip(found: dict[str, Any]) -> Strip:
    panels = [Panel(**one | {"box": _box(one["box"])}) for one in found["panels"]]
    return Strip(**found | {"panels": panels})


def _box(found: list[int]) -> tuple[int, int, int, int]:
    left, top, right, bottom = map(int, found)
    return left, top, right, bottom
