"""How large a set has to be: for an interval, or to tell two runs apart."""

import math

from featcache.evaluation.external.base import Needed
from featcache.evaluation.figures import ONE_GROUP
from featcache.evaluation.metrics.base import Array
from featcache.evaluation.metrics.resampling import standard_error

HALF_WIDTH = 0.05
_NORMAL = 1.959964  # its 97.5 % quantile
_POWER = 0.841621  # its 80 % quantile
_FEWEST = 6  # groups: the signs of five differences cannot reach p < 0.05


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
    Stat. 1998), a group counting as one image. Near 0 and 1 that is too few, so that it
    takes no less than Wilson's interval at 1: 1.96^2 x (1 / (2 half widths) - 1)
    independent images.

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
    spread = value * (1 - value)
    worth = spread / error**2 if spread and error else basis
    fewest = _NORMAL**2 * (0.5 / half_width - 1) / worth
    count = math.ceil(groups * max(variance * (_NORMAL / half_width) ** 2, fewest))
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


def groups_to_detect(change: Array, *, groups: int, difference: float) -> int | None:
    """How many groups show a difference between two runs with 80 % power.

    A two-sided paired test at 5 % with groups as its unit: their number times the
    variance of the difference over them, times ((1.96 + 0.84) / difference)^2. How
    often the runs disagree, and how alike the images of a group are, is in the
    variance of the draws.

    Args:
        change: Difference of the two scores on each resample of whole groups, (B,).
        groups: How many groups there are.
        difference: That is to be detected, above 0.

    Returns:
        At least 6; None with a single group, or where the runs never differ.
    """
    error = standard_error(change, groups)
    if math.isnan(error) or not error:
        return None
    count = math.ceil(groups * (error * (_NORMAL + _POWER) / difference) ** 2)
    return max(count, _FEWEST)
