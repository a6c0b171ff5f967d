"""Refusal: is this the kind of image that the model was trained on?

Three reasons, in this order: the header's facts, plain statistics of the picture, and
the distance of its embedding. Thresholds are out-of-fold over groups: training rows lie
nearer to themselves than any new row does, so that thresholds from them would refuse
nearly everything.
"""

from featcache.deploy.refusal.base import SHARE, Refusal, RefusalScores
from featcache.deploy.refusal.held_out import held_out_reasons
from featcache.deploy.refusal.model import PARTS, Calibration
from featcache.deploy.refusal.statistics import COLUMNS, picture_statistics

__all__ = [
    "COLUMNS",
    "PARTS",
    "SHARE",
    "Calibration",
    "Refusal",
    "RefusalScores",
    "held_out_reasons",
    "picture_statistics",
]
