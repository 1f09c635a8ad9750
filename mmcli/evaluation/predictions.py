"""The predictions that are evaluated: checked, one row a patient, from whatever tool they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmcli.errors import MmcliError, RequestError
from mmcli.metrics.metric import Floats, Ints


@dataclass(frozen=True)
class PartPredictions:
    """What one part says about its labelled patients: labels `y` (n,) and probabilities `p` (n, K)."""

    name: str
    y: Ints
    p: Floats


@dataclass(frozen=True)
class Predictions:
    """What one run (or one variant of it) says about one task.

    `ids` (n,) are the labelled patients in the order of their ids, `y` (n,) their classes as indices into `classes`,
    `p` (n, K) their probabilities, each patient's averaged over the parts that have the patient in this split.
    `unlabelled` patients were left out.
    """

    run: str
    variant: str
    task: str
    classes: tuple[str, ...]
    ids: npt.NDArray[np.object_]
    y: Ints
    p: Floats
    parts: tuple[PartPredictions, ...] = ()
    unlabelled: int = 0
    main: bool = True
    ordinal: bool = False
    missing_parts: tuple[str, ...] = field(default=())

    @property
    def title(self) -> str:
        """The run's name, with its variant where it has one."""
        return f"{self.run} · {self.variant}" if self.variant else self.run

    def of_patients(self, ids: Sequence[str]) -> Predictions:
        """The same predictions for these patients only; the parts' own figures are left behind."""
        keep = np.isin(self.ids, np.asarray(ids, dtype=object))
        return replace(self, ids=self.ids[keep], y=self.y[keep], p=self.p[keep], parts=())


def check_frame(
    frame: pd.DataFrame,
    classes: Sequence[str],
    where: Path,
    error: type[MmcliError],
    tolerance: float,
    by: Sequence[str],
) -> None:
    """Refuse a table of predictions of which a row cannot be meant: `error` names the file and the row.

    Rows are counted as a person counts them: the first below the header is row 1. Probabilities are finite, not
    negative, and sum to 1 within `tolerance`; labels are among the classes or none; a patient has one
    row, or one for each value of the columns `by`.
    """
    columns = [f"p_{c}" for c in classes]
    for column in ["patient_id", "label", *columns]:
        if column not in frame:
            raise error(f"{where}: has no column {column!r} (there are: {', '.join(map(str, frame.columns))})")
    p = frame[columns].to_numpy(dtype=np.float64)
    bad = ~np.isfinite(p).all(axis=1)
    _refuse(bad, frame, where, error, "a probability is missing or not a number")
    _refuse((p < 0).any(axis=1), frame, where, error, "a probability is negative")
    sums = p.sum(axis=1)
    off = np.abs(sums - 1) > tolerance
    _refuse(off, frame, where, error, f"the probabilities sum to {sums[off][0] if off.any() else 1:.4g}, not 1")
    strange = ((frame["label"] != "") & ~frame["label"].isin(classes)).to_numpy()
    known = f"(classes: {', '.join(classes)})"
    label = frame["label"].to_numpy()[strange][0] if strange.any() else ""
    _refuse(strange, frame, where, error, f"the label {label!r} is none of the classes {known}")
    _refuse((frame["patient_id"] == "").to_numpy(), frame, where, error, "there is no patient_id")
    twice = frame.duplicated(["patient_id", *(c for c in by if c in frame)]).to_numpy()
    _refuse(twice, frame, where, error, "the patient has an earlier row already")


def _refuse(bad: npt.NDArray[np.bool_], frame: pd.DataFrame, where: Path, error: type[MmcliError], what: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        more = f", and {bad.sum() - 1} more rows like it" if bad.sum() > 1 else ""
        raise error(f"{where}: row {row + 1} (patient {frame['patient_id'].iloc[row]!r}): {what}{more}")


def pool(
    run: str, variant: str, task: str, classes: tuple[str, ...], frames: Sequence[tuple[str, Path, pd.DataFrame]],
    error: type[MmcliError],
) -> Predictions:  # fmt: skip
    """Make one row a patient of the parts' checked frames, given as (name of the part, its file, its rows).

    Each patient's probabilities are averaged over the parts. A patient without a label is counted and left out; one
    whose label differs between parts is an `error`.
    """
    columns = [f"p_{c}" for c in classes]
    index = {c: k for k, c in enumerate(classes)}
    seen: dict[str, str] = {}
    parts = []
    for name, where, frame in frames:
        for patient, label in zip(frame["patient_id"], frame["label"], strict=True):
            if seen.setdefault(patient, label) != label:
                raise error(
                    f"{where}: patient {patient!r} has the label {label!r}, but {seen[patient]!r} in an earlier part"
                )
        labelled = frame[frame["label"] != ""]
        y = labelled["label"].map(index).to_numpy(dtype=np.int64)
        parts.append(PartPredictions(name, y, _normalised(labelled[columns])))
    together = (
        pd.concat([f for _, _, f in frames]) if frames else pd.DataFrame(columns=["patient_id", "label", *columns])
    )
    labelled = together[together["label"] != ""]
    means = labelled.groupby("patient_id", sort=True)[columns].mean()
    ids = means.index.to_numpy(dtype=object)
    return Predictions(
        run=run,
        variant=variant,
        task=task,
        classes=classes,
        ids=ids,
        y=np.array([index[seen[i]] for i in ids], dtype=np.int64),
        p=_normalised(means),
        parts=tuple(parts),
        unlabelled=sum(label == "" for label in seen.values()),
    )


def _normalised(frame: pd.DataFrame) -> Floats:
    p: Floats = frame.to_numpy(dtype=np.float64, copy=True)
    p /= p.sum(axis=1, keepdims=True)
    return p


def check_same_patients_and_classes(all_predictions: Sequence[Predictions]) -> None:
    """Refuse to compare runs that mean different things by one task: other classes, or another label of a patient."""
    for task in dict.fromkeys(p.task for p in all_predictions):
        same = [p for p in all_predictions if p.task == task]
        labels: dict[str, tuple[str, str]] = {}
        for predictions in same:
            if predictions.classes != same[0].classes:
                raise RequestError(
                    f"{predictions.run} and {same[0].run} cannot be compared: the classes of {task!r} are "
                    f"{', '.join(predictions.classes)} in one and {', '.join(same[0].classes)} in the other"
                )
            for patient, k in zip(predictions.ids, predictions.y, strict=True):
                label, run = labels.setdefault(patient, (predictions.classes[k], predictions.run))
                if label != predictions.classes[k]:
                    raise RequestError(
                        f"{predictions.run} and {run} cannot be compared: patient {patient!r} is "
                        f"{predictions.classes[k]!r} in one and {label!r} in the other for {task!r}"
                    )
