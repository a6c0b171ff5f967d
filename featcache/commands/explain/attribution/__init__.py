"""Attribution: which feature adds what to a margin, and where on the image it lies.

Heads and networks come as arguments; nothing here opens a file. The mathematics is in
docs/explanations/explain.md.
"""

from featcache.commands.explain.attribution.base import Contributions, contrast, margins
from featcache.commands.explain.attribution.contributions import (
    METHODS,
    contributions,
    gradient,
)
from featcache.commands.explain.attribution.maps import (
    CAMS,
    cam_spread,
    everywhere,
    spread,
    upsampled,
)

__all__ = [
    "CAMS",
    "METHODS",
    "Contributions",
    "cam_spread",
    "contrast",
    "contributions",
    "everywhere",
    "gradient",
    "margins",
    "spread",
    "upsampled",
]
