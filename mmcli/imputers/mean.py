"""`mean`: the baseline that every imputer has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcli.imputers.imputer import Answer, Floats, Imputer
from mmcli.imputers.noise import patient_keys, uniforms


class MeanImputer(Imputer):
    """Each column's own mean, median or distribution, whatever else is known of the patient.

    | answer | numeric | ordinal | categorical |
    |---|---|---|---|
    | mean | training mean | level nearest to the mean of the codes | most frequent category |
    | median | training median | median level | most frequent category |
    | draw | drawn from the training patients' distribution | the same | the same |
    """

    name: ClassVar[str] = "mean"

    def _fit(self, values: Floats) -> None:
        """The marginals are all there is."""

    def _propose(self, values: Floats, ids: list[str], draws: int, answer: Answer) -> Floats:
        n, f = values.shape
        if answer != "draw":
            return np.broadcast_to(self.marginals.point(self.columns.kinds, answer), (1, n, f))
        keys = patient_keys(self.seed, ids)
        return self.marginals.draw(uniforms(keys, 0, draws * f).reshape(n, draws, f).swapaxes(0, 1))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """The marginals are all there is."""
