"""The stack's inputs are the parts' batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmcli.methods import METHODS
from mmcli.store import Stores
from mmcli.training.data import PartData, data_spec, fit_preparation, fit_tasks, load_cohort
from mmcli.training.engine import PartName, Trainer
from mmcli.training.stacked_tables import StackedTables


def test_inputs_are_batches(tmp_path: Path, write_made_store: Callable[..., Path]) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    a[::7], b[rng.random(b.shape) < 0.3] = np.nan, np.nan
    labels = {"y": np.arange(40) % 2, "z": np.arange(40) % 3 - 1}
    store = write_made_store(tmp_path / "s.h5", labels, tables={"a": a, "b": b})
    trainers: list[Trainer] = []
    with Stores([store]) as stores:
        data = load_cohort(stores, ["y", "z"], ["a", "b"], budget=1 << 30, withhold={}, seed=0)
        kind: Any = METHODS.get("attention")
        for k in (0, 1):
            roles = stores.patients.folds["cv"][:, k]
            prepared = fit_preparation(data, roles)
            spec = data_spec(data, prepared, fit_tasks(data, roles), {})
            method = kind(spec, kind.Settings())
            trainers.append(Trainer(method, PartData(data, prepared, {}), roles, PartName("cv", k, 0)))
    tables = StackedTables(trainers)
    chosen = [np.array([3, 14, 39, 7]), np.array([0, 3])]
    for parts in ([0, 1], [1]):
        if parts == [1]:
            tables.keep(parts)
        inputs = tables.inputs([chosen[k] for k in parts], 5)
        for i, k in enumerate(parts):
            n, batch = len(chosen[k]), trainers[k].data.batch(chosen[k])
            assert torch.equal(inputs["rows"][i, :n], batch.rows)
            for name, table in batch.tables.items():
                for what in ("values", "observed", "present"):
                    assert torch.equal(inputs[what][name][i, :n], getattr(table, what))
                    assert not inputs[what][name][i, n:].any()
            for task, y in batch.labels.items():
                assert torch.equal(inputs["labels"][task][i, :n], y) and (inputs["labels"][task][i, n:] == -1).all()
            for task in trainers[k].method.spec.tasks:
                assert torch.equal(inputs["weights"][task.name][i], torch.tensor(task.weights))
