"""A phase that is one fit: who is shown to it, in pieces, seeded, before the phases that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mmcli.store import Stores
from mmcli.training.batch import Batch
from mmcli.training.data import PartData, data_spec, fit_preparation, fit_tasks, load_cohort
from mmcli.training.engine import PartName, Trainer
from mmcli.training.method import Fitted, MethodSettings


class Sums(Fitted):
    """Keeps what it was shown."""

    name: ClassVar[str] = "sums"

    def __init__(self, spec: Any, settings: Any) -> None:
        super().__init__(spec, settings)
        self.register_buffer("rows", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("drawn", torch.zeros(()))
        self.calls = 0

    def fit(self, train: Iterable[Batch], validation: Iterable[Batch]) -> None:
        """Sums of the rows' numbers, and a random number."""
        self.calls += 1
        assert not torch.is_grad_enabled() and not self.training
        for i, batches in enumerate((train, validation)):
            self.rows[i] = sum(int(batch.rows.sum()) for batch in batches)
        self.drawn.copy_(torch.rand(()))

    def predict(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Nothing."""
        return {}


def test_a_fit_sees_the_labelled_patients_of_each_role_once(
    write_made_store: Callable[..., Path], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    roles, y = np.array([1] * 30 + [2] * 10 + [3] * 20), rng.integers(-1, 2, 60)
    t = rng.normal(size=(60, 2))
    t[:5] = np.nan  # nobody without a modality takes part
    path = write_made_store(tmp_path / "s.h5", {"y": y}, tables={"t": t}, roles=roles)
    found = []
    with Stores([path]) as stores:
        data = load_cohort(stores, ["y"], ["t"], budget=1 << 30, withhold={}, seed=0)
        prepared = fit_preparation(data, roles)
        for seed in (0, 0, 1):
            method = Sums(data_spec(data, prepared, fit_tasks(data, roles), {}), MethodSettings())
            state = Trainer(method, PartData(data, prepared, {}), roles, PartName("cv", 0, seed), tmp_path).train()
            assert method.calls == 1 and state.history == []
            found.append((method.rows.tolist(), float(method.drawn)))
    known = np.flatnonzero(y >= 0)
    expected = [int(known[(known >= 5) & (known < 30)].sum()), int(known[(known >= 30) & (known < 40)].sum())]
    assert [rows for rows, _ in found] == [expected] * 3
    assert found[0] == found[1] and found[0][1] != found[2][1]
