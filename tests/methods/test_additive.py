"""Additive fusion: its formula by hand and by a loop over patients, absent modalities, and that it learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mmcli.methods.additive import Additive, AdditiveSettings
from mmcli.settings import TeacherSettings
from mmcli.stages import teacher
from mmcli.store.batch import PackedBag
from mmcli.training.batch import Batch, TableRows
from mmcli.training.spec import BagSpec, DataSpec, TableSpec, TaskSpec

TASK = TaskSpec(name="y", classes=["no", "yes"], ordinal=False, prior=[0.5, 0.5], weights=[1.0, 1.0])


def two_tables(there: list[list[bool]], bag: bool = False) -> tuple[DataSpec, Batch]:
    present = torch.tensor(there)
    n = len(present)
    rng = torch.Generator().manual_seed(0)
    tables = {}
    for i, name in enumerate("ab"):
        shown = present[:, i]
        tables[name] = TableRows(torch.randn(n, 3, generator=rng) * shown[:, None], torch.ones(n, 3), shown)
    bags = {}
    if bag:
        offsets = torch.arange(n + 1) * 2
        bags["slide"] = PackedBag(torch.randn(2 * n, 4, generator=rng), offsets, torch.ones(n, dtype=torch.bool))
    spec = DataSpec(
        bags=[BagSpec(name="slide", kind="slide", dim=4)] if bag else [],
        tables=[TableSpec(name=name, columns=["x", "y", "z"]) for name in "ab"],
        tasks=[TASK],
    )
    return spec, Batch(torch.arange(n), bags, tables, {"y": torch.arange(n) % 2})


def test_weighted_mean_of_the_present_experts_by_hand() -> None:
    """a_1 = e^0 = 1, a_2 = e^ln 3 = 3, scale e^ln 2 = 2: 2 (1 * 4 + 3 * 8) / 4 = 14, and 2 * 4 with the first alone."""
    spec, _ = two_tables([[True, True]])
    network = Additive(spec, AdditiveSettings(joint=False)).network.members[0]
    with torch.no_grad():
        network.importance.copy_(torch.tensor([0.0, np.log(3)]))
        network.scale.fill_(np.log(2))
    flags = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    experts = torch.tensor([[0.0, 4.0], [0.0, 8.0]]).expand(3, 2, 2)
    found = network.fuse(flags, torch.zeros(3, 0), [experts])["y"]
    torch.testing.assert_close(found[:, 1], torch.tensor([14.0, 8.0, 0.0]))


@pytest.mark.parametrize("expert", ["linear", "mlp"])
@pytest.mark.parametrize("joint", [True, False])
def test_what_is_absent_changes_nothing(expert: str, joint: bool) -> None:
    spec, batch = two_tables([[True, True], [True, False], [False, True]], bag=True)
    method = Additive(spec, AdditiveSettings(expert=expert, joint=joint, members=2)).eval()
    for member in method.network.members:
        for head in member.joint:
            torch.nn.init.normal_(head.weight)
    before = method.predict(batch)[""]["y"]
    for i, name in ((1, "b"), (2, "a")):
        batch.tables[name].values[i] = 99.0
    torch.testing.assert_close(method.predict(batch)[""]["y"], before)
    batch.tables["a"].values[1] += 1.0
    assert (method.predict(batch)[""]["y"][1] - before[1]).abs().max() > 1e-6


def test_the_loss_is_a_loop_over_experts() -> None:
    spec, batch = two_tables([[True, True], [True, False], [False, True], [True, True]])
    settings = AdditiveSettings(own_loss=0.7, modality_dropout=0.0)
    method = Additive(spec, settings).eval()
    (network,) = method.network.members
    flags, z, (experts,) = network.parts(batch)
    y = batch.labels["y"]
    expected = torch.nn.functional.cross_entropy(network.fuse(flags, z, [experts])["y"], y)
    for m in range(2):
        rows = [i for i in range(4) if flags[i, m]]
        own = [-experts[i, m].log_softmax(-1)[y[i]] for i in rows]
        expected = expected + 0.7 / 2 * torch.stack(own).mean()
    torch.testing.assert_close(method.loss(batch), expected)


def test_it_is_ahead_of_each_modality_alone(write_made_store: Callable[..., Path], tmp_path: Path) -> None:
    """Two tables, each with evidence of its own; a third of the patients lack one. Mean over seeds."""
    rng = np.random.default_rng(0)
    n, roles = 400, np.repeat([1, 2, 3], [160, 40, 200])
    y = np.arange(n) % 2
    tables = {name: rng.normal(size=(n, 6)) + 0.35 * (2 * y - 1)[:, None] for name in "ab"}
    tables["b"][rng.permutation(n)[: n // 3]] = np.nan
    store = write_made_store(tmp_path / "s.h5", labels={"y": y}, tables=tables, roles=roles)
    found = {}
    for name, method, modalities in (("both", "additive", ["a", "b"]), ("a", "single", ["a"]), ("b", "single", ["b"])):
        out = tmp_path / name
        teacher.run(TeacherSettings(stores=[store], out=out, quiet=True, method=method, modalities=modalities,
                                    set={"epochs": "40", "lr": "3e-3"}, seeds=[0, 1, 2]))  # fmt: skip
        frames = [pd.read_parquet(f) for f in out.glob("cv-0-*/predictions-y.parquet")]
        tests = [f[f["split"] == "test"] for f in frames]
        found[name] = np.mean([roc_auc_score(f["label"] == "yes", f["p_yes"]) for f in tests])
    assert found["both"] > max(found["a"], found["b"]) + 0.02, found
