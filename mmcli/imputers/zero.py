"""`zero`: what MDFN's paper compares with first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcli.imputers.imputer import Answer, Floats, Imputer


class ZeroImputer(Imputer):
    """The number 0 in every hole of a numeric column, though it lie outside the training range; code 0 of a coded
    column, or the nearest code that a training patient has. Every answer is the same."""

    name: ClassVar[str] = "zero"
    in_range: ClassVar[bool] = False

    def _fit(self, values: Floats) -> None:
        """Nothing to learn."""

    def _propose(self, values: Floats, ids: list[str], draws: int, answer: Answer) -> Floats:
        return np.zeros((draws, *values.shape))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Nothing was learned."""
