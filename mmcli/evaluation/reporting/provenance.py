"""What runs and stores say of themselves, read for the report: versions, machines, settings, missingness."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmcli.store.join import Stores


def gather(run: Path, parts: Sequence[str]) -> dict[str, Any]:
    """run.json of a run, provenance.json of each of its parts, and part.json of the first one.

    A file that is missing or cannot be read is an empty dict: a report does not fail for want of a wall time.
    """
    return {
        "run": _read(run / "run.json"),
        "parts": {part: _read(run / part / "provenance.json") for part in parts},
        "head": _read(run / parts[0] / "part.json") if parts else {},
    }


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def missingness(stores: Stores, patients: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Of each modality: its `kind`, of how many `patients` it is `present`, for how many it `failed` to be read, and
    for a table the `columns` and the number of `cells` and of those `observed` among those who have the table.

    Patients whom the stores do not know are left out.
    """
    wanted = set(patients)
    rows = np.array([i in wanted for i in stores.patients.ids], dtype=bool)
    n = int(rows.sum())
    found: dict[str, dict[str, Any]] = {}
    for name in stores.names():
        if name in stores.tables:
            table = stores.tables[name]
            own = table.observed[rows & table.present]
            found[name] = {"kind": "table", "patients": n, "present": int((rows & table.present).sum()), "failed": 0,
                           "columns": len(table.columns), "cells": own.size, "observed": int(own.sum())}  # fmt: skip
        else:
            bag = stores.bag(name)
            found[name] = {"kind": bag.meta.kind, "patients": n, "present": int((rows & bag.present).sum()),
                           "failed": int((rows & bag.failed).sum())}  # fmt: skip
    return found
