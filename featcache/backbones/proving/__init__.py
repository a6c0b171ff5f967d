"""Whether a network in a file sees images as it was trained to: its canary."""

from featcache.backbones.proving.check import (
    ABSENT,
    FAILED,
    PASSED,
    CanaryResult,
    check,
    own_network,
)
from featcache.backbones.proving.search import CLOSE, SAME_WAY, Agreement, Cause

__all__ = [
    "ABSENT",
    "CLOSE",
    "FAILED",
    "PASSED",
    "SAME_WAY",
    "Agreement",
    "CanaryResult",
    "Cause",
    "check",
    "own_network",
]
