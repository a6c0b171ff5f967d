"""``featcache backbone check``: does a network in a file do what it has to?"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featcache import backbones
from featcache.backbones import Network, proving
from featcache.backbones.engines.base import Engine
from featcache.backbones.engines.convert import AGREEMENT
from featcache.backbones.engines.openvino import OpenVINOEngine
from featcache.backbones.files import is_file
from featcache.backbones.graphs import pixels as graph_pixels
from featcache.backbones.graphs import reading
from featcache.core.taps import FEATURES
from featcache.core.text import counted
from featcache.errors import FeatcacheError, UsageError

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
        engine, digest = _opened(network)
    except FeatcacheError as error:
        return [_failed("reads", error)]
    size = f"{network.input_size} px, {counted(network.channels, 'channel')}"
    checks = [BackboneCheck("reads", PASS, size)]
    checks += _on_noise(network, engine)
    return [*checks, _canary(network), _weights(network, digest)]


def _opened(network: Network) -> tuple[Engine, str]:
    """What runs it, and the digest of its weights."""
    if network.is_graph:
        model = graph_pixels.with_pixels(network, taps=network.taps)
        digest = reading.weights_digest(network)
        return OpenVINOEngine(model, batch_size=_IMAGES), digest
    from featcache.backbones.engines.tensorflow import TensorFlowEngine

    core = backbones.build(network)
    graph = backbones.with_pixels(core, network, taps=network.taps)
    return TensorFlowEngine(graph, batch_size=_IMAGES), backbones.weights_digest(core)


def _on_noise(network: Network, engine: Engine) -> Iterator[BackboneCheck]:
    shape = (_IMAGES, *[network.input_size] * 2, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (together,) = engine.run([noise])
    alone = list(engine.run(noise[:, None]))
    odd = [name for name, rows in together.items() if not np.isfinite(rows).all()]
    if odd:
        fix = "Export it again in float32, or name an earlier output."
        yield BackboneCheck("runs", FAIL, f"{', '.join(odd)} is not finite", fix)
        return
    width = together[FEATURES].shape[1]
    yield BackboneCheck("runs", PASS, f"{counted(width, 'finite number')} an image")
    distance = 0.0
    for name, rows in together.items():
        each = np.concatenate([one[name] for one in alone])
        largest = float(np.abs(rows).max()) or 1.0
        distance = max(distance, float(np.abs(each - rows).max()) / largest)
    text = f"alone and in a batch {distance:.1g} apart"
    if distance <= AGREEMENT:
        yield BackboneCheck("batches", PASS, text)
        return
    fix = "Export it for batches of one image, or with a free batch size."
    yield BackboneCheck("batches", FAIL, text, fix)


def _canary(network: Network) -> BackboneCheck:
    try:
        result = proving.check(network)
    except FeatcacheError as error:
        return _failed("canary", error)
    if result.state == proving.ABSENT:
        fix = (
            "featcache backbone export writes one; docs/backbones.md says how to make "
            "one for a network of your own."
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
