"""Networks in OpenVINO's format: where they lie, converted and quantised once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from glob import escape
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.backbones.base import Network, Preprocess
from featcache.backbones.build import build, weights_digest, with_pixels
from featcache.backbones.engines import int8, openvino
from featcache.backbones.engines.base import (
    Engine,
    batch_distances,
    network_name,
    noise,
)
from featcache.backbones.graphs import pixels as graph_pixels
from featcache.core.io import digest, lock
from featcache.core.taps import FEATURES
from featcache.core.versions import installed_versions
from featcache.errors import ConversionError, StoreError, WeightsError

if TYPE_CHECKING:
    import keras

    from featcache.features.contract import Contract

AGREEMENT = 1e-4  # of the engines, relative to the largest number


@dataclass(frozen=True, eq=False)
class PreparedNetwork:
    """A network with all that an engine is made from.

    Attributes:
        network: The network.
        contract: That of its features.
        taps: Outputs beside the embedding, such as "layer" or "features:max".
        folder: Where converted networks lie.
        model: The network, if it is built already.
        calibration_ids: Images to calibrate int8 on.
        pixels: Yields the plain views of images, in batches (n, S, S, 3) uint8.
    """

    network: Network
    contract: "Contract"
    taps: Sequence[str]
    folder: Path
    model: "keras.Model | None"
    calibration_ids: Sequence[str]
    pixels: Callable[[Sequence[str]], Iterable[np.ndarray]]


def graph(prepared: PreparedNetwork) -> "keras.Model":
    """From (N, H, W, 3) uint8 pixels to a dictionary of outputs.

    Raises:
        StoreError: Its weights are not those of the contract.
    """
    return with_pixels(
        prepared.model or checked_build(prepared.network, prepared.contract),
        prepared.network,
        taps=prepared.taps,
        statistics=Preprocess.from_statistics(prepared.contract.statistics),
    )


def checked_build(network: Network, contract: "Contract") -> "keras.Model":
    """Builds a network as ``build``, with the weights of a contract.

    Raises:
        StoreError: They are others.
    """
    model = build(network)
    expected, got = contract.weights_digest, weights_digest(model)
    if expected not in (None, got):
        raise StoreError(
            f"the weights {expected[:8]} of the stored features of {network.text}",
            f"{got[:8]} in {network.file or network.name}",
            "Name the original weights file, or extract and train again.",
        )
    return model


def to_float32(prepared: PreparedNetwork) -> Path:
    """Converts a network once and keeps it.

    Raises:
        ConversionError: OpenVINO cannot run it, or gives other numbers.
    """
    path = _path(prepared, precision="float32")
    if openvino.is_written(path):
        return path
    with lock(path.with_suffix(".lock"), path.name, timeout=600):
        if prepared.network.is_graph and not path.exists():
            _write_graph(prepared, path)
        if not path.exists():
            reference = graph(prepared)
            openvino.convert(reference, path)
            _compare(reference, path)
    return path


def _write_graph(prepared: PreparedNetwork, path: Path) -> None:
    """Writes a network that OpenVINO has read itself.

    Raises:
        ConversionError: It gives images other numbers together than alone.
        WeightsError: It gives numbers that are not finite.
    """
    scaling = Preprocess.from_statistics(prepared.contract.statistics)
    try:
        model = graph_pixels.with_pixels(
            prepared.network, taps=prepared.taps, statistics=scaling
        )
    except RuntimeError as error:
        raise openvino.failed("a network that OpenVINO can run", error) from error
    engine = openvino.OpenVINOEngine(model.clone(), batch_size=4)
    _refuse_mixing(prepared.network, engine)
    openvino.write(model, path)


def _refuse_mixing(network: Network, engine: Engine) -> None:
    for name, distance in batch_distances(engine, network.input_size).items():
        if isnan(distance):
            raise WeightsError(
                f"finite {name} in {network.file}",
                "NaN or infinite numbers for pictures of noise",
                "Check its weights and the scaling of pixels, or export it again.",
            )
        if distance > AGREEMENT:
            raise ConversionError(
                f"{name} of an image that are the same at every call, alone and "
                "beside others",
                f"other numbers from {network.file}",
                "Export it for batches of one image, or without random operations.",
            )


def to_int8(prepared: PreparedNetwork) -> Path:
    """Quantises a network once and keeps it; the contract holds its digest.

    Raises:
        UsageError: NNCF is not installed.
        ConversionError: It cannot be quantised.
        StoreError: It came out different from the one that the contract names.
    """
    path = _int8_path(prepared)
    if not openvino.is_whole(path):
        int8.require_nncf()  # before the long work
        source = to_float32(prepared)
        if not openvino.is_whole(source):
            source.unlink(missing_ok=True)
            source = to_float32(prepared)
        with lock(path.with_suffix(".lock"), path.name, timeout=3600):
            if not openvino.is_whole(path):
                pixels = prepared.pixels(list(prepared.calibration_ids))
                int8.quantise(source, path, pixels)
    got = openvino.digest(path)
    if prepared.contract.quantised not in (None, got):
        raise _another(prepared, got)
    return path


def _int8_path(prepared: PreparedNetwork) -> Path:
    """Where the int8 network is, or will be.

    That of the contract serves whatever further outputs it has: it was made with those
    that `extract` was asked for, and fewer may be used.
    """
    path = _path(prepared, calibration=digest(list(prepared.calibration_ids)))
    needed = {FEATURES, *prepared.taps}
    for stored in sorted(_of_contract(prepared), key=lambda one: one != path):
        if needed <= openvino.output_names(stored):
            return stored
    return path


def _of_contract(prepared: PreparedNetwork) -> list[Path]:
    """The networks that have the weights which the contract names, by any outputs."""
    names = f"{escape(network_name(prepared.contract))}-*.xml"
    expected = prepared.contract.quantised
    paths = sorted(prepared.folder.glob(names)) if expected else []
    whole = [path for path in paths if openvino.is_whole(path)]
    return [path for path in whole if openvino.digest(path) == expected]


def _another(prepared: PreparedNetwork, got: str) -> StoreError:
    """The error for an int8 network that is not the one of the contract."""
    reason = "it was lost, and quantising again gave another"
    todo = "Move the store away and extract again."
    if _of_contract(prepared):
        reason = "with these taps and poolings, quantising gave another"
        todo = (
            "Move the store away and extract again with all taps and poolings in one "
            "call, or ask for those of the store."
        )
    return StoreError(
        f"the quantised network {str(prepared.contract.quantised)[:8]} of the stored "
        f"features of {prepared.network.text}",
        f"{got[:8]}: {reason}",
        todo,
    )


def files_of(prepared: PreparedNetwork) -> list[Path]:
    """The files of a converted network; none if OpenVINO does not run it."""
    if prepared.contract.precision == "int8":
        path = _int8_path(prepared)
    else:
        path = _path(prepared, precision="float32")
    suffixes = (".xml", ".bin", ".json")
    return [path.with_suffix(s) for s in suffixes] if openvino.is_written(path) else []


def _path(prepared: PreparedNetwork, **settings: Any) -> Path:
    """Where the converted network lies: a name made of all that it depends on."""
    libraries = installed_versions(("keras", "openvino"))
    identity = {"taps": list(prepared.taps), "libraries": libraries, **settings}
    name = f"{network_name(prepared.contract)}-{digest(identity)[:16]}.xml"
    return prepared.folder / name


def _compare(reference: "keras.Model", path: Path) -> None:
    """Runs a freshly converted network beside TensorFlow on two images of noise.

    Raises:
        ConversionError: Their numbers differ; the converted network is removed.
    """
    from featcache.backbones.engines.tensorflow import TensorFlowEngine

    pictures = noise(2, reference.input_shape[1])
    (expected,) = TensorFlowEngine(reference, batch_size=2).run([pictures])
    (converted,) = openvino.OpenVINOEngine(path, batch_size=2).run([pictures])
    for name, numbers in expected.items():
        difference = np.abs(converted[name] - numbers).max() / np.abs(numbers).max()
        if not difference < AGREEMENT:
            path.unlink()
            raise ConversionError(
                f"OpenVINO to reproduce TensorFlow's {name} within {AGREEMENT:g}",
                f"a relative difference of {difference:.2g}",
                "TensorFlow is used for this network instead.",
            )
