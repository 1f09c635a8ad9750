"""How two classes are decided: a threshold, where a rule is given one, is found on validation patients alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mmcli.errors import RequestError
from mmcli.evaluation.predictions import Predictions
from mmcli.evaluation.thresholds import Rule
from mmcli.metrics.metric import Floats

Known = Mapping[tuple[str, str, str, str], float | None]


def decide_by(predictions: Sequence[Predictions], rule: Rule, like: Sequence[Predictions] = ()) -> list[Predictions]:
    """The predictions with their thresholds; those of more than two classes, and all by argmax, stay as they are.

    Each part has the threshold that its own validation patients give it, or that the same part has in `like`: who is
    predicted again with a modality withheld is decided as before. A pooled row is positive where its mean probability
    reaches the mean threshold of the parts that have it: where mean(p - t) >= 0.
    """
    if rule.is_argmax:
        return list(predictions)
    known = {(p.run, p.variant, p.task, part.name): part.threshold for p in like for part in p.parts}
    return [p if len(p.classes) != 2 else _decided(p, rule, known) for p in predictions]


def _decided(p: Predictions, rule: Rule, known: Known) -> Predictions:
    parts = []
    sums, counts = np.zeros(len(p.ids)), np.zeros(len(p.ids))
    for part in p.parts:
        threshold = known.get((p.run, p.variant, p.task, part.name))
        if threshold is None and rule.needs_validation and not len(part.validation_y):
            raise RequestError(
                f"--threshold {rule.text}: {p.title} has no labelled validation patients in {part.name} to find it "
                "on; give a number, or argmax"
            )
        if threshold is None:
            threshold = rule.threshold(part.validation_y, part.validation_p)
        parts.append(replace(part, threshold=threshold))
        sums[part.rows] += threshold
        counts[part.rows] += 1
    return replace(p, parts=tuple(parts), thresholds=sums / counts)


def thresholds_said(predictions: Sequence[Predictions]) -> list[str]:
    """One line a run: the thresholds that were used."""
    said = []
    for p in predictions:
        found: Floats = np.array([part.threshold for part in p.parts if part.threshold is not None])
        if len(found):
            spread = f" to {found.max():.3f}" if found.max() > found.min() else ""
            said.append(f"{p.title}, {p.task}: {p.classes[1]} from a probability of {found.min():.3f}{spread} on.")
    return said
