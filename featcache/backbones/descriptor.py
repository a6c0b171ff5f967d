"""Descriptors: the JSON beside a network's file that says how it is to be used."""

import difflib
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from featcache.backbones import foreign
from featcache.backbones.base import (
    FEATUREWISE,
    GRAPHS,
    MAP,
    NCHW,
    NHWC,
    PREPROCESS,
    TOKENS,
    VECTOR,
    Preprocess,
)
from featcache.core import records
from featcache.core.io import read_json
from featcache.dataset.views import (
    EXACT,
    INTERPOLATIONS,
    NEAREST,
    PLAIN_INTERPOLATIONS,
    ROUNDINGS,
    RULES,
    SHORTEST_EDGE,
    Resize,
)
from featcache.errors import WeightsError

SMALLEST, LARGEST = 32, 4096  # pixels of an input's side
_LONGEST = 1000  # letters of a text
_SHORT, _MOST_TEXTS = 100, 50  # letters of a text about a canary, and such texts
_HUGE = 1e9  # of a pixel's scaling
_LARGEST_NUMBER = 1e30  # of an embedding; its inverse is nothing
RGB, BGR = "rgb", "bgr"
PROCESSOR = "preprocessor_config.json"  # of Hugging Face
POOLINGS = {
    VECTOR: ("avg",),
    MAP: ("avg", "max"),
    TOKENS: ("avg", "max", "cls", "cls+mean"),
}
_NUMBERS = ("range", "mean", "std")
_CHOICES: dict[str, tuple[Any, ...]] = {
    "preprocess": (*PREPROCESS, FEATUREWISE),
    "channels": (1, 3),
    "layout": (NCHW, NHWC),
    "resize": RULES,
    "interpolation": tuple(INTERPOLATIONS),
    "crop_rounding": ROUNDINGS,
    "order": (RGB, BGR),
    "output_kind": tuple(POOLINGS),
    "pooling": (*POOLINGS[TOKENS], "mean"),
}
# What only files that OpenVINO reads itself are asked for.
_OF_GRAPHS = ("layout", "output_kind", "prefix_tokens", "grid", "pooling")


@dataclass(frozen=True, kw_only=True)
class Canary:
    """What the network's own framework makes of a picture that featcache draws.

    Attributes:
        picture: Name of the picture.
        input_size: Side of the input in pixels.
        embedding: D numbers.
        framework: Versions of the libraries that computed it.
        resized_by: "featcache", where the framework's own resizing cannot be repeated
            and the picture was resized before it went in.
        resizing_difference: How far the embedding with the framework's own resizing is
            from this one, relative to its largest number.
    """

    picture: str
    input_size: int
    embedding: list[float]
    framework: dict[str, str] = field(default_factory=dict)
    resized_by: str = ""
    resizing_difference: float | None = None


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """What the JSON file of the same name beside a network says.

    Attributes:
        input_size: Side of the square input in pixels.
        input_sizes: Smallest and largest side that may be asked for.
        channels: Of the input: 3, or 1 for grey.
        layout: "nchw" or "nhwc", of the input and of maps.
        resize: "exact", "shortest_edge" or "letterbox"; see ``dataset.views.Resize``.
        resize_to: Pixels of the shortest edge before the crop.
        crop_rounding: "nearest" or "down": of half the pixels that are cut away.
        interpolation: One of ``dataset.views.INTERPOLATIONS``.
        antialias: Whether images that get smaller are smoothed first.
        preprocess: One of ``PREPROCESS``, or "featurewise", in place of the next three.
        range: What pixels of 0 and of 255 become first.
        mean: A channel, or one for all; subtracted.
        std: Likewise; divided by.
        order: "rgb" or "bgr": of the channels, of mean and of std.
        output: The output, or inner layer, that is the embedding.
        output_kind: "vector", "map" or "tokens".
        prefix_tokens: Tokens in front of those of the patches.
        grid: Rows and columns of the patches.
        pooling: "avg" (or "mean"), "max", "cls" or "cls+mean".
        taps: Default inner layers.
        licence: Of the weights.
        source: Where the network comes from.
        weights_digest: SHA-256 over the values of the weights.
        canary: What its own framework computed.
    """

    input_size: int | None = None
    input_sizes: list[int] | None = None
    channels: int | None = None
    layout: str | None = None
    resize: str = EXACT
    resize_to: int | None = None
    crop_rounding: str = NEAREST
    interpolation: str = "bilinear"
    antialias: bool = True
    preprocess: str | None = None
    range: list[float] | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    order: str | None = None
    output: str | None = None
    output_kind: str | None = None
    prefix_tokens: int | None = None
    grid: list[int] | None = None
    pooling: str | None = None
    taps: list[str] = field(default_factory=list)
    licence: str = ""
    source: str = ""
    weights_digest: str | None = None
    canary: Canary | None = None

    @property
    def numbers(self) -> Preprocess | None:
        """The scaling, where it is given in numbers and not by a name."""
        if not any(getattr(self, name) for name in (*_NUMBERS, "order")):
            return None
        return Preprocess.of_numbers(
            self.range or (0, 255),
            self.mean or (0,),
            self.std or (1,),
            bgr=self.order == BGR,
        )

    @property
    def mode(self) -> str | None:
        """The scaling as the contract has it: a name, or its numbers."""
        numbers = self.numbers
        if numbers is None:
            return self.preprocess
        scale, offset = (
            " ".join(f"{value:.9g}" for value in values)
            for values in (numbers.scale, numbers.offset)
        )
        return f"{BGR if numbers.bgr else RGB} x {scale} + {offset}"

    def resizing(self, side: int) -> Resize | None:
        """How images are brought to a side; None: as without a descriptor.

        The edge before the crop grows with the side, so that the same part of the
        image is seen.
        """
        edge = None
        if self.resize == SHORTEST_EDGE:
            edge = round((self.resize_to or side) * side / (self.input_size or side))
        resize = Resize(
            side,
            self.resize,
            edge,
            self.interpolation,
            self.antialias,
            self.crop_rounding,
        )
        return None if resize == Resize(side) else resize


def read(path: Path) -> Descriptor:
    """The descriptor beside a network; an empty one where there is none.

    That is the JSON of the network's name, in our words or as Hugging Face and timm
    write it, and the ``preprocessor_config.json`` in the folder of an ONNX or OpenVINO
    file. Where both are there, they have to agree.

    Args:
        path: Of the network.

    Raises:
        WeightsError: It cannot be read, has a key that no descriptor has, a value that
            is none, or says otherwise than the other one.
    """
    is_graph = path.suffix.lower() in GRAPHS
    paths = [path.with_suffix(".json")]
    paths += [path.with_name(PROCESSOR)] if is_graph else []
    parts = {one: _read(one, is_graph=is_graph) for one in paths if one.is_file()}
    keys: dict[str, Any] = {}
    for one, values in parts.items():
        for key, value in values.items():
            if keys.get(key, value) != value:
                raise WeightsError(
                    f"{paths[0].name} and {one.name} beside {path.name} contradict "
                    f"each other: {key} is {keys[key]} and {value}",
                    "Correct one of them, or move it away.",
                )
        keys |= values
    merged = records.from_json(Descriptor, keys)
    try:
        _check_contradictions(merged, is_graph=is_graph)
    except ValueError as error:
        names = " and ".join(one.name for one in parts)
        raise WeightsError(
            f"{names} beside {path.name} cannot be used together: {error}",
            "Correct one of them, or move it away.",
        ) from error
    return merged


def _read(path: Path, *, is_graph: bool) -> dict[str, Any]:
    """The keys of a descriptor in a file, checked."""
    try:
        value = read_json(path, unique=True)
        if not isinstance(value, dict):
            raise ValueError("it is not an object of keys and values")
        if foreign.is_foreign(value):
            value = foreign.descriptor_keys(value)
        _refuse_unknown(value, Descriptor)
        if isinstance(value.get("canary"), dict):
            _refuse_unknown(value["canary"], Canary)
        _check(records.from_json(Descriptor, value), is_graph=is_graph)
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read ({error.strerror})", "Check its permissions."
        ) from error
    except ValueError as error:
        raise WeightsError(
            f"{path.name}, the JSON beside the network, cannot be used: {error}",
            f"Correct {path}, or remove it and give its values as options.",
        ) from error
    return dict(value)


def _refuse_unknown(value: dict[str, Any], kind: type[Descriptor | Canary]) -> None:
    known = [one.name for one in fields(kind)]
    of = "" if kind is Descriptor else "of its canary "
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(key[:60], known, 3, 0.5)
            meant = f" (did you mean {' or '.join(near)}?)" if near else ""
            raise ValueError(f"the key {key[:60]!r} {of}means nothing{meant}")


def _check(descriptor: Descriptor, *, is_graph: bool) -> None:
    for name, allowed in _CHOICES.items():
        value = getattr(descriptor, name)
        if value is not None and value not in allowed:
            raise ValueError(
                f"{name} is {str(value)[:40]!r}, not {' or '.join(map(str, allowed))}"
            )
    for name in ("licence", "source", "output"):
        if len(getattr(descriptor, name) or "") > _LONGEST:
            raise ValueError(f"{name} has more than {_LONGEST} letters")
    digest = descriptor.weights_digest
    if digest is not None and not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError("weights_digest is not 64 hex digits")
    _check_sizes(descriptor)
    _check_numbers(descriptor)
    _check_canary(descriptor)
    _check_contradictions(descriptor, is_graph=is_graph)


def _check_sizes(descriptor: Descriptor) -> None:
    sizes = {"input_size": descriptor.input_size, "resize_to": descriptor.resize_to}
    for name, size in sizes.items():
        if size is not None and not SMALLEST <= size <= LARGEST:
            raise ValueError(f"{name} is {size}, not {SMALLEST} to {LARGEST}")
    if descriptor.input_sizes is not None:
        low, high = (*descriptor.input_sizes, 0, 0)[:2]
        if len(descriptor.input_sizes) != 2 or not SMALLEST <= low <= high <= LARGEST:
            raise ValueError("input_sizes is not [smallest, largest]")
        if not low <= (descriptor.input_size or low) <= high:
            raise ValueError(
                f"input_size is {descriptor.input_size}, not {low} to {high} as in "
                "input_sizes"
            )
    if descriptor.grid is not None and (
        len(descriptor.grid) != 2 or min(descriptor.grid) < 1
    ):
        raise ValueError("grid is not [rows, columns]")
    if (descriptor.prefix_tokens or 0) < 0:
        raise ValueError("prefix_tokens is below 0")


def _check_numbers(descriptor: Descriptor) -> None:
    channels = descriptor.channels or 3
    if descriptor.range is not None:
        low, high = (*descriptor.range, 0.0, 0.0)[:2]
        if len(descriptor.range) != 2 or not low < high:
            raise ValueError("range is not [what 0 becomes, what 255 becomes]")
    for name in ("mean", "std"):
        values = getattr(descriptor, name)
        if values is not None and len(values) not in (1, channels):
            raise ValueError(f"{name} has {len(values)} numbers, not {channels}")
    if min(descriptor.std or [1]) <= 0:
        raise ValueError("std is not above 0")
    numbers = descriptor.numbers
    values = (*numbers.scale, *numbers.offset) if numbers else ()
    if any(abs(value) > _HUGE for value in values):
        raise ValueError("range, mean and std make numbers that are too large")


def _check_canary(descriptor: Descriptor) -> None:
    canary = descriptor.canary
    if canary is None:
        return
    if not SMALLEST <= canary.input_size <= LARGEST:
        size = canary.input_size
        raise ValueError(f"canary.input_size is {size}, not {SMALLEST} to {LARGEST}")
    largest = max(map(abs, canary.embedding), default=0)
    if not 1 / _LARGEST_NUMBER < largest < _LARGEST_NUMBER:
        raise ValueError(
            f"the largest number of canary.embedding is {largest:g}, which no network "
            "gives"
        )
    texts = [canary.resized_by, *canary.framework, *canary.framework.values()]
    if len(texts) > _MOST_TEXTS or max(map(len, texts)) > _SHORT:
        raise ValueError("canary.framework or canary.resized_by is too long")


def _check_contradictions(descriptor: Descriptor, *, is_graph: bool) -> None:
    numbers = [name for name in (*_NUMBERS, "order") if getattr(descriptor, name)]
    if descriptor.preprocess and numbers:
        raise ValueError(f"preprocess and {', '.join(numbers)} are both given")
    if descriptor.resize_to and descriptor.resize != SHORTEST_EDGE:
        raise ValueError(f"resize_to means nothing with resize {descriptor.resize!r}")
    smoothed = descriptor.interpolation not in PLAIN_INTERPOLATIONS
    if smoothed and not descriptor.antialias:
        raise ValueError(
            f"antialias cannot be false with interpolation {descriptor.interpolation!r}"
        )
    without = [name for name in _OF_GRAPHS if getattr(descriptor, name) is not None]
    if without and not is_graph:
        raise ValueError(f"{', '.join(without)}: only for .onnx and .xml files")
    kind, pooling = descriptor.output_kind, descriptor.pooling
    pooling = "avg" if pooling == "mean" else pooling
    if kind and pooling and pooling not in POOLINGS[kind]:
        raise ValueError(f"pooling {pooling!r} means nothing for a {kind}")
