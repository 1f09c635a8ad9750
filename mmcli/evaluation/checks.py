"""What is refused before anything is evaluated, in words that name the file and the row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmcli.errors import MmcliError, RequestError
from mmcli.evaluation.predictions import Predictions


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
    _refuse(twice, frame, where, error, f"the patient has an earlier row already (rows differ by: {', '.join(by)})")


def check_draws(frame: pd.DataFrame, where: Path, by: Sequence[str]) -> None:
    """Refuse a table with a column `draw` (NaN: none) in which a row of a split lacks an imputation that others have:
    its figures could not be means over the imputations, and nobody would be told."""
    number = frame["draw"].fillna(-1).clip(lower=-1)
    keys = [c for c in ("patient_id", *by) if c in frame and c != "draw"]
    of_split = frame["split"] if "split" in frame else pd.Series("", index=frame.index)
    for _, own in frame.assign(draw=number).groupby(of_split, sort=False):
        every = own["draw"].nunique()
        short = own.groupby(keys, sort=False)["draw"].transform("nunique") < every
        if short.any():
            patient = own.loc[short, "patient_id"].iloc[0]
            raise RequestError(
                f"{where}: patient {patient!r} lacks some of the {every} values of draw that other rows have; give all "
                "rows every imputation"
            )


def _refuse(bad: npt.NDArray[np.bool_], frame: pd.DataFrame, where: Path, error: type[MmcliError], what: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        more = f", and {bad.sum() - 1} more rows like it" if bad.sum() > 1 else ""
        raise error(f"{where}: row {row + 1} (patient {frame['patient_id'].iloc[row]!r}): {what}{more}")


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
