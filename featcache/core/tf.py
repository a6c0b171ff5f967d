"""The one door to TensorFlow: quiet, thrifty with threads and GPU memory."""

import logging
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from featcache.core.parallel import THREADS


def tensorflow() -> Any:
    """Imports TensorFlow once a process and starts its runtime.

    Threads are limited to ``$FEATCACHE_THREADS`` if that is set; GPU memory is
    taken as it is needed. Start-up chatter, which no log level stops, is held
    back, and shown if the start fails.
    """
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with stderr_held_back():
        import tensorflow as tf

        threads = int(os.environ.get(THREADS, "0"))
        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.list_logical_devices()
    return tf


def n_threads() -> int:
    """Threads that TensorFlow shares a sum among, which the last digits depend on."""
    threads = tensorflow().config.threading.get_intra_op_parallelism_threads()
    return int(threads) or os.cpu_count() or 1


def frozen(concrete: Any) -> Any:
    """A concrete function whose variables and other numbers are constants in it."""
    from tensorflow.python.framework import convert_to_constants

    return convert_to_constants.convert_variables_to_constants_v2(
        concrete, lower_control_flow=False
    )


def as_written(function: Callable[..., Any]) -> Any:
    """Keeps TensorFlow from rewriting a function that it traces (AutoGraph).

    It would write the new source to ``$TMPDIR``, where it stays if the process is
    killed. The function must not branch or loop on the values of tensors.
    """
    return tensorflow().autograph.experimental.do_not_convert(function)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Gives Keras a seed for what is built in the block.

    Keras seeds Python's and numpy's global generators as well, which are the caller's:
    they go on afterwards as if nothing had been drawn.
    """
    import keras

    python, numbers = random.getstate(), np.random.get_state()
    try:
        keras.utils.set_random_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)


@contextmanager
def no_retracing_advice() -> Iterator[None]:
    """Keeps TensorFlow from warning of a function that is compiled again and again.

    It counts traces a code line, so that a few networks one after the other look to
    it like one.
    """

    def keep(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    logger = logging.getLogger("tensorflow")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


@contextmanager
def root_logger_kept() -> Iterator[None]:
    """Takes back what libraries do to the root logger, of which each thinks its own."""
    root = logging.getLogger()
    level, filters, handlers = root.level, root.filters[:], root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters, root.handlers = filters, handlers


@contextmanager
def stderr_held_back() -> Iterator[None]:
    """Keeps what libraries write to stderr from the terminal, unless they fail."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as buffer:
        os.dup2(buffer.fileno(), 2)
        try:
            yield
        except Exception:
            buffer.seek(0)
            os.write(kept, buffer.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
