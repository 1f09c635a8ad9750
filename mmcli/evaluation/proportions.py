"""Limits of proportions by formula."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import ndtri


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score limits of successes / trials, without continuity correction; NaN without trials.

    Wilson, Journal of the American Statistical Association 22, 1927; recommended for all sizes by Brown, Cai and
    DasGupta, Statistical Science 16, 2001.
    """
    if trials == 0:
        return math.nan, math.nan
    z = float(ndtri((1 + confidence) / 2))
    share = successes / trials
    centre = share + z * z / (2 * trials)
    reach = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low, high = (centre - reach) / (1 + z * z / trials), (centre + reach) / (1 + z * z / trials)
    return low if successes else 0.0, high if successes < trials else 1.0


def wilson_mean(successes: Sequence[int], trials: Sequence[int], confidence: float = 0.95) -> tuple[float, float]:
    """Limits of the mean of independent proportions, such as balanced accuracy: the mean of the classes' recalls.

    Each proportion's Wilson limits lie at some distance from it; the mean's limits lie at the root of the sum of the
    squares of these, divided by how many there are (MOVER: Newcombe, Statistics in Medicine 17, 1998, method 10; Zou
    and Donner, ibid. 27, 2008). NaN where one has no trials.
    """
    if not trials or min(trials) == 0:
        return math.nan, math.nan
    k = len(trials)
    shares = [s / t for s, t in zip(successes, trials, strict=True)]
    each = [wilson(s, t, confidence) for s, t in zip(successes, trials, strict=True)]
    below = math.hypot(*(share - low for share, (low, _) in zip(shares, each, strict=True))) / k
    above = math.hypot(*(high - share for share, (_, high) in zip(shares, each, strict=True))) / k
    mean = math.fsum(shares) / k
    return mean - below, mean + above
