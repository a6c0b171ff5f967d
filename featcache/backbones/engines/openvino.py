"""The OpenVINO engine: on a CPU about twice as fast as TensorFlow, or in int8."""

import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.backbones.engines.base import Engine, Outputs
from featcache.core import checked
from featcache.core.io import atomic_path, sha256_file, temporary_folder
from featcache.core.tf import as_written, root_logger_kept, tensorflow
from featcache.errors import ConversionError

if TYPE_CHECKING:
    import keras

# Images in a request: from 4 to 16 the speed is the same, from 32 on it falls. Of few
# images at once, as a server has them, small requests leave no stream without work.
_ROWS = 4
# Requests a stream: one is computed, one waits, so that no stream is idle while
# results are taken in order.
_REQUESTS = 2
# OpenVINO's bindings set NumPy up at the first look at a tensor. Two engines that take
# it in two threads at once wait for each other for ever.
_first_look = threading.Lock()
_one_core = threading.Lock()


def openvino() -> Any:
    """Imports OpenVINO, quiet and with its telemetry kept out.

    There is no setting for that: its conversion and NNCF call home unless a file in
    the user's home says no. Both do without where the package cannot be imported.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def core() -> Any:
    """OpenVINO's runtime: one a process, kept to its end.

    Its CPU plugin lends the thread a stack for signals and takes it back when the
    runtime goes. Of two that go in the order they came, the thread is left with the
    stack of the first, and the next Ctrl-C is a segmentation fault.
    """
    with _one_core:
        return _core()


@cache
def _core() -> Any:
    return openvino().Core()


class OpenVINOEngine(Engine):
    """Keeps several requests of a few images each in flight, in order.

    An image's embedding does not depend on how the batches are cut, and is the same
    to the bit at every run on the same machine.

    Args:
        network: The file that ``convert`` or ``quantise`` wrote, or what `from_bytes`
            read.
        batch_size: Images in a pass.
        threads: Of the CPU; 0 takes all.

    Raises:
        ConversionError: There is no such network, or its files are damaged.
    """

    name = "openvino"

    def __init__(
        self,
        network: Any,
        *,
        batch_size: int = 32,
        threads: int = 0,
    ) -> None:
        self.batch_size = batch_size
        self._rows = min(batch_size, _ROWS)
        model = read(network) if isinstance(network, Path) else network
        batch, *sides = model.input().partial_shape
        if batch.is_dynamic:
            model.reshape([self._rows, *sides])
        else:  # a graph that was written for so many images
            self._rows = batch.get_length()
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where there is AMX
        }
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        self._network = core().compile_model(model, "CPU", config)
        streams = self._network.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self.requests = _REQUESTS * streams
        request = self._network.create_infer_request()
        with _first_look:
            _ = request.input_tensors[0].data, request.output_tensors[0].data

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[Outputs]:  # noqa: D102
        requests = [self._network.create_infer_request() for _ in range(self.requests)]
        free = cycle(requests)  # the first to start is the first to be waited for
        running: deque[tuple[Any, Outputs, int]] = deque()
        for pixels in batches:
            outputs = self._outputs(len(pixels))
            for start in range(0, len(pixels), self._rows):
                if len(running) == len(requests):
                    yield from self._finish(*running.popleft())
                request = next(free)
                _start(request, pixels[start : start + self._rows])
                running.append((request, outputs, start))
        while running:
            yield from self._finish(*running.popleft())

    def _outputs(self, count: int) -> Outputs:
        # A tensor may be two outputs and then bears both names; a node bears one.
        return {
            output.node.friendly_name: np.empty((count, *output.shape[1:]), np.float32)
            for output in self._network.outputs
        }

    def _finish(self, request: Any, outputs: Outputs, start: int) -> Iterator[Outputs]:
        """Waits, copies the rows into their batch, yields it if it is complete."""
        request.wait()
        for rows, tensor in zip(outputs.values(), request.output_tensors, strict=True):
            rows[start : start + self._rows] = tensor.data[: len(rows) - start]
        if start + self._rows >= len(rows):
            yield outputs


def _start(request: Any, pixels: np.ndarray) -> None:
    taken = request.input_tensors[0].data
    taken[: len(pixels)] = pixels
    taken[len(pixels) :] = 0
    request.start_async()


def convert(graph: "keras.Model", path: Path) -> None:
    """Writes a network in OpenVINO's format, in float32 and for batches of any size.

    Args:
        graph: From (N, H, W, 3) uint8 pixels to a dictionary of outputs.
        path: The ``.xml`` file; the weights go to a ``.bin`` file beside it.

    Raises:
        ConversionError: OpenVINO cannot run this network, or it cannot be written.
    """
    try:
        write(converted_network(graph), path)
    except Exception as error:  # OpenVINO's own have no common base
        raise failed("a network that OpenVINO can convert", error) from error


def converted_network(graph: "keras.Model") -> Any:
    """A network as a model of OpenVINO, as ``convert`` writes it."""
    tf = tensorflow()

    def forward(pixels: Any) -> Any:
        return graph(pixels, training=False)

    spec = [tf.TensorSpec((None, *graph.input_shape[1:]), tf.uint8, name="pixels")]
    traced = tf.function(as_written(forward), input_signature=spec)
    return converted(traced.get_concrete_function())


def converted(traced: Any) -> Any:
    """A concrete function of TensorFlow as a model of OpenVINO."""
    ov = openvino()  # before its frontend, which would bring the telemetry
    _mend_frontend(tensorflow().__version__)
    with root_logger_kept():  # a failed conversion leaves it changed
        # Shared weights are those of TensorFlow's variables, and are overwritten when
        # these go.
        return ov.convert_model(traced, share_weights=False)


def _mend_frontend(version: str) -> None:
    """Tells OpenVINO which TensorFlow there is.

    The frontend finds out by ``exec("del tensorflow")``, which from Python 3.13 on no
    longer sees what its own ``exec("import tensorflow")`` has bound (PEP 667).
    """
    from openvino.frontend.tensorflow import utils

    utils.get_environment_setup = lambda framework: {"tensorflow": version}


def failed(expected: str, error: Exception) -> ConversionError:
    """The error for a network that can be used with TensorFlow alone."""
    got = " ".join(str(error).split())[:300] or type(error).__name__
    return ConversionError(expected, got, "Use `engine='tensorflow'`.")


def write(model: Any, path: Path) -> None:
    """Writes ``.bin``, ``.xml``, and last ``.json`` with the digests of both."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path) as folder:
        temp = folder / path.name
        openvino().save_model(model, temp, compress_to_fp16=False)
        files = checked.file_digests([temp, temp.with_suffix(".bin")])
        for suffix in (".bin", ".xml"):
            with atomic_path(path.with_suffix(suffix)) as target:
                os.replace(temp.with_suffix(suffix), target)
    checked.write_record(path.with_suffix(".json"), {"files": files})


def read(path: Path) -> Any:
    """Reads a network whose files are those that were written.

    Raises:
        ConversionError: There is none, or a file of it was changed.
    """
    read_record(path)
    try:
        return core().read_model(path)
    except RuntimeError as error:
        raise _unusable(path, error) from error


def from_bytes(graph: bytes, weights: bytes) -> Any:
    """Reads a network from the bytes of its two files, which the caller has checked.

    Raises:
        ConversionError: OpenVINO cannot read them.
    """
    try:
        return core().read_model(graph, weights)
    except (RuntimeError, ValueError, TypeError) as error:
        got = " ".join(str(error).split())[:300]
        raise ConversionError("an OpenVINO network", got, "Make it again.") from error


def refuse_misfit(network: Any, size: int, outputs: Iterable[str]) -> None:
    """Refuses a network that does not take such pixels, or give such outputs.

    Args:
        network: As `from_bytes` reads it.
        size: Side of its input in pixels.
        outputs: Names of the outputs that are needed.

    Raises:
        ConversionError: It is another network.
    """
    shapes = [list(one.partial_shape)[1:] for one in network.inputs]
    names = _names(network)
    if shapes != [[size, size, 3]] or not set(outputs) <= names:
        raise ConversionError(
            f"a network of {size} px that gives {', '.join(outputs)}",
            f"inputs {shapes} and outputs {', '.join(sorted(names))}",
            "Make it again.",
        )


def output_names(path: Path) -> set[str]:
    """What a network gives, as its engine names it."""
    return _names(read(path))


def _names(network: Any) -> set[str]:
    return {one.node.friendly_name for one in network.outputs}


def read_record(path: Path) -> dict[str, Any]:
    """What was written down of a network, whose files are checked against it.

    Args:
        path: The ``.xml`` file.

    Raises:
        ConversionError: There is none, or a file of it was changed.
    """
    try:
        record = checked.read_record(path.with_suffix(".json"))
        for suffix in (".xml", ".bin"):
            checked.refuse_changed_file(path.with_suffix(suffix), record.get("files"))
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise _unusable(path, f"no {missing}") from error
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from error
    return record


def is_written(path: Path) -> bool:
    """Whether all files of a network are there; it needs no lock to say so.

    The record is written last.
    """
    return path.exists() and path.with_suffix(".json").exists()


def is_whole(path: Path) -> bool:
    """Whether a network is there as it was written."""
    try:
        read_record(path)
    except ConversionError:
        return False
    return True


def _unusable(path: Path, reason: object) -> ConversionError:
    got = " ".join(str(reason).split())[:300]
    expected = f"an OpenVINO network in {path}"
    return ConversionError(expected, got, "Delete it to rebuild it.")


def digest(path: Path) -> str:
    """SHA-256 (64 hex digits) of the weights file of a network.

    Args:
        path: The ``.xml`` file.
    """
    return sha256_file(path.with_suffix(".bin"))
