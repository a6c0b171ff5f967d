"""Making maps: by channels, by gradients, by occlusion."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image
from scipy import ndimage

from featcache.commands.explain.attribution import (
    CAMS,
    METHODS,
    cam_spread,
    contributions,
    gradient,
)
from featcache.commands.explain.attribution.base import Array
from featcache.commands.explain.attribution.contributions import (
    AUTO,
    SAMPLING,
    Sampling,
)
from featcache.commands.explain.attribution.maps import (
    SIGNED,
    Spread,
    everywhere,
    pooled_gradient,
    spread,
    upsampled,
)
from featcache.commands.explain.explained_images import ExplainedImage
from featcache.commands.explain.frame import Area, Frame
from featcache.commands.explain.model import Model, Rendered
from featcache.commands.explain.pace import Pace
from featcache.core.progress import Reporter
from featcache.core.registry import Registry
from featcache.errors import UsageError

SIDE = 224  # pixels of a map's side, whatever the networks' inputs
CAM, OCCLUSION = "cam", "occlusion"
_AT_ONCE = 8  # images whose maps are held
ALL = Registry("method", dict.fromkeys((AUTO, *METHODS, CAM, *CAMS, OCCLUSION)))


def checked_method(method: str) -> str:
    """A method, as it is named.

    Raises:
        UnknownNameError: There is none; the nearest are offered.
    """
    if method not in ALL:
        raise ALL.unknown(method)
    return method


@dataclass(frozen=True, eq=False)
class HeatMap:
    """Where a class has its evidence on an image.

    Attributes:
        image: The image.
        label: The class that is explained.
        code: Its column among the head's classes.
        method: What made the map; never "auto".
        score: The margin that is explained; see ``attribution.base.contrast``.
        base: The part of it that is nowhere; NaN where the method has none.
        probability: Of the class: the model's answer, once `explain` is through;
            before that, the head's own.
        predicted: The most probable class, likewise.
        values: (SIDE, SIDE), in margin a pixel, over the frame.
        frame: What the networks see of the image.
        grids: (rows, columns) of the cells behind it, one a block.
        even: The part of the sum that was spread evenly.
        even_share: Absolute contributions spread evenly, as a share of all.
        figures: How faithful it is, if that was measured.
    """

    image: ExplainedImage
    label: str
    code: int
    method: str
    score: float
    base: float
    probability: float
    predicted: str
    values: Array
    frame: Frame
    grids: tuple[tuple[int, int], ...] = ()
    even: float = 0.0
    even_share: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def picture(self) -> Image.Image:
        """What the map lies over: the image, or what the networks see of it."""
        return self.frame.cut(self.image.picture)

    @property
    def map_sum(self) -> float:
        """Sum of the map's pixels: score less base, where the method is additive."""
        return float(self.values.sum())


@dataclass(frozen=True)
class Recipe:
    """How maps are made.

    Attributes:
        method: One of `ALL`.
        patch: Side of the occluding patch, in pixels of the largest input.
        stride: Step between patches, likewise.
        sampling: The orders of Shapley sampling.
    """

    method: str = AUTO
    patch: int = 32
    stride: int = 16
    sampling: Sampling = SAMPLING

    def starting(self, number: int) -> "Recipe":
        """The same for images from this number on."""
        if self.sampling.first is None:
            return self
        return replace(self, sampling=self.sampling._replace(first=number))


Target = tuple[ExplainedImage, int]  # an image and the class to explain


def make(
    model: Model,
    targets: Sequence[Target],
    recipe: Recipe,
    reporter: Reporter,
    *,
    what: str = "maps",
    hint: str = "",
) -> Iterator[HeatMap]:
    """Makes a map for each wish, in order.

    Args:
        model: The head and its networks.
        targets: The wishes.
        recipe: How the maps are made.
        reporter: Hears how far it is.
        what: The maps in words.
        hint: What can be done where they take long.

    Raises:
        HeadError: The method does not suit the head.
        UsageError: A patch that does not fit.
    """
    _check(model, recipe)
    done, pace = 0, Pace(reporter, len(targets), what, hint)
    for start in range(0, len(targets), _AT_ONCE):
        part = targets[start : start + _AT_ONCE]
        how = _occluded if recipe.method == OCCLUSION else _on_maps
        for one in how(model, part, recipe.starting(start)):
            done += 1
            reporter.progress(one.method, done, len(targets))
            yield one
        pace.tell(done)


def render(model: Model, images: Sequence[ExplainedImage]) -> Rendered:
    """Plain views of images, in each way that the networks take them."""
    return {
        resize: np.stack([image.pixels(resize) for image in images])
        for resize in model.resizes
    }


def _on_maps(model: Model, part: Sequence[Target], recipe: Recipe) -> Iterator[HeatMap]:
    maps = model.maps(render(model, [image for image, _ in part]))
    X = model.pooled(maps)
    grids = tuple((A.shape[1], A.shape[2]) for A in maps)
    blanks = [replace(one, grids=grids) for one in _blank(model, part, X)]
    how = _by_gradient if recipe.method in CAMS else _by_channel
    yield from how(model, blanks, maps, recipe, X)


def _by_channel(
    model: Model,
    blanks: list[HeatMap],
    maps: list[np.ndarray],
    recipe: Recipe,
    X: Array,
) -> Iterator[HeatMap]:
    """Contributions, laid over the maps: proportionally, or along the gradient."""
    codes = np.array([one.code for one in blanks])
    slopes = gradient(model.head, X, codes) if recipe.method == CAM else None
    split = contributions(
        model.head,
        X,
        codes,
        background=model.background,
        method=AUTO if recipe.method == CAM else recipe.method,
        sampling=recipe.sampling,
    )
    for n, one in enumerate(blanks):
        phi = [split.phi[n, block.columns] for block in model.blocks]
        own = [A[n] for A in maps]
        if slopes is None:
            parts = _spreads(model, own, phi)
        else:
            parts = _cam_spreads(model, own, phi, slopes[n])
        sizes = np.array([np.abs(part).sum() for part in phi])
        shares = np.array([part.even_share for part in parts])
        yield replace(
            one,
            method=recipe.method if recipe.method == CAM else split.method,
            base=float(split.base[n]),
            values=_laid_out(model, one, [part.cells for part in parts]),
            even=sum(part.even for part in parts),
            even_share=float(shares @ sizes / (sizes.sum() or 1)),
        )


def _spreads(model: Model, maps: list[np.ndarray], phi: list[Array]) -> list[Spread]:
    usual = model.background
    return [
        spread(A, own, pooling=block.pooling, reference=usual[block.columns])
        if block.has_places
        else everywhere(own)
        for block, A, own in zip(model.blocks, maps, phi, strict=True)
    ]


def _cam_spreads(
    model: Model, maps: list[np.ndarray], phi: list[Array], slopes: Array
) -> list[Spread]:
    spreads = []
    for block, A, own in zip(model.blocks, maps, phi, strict=True):
        if not block.has_places:
            spreads.append(everywhere(own))
            continue
        G = pooled_gradient(A, slopes[block.columns], pooling=block.pooling)
        spreads.append(cam_spread(A.astype(np.float64), G, float(own.sum())))
    return spreads


def _by_gradient(
    model: Model,
    blanks: list[HeatMap],
    maps: list[np.ndarray],
    recipe: Recipe,
    X: Array,
) -> Iterator[HeatMap]:
    name = recipe.method
    slopes = gradient(model.head, X, np.array([one.code for one in blanks]))
    for n, one in enumerate(blanks):
        cells = []
        for block, A in zip(model.blocks, maps, strict=True):
            g = slopes[n, block.columns]
            G = pooled_gradient(A[n], g, pooling=block.pooling)
            cells.append(CAMS[name](A[n].astype(np.float64), G))
        values = _laid_out(model, one, cells)
        if name not in SIGNED:
            values = np.maximum(values, 0)
        yield replace(one, method=name, values=values)


def _laid_out(model: Model, one: HeatMap, cells: Sequence[Array]) -> Array:
    """The cells of each block where its network looked, and their sum."""
    size = one.image.picture.size
    values = np.zeros((SIDE, SIDE))
    for block, own in zip(model.blocks, cells, strict=True):
        values += upsampled(own, SIDE, one.frame.area(block.resize, size))
    return values


def _blank(model: Model, part: Sequence[Target], X: np.ndarray) -> list[HeatMap]:
    """Maps of these wishes, without any values yet."""
    p, margins, names = model.proba(X), model.margins(X), model.classes
    return [
        HeatMap(
            image, names[code], code, "", float(margins[n, code]), float("nan"),
            float(p[n, code]), names[int(p[n].argmax())], np.zeros((SIDE, SIDE)),
            model.frame(image.picture.size),
        )
        for n, (image, code) in enumerate(part)
    ]  # fmt: skip


def _occluded(
    model: Model, part: Sequence[Target], recipe: Recipe
) -> Iterator[HeatMap]:
    """Zeiler and Fergus 2014: how far the margin falls where a grey patch lies."""
    side = max(resize.side for resize in model.resizes)
    boxes = patches(side, recipe.patch, recipe.stride)
    for image, code in part:
        plain = render(model, [image])
        (one,) = _blank(model, [(image, code)], model.features(plain))
        areas = [one.frame.area(resize, image.picture.size) for resize in plain]
        covered = occlude(plain, boxes, areas)
        margins = model.margins(model.features(covered))[:, code]
        step = recipe.stride / side * SIDE
        values = overlap_average(one.score - margins, boxes, step)
        yield replace(one, method=OCCLUSION, values=values)


def patches(side: int, patch: int, stride: int) -> Array:
    """Ends (B, 4) of patches as shares of the side: top, bottom, left, right.

    The last one of each row and column ends with the picture.
    """
    starts = sorted({*range(0, side - patch + 1, stride), side - patch})
    ends = [(s / side, (s + patch) / side) for s in starts]
    return np.array([(*rows, *columns) for rows in ends for columns in ends])


def occlude(plain: Rendered, boxes: Array, areas: Sequence[Area]) -> Rendered:
    """One picture, (1, S, S, 3), under each patch in turn; grey is its own mean.

    Args:
        plain: The picture, as each network sees it.
        boxes: (B, 4) patches, as shares of the frame.
        areas: Where in the frame each network looks.
    """
    covered = {}
    for (resize, (pixels,)), area in zip(plain.items(), areas, strict=True):
        grey = np.rint(pixels.mean(axis=(0, 1))).astype(np.uint8)
        stack = np.repeat(pixels[None], len(boxes), axis=0)
        for image, box in zip(stack, area.pixels(boxes, resize.side), strict=True):
            top, bottom, left, right = box
            image[top:bottom, left:right] = grey
        covered[resize] = stack
    return covered


def overlap_average(drops: Array, boxes: Array, step: float) -> Array:
    """Each drop over its patch; a pixel has the mean of the patches that cover it.

    Smoothed over the ``step`` from patch to patch, for nothing finer is known.
    """
    total, times = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for drop, box in zip(drops, np.rint(boxes * SIDE).astype(int), strict=True):
        top, bottom, left, right = box
        total[top:bottom, left:right] += drop / ((bottom - top) * (right - left))
        times[top:bottom, left:right] += 1
    return np.asarray(
        ndimage.gaussian_filter(total / np.maximum(times, 1), step / 2, mode="reflect")
    )


def _check(model: Model, recipe: Recipe) -> None:
    largest = max(resize.side for resize in model.resizes)
    if not 1 <= recipe.patch <= largest or recipe.stride < 1:
        raise UsageError(
            f"`patch` from 1 to {largest} and `stride` of 1 or more",
            f"{recipe.patch} and {recipe.stride}",
            "A stride of half a patch works well.",
        )
