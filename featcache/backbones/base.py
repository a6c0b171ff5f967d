"""What a backbone is: its row in the table, and a network as asked for."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from featcache.backbones.archive import config_bytes
from featcache.backbones.graphs import files as graph_files
from featcache.backbones.pooling import poolings_of
from featcache.core.taps import AVG, FEATURES, tap_name
from featcache.dataset.views import Resize

if TYPE_CHECKING:
    from featcache.backbones.descriptor import Descriptor
    from featcache.features.contract import Statistics

GREY = (0.299, 0.587, 0.114)  # of the channels of one picture (BT.601)
IMAGENET, RANDOM, FILE, NONE = "imagenet", "random", "file", "none"


@dataclass(frozen=True)
class Preprocess:
    """An input scaling: pixels * scale + offset a channel, RGB or BGR.

    Attributes:
        scale: Three factors, in the order of the channels after ``bgr``.
        offset: Three summands, likewise.
        bgr: Turn the channels round first.
    """

    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bgr: bool = False

    @classmethod
    def of_numbers(
        cls,
        value_range: Sequence[float],
        mean: Sequence[float],
        std: Sequence[float],
        *,
        bgr: bool = False,
    ) -> Self:
        """(v - mean) / std a channel, where v runs over the range from black to white.

        Args:
            value_range: What pixels of 0 and of 255 become first.
            mean: Three numbers, or one for all channels.
            std: Likewise.
            bgr: Turn the channels round first.
        """
        low, high = value_range
        means, stds = (list(one) * (3 // len(one)) for one in (mean, std))
        scale = tuple((high - low) / 255 / s for s in stds)
        offset = tuple((low - m) / s for m, s in zip(means, stds, strict=True))
        return cls(scale, offset, bgr)  # type: ignore[arg-type]

    def apply(self, pixels: np.ndarray, channels: int = 3) -> np.ndarray:
        """Scales pixels as networks do it.

        Args:
            pixels: (..., 3) RGB, 0-255; not changed.
            channels: 3, or 1 for the luminance of the scaled channels.

        Returns:
            (..., channels) float32.
        """
        values = pixels.astype(np.float32)
        values = values[..., ::-1] if self.bgr else values
        values = values * np.array(self.scale, np.float32)
        values = values + np.array(self.offset, np.float32)
        if channels == 1:
            values = (values @ np.array(GREY, np.float32))[..., None]
        return np.asarray(values)

    @property
    def is_even(self) -> bool:
        """Whether it treats all channels alike."""
        return not self.bgr and len({*self.scale}) == len({*self.offset}) == 1

    @classmethod
    def from_statistics(cls, statistics: "Statistics | None") -> Self | None:
        """Feature-wise zero mean and unit variance a channel.

        Args:
            statistics: Of three channels, as contracts have them;
                None for networks with another scaling.
        """
        if not statistics:
            return None
        pairs = zip(statistics.mean, statistics.std, strict=True)
        offset = tuple(-m / s for m, s in pairs)
        scale = tuple(1 / s for s in statistics.std)
        return cls(scale, offset)  # type: ignore[arg-type]


# The modes of keras.applications.imagenet_utils.preprocess_input on pixels 0-255.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREPROCESS = {
    "torch": Preprocess(
        (1 / 255 / _STD[0], 1 / 255 / _STD[1], 1 / 255 / _STD[2]),
        (-_MEAN[0] / _STD[0], -_MEAN[1] / _STD[1], -_MEAN[2] / _STD[2]),
    ),
    "caffe": Preprocess(offset=(-103.939, -116.779, -123.68), bgr=True),
    "tf": Preprocess((1 / 127.5,) * 3, (-1.0,) * 3),
    "none": Preprocess(),
}
FEATUREWISE = "featurewise"  # mean 0, variance 1 over the training images


@dataclass(frozen=True)
class Backbone:
    """One row of the table.

    Attributes:
        module: Module below ``keras.applications``.
        factory: Function in it.
        dim: Width of the embedding.
        input_size: Side of the square input in pixels.
        preprocess: Input scaling that belongs to the weights (the modes of
            ``keras.applications.imagenet_utils.preprocess_input``).
        url: Where Keras downloads the weights without the top.
        md5: MD5 of that file; empty where Keras publishes none.
        taps: Default inner layers: the ends of its blocks.
        sha256: SHA-256 of that file, where Keras publishes this in place of an MD5.
        saved_as: Name Keras gives that file, where it is not the URL's.
        rescale: Factors a channel behind the network's own normalisation, which
            Keras adds only where it loads the ImageNet weights itself.
        licence: Of the ImageNet weights, where Keras' documentation states it.
    """

    module: str
    factory: str
    dim: int
    input_size: int
    preprocess: str
    url: str
    md5: str
    taps: tuple[str, ...] = ()
    sha256: str = ""
    saved_as: str = ""
    rescale: tuple[float, ...] = ()
    licence: str = ""

    @property
    def architecture(self) -> str:
        """What is computed, as text for the contract."""
        return f"keras.applications.{self.module}.{self.factory}"

    @property
    def file_name(self) -> str:
        """Name of the weights file."""
        return self.saved_as or self.url.rsplit("/", 1)[1]

    @property
    def checksum(self) -> tuple[str, str] | None:
        """Algorithm and hex digits of the published checksum, if there is one."""
        if self.md5:
            return "md5", self.md5
        return ("sha256", self.sha256) if self.sha256 else None


VECTOR, MAP, TOKENS = "vector", "map", "tokens"
NCHW, NHWC = "nchw", "nhwc"
GRAPHS = (".onnx", ".xml")  # files of networks that OpenVINO reads itself


@dataclass(frozen=True)
class Readout:
    """How an output of an ONNX or OpenVINO network becomes an embedding.

    Attributes:
        kind: "vector" (N, D), "map" (N, D, h, w) or (N, h, w, D), or "tokens"
            (N, T, D).
        layout: "nchw" or "nhwc", of the input and of maps.
        prefix: Tokens in front of those of the patches: a class token, registers.
        grid: Rows and columns of the patches.
        pooling: "avg" or "max" over a map or the patches; "cls", the first token;
            "cls+mean", both side by side.
        width: Of the embedding, D.
    """

    kind: str = VECTOR
    layout: str = NCHW
    prefix: int = 0
    grid: tuple[int, int] | None = None
    pooling: str = "avg"
    width: int = 0

    @property
    def text(self) -> str:
        """What the contract says of it."""
        if self.kind != TOKENS:
            return f"{self.kind}, {self.layout}"
        rows, columns = self.grid or (0, 0)
        grid = f", {rows} x {columns} patches" if self.grid else ""
        return f"tokens, {self.prefix} in front{grid}, {self.layout}"


@dataclass(frozen=True)
class Network:
    """A backbone as asked for: which network, weights and input.

    Attributes:
        name: Table name, or the stem of its file.
        weights: Weights tag: "imagenet", "random" or "file"; "none" for a baseline.
        preprocess: One of ``PREPROCESS``, "featurewise", or what a descriptor says.
        input_size: Side of the square input in pixels; 0 if it looks at none.
        row: The table's row; None for a network in a file of its own.
        file: The network's or the weights' file, when the tag is "file".
        seed: Of random weights.
        taps: Default inner layers.
        output: The layer of a file that gives the embedding; None: the last.
        channels: Of the input: 3, or 1 for grey.
        resizing: How images are brought to the input size; None: exactly.
        numbers: The scaling, where it has no name in ``PREPROCESS``.
        readout: Of an ONNX or OpenVINO file.
        descriptor: What stands in the JSON beside the file.
    """

    name: str
    weights: str
    preprocess: str
    input_size: int
    row: Backbone | None = None
    file: Path | None = None
    seed: int = 0
    taps: tuple[str, ...] = ()
    output: str | None = None
    channels: int = 3
    resizing: Resize | None = None
    numbers: Preprocess | None = None
    readout: Readout | None = None
    descriptor: "Descriptor | None" = field(default=None, compare=False)

    @property
    def resize(self) -> Resize:
        """How images are brought to the size of its input."""
        return self.resizing or Resize(self.input_size)

    @property
    def scaling(self) -> Preprocess | None:
        """The scaling of pixels; None where it follows from the training images."""
        return self.numbers or PREPROCESS.get(self.preprocess)

    @property
    def is_graph(self) -> bool:
        """Whether it is a file that OpenVINO reads itself, without Keras."""
        return self.readout is not None

    @property
    def text(self) -> str:
        """Its name and input size, such as "vgg19@224"."""
        has_size = self.input_size and not self.is_baseline
        return f"{self.name}@{self.input_size}" if has_size else self.name

    def tap_names(self, taps: str, tap_pooling: str, pooling: str = AVG) -> list[str]:
        """Names of what is pooled beside the embedding, as "layer" or "layer:max".

        Args:
            taps: "none", "default", or names of layers with commas between.
            tap_pooling: How they are pooled, such as "avg" or "avg+grid2".
            pooling: How the last map is, likewise; its mean is the embedding.

        Returns:
            Each once, in order: first those of the last map, as "features:max".

        Raises:
            UnknownNameError: There is no such pooling.
        """
        kinds = poolings_of(tap_pooling, "tap_pooling")
        own = [kind for kind in poolings_of(pooling, "pooling") if kind != AVG]
        names = [tap_name(FEATURES, kind) for kind in own]
        if self.is_baseline:
            return []
        layers = self.taps if taps == "default" else taps.split(",")
        if taps != "none":
            names += [tap_name(layer.strip(), k) for layer in layers for k in kinds]
        return list(dict.fromkeys(names))

    @property
    def is_baseline(self) -> bool:
        """Whether it is a row that needs no network."""
        return self.weights == NONE

    @property
    def licence(self) -> str:
        """Of its weights, as far as it is stated; else empty."""
        if self.descriptor:
            return self.descriptor.licence
        return self.row.licence if self.row and self.weights == IMAGENET else ""

    @property
    def source(self) -> str:
        """Where its weights come from, as far as it is stated; else empty."""
        if self.descriptor:
            return self.descriptor.source
        return self.row.architecture if self.row and self.weights == IMAGENET else ""

    @property
    def architecture(self) -> str:
        """What is computed with the weights, as text for the contract."""
        if self.row:
            return self.row.architecture
        assert self.file is not None
        cut = f", output {self.output}" if self.output else ""
        if self.readout:
            kind, digits = self.file.suffix, graph_files.key(self.file)[:16]
            return f"{kind} file sha256 {digits}{cut}; {self.readout.text}"
        config = hashlib.sha256(config_bytes(self.file)).hexdigest()[:16]
        return f"config.json sha256 {config}{cut}"
