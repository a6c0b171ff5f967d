"""How faithful maps are: deletion, insertion, and the share inside masks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy import ndimage

from featcache.commands.explain.attribution import faithful
from featcache.commands.explain.attribution.base import Array
from featcache.commands.explain.explained_images import ExplainedImage, ImageLoader
from featcache.commands.explain.heatmaps import SIDE, HeatMap, render
from featcache.commands.explain.model import Model, Rendered
from featcache.core.progress import Reporter
from featcache.dataset import images, sources
from featcache.errors import UnreadableImageError
from featcache.evaluation.metrics import bootstrap_sums, wilson

POINTING = "pointing"
CHANCE = "chance"  # the method of a map of noise
_BLUR = 1 / 20  # of the side: standard deviation of the start of insertion


@dataclass(frozen=True)
class Figure:
    """One figure of one method, over the images of one class.

    Attributes:
        label: The class that is explained.
        method: What made the maps; "chance" for maps of noise.
        name: "deletion", "insertion", or "inside", "pointing" or "area" and a mask.
        images: How many it is the mean of.
        groups: How many groups these are of.
        value: The mean.
        low: Lower end of its 95 % interval over groups; NaN with a single group.
        high: Upper end.
    """

    label: str
    method: str
    name: str
    images: int
    groups: int
    value: float
    low: float
    high: float


def evaluated(
    model: Model,
    maps: Sequence[HeatMap],
    loader: ImageLoader,
    *,
    reporter: Reporter,
) -> list[HeatMap]:
    """The maps with their figures, and behind them one of noise for each wish.

    Args:
        model: Which made them.
        maps: Of one or several methods.
        loader: Where masks are.
        reporter: Called with the maps done, as "faithfulness", and with skipped masks.
    """
    targets = {(m.image.image_id, m.code): m for m in maps}
    noise = [
        replace(m, method=CHANCE, base=float("nan"), grids=(), even=0.0,
                even_share=0.0, values=_noise(m.image))
        for m in targets.values()
    ]  # fmt: skip
    masks = _masks({m.image.image_id: m for m in maps}, loader, reporter)
    scored = []
    for done, one in enumerate((*maps, *noise), 1):
        figures = curves(model, one)
        for column, mask in masks[one.image.image_id].items():
            figures |= {
                f"inside {column}": faithful.inside(one.values, mask),
                f"{POINTING} {column}": faithful.points(one.values, mask),
                f"area {column}": float(mask.mean()),
            }
        scored.append(replace(one, figures=figures))
        reporter.progress("faithfulness", done, len(maps) + len(noise))
    return scored


def curves(model: Model, one: HeatMap) -> dict[str, float]:
    """Areas below the deletion and the insertion curve (Petsiuk et al. 2018).

    The probability of the class while the pixels of the picture, the map's largest
    first, turn to its mean grey (deletion: lower is better), and while they turn from
    a blurred picture to the real one (insertion: higher is better).
    """
    ranks = faithful.ranks(one.values)
    shares = np.arange(faithful.STEPS + 1) / faithful.STEPS
    plain = render(model, [one.image])
    stacks: list[Rendered] = [{}, {}]
    for resize, (pixels,) in plain.items():
        area = one.frame.area(resize, one.image.picture.size)
        near = ranks[np.ix_(*area.cells(resize.side, SIDE))]
        changed = (near[None] < shares[:, None, None])[..., None]
        grey = np.rint(pixels.mean(axis=(0, 1))).astype(np.uint8)
        sigma = (_BLUR * resize.side, _BLUR * resize.side, 0)
        blurred = ndimage.gaussian_filter(pixels, sigma)
        for stack, new, old in zip(
            stacks, (grey, pixels), (pixels, blurred), strict=True
        ):
            stack[resize] = np.where(changed, new, old)  # type: ignore[index]
    p = [model.proba(model.features(stack))[:, one.code] for stack in stacks]
    return dict(zip(("deletion", "insertion"), map(faithful.area, p), strict=True))


def summary(maps: Sequence[HeatMap]) -> list[Figure]:
    """Means a class and method, with intervals over groups."""
    figures = []
    names = list(dict.fromkeys(name for m in maps for name in m.figures))
    labels, methods = ({getattr(m, key): None for m in maps} for key in _KEYS)
    for label in labels:
        for method in methods:
            of = [m for m in maps if m.label == label and m.method == method]
            figures += [f for n in names if (f := _figure(label, method, n, of))]
    return figures


_KEYS = ("label", "method")


def _figure(
    label: str, method: str, name: str, maps: Sequence[HeatMap]
) -> Figure | None:
    known = [m for m in maps if np.isfinite(m.figures.get(name, np.nan))]
    if not known:
        return None
    values = np.array([m.figures[name] for m in known])
    groups = np.array([m.image.group for m in known])
    mean, count = float(values.mean()), len(np.unique(groups))
    sums = bootstrap_sums(np.stack([values, np.ones_like(values)], axis=1), groups)
    draws = sums[:, 0] / sums[:, 1]
    # A figure that is not 0 or 1 can tell more than so many draws of a coin.
    most = len(values) if name.startswith(POINTING) else np.inf
    low, high = wilson(mean, draws, groups=count, images=most)
    return Figure(label, method, name, len(known), count, mean, low, high)


def _noise(image: ExplainedImage) -> Array:
    return faithful.noise(SIDE, seed=int(image.image_id[:8], 16))


def _masks(
    maps: dict[str, HeatMap],
    loader: ImageLoader,
    reporter: Reporter,
) -> dict[str, dict[str, np.ndarray]]:
    """(SIDE, SIDE) masks by image and column; empty ones are no masks."""
    by_image: dict[str, dict[str, np.ndarray]] = {}
    unusable: list[str] = []
    for image_id, one in maps.items():
        by_image[image_id] = {}
        for column, path in one.image.masks.items():
            mask = _mask(one, path, loader)
            if isinstance(mask, str):
                unusable.append(f"{path} ({mask})")
            elif mask.any():
                by_image[image_id][column] = mask
    if unusable:
        reporter.message(
            f"skipped {len(unusable)} unusable masks, the first: {unusable[0]}"
        )
    return by_image


def _mask(one: HeatMap, path: str, loader: ImageLoader) -> np.ndarray | str:
    """A mask on the map's pixels, or why it is none."""
    try:
        data = sources.read_bytes(loader.manifest.root, path)
        mask = Image.fromarray(images.read_mask(data, one.image.picture))
        seen = one.frame.cut(mask).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        return np.asarray(seen)
    except UnreadableImageError as error:
        return error.got
    except OSError as error:
        return error.strerror or str(error)
