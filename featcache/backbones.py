"""Backbones: one row a network, preprocessing and weights file included.

A new backbone is a new row. Any ``.keras`` file is a backbone as well; what its
row would say is given by options or by a JSON file of the same name beside it.
"""

import contextlib
import hashlib
import json
import os
import socket
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache._io import sha256_file
from featcache._tf import tensorflow
from featcache.errors import UsageError, WeightsError
from featcache.registry import Registry

if TYPE_CHECKING:
    import keras

PREPROCESS = ("torch", "caffe", "tf", "none")
IMAGENET, RANDOM, FILE = "imagenet", "random", "file"
_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"


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
        md5: MD5 of that file.
    """

    module: str
    factory: str
    dim: int
    input_size: int
    preprocess: str
    url: str
    md5: str

    @property
    def file_name(self) -> str:
        """Name of the weights file."""
        return self.url.rsplit("/", 1)[1]


_NOTOP = "_weights_tf_dim_ordering_tf_kernels_notop.h5"
BACKBONES = Registry(
    "backbone",
    {
        "densenet121": Backbone(
            *("densenet", "DenseNet121", 1024, 224, "torch"),
            _URL + "densenet/densenet121" + _NOTOP,
            "30ee3e1110167f948a6b9946edeeb738",
        ),
        "resnet50": Backbone(
            *("resnet", "ResNet50", 2048, 224, "caffe"),
            _URL + "resnet/resnet50" + _NOTOP,
            "4d473c1dd8becc155b73f8504c6f6626",
        ),
        "vgg19": Backbone(
            *("vgg19", "VGG19", 512, 224, "caffe"),
            _URL + "vgg19/vgg19" + _NOTOP,
            "253f8cb515780f3b799900260a226db6",
        ),
        "inceptionv3": Backbone(
            *("inception_v3", "InceptionV3", 2048, 299, "tf"),
            _URL + "inception_v3/inception_v3" + _NOTOP,
            "bcbd6486424b2319ff4ef7d526e38f63",
        ),
        "xception": Backbone(
            *("xception", "Xception", 2048, 299, "tf"),
            _URL + "xception/xception" + _NOTOP,
            "b0042744bf5b25fce3cb969f33bebb97",
        ),
    },
    hint="Or give the path of a .keras file.",
)


@dataclass(frozen=True)
class Network:
    """A backbone as asked for: which network, weights and input.

    Attributes:
        name: Table name, or the stem of the ``.keras`` file.
        weights: Weights tag: "imagenet", "random" or "file".
        preprocess: One of ``PREPROCESS``.
        input_size: Side of the square input in pixels.
        row: The table's row; None for a ``.keras`` file.
        file: The ``.keras`` or weights file, when the tag is "file".
        seed: Of random weights.
    """

    name: str
    weights: str
    preprocess: str
    input_size: int
    row: Backbone | None = None
    file: Path | None = None
    seed: int = 0

    @property
    def architecture(self) -> str:
        """What is computed with the weights, as text for the contract."""
        if self.row:
            return f"keras.applications.{self.row.module}.{self.row.factory}"
        assert self.file is not None
        with zipfile.ZipFile(self.file) as archive:
            config = archive.read("config.json")
        return f"config.json sha256 {hashlib.sha256(config).hexdigest()[:16]}"


def resolve(
    name: str,
    weights: str = IMAGENET,
    *,
    preprocess: str = "imagenet",
    input_size: int | None = None,
    seed: int = 0,
) -> Network:
    """Turns a user's words into a network, without building anything.

    Args:
        name: A name of the table, or the path of a ``.keras`` file.
        weights: "imagenet", "random", or a weights file for a table's network.
        preprocess: "imagenet" takes the row's own; else one of ``PREPROCESS``.
        input_size: Side in pixels; by default the row's own.
        seed: Of random weights.

    Raises:
        UnknownNameError: No such backbone; the nearest names are offered.
        WeightsError: No such file.
        UsageError: A ``.keras`` file without preprocessing or input size.
    """
    if input_size is not None and input_size < 32:
        raise UsageError("--input-size of 32 or more", str(input_size), "Raise it.")
    if preprocess not in ("imagenet", *PREPROCESS):
        raise UsageError(
            f"--preprocess imagenet, {', '.join(PREPROCESS)}",
            repr(preprocess),
            "Take the one that belongs to the weights.",
        )
    if Path(name).suffix == ".keras":
        return _from_file(Path(name), preprocess, input_size)
    row = BACKBONES[name]
    network = Network(
        name=name,
        weights=weights if weights in (IMAGENET, RANDOM) else FILE,
        preprocess=row.preprocess if preprocess == "imagenet" else preprocess,
        input_size=input_size or row.input_size,
        row=row,
        seed=seed,
    )
    if network.weights == FILE:
        return replace(network, file=_existing(Path(weights)))
    return network


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise WeightsError("a weights file", f"no such file: {path}", "Check the path.")
    return path


def _from_file(path: Path, preprocess: str, input_size: int | None) -> Network:
    _existing(path)
    if (
        not zipfile.is_zipfile(path)
        or "config.json" not in zipfile.ZipFile(path).namelist()
    ):
        raise WeightsError(
            "a network saved by Keras 3 (model.save('name.keras'))",
            f"{path}, which is not one",
            "Save the network again in the .keras format.",
        )
    beside = path.with_suffix(".json")
    given = _read_sidecar(beside)
    if preprocess == "imagenet":
        preprocess = given.get("preprocess", preprocess)
    input_size = input_size or given.get("input_size")
    if preprocess not in PREPROCESS or not isinstance(input_size, int):
        raise UsageError(
            f"--preprocess {'|'.join(PREPROCESS)} and --input-size PX for {path.name}",
            f"preprocess {preprocess!r}, input size {input_size!r}",
            f'Give both, or write them to {beside.name}: {{"preprocess": "caffe", '
            '"input_size": 224}.',
        )
    return Network(path.stem, FILE, preprocess, input_size, file=path)


def _read_sidecar(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"JSON in {path}", str(error), "Correct it.") from error
    if not isinstance(given, dict):
        raise WeightsError(f"an object in {path}", "another value", "Correct it.")
    return given


def find_weights(row: Backbone) -> Path | None:
    """Returns the ImageNet weights file if this machine has it.

    Looked for in ``$FEATCACHE_WEIGHTS``, then in Keras' own folder.

    Raises:
        WeightsError: The file is there, but is not the published one.
    """
    keras_home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    own = os.environ.get("FEATCACHE_WEIGHTS")
    for folder in [*([Path(own)] if own else []), keras_home / "models"]:
        path = folder / row.file_name
        if path.is_file():
            with path.open("rb") as file:
                md5 = hashlib.file_digest(file, "md5").hexdigest()
            if md5 != row.md5:
                raise WeightsError(
                    f"MD5 {row.md5} of {path}",
                    md5,
                    f"Delete the file; it is fetched again from {row.url}.",
                )
            return path
    return None


def fetch_weights(row: Backbone) -> Path:
    """Returns the ImageNet weights file, downloading it through Keras if need be.

    Raises:
        WeightsError: It is not here and cannot be had; names the two ways out.
    """
    found = find_weights(row)
    if found:
        return found
    tensorflow()
    import keras

    try:
        with _patient_for(30.0), contextlib.redirect_stdout(sys.stderr):
            path = keras.utils.get_file(
                row.file_name, row.url, cache_subdir="models", file_hash=row.md5
            )
    except Exception as error:  # Keras raises a bare Exception
        raise WeightsError(
            f"ImageNet weights {row.file_name} (MD5 {row.md5})",
            f"neither the file nor a download of it ({error})",
            f"Download {row.url} elsewhere and put it into ~/.keras/models or into "
            "the folder $FEATCACHE_WEIGHTS; or use --weights random for a trial.",
        ) from error
    return Path(path)


@contextlib.contextmanager
def _patient_for(seconds: float) -> Iterator[None]:
    # A firewall that drops packets would otherwise hang the download for ever.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def weights_key(network: Network) -> str | None:
    """Names the weights without building the network.

    Equal keys mean equal weight values, so that what a store holds can be told
    without TensorFlow. None: the file is not here yet.
    """
    if network.weights == RANDOM:
        return f"random seed {network.seed}, keras {metadata.version('keras')}"
    if network.file:
        return f"file sha256 {sha256_file(network.file)}"
    assert network.row is not None
    return f"file md5 {network.row.md5}" if find_weights(network.row) else None


def build(network: Network) -> "keras.Model":
    """Builds the frozen network: one flat graph from preprocessed pixels to (N, D).

    Raises:
        WeightsError: The weights cannot be had or do not fit.
    """
    if network.row:
        return _build_from_table(network, network.row)
    assert network.file is not None
    tensorflow()
    return _frozen(_pooled(_load(network.file), network))


def _build_from_table(network: Network, row: Backbone) -> "keras.Model":
    weights = fetch_weights(row) if network.weights == IMAGENET else network.file
    tensorflow()
    import keras

    if network.weights == RANDOM:
        keras.utils.set_random_seed(network.seed)
    factory = getattr(import_module(f"keras.applications.{row.module}"), row.factory)
    side = network.input_size
    try:
        model = factory(
            include_top=False, weights=None, input_shape=(side, side, 3), pooling="avg"
        )
        if weights:
            model.load_weights(weights)
    except (ValueError, OSError, KeyError) as error:
        raise WeightsError(
            f"weights and an input size that fit {network.name}",
            f"{weights or 'random weights'} at {side} px ({_first_line(error)})",
            "Give another file or --input-size.",
        ) from error
    return _frozen(model)


def _load(path: Path) -> "keras.Model":
    import keras

    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, OSError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"a network that Keras can load in {path}",
            _first_line(error),
            "Save it again with the installed Keras; Lambda and custom layers cannot "
            "be loaded safely.",
        ) from error


def _pooled(model: "keras.Model", network: Network) -> "keras.Model":
    import keras

    side = network.input_size
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] not in (3, None):
        raise WeightsError(
            "a network with one RGB input (N, H, W, 3)",
            f"input shape {shape} in {network.file}",
            "Save the part of the network that takes pixels.",
        )
    if any(have not in (None, side) for have in shape[1:3]):
        raise WeightsError(
            f"--input-size {shape[1]} for {network.file}", str(side), "Change it."
        )
    rank = len(model.output_shape) if isinstance(model.output_shape, tuple) else 0
    if rank == 2:
        return model
    if rank != 4:
        raise WeightsError(
            "an output of maps (N, H, W, D) or vectors (N, D)",
            f"output shape {model.output_shape} in {network.file}",
            "Cut the network at its last convolution.",
        )
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(model.output)
    return keras.Model(model.input, pooled, name=network.name)


def _frozen(model: "keras.Model") -> "keras.Model":
    model.trainable = False
    return model


def weights_digest(model: "keras.Model") -> str:
    """SHA-256 (64 hex digits) over the values of all weights in order."""
    sha = hashlib.sha256()
    for variable in model.variables:
        if "seed_generator" in variable.path:
            continue  # state of a random layer, not a weight
        value = variable.numpy()
        sha.update(f"{value.dtype.str}{value.shape}".encode())
        sha.update(value.tobytes())
    return sha.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
