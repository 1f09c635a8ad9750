"""What an evaluation found, as tables: one form for the report, the files, the terminal and notebooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mmcli.evaluation.predictions import Predictions

WHO = ["run", "variant", "task"]
INTERVAL = ["low", "high", "interval", "undefined"]
METRICS = [*WHO, "metric", "n", "value", *INTERVAL, "analytic", "analytic_low", "analytic_high", "mean", "sd", "parts"]
CLASSES = [*WHO, "class", "metric", "n", "value", *INTERVAL, "analytic", "analytic_low", "analytic_high"]
COMPARISONS = [*WHO, "other", "metric", "test", "n", "value", "low", "high", "interval", "statistic", "p", "p_holm",
               "p_bh"]  # fmt: skip
SUBGROUPS = [*WHO, "by", "subgroup", "metric", "n", "value", *INTERVAL, "worst"]
CONFORMAL = [*WHO, "by", "subgroup", "n", "level", "coverage", "low", "high", "size", "single", "empty"]
WITHHELD = ["run", "task", "modality", "share", "metric", "n", "value", *INTERVAL, "sd_seeds", "seeds"]


@dataclass(frozen=True)
class Result:
    """All that one evaluation found. Every table is long: a row a figure.

    metrics: pooled figures of all patients; `value` with its bootstrap limits `low`, `high` of the kind `interval`
        (what it fell back to, where it had to), `undefined` resamples, limits by formula (`analytic`: delong, wilson),
        and over `parts` (folds and seeds) `mean` and `sd`.
    classes: of more than two classes, each against the rest.
    comparisons: `run` minus `other`, a row a test (bootstrap, delong, mcnemar_exact, mcnemar, corrected_t, wilcoxon),
        `p` as it is and adjusted by Holm and by Benjamini-Hochberg over the family: all pairs and tasks of one
        metric and test.
    subgroups: `by` is a column and `subgroup` its value; `worst` marks the subgroup with the worst value of a metric.
        by = "modalities" holds the availability patterns, that is, what each prediction rests on.
    conformal: split-conformal prediction sets, `by` = "" for all patients: share of patients whose set holds their
        class (`coverage`), mean `size`, shares of sets with a `single` class and of `empty` ones.
    withheld: metrics after a share of the patients lost a modality, mean over `seeds`.
    """

    metrics: pd.DataFrame
    classes: pd.DataFrame
    comparisons: pd.DataFrame
    subgroups: pd.DataFrame
    conformal: pd.DataFrame
    withheld: pd.DataFrame
    predictions: list[Predictions] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
