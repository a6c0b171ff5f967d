"""What is beside single maps: mean maps of classes, and activations of layers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from featcache.commands.explain import heatmaps
from featcache.commands.explain.attribution.base import Array
from featcache.commands.explain.explained_images import (
    ExplainedImage,
    ImageLoader,
    evaluated_rows,
    first_of_each,
    readable,
)
from featcache.commands.explain.frame import Frame
from featcache.commands.explain.heatmaps import OCCLUSION, SIDE, HeatMap, Recipe
from featcache.commands.explain.model import Model
from featcache.core.progress import Reporter
from featcache.dataset.views import Resize
from featcache.errors import RunError, UsageError
from featcache.features.store import FEATURES

STRONGEST = 15  # channels on a sheet of activations


@dataclass(frozen=True, eq=False)
class MeanMap:
    """The mean of a class's maps over its images.

    Attributes:
        label: The class; the maps are those of its evidence.
        method: What made them.
        images: How many there are.
        part: Which part of the split they are of.
        values: (SIDE, SIDE), in margin a pixel.
        picture: (SIDE, SIDE) uint8, the mean of the images.
    """

    label: str
    method: str
    images: int
    part: str
    values: Array
    picture: np.ndarray


@dataclass(frozen=True, eq=False)
class Activations:
    """The strongest channels of a layer on an image.

    Attributes:
        image: The image.
        picture: What the network saw of it.
        layer: Backbone and layer.
        channels: Their numbers, the strongest (by mean) first.
        means: Their means.
        maps: (k, h, w).
        count: Channels of the layer.
    """

    image: ExplainedImage
    picture: Image.Image
    layer: str
    channels: list[int]
    means: list[float]
    maps: np.ndarray
    count: int


def images_of_means(
    loader: ImageLoader, count: int, reporter: Reporter
) -> list[ExplainedImage]:
    """At most ``count`` images of each class, for mean maps.

    Of the test set, or, where there is none, of the out-of-fold part.
    """
    if not count:
        return []
    table = evaluated_rows(loader.run)
    table = table[table["image_id"].isin(loader.rows.index)]
    return readable(loader, first_of_each(table, count), reporter)


def means(
    model: Model,
    images: Sequence[ExplainedImage],
    recipe: Recipe,
    reporter: Reporter,
) -> list[MeanMap]:
    """Mean map of each class over its images, of evidence for that class.

    None for occlusion, which would cover each image hundreds of times. Where Shapley
    values are sampled, each image has half as many orders as a single map, but its
    own, so that their errors average out.
    """
    if recipe.method == OCCLUSION or not images:
        return []
    codes = {label: code for code, label in enumerate(model.classes)}
    targets = [(one, codes[one.label]) for one in images if one.label in codes]
    counts = Counter(code for _, code in targets)
    sampled = replace(recipe, sampling=recipe.sampling.of_mean)
    sums: dict[int, MeanMap] = {}
    for one in heatmaps.make(
        model,
        targets,
        sampled,
        reporter,
        what="images of the mean maps",
        hint="`mean=0` leaves these maps out",
    ):
        sums[one.code] = _added(sums.get(one.code), one, counts[one.code])
    return [
        replace(one, picture=np.rint(one.picture).astype(np.uint8))
        for _, one in sorted(sums.items())
    ]


def _added(before: MeanMap | None, one: HeatMap, images: int) -> MeanMap:
    """A mean map after one more of its images."""
    values = one.values / images
    picture = np.asarray(one.picture.convert("L").resize((SIDE, SIDE))) / images
    if before:
        values, picture = before.values + values, before.picture + picture
    return MeanMap(one.label, one.method, images, one.image.part, values, picture)


def activations(
    model: Model, images: Sequence[ExplainedImage], layers: str
) -> list[Activations]:
    """The strongest channels of layers on each image.

    Args:
        model: The networks.
        images: The images.
        layers: "none", "default" (the ends of the networks' blocks and the last maps),
            or names of layers with commas between.

    Raises:
        RunError: The run has no network.
        UsageError: No network has such a layer.
    """
    if layers == "none":
        return []
    if not model.has_maps:
        raise RunError(
            "a run on networks with feature maps, for `activations`",
            f"{model.run.record.backbone}",
            "Leave the option out.",
        )
    strongest = []
    for net in model.nets:
        known = net.layers
        requested = net.taps if layers == "default" else layers.split(",")
        own = [name.strip() for name in requested if name.strip() in known]
        pixels = heatmaps.render(model, images)[net.resize]
        for name, maps in net.maps(pixels, own).items():
            if layers != "default" and name == FEATURES:
                continue
            title = "last maps" if name == FEATURES else name
            text = f"{net.name}@{net.resize.side} {title}"
            pairs = zip(images, maps, strict=True)
            strongest += [_strongest(image, text, A, net.resize) for image, A in pairs]
    if not strongest:
        raise UsageError(
            f"`activations` of layers of {model.run.record.backbone}, such as "
            + ", ".join(model.nets[0].layers[-5:]),
            repr(layers),
            "Name other layers, or use default.",
        )
    return strongest


def _strongest(
    image: ExplainedImage, layer: str, A: np.ndarray, resize: Resize
) -> Activations:
    strength = A.mean(axis=(0, 1))
    best = np.argsort(-strength, kind="stable")[:STRONGEST]
    return Activations(
        image,
        Frame.of([resize], image.picture.size).cut(image.picture),
        layer,
        best.tolist(),
        strength[best].tolist(),
        np.moveaxis(A[..., best], -1, 0),
        A.shape[-1],
    )
