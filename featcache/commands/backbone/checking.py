"""``featcache backbone check``: does a network in a file do what it has to?"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from featcache import backbones
from featcache.backbones import Network, proving
from featcache.backbones.engines.base import Engine, batch_distances
from featcache.backbones.engines.convert import AGREEMENT
from featcache.backbones.engines.openvino import OpenVINOEngine
from featcache.backbones.files import is_file
from featcache.backbones.graphs import pixels as graph_pixels
from featcache.backbones.graphs import reading
from featcache.core.text import counted
from featcache.errors import FeatcacheError, UsageError

if TYPE_CHECKING:
    import keras

PASS, WARN, FAIL = "PASS", "WARN", "FAIL"
_IMAGES = 3


@dataclass(frozen=True)
class BackboneCheck:
    """One check of a network in a file.

    Attributes:
        name: "reads", "runs", "batches", "canary" or "weights".
        status: "PASS", "FAIL", or "WARN" where there is nothing to check it by.
        result: What came out.
        fix: What to do; empty for "PASS".
    """

    name: str
    status: str
    result: str
    fix: str = ""


def check(file: Path) -> list[BackboneCheck]:
    """Checks a network in a file: as far as it can be done without images.

    It reads, gives finite numbers for images of noise, gives the same numbers alone and
    in a batch, agrees with its canary, and has the weights that its descriptor names.

    Args:
        file: A .keras, .onnx or .xml file.

    Raises:
        UsageError: It is no file of a network.
    """
    if not is_file(str(file)):
        raise UsageError(
            "a .keras, .onnx or .xml file to check",
            str(file),
            "Networks of the table are checked by tests; featcache backbone describe "
            "describes them.",
        )
    try:
        network = backbones.resolve(str(file))
        opened = _opened(network)
    except FeatcacheError as error:
        return [_failed("reads", error)]
    size = f"{network.input_size} px, {counted(network.channels, 'channel')}"
    checks = [BackboneCheck("reads", PASS, size)]
    checks += _on_noise(network, opened.engine, opened.width)
    canary = _canary(network, opened.model)
    return [*checks, canary, _weights(network, opened.digest)]


@dataclass(frozen=True, eq=False)
class _Opened:
    """A network that runs.

    Attributes:
        engine: What runs it.
        digest: Of its weights.
        width: Of the embedding.
        model: The network, where it is one of Keras.
    """

    engine: Engine
    digest: str
    width: int
    model: "keras.Model | None" = None


def _opened(network: Network) -> _Opened:
    if network.readout:
        graph = graph_pixels.with_pixels(network, taps=network.taps)
        engine = OpenVINOEngine(graph, batch_size=_IMAGES)
        return _Opened(engine, reading.weights_digest(network), network.readout.width)
    from featcache.backbones.engines.tensorflow import TensorFlowEngine

    core = backbones.build(network)
    whole = backbones.with_pixels(core, network, taps=network.taps)
    return _Opened(
        TensorFlowEngine(whole, batch_size=_IMAGES),
        backbones.weights_digest(core),
        core.output_shape[-1],
        core,
    )


def _on_noise(network: Network, engine: Engine, width: int) -> Iterator[BackboneCheck]:
    distances = batch_distances(engine, network.input_size)
    if odd := [name for name, distance in distances.items() if isnan(distance)]:
        fix = "Export it again in float32, or name an earlier output."
        yield BackboneCheck("runs", FAIL, f"{', '.join(odd)} is not finite", fix)
        return
    yield BackboneCheck("runs", PASS, f"{counted(width, 'finite number')} an image")
    distance = max(distances.values())
    text = f"alone and in a batch {distance:.1g} apart"
    if distance <= AGREEMENT:
        yield BackboneCheck("batches", PASS, text)
        return
    fix = "Export it for batches of one image, or with a free batch size."
    yield BackboneCheck("batches", FAIL, text, fix)


def _canary(network: Network, model: "keras.Model | None") -> BackboneCheck:
    try:
        result = proving.check(network, model)
    except FeatcacheError as error:
        return _failed("canary", error)
    if result.state == proving.ABSENT:
        fix = (
            "featcache backbone export writes one; docs/reference/descriptors.md says "
            "how to make one for a network of your own."
        )
        return BackboneCheck("canary", WARN, "none: preprocessing unproven", fix)
    if result.error:
        return _failed("canary", result.error)
    assert result.agreement
    made = ", ".join(f"{name} {text}" for name, text in result.framework.items())
    apart = f"{result.agreement.difference:.1g}"
    return BackboneCheck("canary", PASS, f"{apart} from that of {made or 'its maker'}")


def _weights(network: Network, digest: str) -> BackboneCheck:
    expected = network.descriptor.weights_digest if network.descriptor else None
    if expected is None:
        return BackboneCheck("weights", PASS, f"{digest}, not in the descriptor")
    if expected == digest:
        return BackboneCheck("weights", PASS, f"{digest[:8]}, as described")
    fix = "Put the descriptor beside it that was made with it."
    text = f"{digest[:8]}, but {expected[:8]} is described"
    return BackboneCheck("weights", FAIL, text, fix)


def _failed(name: str, error: FeatcacheError) -> BackboneCheck:
    return BackboneCheck(name, FAIL, error.problem, error.hint)
