"""What several stages do in the same way: open stores, choose a fold set, list failures."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmcli.errors import DONE, SOME_FAILED, DamagedError, RequestError
from mmcli.files import canonical_json, publish_text
from mmcli.registry import did_you_mean
from mmcli.store import Label, Patients, Store, Stores, is_store, store_request


def open_stores(settings: Any) -> Stores:
    """The joined stores of a command; `--cohort` gives labels, group and folds anew, by patient id.

    The first store fixes the patients; one whom the cohort does not have gets no label and no role.
    """
    stores = Stores(settings.stores)
    if settings.cohort is None:
        return stores
    from mmcli.cohort import read_cohort

    given: Patients = read_cohort(settings.cohort, settings.root, paths="ignore").patients
    stores.patients = _reindexed(given, stores.patients.ids, settings.cohort)
    return stores


def _reindexed(given: Patients, ids: list[str], cohort: Path) -> Patients:
    index = {patient: i for i, patient in enumerate(given.ids)}
    rows = np.array([index.get(patient, -1) for patient in ids])
    known = rows >= 0
    if not known.any():
        raise RequestError(
            f"{cohort}: none of its patients is in the stores (first id there: {ids[0]!r}, here: {given.ids[0]!r})"
        )
    labels = {t: replace(y, values=np.where(known, y.values[rows], -1)) for t, y in given.labels.items()}
    folds = {name: np.where(known[:, None], roles[rows], 0).astype(np.int8) for name, roles in given.folds.items()}
    group = [given.group[r] if r >= 0 else "" for r in rows] if given.group is not None else None
    return Patients(ids, group, labels, folds)


def patients_digest(patients: Patients) -> str:
    """What a cohort that is given anew says: a change of it is another request."""
    labels = {t: [y.values.tolist(), y.classes, y.ordinal] for t, y in patients.labels.items()}
    folds = {name: roles.tolist() for name, roles in patients.folds.items()}
    return hashlib.sha256(canonical_json([patients.ids, patients.group, labels, folds]).encode()).hexdigest()


def existing_request(out: Path, inputs: Sequence[Path], force: bool) -> dict[str, Any] | None:
    """The request that the store under an output's name was made for, None where there is none.

    What mmcli did not make is refused even with `force`: a folder, one of the `inputs`, any file that is no feature
    store. A damaged store of ours can be replaced.
    """
    if out.is_dir():
        raise RequestError(f"--out {out} is a folder; name a file, for example {out / 'features.h5'}")
    if not out.exists():
        return None
    if any(path.exists() and path.samefile(out) for path in inputs):
        raise RequestError(f"--out {out} is one of the files that are read; no command changes them")
    if not out.is_file() or not is_store(out):
        raise RequestError(
            f"--out {out} exists and is no feature store, so that not even --force replaces it; move it away, or give "
            "another --out"
        )
    try:
        return store_request(out)
    except DamagedError as error:
        if force:
            return None
        raise DamagedError(f"{error} (--force replaces it)") from None


def choose_fold_set(stores: Stores, name: str) -> str:
    """The named fold set, or the only one."""
    sets = list(stores.patients.folds)
    if name:
        if name not in sets:
            raise RequestError(f"--folds: unknown fold set {name!r}{did_you_mean(name, sets)}")
        return name
    if len(sets) != 1:
        problem = (
            f"there are several ({', '.join(sets)}): choose one"
            if sets
            else "the stores have none: give a --cohort with folds"
        )
        raise RequestError(f"--folds: {problem}")
    return sets[0]


def choose_label(stores: Stores, task: str) -> Label:
    """A task's label; RequestError when there is none of that name, or nobody is labelled, or all have one class."""
    labels = stores.patients.labels
    if task not in labels:
        raise RequestError(f"--label: unknown label {task!r}{did_you_mean(task, list(labels))}")
    label = labels[task]
    classes = np.unique(label.values[label.values >= 0])
    if len(classes) < 2:
        what = f"all labelled patients are {label.classes[classes[0]]!r}" if len(classes) else "no patient has one"
        raise RequestError(f"--label {task}: {what}; a classifier needs two classes")
    return label


def write_failures(out: Path, rows: list[dict[str, str]]) -> Path | None:
    """Write `<out>.failures.csv` (patient_id, modality, path, reason), or remove it when nobody failed."""
    path = out.with_name(out.name + ".failures.csv")
    if not rows:
        path.unlink(missing_ok=True)
        return None
    text = io.StringIO()
    writer = csv.DictWriter(text, ["patient_id", "modality", "path", "reason"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    publish_text(path, text.getvalue())
    return path


def failed_patients(out: Path) -> int:
    """How many patients failed in the modalities of a finished store."""
    with Store(out) as store:
        return sum(int(bag.failed.sum()) for bag in store.bags.values())


def failure_code(count: int, allowed: str) -> int:
    """3 when some patients failed, 0 when none did or `--allow-failures` covers them."""
    if allowed not in ("", "any") and not allowed.isdigit():
        raise RequestError(f"--allow-failures: give a number or 'any', not {allowed!r}")
    covered = allowed == "any" or (allowed != "" and count <= int(allowed))
    return DONE if covered or not count else SOME_FAILED
