"""A trained model as one Keras graph: from pixels to calibrated probabilities.

Heads and calibration are built from their fitted numbers, of standard Keras layers and
operations in float32, so that every converter sees the whole.
"""

from featcache.deploy.graph.calibrators import calibrated
from featcache.deploy.graph.heads import head_proba
from featcache.deploy.graph.parts import parts_of
from featcache.deploy.graph.whole import (
    PIXELS,
    PROBABILITIES,
    MemberLike,
    ModelParts,
    Outputs,
    PixelGraph,
    Pixels,
    model_graph,
    probe_graph,
    split_probe,
)

__all__ = [
    "PIXELS",
    "PROBABILITIES",
    "MemberLike",
    "ModelParts",
    "Outputs",
    "PixelGraph",
    "Pixels",
    "calibrated",
    "head_proba",
    "model_graph",
    "parts_of",
    "probe_graph",
    "split_probe",
]
