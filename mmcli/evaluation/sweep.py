"""Runs predicted again while a modality is withheld from more and more of the patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mmcli.errors import RequestError
from mmcli.evaluation.attributes import Attributes
from mmcli.evaluation.predictions import Predictions
from mmcli.evaluation.repredict import Repredictor
from mmcli.evaluation.sources import Inputs, Run
from mmcli.evaluation.withheld import Condition
from mmcli.evaluation.withholding import hidden_at, hidden_from, parse_withhold
from mmcli.metrics.metric import Floats
from mmcli.registry import Registry

Masks = dict[tuple[str, int], Floats]


@dataclass(frozen=True)
class Sweep:
    """What is withheld: `shares[modality]`, for each of the `seeds`, from `patients` (n,) hidden from the share
    `masks[modality, seed]` (n,) on: the same for all runs."""

    shares: dict[str, list[float]]
    seeds: list[int]
    patients: list[str]
    masks: Masks

    @classmethod
    def plan(
        cls, given: Mapping[str, str], seeds: Sequence[int], by: str, inputs: Inputs,
        predictions: Sequence[Predictions], attributes: Attributes,
    ) -> Sweep:  # fmt: skip
        """From `--withhold`, `--withhold-seeds`, `--withhold-by`; RequestError names what is wrong with them."""
        modalities = list(dict.fromkeys(m for s in _runs(inputs) for m in s.about.get("modalities", [])))
        if not modalities:
            raise RequestError("--withhold: needs a run's weights, and only tables of predictions are given")
        if not seeds:
            raise RequestError("--withhold-seeds: is empty; write for example 0 or 0-4")
        shares = parse_withhold(given, modalities)
        patients = sorted({i for p in predictions for i in p.patients})
        values = _values(attributes, by, patients) if by else None
        masks = {(m, s): hidden_from(patients, m, s, values) for m in shares for s in seeds}
        return cls(shares, list(seeds), patients, masks)

    def count(self, inputs: Inputs) -> int:
        """How many conditions there are."""
        each = {m: sum(len(self.seeds) if share else 1 for share in shares) for m, shares in self.shares.items()}
        return sum(n for run in _runs(inputs) for m, n in each.items() if m in run.about.get("modalities", []))

    def table(self) -> pd.DataFrame:
        """Who is hidden when: patient_id, modality, seed, and the share from which on the patient is hidden."""
        frames = [
            pd.DataFrame({"patient_id": self.patients, "modality": m, "seed": s, "hidden_from": mask})
            for (m, s), mask in self.masks.items()
        ]
        table: pd.DataFrame = pd.concat(frames, ignore_index=True)
        return table

    def conditions(
        self, inputs: Inputs, predictions: Sequence[Predictions], split: str, methods: Registry,
        stores: Sequence[Path], device: torch.device, memory: str,
    ) -> Iterator[Condition]:  # fmt: skip
        """Run by run, modality by modality. At a share of 0 a run's own `predictions` stand, for one seed."""
        for run in _runs(inputs):
            own = [p for p in predictions if p.run == run.name]
            with Repredictor(run.path, methods, stores, memory=memory, device=device) as again:
                place = {patient: i for i, patient in enumerate(self.patients)}
                rows = np.array([place.get(patient, -1) for patient in again.ids])
                for modality in (m for m in self.shares if m in again.modalities):
                    for share in self.shares[modality]:
                        for seed in self.seeds if share else self.seeds[:1]:
                            if not share:
                                yield Condition(modality, share, seed, own)
                                continue
                            hidden = hidden_at(self.masks[modality, seed], share)[rows] & (rows >= 0)
                            frames = again.frames({modality: hidden}, [split])
                            found = [
                                p
                                for task in inputs.tasks
                                for p in run.pooled({part: f[task] for part, f in frames.items()}, task, split)
                            ]
                            yield Condition(modality, share, seed, found)


def _runs(inputs: Inputs) -> list[Run]:
    return [source for source in inputs.sources if isinstance(source, Run)]


def _values(attributes: Attributes, by: str, patients: Sequence[str]) -> Floats | list[str]:
    """The column of `--withhold-by`: numbers (NaN = not observed) where it is numeric, else texts."""
    numbers = attributes.numbers(by, "--withhold-by")
    if numbers is None:
        column = attributes.column(by, "--withhold-by")
        return [column.get(patient, "") for patient in patients]
    return np.array([numbers.get(patient, np.nan) for patient in patients])
