"""Split-conformal prediction sets: sets of classes that hold the true one with a promised probability."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmcli.metrics.metric import Floats, Ints

Sets = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Conformal:
    """A class is in a patient's set where its probability is at least `limit`.

    The score is LAC, 1 minus the probability of the class (Sadinle, Lei and Wasserman, Journal of the American
    Statistical Association 114, 2019), whose sets are the smallest on average; a set may be empty, where no class is
    likely enough. If n validation patients and a test patient are exchangeable, the set holds the test patient's class
    with probability at least `coverage`, and without ties less than coverage + 1 / (n + 1) (Angelopoulos and Bates,
    Foundations and Trends in Machine Learning 16, 2023, section 1). This is over all patients and validation sets, not
    for each subgroup.

    Validation patients that also chose the epoch or the threshold of a run are predicted a little better than test
    patients: the promise is then approximate, which the observed coverage shows.
    """

    limit: float

    @classmethod
    def fit(cls, y: Ints, p: Floats, coverage: float) -> Conformal:
        """From validation labels `y` (n,) and probabilities `p` (n, K).

        The limit is the probability of the own class that ceil((n + 1) coverage) of the n patients reach; with too few
        of them, n < coverage / (1 - coverage), it is 0 and every set is everything.
        """
        own = np.sort(p[np.arange(len(y)), y])
        # The subtrahend is for products such as 100 * 0.07 = 7.000000000000001.
        rank = math.ceil((len(own) + 1) * coverage - 1e-9)
        return cls(float(own[len(own) - rank]) if rank <= len(own) else 0.0)

    def sets(self, p: Floats) -> Sets:
        """Which classes are in each patient's set (n, K), for probabilities `p` (n, K)."""
        return np.asarray(p >= self.limit)


def told(sets: Sets, y: Ints) -> Floats:
    """What each patient's set (n, K) says of the class `y` (n,), as rows (4, n): whether it holds the class, its size,
    whether it has a single class, whether it is empty. Their (weighted) means sum up the sets of some patients."""
    size = sets.sum(axis=1)
    return np.stack([sets[np.arange(len(y)), y], size, size == 1, size == 0]).astype(np.float64)
