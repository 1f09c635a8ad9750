"""Split-conformal prediction sets of a run: how often they hold the class, and how large they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmcli.evaluation.conformal import Conformal, told
from mmcli.evaluation.estimates import Resampler
from mmcli.evaluation.predictions import Predictions
from mmcli.evaluation.subgroups import parts_of
from mmcli.metrics.metric import Floats, weighted_mean

Row = dict[str, Any]


def conformal_rows(
    group: Sequence[Predictions], by: Mapping[str, Mapping[str, str]], resampler: Resampler, level: float
) -> list[Row]:
    """Rows of `result.CONFORMAL` for the predictions of one task whose parts all have validation patients.

    Each part's sets are made for `level` on its own validation patients; a patient's coverage, size and so on are the
    means over the parts that test the patient, so that patients, not parts, are the units of the interval.
    """
    rows: list[Row] = []
    for p in group:
        if not p.parts or not all(len(part.validation_y) for part in p.parts):
            continue
        own = _of_patients(p, level)
        parts = [("", {"": np.ones(len(p.ids), dtype=bool)}), *parts_of(p, by)]
        for column, members in parts:
            for name, keep in members.items():
                rows.append(_row(p, own, column, name, keep, resampler, level))
    return rows


def _of_patients(p: Predictions, level: float) -> Floats:
    """(4, n): each row's coverage, set size, and whether the set has one class, and none; means over its parts."""
    sums, counts = np.zeros((4, len(p.ids))), np.zeros(len(p.ids))
    for part in p.parts:
        sets = Conformal.fit(part.validation_y, part.validation_p, level).sets(part.p)
        sums[:, part.rows] += told(sets, part.y)
        counts[part.rows] += 1
    means: Floats = sums / counts
    return means


def _row(
    p: Predictions, each: Floats, column: str, name: str, keep: Any, resampler: Resampler, level: float
) -> Row:  # fmt: skip
    own, view = each[:, keep], p.subset(keep)

    def quantities(_: Predictions, __: int | None, w: Floats) -> Floats:
        return np.array([weighted_mean(own[q], w) for q in range(4)])

    sample = resampler.sample([view], quantities)
    found = resampler.interval(sample, 0, 0)
    coverage, size, single, empty = sample.values[0].tolist()
    limits = {} if found is None else {"low": found.low, "high": found.high}
    return {"run": p.run, "variant": p.variant, "task": p.task, "by": column, "subgroup": name, "n": len(view.ids),
            "level": level, "coverage": coverage, "size": size, "single": single, "empty": empty, **limits}  # fmt: skip
