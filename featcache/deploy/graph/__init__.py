"""A trained model as one Keras graph: from pixels to calibrated probabilities.

Heads and calibration are built from their fitted numbers, of standard Keras layers and
operations in float32, so that every converter sees the whole.
"""

from featcache.deploy.graph.calibrators import calibrated
from featcache.deploy.graph.heads import head_proba
from featcache.deploy.graph.joined import joined_model
from featcache.deploy.graph.networks import (
    CarriedNetwork,
    NetworkGraph,
    Outputs,
    PixelGraph,
    Pixels,
)
from featcache.deploy.graph.parts import parts_of
from featcache.deploy.graph.tracing import PROBABILITIES, function_of
from featcache.deploy.graph.whole import (
    PIXELS,
    MemberLike,
    ModelParts,
    head_graph,
    model_graph,
    split_probe,
)

__all__ = [
    "PIXELS",
    "PROBABILITIES",
    "CarriedNetwork",
    "MemberLike",
    "ModelParts",
    "NetworkGraph",
    "Outputs",
    "PixelGraph",
    "Pixels",
    "calibrated",
    "function_of",
    "head_graph",
    "head_proba",
    "joined_model",
    "model_graph",
    "parts_of",
    "split_probe",
]
