"""`median`: the training median, or the most frequent category."""

from __future__ import annotations

from typing import ClassVar

from mmcli.imputers.imputer import Answer, Floats
from mmcli.imputers.mean import MeanImputer


class MedianImputer(MeanImputer):
    """`mean` with the answer "median" also where "mean" is asked for; draws are the same as those of `mean`."""

    name: ClassVar[str] = "median"

    def _propose(self, values: Floats, ids: list[str], draws: int, answer: Answer) -> Floats:
        return super()._propose(values, ids, draws, "median" if answer == "mean" else answer)
