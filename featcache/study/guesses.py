"""What a study costs where nothing like it was timed: guesses.

They may be wrong by a factor of three. The constants lie in the middle of what
benchmarks/extract.csv and benchmarks/heads.csv list for x86 cores.
"""

import os
from contextlib import suppress

from featcache.backbones import IMAGENET, Backbone, Network, find_weights
from featcache.commands.train_head.forecast import Effort
from featcache.core.parallel import THREADS
from featcache.errors import FeatcacheError

_MIB = 2**20
_WEIGHTS = 60 * _MIB  # bytes, of a network whose file is not here
_WIDTH = 1000  # of an embedding, where it is not known
# Seconds of one core for an image: to read it, without a network, and with one of 1 MiB
# at 224 px.
_READING, _PLAIN, _PER_MIB = 0.003, 0.002, 0.001
_TRAINING = 8  # passes of a frozen network in the time of one training step
BUILDING = 20.0  # seconds before a network's first training step
# Seconds for a fit: in any case, and of a quick head on a million numbers.
_ANY_FIT, _FIT = 1.0, 0.1
_TUNING = 5  # fits in the time of a tuned one


def cores() -> int:
    """Cores that a network is computed on."""
    limit = os.environ.get(THREADS, "")
    return int(limit) if limit.isdecimal() and int(limit) else os.cpu_count() or 1


def embedding_seconds(network: Network) -> float:
    """For one embedding."""
    if network.is_baseline:
        return _PLAIN / cores()
    return (_READING + _pass(network)) / cores()


def training_seconds(network: Network) -> float:
    """For one image in one epoch."""
    return (_READING + _TRAINING * _pass(network)) / cores()


def _pass(network: Network) -> float:
    return _PER_MIB * weights_bytes(network) / _MIB * (network.input_size / 224) ** 2


def fit_seconds(effort: Effort) -> float:
    """For one fit of a head."""
    tuning = _TUNING if effort.is_tuned else 1
    return _ANY_FIT + tuning * _FIT * effort.order / 1e6


def width(network: Network) -> int:
    """Numbers of an embedding."""
    return network.row.dim if network.row else _WIDTH


def weights_bytes(network: Network) -> int:
    """Of a network's weights, which its cost roughly follows."""
    path = network.file
    if not path and network.weights == IMAGENET and isinstance(network.row, Backbone):
        with suppress(FeatcacheError):
            path = find_weights(network.row)
    return path.stat().st_size if path and path.is_file() else _WEIGHTS
