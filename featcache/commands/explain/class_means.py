"""What is beside single maps: mean maps of classes, and activations of layers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featcache.commands.explain import heatmaps
from featcache.commands.explain.attribution.base import Array
from featcache.commands.explain.explained_images import (
    Finder,
    Subject,
    first_of_each,
    judged,
    readable,
)
from featcache.commands.explain.heatmaps import OCCLUSION, SIDE, Recipe
from featcache.commands.explain.model import Model
from featcache.core.progress import Reporter
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
        subject: The image.
        layer: Backbone and layer.
        channels: Their numbers, the strongest (by mean) first.
        means: Their means.
        maps: (k, h, w).
        count: Channels of the layer.
    """

    subject: Subject
    layer: str
    channels: list[int]
    means: list[float]
    maps: np.ndarray
    count: int


def means(
    model: Model,
    finder: Finder,
    recipe: Recipe,
    count: int,
    reporter: Reporter,
) -> list[MeanMap]:
    """Mean map of each class over at most ``count`` of its images.

    Of the test part, or, where there is none, of the out-of-fold part. None for
    occlusion, which would cover each image hundreds of times.
    """
    if recipe.method == OCCLUSION or not count:
        return []
    table = judged(finder.run)
    table = table[table["image_id"].isin(finder.rows.index)]
    subjects = readable(finder, first_of_each(table, count), reporter)
    found = []
    for code, label in enumerate(model.classes):
        own = [subject for subject in subjects if subject.label == label]
        if not own:
            continue
        maps = heatmaps.make(model, [(s, code) for s in own], recipe, reporter)
        values, picture, method = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE)), ""
        for one in maps:
            values += one.values / len(own)
            grey = np.asarray(one.subject.picture.convert("L").resize((SIDE, SIDE)))
            picture, method = picture + grey / len(own), one.method
        mean = np.rint(picture).astype(np.uint8)
        found.append(MeanMap(label, method, len(own), own[0].part, values, mean))
    return found


def activations(
    model: Model, subjects: Sequence[Subject], layers: str
) -> list[Activations]:
    """The strongest channels of layers on each image.

    Args:
        model: The networks.
        subjects: The images.
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
            "a run on networks that end in maps, for `activations`",
            f"{model.run.record.backbone}",
            "Leave it out.",
        )
    found = []
    for net in model.nets:
        known = net.layers
        wanted = net.taps if layers == "default" else layers.split(",")
        own = [name.strip() for name in wanted if name.strip() in known]
        shown = heatmaps.shown(model, subjects)[net.size]
        for name, maps in net.maps(shown, own).items():
            if layers != "default" and name == FEATURES:
                continue
            title = "last maps" if name == FEATURES else name
            text = f"{net.name}@{net.size} {title}"
            pairs = zip(subjects, maps, strict=True)
            found += [_strongest(subject, text, A) for subject, A in pairs]
    if not found:
        raise UsageError(
            f"`activations` of layers of {model.run.record.backbone}, such as "
            + ", ".join(model.nets[0].layers[-5:]),
            repr(layers),
            "Name others, or default.",
        )
    return found


def _strongest(subject: Subject, layer: str, A: np.ndarray) -> Activations:
    strength = A.mean(axis=(0, 1))
    best = np.argsort(-strength, kind="stable")[:STRONGEST]
    return Activations(
        subject,
        layer,
        best.tolist(),
        strength[best].tolist(),
        np.moveaxis(A[..., best], -1, 0),
        A.shape[-1],
    )
