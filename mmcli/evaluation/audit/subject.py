"""What is audited: joined stores, and runs with the stores that they were trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmcli.errors import DamagedError
from mmcli.registry import Registry
from mmcli.store import Label, Stores
from mmcli.store.batch import Latents
from mmcli.store.parts import TEST, TRAIN, UNUSED, VALIDATION
from mmcli.training.data import Moments
from mmcli.training.part import HEAD

Roles = NDArray[np.int8]
Bools = NDArray[np.bool_]
# What a thing may have been fitted on instead, from the smallest set of patients to the largest.
OTHERS = {
    "training and validation patients": (TRAIN, VALIDATION),
    "training and test patients": (TRAIN, TEST),
    "training, validation and test patients": (TRAIN, VALIDATION, TEST),
    "test patients alone": (TEST,),
    "all patients of the store": (UNUSED, TRAIN, VALIDATION, TEST),
}


@dataclass(frozen=True)
class AuditedPart:
    """A finished part of a run: its folder, its fold and seed, and its part.json."""

    folder: Path
    fold: int
    seed: int
    head: dict[str, Any]

    @property
    def name(self) -> str:
        """As in the run: <set>-<k>-seed-<s>."""
        return self.folder.name

    def predictions(self, task: str) -> pd.DataFrame:
        """Its rows for one task, all splits and variants; DamagedError when the file is not as we wrote it."""
        path = self.folder / f"predictions-{task}.parquet"
        try:
            frame: pd.DataFrame = pd.read_parquet(path)
            frame[["patient_id", "split", "label"]]
        except (OSError, ValueError, KeyError) as error:
            raise DamagedError(f"{path}: damaged ({' '.join(str(error).split())[:160]}); train it again") from None
        return frame


def ordinary(frame: pd.DataFrame) -> Bools:
    """Which rows of a prediction file are the main variant's own: not another variant, not one draw of many."""
    chosen = np.ones(len(frame), bool)
    if "variant" in frame:
        chosen &= (frame["variant"] == frame["variant"].iloc[0]).to_numpy()
    if "draw" in frame:
        chosen &= (frame["draw"] < 0).to_numpy()
    return chosen


@dataclass
class AuditedRun:
    """A finished run. `stores` are those that it was trained on, with its labels; None where they are not there, and
    `reason` says why. `settings` is its settings.yaml."""

    path: Path
    about: dict[str, Any]
    settings: dict[str, Any]
    stores: Stores | None
    reason: str = ""

    @property
    def name(self) -> str:
        """What the table of findings calls it."""
        return str(self.path)

    def parts(self) -> Iterator[AuditedPart]:
        """Its parts in order; DamagedError when a part.json is not as we wrote it."""
        for name in self.about["parts"]:
            path = self.path / name / HEAD
            try:
                head = json.loads(path.read_text(encoding="utf-8"))
                yield AuditedPart(self.path / name, int(head["part"]["fold"]), int(head["part"]["seed"]), head)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise DamagedError(f"{path}: damaged ({' '.join(str(error).split())}); train it again") from None

    def assignment(self, fold: int) -> dict[str, int]:
        """Patient -> role in a fold, as run.json fixed it when the run began."""
        return {patient: int(roles[fold]) for patient, roles in self.about["fold_assignment"].items()}

    def roles(self, fold: int) -> Roles:
        """(n,) the same for the patients of its stores."""
        assert self.stores is not None
        known = self.assignment(fold)
        return np.array([known.get(patient, UNUSED) for patient in self.stores.patients.ids], np.int8)


@dataclass
class Subject:
    """Everything that the checks look at. `tasks` and `fold_sets` are those that were asked for; `methods` is the
    registry that builds a run's method again."""

    stores: Stores
    tasks: list[str]
    fold_sets: list[str]
    runs: list[AuditedRun]
    methods: Registry
    seed: int = 0
    quiet: bool = False
    _moments: dict[tuple[tuple[str, ...], str], Moments] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        """The patients of the stores."""
        return self.stores.patients.ids

    def labels(self) -> dict[str, Label]:
        """Those of `tasks` that have at least two classes among the patients."""
        labels = {t: self.stores.patients.labels[t] for t in self.tasks}
        return {t: y for t, y in labels.items() if len(np.unique(y.values[y.values >= 0])) > 1}

    def moments(self, stores: Stores, bag: str) -> Moments:
        """Sums and squares of a modality's features for each patient, read once for all parts and runs."""
        key = tuple(stores.fingerprints), bag
        if key not in self._moments:
            self._moments[key] = Moments.of(Latents(stores.bag(bag), in_memory=False), stores.patients.ids)
        return self._moments[key]

    def has(self) -> dict[str, Bools]:
        """(n,) for each modality, bags and tables: who has it."""
        bags = {name: bag.present for name, bag in self.stores.bags.items()}
        return bags | {name: table.present for name, table in self.stores.tables.items()}
