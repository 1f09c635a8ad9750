"""How two classes are decided: a rule finds the threshold on validation patients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mmcli.errors import RequestError
from mmcli.metrics.metric import Floats, Ints
from mmcli.registry import did_you_mean

NAMED = ("argmax", "youden", "f1")
TARGETS = ("sensitivity", "specificity")
FORMS = ["argmax", "0.5", "youden", "f1", "sensitivity=0.9", "specificity=0.9"]


@dataclass(frozen=True)
class Rule:
    """A patient is positive (of class 1) where the probability of class 1 is at least the threshold.

    `kind`: "argmax" (the likelier class, of equals the first), "number" (`value` is the threshold), or one that is
    found on validation patients: "youden" (sensitivity + specificity is largest), "f1" (F1 is), "sensitivity" (at
    least `value`, with the highest specificity that allows), "specificity" (the reverse). `text` is how it was asked.
    """

    text: str
    kind: str
    value: float = math.nan

    @property
    def is_argmax(self) -> bool:
        """Whether it is the rule of every number of classes, which needs no threshold."""
        return self.kind == "argmax"

    @property
    def needs_validation(self) -> bool:
        """Whether the threshold is found on validation patients."""
        return self.kind not in ("argmax", "number")

    def threshold(self, y: Ints, p: Floats) -> float:
        """The threshold for validation labels `y` (v,) in {0, 1} and probabilities `p` (v, 2).

        It lies midway between two neighbouring observed probabilities, midway between 0 and the lowest (everybody is
        positive), or midway between the highest and 1 (nobody is; just above 1 where somebody has 1), so that a target
        is always reached, if need be by calling everybody the same. Of equally good ones it is the lowest for youden
        and f1: rather more patients are found.
        RequestError where a validation patient of one class is lacking: a rule then has nothing to weigh.
        """
        if not self.needs_validation:
            return 0.5 if self.is_argmax else self.value
        positives = int((y == 1).sum())
        negatives = len(y) - positives
        if not positives or not negatives:
            raise RequestError(
                f"--threshold {self.text}: of {len(y)} validation patients {positives} are positive and {negatives} "
                "negative, and it takes both to find a threshold; give a number, or argmax"
            )
        cuts = _cuts(p[:, 1])
        true = positives - np.searchsorted(np.sort(p[y == 1, 1]), cuts)
        false = negatives - np.searchsorted(np.sort(p[y == 0, 1]), cuts)
        if self.kind == "sensitivity":
            return float(cuts[true / positives >= self.value][-1])
        if self.kind == "specificity":
            return float(cuts[(negatives - false) / negatives >= self.value][0])
        # Whole numbers, and quotients of whole numbers: equally good is equal.
        gain = true * negatives - false * positives if self.kind == "youden" else 2 * true / (true + false + positives)
        return float(cuts[np.argmax(gain)])


def parse_rule(text: str) -> Rule:
    """The rule of `--threshold`; RequestError says what it may be."""
    asked = text.strip().lower()
    name, equals, target = (part.strip() for part in asked.partition("="))
    if not equals and name in NAMED:
        return Rule(asked, name)
    if name in TARGETS:
        value = _number(target)
        if not 0 < value <= 1:
            raise RequestError(f"--threshold {text}: the {name} lies above 0 and is at most 1, as in {name}=0.9")
        return Rule(asked, name, value)
    value = _number(asked)
    if math.isnan(value):
        raise RequestError(f"--threshold {text}: no such rule{did_you_mean(asked, FORMS)}")
    if not 0 <= value <= 1:
        raise RequestError(f"--threshold {text}: a probability lies between 0 and 1, as in 0.5")
    return Rule(asked, "number", value)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _cuts(score: Floats) -> Floats:
    """Thresholds (u + 1,), ascending, that tell the u distinct scores apart in every way."""
    seen = np.unique(score)
    ends = np.append(seen, max(1.0, np.nextafter(seen[-1], np.inf)))
    starts = np.append(0.0, seen)
    middle = (starts + ends) / 2
    # Between two neighbouring numbers of the machine there is no middle.
    return np.where((middle > starts) | (starts == ends), middle, ends)
