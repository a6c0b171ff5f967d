"""How large a set has to be for an interval of a stated length."""

import math

from featcache.evaluation.external.base import Needed
from featcache.evaluation.figures import ONE_GROUP
from featcache.evaluation.metrics.base import Array
from featcache.evaluation.metrics.resampling import standard_error

HALF_WIDTH = 0.05
_NORMAL = 1.959964  # its 97.5 % quantile


def needed(
    value: float,
    draws: Array,
    *,
    basis: int,
    groups: int,
    images: int,
    of_images: int | None = None,
    half_width: float = HALF_WIDTH,
) -> Needed:
    """How many groups, of as many images as these, give an interval of this length.

    The bootstrap's variance falls with the number of groups, so that it takes
    groups x (1.96 x standard error / half width)^2. A share of 0 or 1, which has no
    variance, is moved by two successes and two failures first (Agresti and Coull, Am.
    Stat. 1998), a group counting as one image.

    Args:
        value: A score from 0 to 1.
        draws: The same on each resample, (B,).
        basis: How many groups decide its spread.
        groups: How many there are.
        images: How many images there are.
        of_images: How many images it is a share of; None if it is no such share.
        half_width: Half the length of the interval.
    """
    error = standard_error(draws, basis)
    if not math.isfinite(value) or math.isnan(error):
        reason = ONE_GROUP if math.isfinite(value) else "there is no score"
        return Needed(half_width=half_width, groups=None, images=None, reason=reason)
    variance = error**2 or cautious_variance(value, basis)
    count = math.ceil(groups * variance * (_NORMAL / half_width) ** 2)
    spread = value * (1 - value)
    effect = variance * of_images / spread if of_images and spread and error else None
    return Needed(
        half_width=half_width,
        groups=count,
        images=math.ceil(count * images / groups),
        design_effect=effect,
    )


def cautious_variance(value: float, groups: int) -> float:
    """Variance of a share of groups that was moved towards one half."""
    share = (groups * value + 2) / (groups + 4)
    return share * (1 - share) / (groups + 4)
