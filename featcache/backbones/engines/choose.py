"""Which engine runs a network on this machine, and making it."""

import importlib.util
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from featcache.backbones.base import Network
from featcache.backbones.engines import convert
from featcache.backbones.engines.base import Engine
from featcache.backbones.engines.convert import PreparedNetwork
from featcache.backbones.engines.numpy import NumpyEngine
from featcache.errors import ConversionError, UsageError

_converting = threading.Lock()  # Keras builds one network at a time


def preferred(engine: str) -> str:
    """What "auto" means here: TensorFlow on a GPU, else OpenVINO where it is."""
    if engine != "auto":
        return engine
    if Path("/dev/nvidiactl").exists() or not importlib.util.find_spec("openvino"):
        return "tensorflow"
    return "openvino"


def make(
    networks: Sequence[PreparedNetwork],
    *,
    engine: str,
    precision: str,
    batch_size: int,
    message: Callable[[str], None],
) -> list[Engine]:
    """Makes an engine for each network.

    Networks are converted one after another, but OpenVINO compiles them side by side.

    Args:
        networks: What to run.
        engine: "auto", "tensorflow" or "openvino"; baselines have one of their own.
        precision: "float32", or "int8", which only OpenVINO runs.
        batch_size: Images in a pass.
        message: Called with the networks that OpenVINO cannot run, and with converted
            files that were damaged.

    Raises:
        ConversionError: OpenVINO cannot run a network in int8.
    """
    to_openvino = preferred(engine) == "openvino" or precision == "int8"
    to_file = convert.to_int8 if precision == "int8" else convert.to_float32

    def maker(network: PreparedNetwork) -> Callable[[], Engine]:
        if network.network.is_baseline:
            return partial(NumpyEngine, batch_size=batch_size)
        is_graph = network.network.is_graph
        if to_openvino or is_graph:
            try:
                path = to_file(network)
                return partial(_open, network, path, to_file, batch_size, message)
            except ConversionError as error:
                if precision == "int8" or is_graph:
                    raise
                message(f"{network.network.text}: {error}")
        from featcache.backbones.engines.tensorflow import TensorFlowEngine

        built = TensorFlowEngine(convert.graph(network), batch_size=batch_size)
        return lambda: built

    if engine == "tensorflow":
        _refuse_graphs([prepared.network for prepared in networks])
    makers = [maker(network) for network in networks]
    with ThreadPoolExecutor(max(len(makers), 1)) as pool:
        return list(pool.map(lambda make_one: make_one(), makers))


def _refuse_graphs(networks: Iterable[Network]) -> None:
    for network in networks:
        if network.is_graph and network.file:
            raise UsageError(
                "`engine='openvino'` or auto",
                "'tensorflow'",
                f"Only OpenVINO runs {network.file.name}.",
            )


def _open(
    network: PreparedNetwork,
    path: Path,
    to_file: Callable[[PreparedNetwork], Path],
    batch_size: int,
    message: Callable[[str], None],
) -> Engine:
    """Opens a converted network; a damaged one is converted again."""
    from featcache.backbones.engines.openvino import OpenVINOEngine

    try:
        return OpenVINOEngine(path, batch_size=batch_size)
    except ConversionError as error:
        with _converting:
            message(f"converted again: {error.got} in {path}")
            path.unlink(missing_ok=True)
            to_file(network)
        return OpenVINOEngine(path, batch_size=batch_size)
