"""The predictions that are evaluated: one row a patient, from whatever tool they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmcli.errors import MmcliError
from mmcli.metrics import Metric
from mmcli.metrics.metric import Floats, Ints

Objects = npt.NDArray[np.object_]
NO_LABELS = np.empty(0, np.int64)
# A row's key where a patient has several: no table's text holds this character.
BETWEEN = "\x1f"


@dataclass(frozen=True)
class PartPredictions:
    """What one part says about its labelled patients of the split: `rows` (n,) index the pooled rows, labels `y` (n,),
    probabilities `p` (n, K). Of its validation patients `validation_y` (v,), `validation_p` (v, K), none where the
    split is not the test split. `trained` on how many patients (0: unknown); parts of one `fold` share their patients.
    `threshold`: two classes are decided by p[:, 1] >= threshold, None = the likeliest class."""

    name: str
    fold: str
    rows: Ints
    y: Ints
    p: Floats
    validation_y: Ints
    validation_p: Floats
    trained: int = 0
    threshold: float | None = None

    def value(self, metric: Metric) -> float:
        """A metric on the part's own patients."""
        return metric.of(self.y, decided(self.p, self.threshold) if metric.about == "decisions" else self.p)


@dataclass(frozen=True)
class Predictions:
    """What one run (or one variant of it) says about one task.

    `ids` (n,) name the labelled rows in order: patients, or patient and row where a patient has several; `patients`
    (n,) are theirs. `y` (n,) are classes as indices into `classes`, `p` (n, K) probabilities, each row's averaged over
    the parts that have it in this split; `draws` (D, n, K) the same for each imputation. `thresholds` (n,) is the mean
    threshold of the row's parts (None: the likeliest class is the decision), `modalities` (n,) what a prediction rests
    on. `unlabelled` rows were left out.
    """

    run: str
    variant: str
    task: str
    classes: tuple[str, ...]
    ids: Objects
    y: Ints
    p: Floats
    patients: Objects
    parts: tuple[PartPredictions, ...] = ()
    draws: Floats | None = None
    thresholds: Floats | None = None
    modalities: Objects | None = None
    unlabelled: int = 0
    main: bool = True
    ordinal: bool = False
    missing_parts: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The run's name, with its variant where it has one."""
        return f"{self.run} · {self.variant}" if self.variant else self.run

    @property
    def clustered(self) -> bool:
        """Whether a patient has several rows."""
        return len(set(self.patients)) < len(self.patients)

    def units(self, clusters: Mapping[str, str] | None) -> Objects | None:
        """The cluster of each row (n,), by the patient's cluster or the patient; None where each row is independent."""
        if clusters is not None:
            return np.array([clusters.get(patient, patient) for patient in self.patients], dtype=object)
        return self.patients if self.clustered else None

    def answers(self, about: str, draw: int | None = None) -> Floats:
        """What a metric sees (n, K): probabilities, or for one about decisions with a threshold, the decisions."""
        p = self.p if draw is None or self.draws is None else self.draws[draw]
        return decided(p, self.thresholds) if about == "decisions" else p

    def value(self, metric: Metric) -> float:
        """The pooled figure; with several imputations the mean of theirs (Rubin 1987)."""
        if self.draws is None:
            return metric.of(self.y, self.answers(metric.about))
        return float(np.mean([metric.of(self.y, self.answers(metric.about, d)) for d in range(len(self.draws))]))

    def subset(self, keep: npt.NDArray[np.bool_]) -> Predictions:
        """The same predictions for some rows only; the parts' own figures are left behind."""
        return replace(
            self,
            ids=self.ids[keep],
            y=self.y[keep],
            p=self.p[keep],
            patients=self.patients[keep],
            parts=(),
            draws=None if self.draws is None else self.draws[:, keep],
            thresholds=None if self.thresholds is None else self.thresholds[keep],
            modalities=None if self.modalities is None else self.modalities[keep],
        )


def decided(p: Floats, threshold: Floats | float | None) -> Floats:
    """Decisions as probabilities of 0 and 1 (n, 2): the second class where p[:, 1] >= threshold. As they are without
    a threshold."""
    if threshold is None:
        return p
    positive = (p[:, 1] >= threshold).astype(np.float64)
    return np.stack([1 - positive, positive], axis=1)


def pool(
    run: str,
    variant: str,
    task: str,
    classes: tuple[str, ...],
    frames: Sequence[tuple[str, Path, pd.DataFrame]],
    split: str,
    error: type[MmcliError],
) -> Predictions:
    """Make one row a patient of the parts' checked frames, given as (name of the part, its file, its rows).

    A row's probabilities are averaged over the parts that have it in the split. A row without a label is counted and
    left out; one whose label differs between parts is an `error`.
    """
    columns = [f"p_{c}" for c in classes]
    index = {c: k for k, c in enumerate(classes)}
    keyed = [(name, where, _with_keys(frame)) for name, where, frame in frames]
    own = [(name, where, f[(f["split"] == split) & (f["draw"] < 0)]) for name, where, f in keyed]
    _check_labels(own, error)
    whole = pd.concat([f for _, _, f in own]) if own else pd.DataFrame(columns=["key", "patient_id", "label", *columns])
    labelled = whole[whole["label"] != ""]
    means = labelled.groupby("key", sort=True)[columns].mean()
    first = labelled.drop_duplicates("key").set_index("key").loc[means.index]
    place = pd.Series(np.arange(len(means)), index=means.index)
    drawn = [f[(f["split"] == split) & (f["draw"] >= 0) & (f["label"] != "")] for _, _, f in keyed]
    return Predictions(
        run=run,
        variant=variant,
        task=task,
        classes=classes,
        ids=means.index.to_numpy(dtype=object),
        y=first["label"].map(index).to_numpy(dtype=np.int64),
        p=_normalised(means),
        patients=first["patient_id"].to_numpy(dtype=object),
        parts=tuple(
            _part(name, f, chosen, columns, index, place, split)
            for (name, _, f), (_, _, chosen) in zip(keyed, own, strict=True)
            if len(chosen)
        ),
        draws=_draws(drawn, columns, place),
        modalities=first["modalities"].to_numpy(dtype=object) if "modalities" in first else None,
        unlabelled=whole.loc[whole["label"] == "", "key"].nunique(),
    )


def _with_keys(frame: pd.DataFrame) -> pd.DataFrame:
    key = frame["patient_id"] + BETWEEN + frame["row"] if "row" in frame else frame["patient_id"]
    draw = frame.get("draw", -1)
    keyed: pd.DataFrame = frame.assign(key=key, draw=draw)
    return keyed


def _check_labels(frames: Sequence[tuple[str, Path, pd.DataFrame]], error: type[MmcliError]) -> None:
    seen: pd.Series | None = None
    for _, where, frame in frames:
        labels = frame.drop_duplicates("key").set_index("key")["label"]
        if seen is not None:
            both = labels.index.intersection(seen.index)
            differs = both[(labels[both] != seen[both]).to_numpy()]
            if len(differs):
                patient = differs[0].replace(BETWEEN, " row ")
                raise error(
                    f"{where}: patient {patient!r} has the label {labels[differs[0]]!r}, but {seen[differs[0]]!r} in "
                    "an earlier part"
                )
            labels = pd.concat([seen, labels.drop(both)])
        seen = labels


def _part(
    name: str,
    frame: pd.DataFrame,
    chosen: pd.DataFrame,
    columns: list[str],
    index: dict[str, int],
    place: pd.Series,
    split: str,
) -> PartPredictions:
    def arrays(rows: pd.DataFrame) -> tuple[Ints, Floats]:
        return rows["label"].map(index).to_numpy(dtype=np.int64), _normalised(rows[columns])

    labelled = chosen[chosen["label"] != ""]
    others = frame[(frame["split"] == "validation") & (frame["label"] != "") & (frame["draw"] < 0)]
    trained = frame[(frame["split"] == "train") & (frame["label"] != "") & (frame["draw"] < 0)]
    return PartPredictions(
        name,
        name.rsplit("-seed-", 1)[0],
        place[labelled["key"]].to_numpy(dtype=np.int64),
        *arrays(labelled),
        *(arrays(others) if split == "test" else (NO_LABELS, np.empty((0, len(columns))))),
        trained["key"].nunique(),
    )


def _draws(frames: Sequence[pd.DataFrame], columns: list[str], place: pd.Series) -> Floats | None:
    """(D, n, K) of the rows of each imputation; None where there are none, or a row lacks one."""
    whole = pd.concat(frames) if frames else pd.DataFrame()
    if not len(whole):
        return None
    drawn = []
    for _, one in whole.groupby("draw", sort=True):
        means = one.groupby("key")[columns].mean()
        if len(means) < len(place):
            return None
        drawn.append(_normalised(means.loc[place.index]))
    return np.stack(drawn)


def _normalised(frame: pd.DataFrame) -> Floats:
    p: Floats = frame.to_numpy(dtype=np.float64, copy=True)
    p /= p.sum(axis=1, keepdims=True)
    return p
