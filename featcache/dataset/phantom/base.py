"""The anatomy of a phantom: optical depths added up in an upright body.

Lengths are in half frames, x to the right (the patient's left), y down; depths are
in mean free paths of the X-rays. The numbers are chosen by eye.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

Field = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

_SPAN = 1.1  # the anatomy is drawn a little beyond the frame, to be moved in it

# What differs between patients: the lowest and highest of a uniform draw.
_BODY_RANGES = {
    "apex": (-0.80, -0.70),
    "dome": (0.26, 0.54),
    "dome_rise": (0.10, 0.18),
    "dome_tilt": (0.02, 0.08),
    "width": (0.62, 0.80),
    "roundness": (2.4, 3.4),
    "neck": (0.10, 0.14),
    "heart": (0.20, 0.38),
    "atrium": (0.05, 0.12),
    "knob": (0.02, 0.08),
    "trunk": (0.0, 0.04),
    "flesh": (0.16, 0.40),
    "girth": (3.0, 4.0),
    "axilla": (-0.15, 0.10),
    "arm": (0.88, 1.0),
    "breast": (-0.6, 0.6),
    "air": (1.7, 2.3),
    "stomach": (-0.4, 0.4),
    "rib": (0.16, 0.32),
    "rib_gap": (0.115, 0.14),
    "rib_drop": (0.10, 0.24),
    "clavicle": (-0.56, -0.46),
    "clavicle_rise": (0.10, 0.24),
    "vessels": (0.25, 0.50),
}


@dataclass(frozen=True)
class Chest:
    """A patient before the visit: x (1, S), y (S, 1), all else (S, S).

    ``depth`` is the optical depth without findings and ``air`` the part of it that
    the lungs leave out; ``lateral`` runs from 0 at the mediastinum to 1 at the chest
    wall, ``level`` from 0 at the apex of the lung to 1 at the diaphragm.
    """

    x: Field
    y: Field
    depth: Field
    air: Field
    lungs: Mask
    lateral: Field
    level: Field

    def halved(self) -> "Chest":
        """The same at half the resolution."""
        return Chest(*(field[::2, ::2] for field in vars(self).values()))


def step(value: Field, soft: float) -> Field:
    """Rises from 0 to 1 as ``value`` passes 0, within about 2 ``soft`` each way."""
    rise: Field = np.tanh(value * (0.5 / soft))
    return 0.5 + 0.5 * rise


def bump(value: Field, centre: float, width: float) -> Field:
    """A bell curve of height 1."""
    bell: Field = np.exp(-(((value - centre) / width) ** 2))
    return bell


def _arch(value: Field) -> Field:
    """Half an ellipse: 1 at 0, falling to 0 at -1 and 1."""
    height: Field = np.sqrt(np.maximum(1 - value * value, 0))
    return height


def _tube(across: Field) -> Field:
    """A long bone seen from the side, denser along its edges."""
    return _arch(across) + 0.5 * bump(np.abs(across), 0.85, 0.2)


def resized(field: Field, size: int) -> Field:
    """The field at (size, size), smoothly interpolated."""
    image = Image.fromarray(np.ascontiguousarray(field, np.float32))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def cloud(rng: np.random.Generator, size: int, cells: int) -> Field:
    """Smooth noise (size, size) of about unit variance in ``cells`` cells a side."""
    return resized(rng.standard_normal((cells, cells), np.float32), size)


def draw_chest(size: int, rng: np.random.Generator) -> Chest:
    """Draws a patient, upright and in the middle, at (size, size)."""
    b = {name: rng.uniform(*limits) for name, limits in _BODY_RANGES.items()}
    x = np.linspace(-_SPAN, _SPAN, size, dtype=np.float32)[None, :]
    y, ax = x.T, np.abs(x)
    wall, medial = _borders(b, x, y)
    dome = b["dome"] + b["dome_rise"] * ((ax - 0.33) / (b["width"] - 0.33)) ** 2
    dome += b["dome_tilt"] * (x > 0)
    level = (y - b["apex"]) / (dome - b["apex"])
    lateral = (ax - medial) / np.maximum(wall - medial, 0.02)
    lungs = step(ax - medial, 0.006) * step(wall - ax, 0.004)
    lungs *= step(dome - y, 0.005) * step(y - b["apex"], 0.004)
    # The cavity is deepest low down; a tenth of the air lies behind the heart.
    air = _arch(np.maximum(ax - 0.25, 0) / np.maximum(wall - 0.25, 0.02))
    air *= b["air"] * np.clip(0.45 + 0.75 * level, 0.35, 1)
    air *= np.maximum(lungs, 0.1 * step(1.3 - level, 0.05) * (ax < wall))
    depth = _flesh(b, ax, y)
    depth += _bones(b, ax, y) * np.minimum(depth, 1)
    depth += _ribs(b, rng, ax, y, wall) - air
    depth += 0.45 * _arch(ax / (medial + 0.02)) * step(1.15 - level, 0.05)
    depth += 0.25 * step(level - 1, 0.04) + _vessels(b, rng, size) * np.minimum(air, 1)
    bubble = np.hypot((x - 0.36) / 0.17, (y - dome - 0.12) / 0.09)
    depth -= max(b["stomach"], 0) * step(1 - bubble, 0.12)
    return Chest(x, y, depth, air, lungs > 0.5, lateral, level)


def _borders(b: dict[str, float], x: Field, y: Field) -> tuple[Field, Field]:
    """Distances of the chest wall and of the mediastinum from the midline."""
    base = b["dome"] + 0.1
    rise = np.clip((base - y) / (base - b["apex"]), 0, 1)
    tip = 0.4 * b["width"]
    wall = tip + (b["width"] - tip) * np.sqrt(1 - rise ** b["roundness"])
    neck = b["neck"] + (tip - b["neck"]) * (1 - _arch(np.maximum(4 * rise - 3, 0)))
    right = neck + b["atrium"] * _arch((y - b["dome"] + 0.16) / 0.42) ** 2
    left = neck + b["heart"] * _arch((y - b["dome"] + 0.04) / 0.66) ** 3
    left += b["knob"] * bump(y, -0.36, 0.09) + b["trunk"] * bump(y, -0.18, 0.10)
    return wall, np.where(x > 0, left, right)


def _flesh(b: dict[str, float], ax: Field, y: Field) -> Field:
    """Neck, shoulders, trunk, arms and breasts, less the windpipe."""
    slope = np.clip((y + 1.05) / 0.35, 0, 1)
    edge = 0.25 + 0.25 * slope**2 + 0.9 * step(y + 0.74, 0.03)
    over = np.maximum(edge - b["width"] - b["flesh"], 0)
    edge -= over * step(y - b["axilla"], 0.10)
    girth = b["girth"] * (0.66 + 0.34 * step(y + 0.50, 0.09))
    trunk = girth * (1 + 0.12 * step(y - 0.35, 0.08)) * _arch(ax / edge)
    arm = _arch((ax - b["arm"] - 0.16 - 0.08 * (y + 0.5)) / 0.17)
    trunk = np.maximum(trunk, 1.8 * step(y + 0.45, 0.03) * arm)
    swell = _arch(np.hypot((ax - 0.42) / 0.40, (y - 0.18) / 0.34)) ** 2
    trunk += max(b["breast"], 0) * step(y + 0.15, 0.08) * swell
    return trunk - 0.4 * step(-0.25 - y, 0.03) * step(0.035 - ax, 0.006)


def _bones(b: dict[str, float], ax: Field, y: Field) -> Field:
    """Spine, collar bones, shoulder blades and upper arms."""
    phase = np.mod(y / (0.95 * b["rib_gap"]), 1)
    disc = bump(phase, 0.5, 0.12)
    spine = (0.24 - 0.08 * disc) * step(0.075 + 0.012 * disc - ax, 0.010)
    spine += 0.12 * bump(phase, 0.1, 0.16) * bump(ax, 0, 0.013)
    along = (ax - 0.08) / 0.78
    line = b["clavicle"] - b["clavicle_rise"] * along + 0.03 * np.sin(6 * along)
    clavicle = _tube((y - line) / (0.030 + 0.020 * (2 * along - 1) ** 2))
    clavicle *= 0.30 * step(along, 0.02) * step(1 - along, 0.03)
    head = _arch(np.hypot(ax - b["arm"] - 0.08, y + 0.58) / 0.095)
    shaft = _tube((ax - b["arm"] - 0.12 - 0.12 * (y + 0.5)) / 0.045)
    arm = 0.45 * np.maximum(head, shaft * step(y + 0.55, 0.01))
    inner = b["width"] + 0.03 - 0.12 * (y + 0.1)
    blade = bump(ax - inner, 0, 0.012) + 0.8 * step(ax - inner, 0.006)
    return spine + clavicle + arm + 0.15 * blade * bump(y, -0.25, 0.25)


def _ribs(
    b: dict[str, float], rng: np.random.Generator, ax: Field, y: Field, wall: Field
) -> Field:
    """Ribs at the back, and the fainter ones in front that cross them.

    All ribs of a family are level lines of one phase, so a family costs a look-up.
    """
    fine, at = 64, np.linspace(-1, 1, 64)
    half = rng.uniform(0.42, 0.56, (16, 1))
    tubes = rng.uniform(0.5, 0.7, (16, 1)) * _tube(at / half) * (1 + 0.2 * at)
    table: Field = ndimage.gaussian_filter1d(tubes.astype(np.float32).ravel(), 2)

    def ribs(drop: Field, gap: float) -> Field:
        phase = (y - drop - b["apex"]) * (fine / gap) + 0.9 * fine
        return table.take(phase.astype(np.int32), mode="clip")

    along = ax / (wall + 0.025)
    slope = b["rib_drop"]
    back = ribs(slope * (0.25 * along + 0.75 * along**3), b["rib_gap"])
    back *= (0.8 + 0.7 * along**4) * step(ax - 0.06, 0.01)
    front = ribs(slope + (0.30 + 0.12 * y) * (1 - along), 1.05 * b["rib_gap"])
    back += 0.55 * front * step(along - 0.5, 0.05)
    upright = step(y - b["apex"] + 0.03, 0.02) * (1 - 0.8 * step(y - b["dome"], 0.05))
    return b["rib"] * upright * step(1 - along, 0.008) * back


def _vessels(b: dict[str, float], rng: np.random.Generator, size: int) -> Field:
    """Vessels that branch out of both hila, at (size, size)."""
    canvas = Image.new("L", (size, size))
    pen, scale = ImageDraw.Draw(canvas), size / (2 * _SPAN)
    for ends, width in reversed(list(_branches(rng))):
        grey = int(min(255, 70 + 5200 * width))
        for line in ((ends + _SPAN) * scale).reshape(-1, 4).tolist():
            pen.line(line, fill=grey, width=max(1, round(width * scale)))
    pixels = np.asarray(canvas, np.float32)
    soft: Field = ndimage.gaussian_filter(pixels, size / 450, truncate=3)
    return soft * (b["vessels"] / 255)


def _branches(rng: np.random.Generator) -> Iterator[tuple[Field, float]]:
    """Yields line ends (n, 2, 2) and their width, one step of growth at a time."""
    side, width = np.repeat([-1.0, 1.0], 9), 0.026
    heading = np.tile(np.linspace(-1.25, 1.45, 9), 2) + rng.normal(0, 0.12, 18)
    tips = np.stack([side * 0.12, 0.10 * np.sin(heading) - 0.08], axis=1)
    for age in range(15):
        heading = heading + rng.normal(0, 0.15, heading.size)
        move = np.stack([side * np.cos(heading), np.sin(heading)], axis=1)
        ends = tips + move * rng.uniform(0.03, 0.055, (heading.size, 1))
        yield np.stack([tips, ends], axis=1), width
        tips, width = ends, width * 0.87
        if age in (1, 3, 6, 9):
            spread = rng.uniform(0.2, 0.5, heading.size)
            heading = np.concatenate([heading - spread, heading + spread])
            tips, side = np.tile(tips, (2, 1)), np.tile(side, 2)
