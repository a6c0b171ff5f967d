"""A network in the framework that it comes from, as all frameworks offer it."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featcache.core.text import first_line, some
from featcache.errors import UsageError, WeightsError

PIXELS, EMBEDDING, MAP, TOKENS, PATCHES = (
    "pixels", "embedding", "map", "tokens", "patches",
)  # fmt: skip
OPSET = 18
ONE_FILE = 1_900_000_000  # bytes of weights that an ONNX file can hold itself


@dataclass(frozen=True)
class Request:
    """What is to be exported.

    Attributes:
        name: In its framework.
        random: Random weights, and no download.
        seed: Of random weights.
        input_size: Side of the input in pixels; None for the network's own.
        pooling: Of its tokens or map; None for what its framework does.
    """

    name: str
    random: bool = False
    seed: int = 0
    input_size: int | None = None
    pooling: str | None = None


@dataclass(frozen=True, eq=False)
class Original:
    """A network in its own framework.

    Attributes:
        keys: Of its descriptor, but for digest and canary.
        tensor: Turns an RGB image into the input (1, ...), float32, with the
            framework's own transforms, resizing included.
        scaled: Turns (S, S, 3) uint8 pixels into the same input: the framework's own
            scaling without its resizing.
        embed: Gives the (N, D) embeddings of an input.
        write: Writes the ONNX file with its outputs.
        framework: Versions of the libraries.
        resizes_whole_greys: Whether the framework resizes as featcache does, with
            Pillow and to whole grey levels.
    """

    keys: dict[str, Any]
    tensor: Callable[[Image.Image], np.ndarray]
    scaled: Callable[[np.ndarray], np.ndarray]
    embed: Callable[[np.ndarray], np.ndarray]
    write: Callable[[Path], None]
    framework: dict[str, str]
    resizes_whole_greys: bool = True


def refuse_missing_packages(packages: Sequence[str], extra: str) -> None:
    """Refuses what needs packages that are not installed.

    Raises:
        UsageError: Names them, and the extra that has them.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{some(missing)} to export this backbone",
            "not installed",
            f"Run: pip install 'featcache[{extra}]'",
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what libraries print, log and warn of to themselves."""
    level = logging.root.manager.disable
    out, err = io.StringIO(), io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


_HINT = (
    "Check the name and the network connection; models behind a form need "
    "`hf auth login`. To try an architecture without its weights, use `random=True`."
)
_RANDOM_HINT = (
    "Check the name: without its weights, hf: takes a type of model such as dinov2, or "
    "a folder with a config.json."
)


@contextlib.contextmanager
def loading(spec: str, *, random: bool) -> Iterator[None]:
    """Turns whatever a library raises while it loads a network into one error.

    Args:
        spec: Of the network.
        random: Whether its weights are random.

    Raises:
        WeightsError: With the first line of what the library says.
    """
    try:
        yield
    except (UsageError, WeightsError):
        raise
    except Exception as error:  # libraries and their network clients raise anything
        raise WeightsError(
            f"{spec} cannot be loaded: {first_line(error)}",
            _RANDOM_HINT if random else _HINT,
        ) from error
