"""McNemar's test: whether two runs are right about equally many of the same patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, chdtrc


@dataclass(frozen=True)
class Mcnemar:
    """`b` patients whom the first run alone got right, `c` whom the second alone did.

    `exact_p` is the two-sided binomial p of b among b + c; `statistic` = (|b - c| - 1)^2 / (b + c), zero where b = c,
    with its p of chi-squared with one degree of freedom, `corrected_p` (Edwards, Psychometrika 13, 1948). Without a
    patient on whom the runs differ both p are 1.
    """

    b: int
    c: int
    exact_p: float
    statistic: float
    corrected_p: float


def mcnemar(right_a: npt.NDArray[np.bool_], right_b: npt.NDArray[np.bool_]) -> Mcnemar:
    """From whether each run was right (n,) about the same patients, one row a patient.

    McNemar, Psychometrika 12, 1947. Rows of one patient or site are not independent: the test is not for them.
    """
    b, c = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    if b + c == 0:
        return Mcnemar(b, c, 1.0, 0.0, 1.0)
    exact = min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5)))
    # The correction takes away at most what there is, so that b = c is no evidence at all.
    statistic = max(abs(b - c) - 1, 0) ** 2 / (b + c)
    return Mcnemar(b, c, exact, statistic, float(chdtrc(1, statistic)) if statistic > 0 else 1.0)
