"""What is usually wrong in descriptors, as changes of their keys."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from featcache.backbones.base import NCHW, Network
from featcache.backbones.descriptor import BGR, RGB, Descriptor
from featcache.dataset.views import (
    DOWN,
    EXACT,
    INTERPOLATIONS,
    LETTERBOX,
    NEAREST,
    PLAIN_INTERPOLATIONS,
    SHORTEST_EDGE,
)

CROPS = (0.875, 0.9, 0.95, 1.0)  # sides of the crop, as parts of the shortest edge
_BYTES, _UNIT, _SIGNED = [0.0, 255.0], [0.0, 1.0], [-1.0, 1.0]
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
_CAFFE = (123.68, 116.779, 103.939)
_ORDERS = {RGB: "red, green, blue", BGR: "blue, green, red"}


@dataclass(frozen=True, eq=False)
class Suspect:
    """A change of a descriptor.

    Attributes:
        aspect: What it is about; only one of an aspect makes sense.
        words: What would then be so.
        values: By key of the descriptor.
    """

    aspect: str
    words: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Scaling:
    """A usual scaling; mean and std in the order red, green, blue."""

    words: str
    range: list[float]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    order: str = RGB


_SCALINGS = (
    Scaling("pixel values from 0 to 255", _BYTES),
    Scaling("pixel values from 0 to 1", _UNIT),
    Scaling("pixel values from -1 to 1", _SIGNED),
    Scaling("ImageNet's mean and std", _UNIT, *_IMAGENET),
    Scaling("CLIP's mean and std", _UNIT, *_CLIP),
    Scaling(
        "ImageNet's mean in blue, green, red subtracted (caffe)",
        _BYTES,
        _CAFFE,
        order=BGR,
    ),
    Scaling("ImageNet's mean subtracted from 0 to 255", _BYTES, _CAFFE),
    Scaling("(pixels - 127) / 128", _BYTES, (127.0,), (128.0,)),
    Scaling("pixel values from -1024 to 1024", [-1024.0, 1024.0]),
)
# Of the modes of ``preprocess``, what they are in numbers.
_MODES = {
    "none": _SCALINGS[0],
    "tf": _SCALINGS[2],
    "torch": _SCALINGS[3],
    "caffe": _SCALINGS[5],
}


def in_numbers(network: Network, descriptor: Descriptor) -> Descriptor:
    """The descriptor with all that it leaves open or names, in numbers.

    Args:
        network: By its descriptor and the options of the call.
        descriptor: Of it.
    """
    values: dict[str, Any] = {
        "range": descriptor.range or _BYTES,
        "mean": descriptor.mean or [0.0],
        "std": descriptor.std or [1.0],
        "order": descriptor.order or RGB,
    }
    if network.preprocess in _MODES:
        values = _keys(_MODES[network.preprocess], _MODES[network.preprocess].order)
    return replace(descriptor, preprocess=None, **values)


def mode_of(descriptor: Descriptor) -> str | None:
    """The name that a scaling in numbers has, if it has one."""
    own = descriptor.numbers
    for mode, scaling in _MODES.items():
        named = replace(descriptor, **_keys(scaling, scaling.order)).numbers
        if own == named:
            return mode
    return None


def _keys(scaling: Scaling, order: str) -> dict[str, Any]:
    step = 1 if order == RGB else -1
    return {
        "range": list(scaling.range),
        "mean": list(scaling.mean[::step]),
        "std": list(scaling.std[::step]),
        "order": order,
    }


def of_input(base: Descriptor, side: int, channels: int) -> list[Suspect]:
    """Single changes of what the network is shown.

    Args:
        base: The descriptor in numbers.
        side: Of the canary's input in pixels.
        channels: Of the input.
    """
    return [
        *(_orders(base) if channels == 3 else ()),
        *_scalings(base, channels),
        *_interpolations(base),
        *_resizes(base, side),
        *_roundings(base),
    ]


def _orders(base: Descriptor) -> Iterator[Suspect]:
    order = RGB if base.order == BGR else BGR
    words = f"channels in the order {_ORDERS[order]}"
    yield Suspect("order", words, {"order": order})
    mean, std = base.mean or [], base.std or []
    if len({*mean}) > 1 or len({*std}) > 1:
        turned = {"order": order, "mean": mean[::-1], "std": std[::-1]}
        yield Suspect("order", f"{words}, and mean and std as well", turned)


def _scalings(base: Descriptor, channels: int) -> Iterator[Suspect]:
    for scaling in _SCALINGS:
        if channels == 1 and len(scaling.mean) > 1:
            continue
        orders = [str(base.order), scaling.order] if channels == 3 else [RGB]
        for order in dict.fromkeys(orders):
            yield Suspect("scaling", scaling.words, _keys(scaling, order))
    for values in (_BYTES, _UNIT, _SIGNED):
        words = f"pixel values from {values[0]:g} to {values[1]:g} before mean and std"
        yield Suspect("scaling", words, {"range": values})
    if base.std != [1.0]:
        yield Suspect("scaling", "no std", {"std": [1.0]})
    mean, std = base.mean or [], base.std or []
    if len({*mean}) > 1 or len({*std}) > 1:
        turned = {"mean": mean[::-1], "std": std[::-1]}
        yield Suspect("scaling", "mean and std in the other order", turned)


def _interpolations(base: Descriptor) -> Iterator[Suspect]:
    for name in INTERPOLATIONS:
        for antialias in (True, False):
            if not antialias and name not in PLAIN_INTERPOLATIONS:
                continue
            values = {"interpolation": name, "antialias": antialias}
            words = [f"{name} interpolation"] if name != base.interpolation else []
            if antialias != base.antialias:
                words.append("antialiasing" if antialias else "no antialiasing")
            yield Suspect("interpolation", " and ".join(words), values)


def _resizes(base: Descriptor, side: int) -> Iterator[Suspect]:
    exact = {"resize": EXACT, "resize_to": None}
    yield Suspect("resize", "both sides brought to the input size", exact)
    reference = base.input_size or side
    edges = [int(reference / c + 0.5 * r) for c in CROPS for r in (0, 1)]
    for edge in dict.fromkeys(edges):
        words = f"the shortest edge brought to {edge} px and the middle cut out"
        values = {"resize": SHORTEST_EDGE, "resize_to": edge}
        yield Suspect("resize", words, values)
    bars = {"resize": LETTERBOX, "resize_to": None}
    yield Suspect("resize", "black bars (letterbox)", bars)


def _roundings(base: Descriptor) -> Iterator[Suspect]:
    rounding = DOWN if base.crop_rounding == NEAREST else NEAREST
    words = f'half of what is cut away rounded "{rounding}"'
    yield Suspect("rounding", words, {"crop_rounding": rounding})


def of_layout(layout: str) -> Suspect:
    """The change of where the channels of the input stand."""
    where = "before" if layout == NCHW else "behind"
    words = f"channels {where} rows and columns"
    return Suspect("layout", words, {"layout": layout})


def log_distance(difference: float) -> float:
    """A difference on the scale by which changes are ranked before they are joined."""
    return math.log10(min(max(difference, 1e-9), 1e9))
