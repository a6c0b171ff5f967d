"""Views: view 0 is the plain image, views 1..K are drawn by a policy."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from typing import Any, Self

import numpy as np
from PIL import Image

from featcache.core.io import canonical_json
from featcache.dataset.regions import OUTSIDE, RING, WHOLE, WHOLE_PICTURE, WIDTH, Region
from featcache.errors import UsageError

_LONGEST = 16  # times the shorter side, of what is resized
EXACT, SHORTEST_EDGE, LETTERBOX = "exact", "shortest_edge", "letterbox"
RULES = (EXACT, SHORTEST_EDGE, LETTERBOX)
NEAREST, DOWN = "nearest", "down"
ROUNDINGS = (NEAREST, DOWN)  # of a crop: as torchvision does, as transformers does
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# What Pillow can do without smoothing before it picks fewer pixels.
PLAIN_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
_TEXT = re.compile(
    r"(?:(letterbox), |shortest edge (\d+), centre crop( rounded down)?, )?"
    r"([a-z]+), (not )?antialiased \(Pillow\)"
)


@dataclass(frozen=True)
class Resize:
    """How an image becomes the square that a network takes.

    Args:
        side: Of the square, in pixels.
        rule: "exact" brings both sides to it; "shortest_edge" brings the shorter one to
            `edge` and takes the middle; "letterbox" brings the longer one to the side
            and puts black bars beside the image.
        edge: Pixels of the shorter side before the crop; by default the square's.
        interpolation: One of `INTERPOLATIONS`.
        antialias: Whether images that get smaller are smoothed first.
        rounding: Where an odd number of pixels is cut away: "nearest" takes half of it
            from the left, rounded to the nearest whole number, half to even; "down"
            rounds it down.
    """

    side: int
    rule: str = EXACT
    edge: int | None = None
    interpolation: str = "bilinear"
    antialias: bool = True
    rounding: str = NEAREST

    @property
    def text(self) -> str:
        """What contracts say of it beside the side."""
        edge = self.edge or self.side
        rounded = " rounded down" if self.rounding == DOWN else ""
        rule = {
            EXACT: "",
            SHORTEST_EDGE: f"shortest edge {edge}, centre crop{rounded}, ",
            LETTERBOX: "letterbox, ",
        }[self.rule]
        no = "" if self.antialias else "not "
        return f"{rule}{self.interpolation}, {no}antialiased (Pillow)"

    @classmethod
    def from_text(cls, text: str | None, side: int) -> Self:
        """What a contract means; the default where another program wrote it."""
        match = _TEXT.fullmatch(text or "")
        if not match:
            return cls(side)
        letterbox, edge, down, interpolation, plain = match.groups()
        if edge:
            rounding = DOWN if down else NEAREST
            return cls(
                side, SHORTEST_EDGE, int(edge), interpolation, not plain, rounding
            )
        return cls(
            side, LETTERBOX if letterbox else EXACT, None, interpolation, not plain
        )


@dataclass(frozen=True)
class Policy:
    """The augmentation recipe that makes views 1..K.

    The study's: horizontal flip, brightness 0.8-1.25, zoom 1-1.2 (into the
    picture, one factor for both axes); no rotation, for lungs stand upright.

    Args:
        flip: Flip left-right with probability one half.
        brightness: Factor drawn uniformly from this range.
        zoom: Magnification drawn uniformly from this range; at least 1.
        seed: Another seed draws other views.
        region: What is shown of the picture, before all else.

    Raises:
        UsageError: A range that is empty or out of bounds.
    """

    flip: bool = True
    brightness: tuple[float, float] = (0.8, 1.25)
    zoom: tuple[float, float] = (1.0, 1.2)
    seed: int = 0
    region: Region = WHOLE_PICTURE

    def __post_init__(self) -> None:
        # One form for 1, 1.0 and np.float64(1), tuple and list: equal policies must
        # have equal digests, for those decide the draws.
        for name, value in (
            ("flip", bool(self.flip)),
            ("brightness", _bounds("brightness", self.brightness, 0.0)),
            ("zoom", _bounds("zoom", self.zoom, 1.0)),
            ("seed", int(self.seed)),
        ):
            object.__setattr__(self, name, value)

    @property
    def is_identity(self) -> bool:
        """Whether every view of this policy would equal view 0."""
        return not self.flip and self.brightness == self.zoom == (1.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """The policy as the store's JSON keeps it."""
        draws = {
            "flip": self.flip,
            "brightness": list(self.brightness),
            "zoom": list(self.zoom),
            "seed": self.seed,
        }
        return draws | self.region.to_dict()

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """The policy that ``to_dict`` has written."""
        draws = {name: record[name] for name in ("flip", "brightness", "zoom", "seed")}
        return cls(**draws, region=Region.of(record))


def _bounds(
    name: str, bounds: tuple[float, float], least: float
) -> tuple[float, float]:
    try:
        low, high = (float(bound) for bound in bounds)
    except (TypeError, ValueError):
        low = high = float("nan")
    if least <= low <= high < float("inf"):
        return low, high
    raise UsageError(
        f"`{name}` LO,HI with {least:g} <= LO <= HI",
        str(bounds),
        "Put the smaller number first.",
    )


@dataclass(frozen=True)
class Draw:
    """One view's random choices.

    Attributes:
        flip: Whether to mirror left-right.
        brightness: Factor on the pixels.
        zoom: Magnification; the window's sides are 1/zoom of the image's.
        x: Where the window lies, 0 (left) to 1 (right).
        y: Where the window lies, 0 (top) to 1 (bottom).
    """

    flip: bool
    brightness: float
    zoom: float
    x: float
    y: float


def draw(policy: Policy, image_id: str, view: int) -> Draw:
    """Draws view ``view`` (1..K) from (policy, seed, image_id, view) alone.

    Any machine at any time draws the same: the generator is seeded by a digest of
    the four, and every choice is drawn whether or not it is used.
    """
    text = f"{canonical_json(policy.to_dict())}|{image_id}|{view}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    flip, brightness, zoom, x, y = np.random.default_rng(seed).random(5)
    return Draw(
        policy.flip and bool(flip < 0.5),
        _between(policy.brightness, brightness),
        _between(policy.zoom, zoom),
        float(x),
        float(y),
    )


def _between(bounds: tuple[float, float], share: float) -> float:
    return float(bounds[0] + share * (bounds[1] - bounds[0]))


def apply_region(
    image: Image.Image, region: Region, mask: np.ndarray | None = None
) -> Image.Image:
    """Blackens what a region leaves out, at full size, so that nothing shines through.

    Args:
        image: Mode "L" or "RGB"; not changed.
        region: What to show.
        mask: (H, W) bool, where the region needs one.
    """
    if region.kind == WHOLE:
        return image
    keep = _ring(image.size) if region.kind == RING else np.asarray(mask)
    keep = ~keep if region.kind == OUTSIDE else keep
    black = Image.new(image.mode, image.size)
    return Image.composite(image, black, Image.fromarray(keep))


def _ring(size: tuple[int, int]) -> np.ndarray:
    width, height = size
    columns, rows = round(width / WIDTH), round(height / WIDTH)
    ring = np.ones((height, width), bool)
    ring[rows : height - rows, columns : width - columns] = False
    return ring


def render(
    image: Image.Image, resize: Resize | int, draw: Draw | None = None
) -> np.ndarray:
    """Renders one view of a decoded image.

    Args:
        image: Mode "L" or "RGB"; not changed.
        resize: How; a number is the side of a square that it is brought to exactly.
        draw: The view's choices; None renders view 0.

    Returns:
        (side, side, 3) uint8, RGB, 0-255.
    """
    resize = Resize(resize) if isinstance(resize, int) else resize
    whole = (0.0, 0.0, float(image.width), float(image.height))
    small = _resized(image, resize, _window(image, draw) if draw else whole)
    if draw is not None:
        if draw.flip:
            small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if draw.brightness != 1.0:
            table = np.clip(np.rint(np.arange(256) * draw.brightness), 0, 255)
            small = small.point(table.astype(int).tolist() * len(small.getbands()))
    pixels = np.asarray(small)
    if pixels.ndim == 2:
        pixels = np.broadcast_to(pixels[:, :, None], (*pixels.shape, 3))
    return pixels


Box = tuple[float, float, float, float]


def window(resize: Resize, size: tuple[int, int]) -> Box:
    """What of an image a network sees in its plain view.

    Args:
        resize: How images are brought to its input.
        size: Width and height of the image in pixels.

    Returns:
        Left, top, right and bottom of the square's ends in pixels of the image; with
        black bars the square ends outside of it.
    """
    (width, height), (left, top) = _layout(resize, *size)
    wide, tall = size[0] / width, size[1] / height
    right, bottom = left + resize.side, top + resize.side
    return left * wide, top * tall, right * wide, bottom * tall


def _resized(image: Image.Image, resize: Resize, box: Box) -> Image.Image:
    """The part of an image in a box, as a square."""
    box = _middle(box) if resize.rule == SHORTEST_EDGE else box
    size, (left, top) = _layout(resize, box[2] - box[0], box[3] - box[1])
    small = _scaled(image, size, resize, box)
    return small.crop((left, top, left + resize.side, top + resize.side))


def _middle(box: Box) -> Box:
    """The box, cut to the middle if it is so long that resizing it would fill memory.

    What is left reaches far beyond the square, so that this has the same pixels.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    most = _LONGEST * min(width, height)
    x, y = max(width - most, 0) / 2, max(height - most, 0) / 2
    return box[0] + x, box[1] + y, box[2] - x, box[3] - y


def _layout(
    resize: Resize, width: float, height: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """To which size an image is brought, and where the square lies in that."""
    side = resize.side
    if resize.rule == EXACT:
        return (side, side), (0, 0)
    if resize.rule == LETTERBOX:
        longest = max(width, height)
        size = (round(side * width / longest), round(side * height / longest))
        size = (max(size[0], 1), max(size[1], 1))
    else:
        edge, shortest = resize.edge or side, min(width, height)
        # The longer side is cut down to whole pixels, as torchvision does.
        size = (int(edge * width / shortest), int(edge * height / shortest))
    rounded = floor if resize.rounding == DOWN else round
    return size, (rounded((size[0] - side) / 2.0), rounded((size[1] - side) / 2.0))


def _scaled(
    image: Image.Image, size: tuple[int, int], resize: Resize, box: Box
) -> Image.Image:
    interpolation = INTERPOLATIONS[resize.interpolation]
    if resize.antialias or resize.interpolation == "nearest":
        return image.resize(size, interpolation, box=box)
    return image.transform(size, Image.Transform.EXTENT, box, interpolation)


def _window(image: Image.Image, draw: Draw) -> Box:
    width, height = image.width / draw.zoom, image.height / draw.zoom
    left = draw.x * (image.width - width)
    top = draw.y * (image.height - height)
    return left, top, left + width, top + height
