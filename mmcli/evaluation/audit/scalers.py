"""Scalers and encodings of tables that a run's parts carry: fitted on the fold's training patients, or on more?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mmcli.errors import DamagedError
from mmcli.evaluation.audit.report import FINDING, Report, count, named
from mmcli.evaluation.audit.subject import OTHERS, AuditedPart, AuditedRun, Bools, Roles, Subject
from mmcli.store.parts import TRAIN
from mmcli.training.part import SCALERS
from mmcli.training.preparing import LatentScaler, TableEncoder
from mmcli.training.withhold import withheld

Ints = NDArray[np.int64]
Fitted = tuple[list[str], NDArray[np.float64], NDArray[np.float64]]  # what the columns are, mean, 1/sd
TOLERANCE = 1e-4  # in sd; one patient more among 10 000 moves a mean by about that


def check(subject: Subject) -> Report:
    """Each part's scalers are computed again from the fold's training patients. One that differs is a finding, which
    names the patients from whom it does come out, where it is one of the usual sets."""
    report = Report()
    for run in subject.runs:
        if run.stores is None:
            report.skipped.append(f"scalers: {run.name}: {run.reason}")
            continue
        wrong: dict[tuple[str, str], list[str]] = {}
        parts = list(run.parts())
        for part in parts:
            for modality in run.about["modalities"]:
                if (source := _source(subject, run, part, modality)) is not None:
                    wrong.setdefault((modality, source), []).append(part.name)
        names = count(len(run.about["modalities"]), "modality", "modalities")
        report.checked.append(f"scalers: {names} of {count(len(parts), 'part')} of {run.name}")
        for (modality, source), where in wrong.items():
            report.add(
                FINDING, "scalers", f"{run.name}, {modality}",
                f"the scaler of {named(where)} is not that of the fold's training patients: {source}",
                "train the run again with this mmcli; nothing may be fitted on more than the training patients",
            )  # fmt: skip
    return report


def _source(subject: Subject, run: AuditedRun, part: AuditedPart, modality: str) -> str | None:
    """None where the scaler is as it should be; else from whom it comes out."""
    saved = _saved(part, modality)
    fit, present = _fitter(subject, run, modality)
    roles = run.roles(part.fold)
    if _same(saved, fit(_rows(roles, present, (TRAIN,)))):
        return None
    for name, members in OTHERS.items():
        if _same(saved, fit(_rows(roles, present, members))):
            return f"it comes out from {name}"
    return "it comes out from no set of the fold's roles"


def _rows(roles: Roles, present: Bools, members: tuple[int, ...]) -> Ints:
    rows: Ints = np.flatnonzero(np.isin(roles, members) & present)
    return rows


def _saved(part: AuditedPart, modality: str) -> Fitted:
    path = part.folder / SCALERS
    try:
        arrays = load_file(path)
        table = part.head["tables"].get(modality)
        kind, columns = ("bag", []) if table is None else ("table", list(table["encoded"]))
        return columns, arrays[f"{kind}.{modality}.mean"], arrays[f"{kind}.{modality}.scale"]
    except (OSError, SafetensorError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path}: damaged ({' '.join(str(error).split())}); train it again") from None


def _fitter(subject: Subject, run: AuditedRun, modality: str) -> tuple[Callable[[Ints], Fitted], Bools]:
    """What fits the modality's scaler to rows of patients, and who has the modality in this run."""
    stores, request = run.stores, run.about["request"]
    assert stores is not None
    hidden = np.zeros(len(stores.patients), bool)
    if modality in request.get("withhold", {}):
        share = float(request["withhold"][modality])
        hidden = withheld(stores.patients.ids, modality, share, int(request["seed"]))
    if modality in stores.tables:
        table = replace(stores.tables[modality], present=stores.tables[modality].present & ~hidden)

        def encoder(rows: Ints) -> Fitted:
            found = TableEncoder.fit(table, rows)
            return found.encoded, found.mean, found.scale

        return encoder, table.present
    moments = subject.moments(stores, modality)

    def scaler(rows: Ints) -> Fitted:
        found = LatentScaler.fit(moments.sums[rows], moments.squares[rows], moments.counts[rows])
        return [], found.mean.astype(float), found.scale.astype(float)

    return scaler, stores.bag(modality).present & (moments.counts > 0) & ~hidden


def _same(one: Fitted, two: Fitted) -> bool:
    """Equal columns, means within TOLERANCE sd and scales within that share."""
    if one[0] != two[0] or one[1].shape != two[1].shape:
        return False
    scale = np.maximum(np.abs(one[2]), np.abs(two[2])).astype(float)
    means = np.abs(one[1].astype(float) - two[1]) * np.where(scale > 0, scale, 1)
    spreads = np.abs(one[2].astype(float) - two[2])
    return bool((means <= TOLERANCE).all() and (spreads <= TOLERANCE * np.maximum(scale, 1e-12)).all())
