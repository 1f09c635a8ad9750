"""What holds for every method of train-teacher: any subset of modalities, absent ones masked, few patients learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mmcli.errors import RequestError
from mmcli.methods import METHODS
from mmcli.methods.network import present_flags
from mmcli.settings import TeacherSettings
from mmcli.stages import teacher
from mmcli.store.batch import PackedBag
from mmcli.training.batch import Batch, TableRows
from mmcli.training.method import Fitted, Method
from mmcli.training.spec import BagSpec, DataSpec, TableSpec, TaskSpec

Write = Callable[..., Path]
NETWORKS = ["attention", "early", "gated", "low-rank-tensor", "cross-attention", "mdfn", "lnmp"]
FITTED = ["late", "logistic", "forest", "boosting"]
TASKS = [
    TaskSpec(name="y", classes=["no", "yes"], ordinal=False, prior=[0.5, 0.5], weights=[1.0, 1.0]),
    TaskSpec(name="grade", classes=["a", "b", "c"], ordinal=True, prior=[0.2, 0.3, 0.5], weights=[1.0] * 3),
]
SPEC = DataSpec(bags=[BagSpec(name="slide", kind="slide", dim=4)],
                tables=[TableSpec(name="s", columns=["a", "b", "c"]), TableSpec(name="t", columns=["d"])],
                tasks=TASKS)  # fmt: skip


def patients(present: np.ndarray, seed: int = 0) -> Batch:
    """A patient a row of `present` (n, 3): slide, s, t."""
    n = len(present)
    made, there = torch.Generator().manual_seed(seed), torch.from_numpy(present)
    counts = torch.where(there[:, 0], torch.randint(1, 4, (n,), generator=made), 0)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    bag = PackedBag(torch.randn(int(offsets[-1]), 4, generator=made), offsets, there[:, 0])
    tables = {}
    for i, (name, f) in enumerate({"s": 3, "t": 1}.items(), 1):
        keep = there[:, i : i + 1].float()
        observed = (torch.rand(n, f, generator=made) < 0.8).float() * keep
        tables[name] = TableRows(torch.randn(n, f, generator=made) * observed, observed, there[:, i])
    labels = {t.name: torch.arange(n) % len(t.classes) for t in TASKS}
    return Batch(torch.arange(n), {"slide": bag}, tables, labels)


def ready(name: str, **options: Any) -> Method:
    """The method after a few steps, or fitted."""
    kind = METHODS.get(name)
    torch.manual_seed(0)
    method: Method = kind(SPEC, kind.Settings(**options))
    everyone = patients(np.random.default_rng(0).random((60, 3)) < 0.8)
    if isinstance(method, Fitted):
        with torch.no_grad():
            method.fit([everyone], [])
        return method.eval()
    optimiser = torch.optim.Adam(method.parameters(), 0.01)
    for _ in range(5):
        optimiser.zero_grad()
        with torch.enable_grad():
            method.phases()[0].turns[0].loss(everyone).backward()
        optimiser.step()
    return method.eval()


@pytest.mark.parametrize("name", NETWORKS + FITTED)
@torch.no_grad()
def test_any_subset_and_nothing_of_what_is_absent(name: str) -> None:
    present = np.array(list(product([True, False], repeat=3)))
    method, batch = ready(name), patients(present)
    found = method.predict(batch)[""]
    for task in TASKS:
        p = found[task.name]
        assert p.shape == (8, len(task.classes)) and torch.isfinite(p).all()
        torch.testing.assert_close(p.sum(-1), torch.ones(8, dtype=p.dtype))
    # Whatever lies in a row that is not present: nothing changes.
    dirty = {n: replace(t, values=torch.where(t.present.unsqueeze(-1), t.values, 1e3)) for n, t in batch.tables.items()}
    if name not in ("late", "logistic", "forest", "boosting", "mdfn"):  # these mask rows, those also need holes at 0
        dirty = batch.tables
    again = method.predict(Batch(batch.rows, batch.bags, dirty, batch.labels))[""]
    alone = [method.predict(patients_of(batch, i))[""] for i in range(8)]
    for task in TASKS:
        torch.testing.assert_close(again[task.name], found[task.name])
        torch.testing.assert_close(torch.cat([a[task.name] for a in alone]), found[task.name], atol=1e-5, rtol=1e-5)
    # What is present does matter.
    other = method.predict(patients(present, seed=1))[""]["y"]
    assert (other[:7] - found["y"][:7]).abs().max() > 1e-4


def patients_of(batch: Batch, i: int) -> Batch:
    """One patient of a batch."""
    bag = batch.bags["slide"]
    a, b = int(bag.offsets[i]), int(bag.offsets[i + 1])
    one = PackedBag(bag.features[a:b], torch.tensor([0, b - a]), bag.present[i : i + 1])
    s = slice(i, i + 1)
    tables = {n: TableRows(t.values[s], t.observed[s], t.present[s]) for n, t in batch.tables.items()}
    return Batch(batch.rows[s], {"slide": one}, tables, {t: y[s] for t, y in batch.labels.items()})


@pytest.mark.parametrize("name", ["attention", "gated", "cross-attention", "mdfn", "lnmp"])
def test_hidden_in_training_is_absent(name: str) -> None:
    """With the flag off, what the modality holds changes neither the loss nor any gradient."""
    present = np.ones((12, 3), bool)
    first, second = patients(present), patients(present)
    second.tables["s"].values[:] = 7.0
    for batch in (first, second):
        batch.tables["s"].present[:] = False
    if name not in ("mdfn",):
        second.tables["s"].observed[:] = first.tables["s"].observed
    results = []
    for batch in (first, second):
        kind = METHODS.get(name)
        torch.manual_seed(0)
        method = kind(SPEC, kind.Settings())
        torch.manual_seed(1)
        loss = method.phases()[0].turns[0].loss(batch)
        loss.backward()
        results.append((loss.detach(), [p.grad for p in method.parameters()]))
    assert torch.equal(results[0][0], results[1][0])
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert (a is None) == (b is None) and (a is None or torch.equal(a, b))


def test_modality_dropout_hides_its_share_and_never_all() -> None:
    torch.manual_seed(0)
    present = np.random.default_rng(0).random((4000, 3)) < 0.7
    batch = patients(present)
    flags = present_flags(batch, SPEC.modalities, 0.4)
    there = torch.from_numpy(present)
    assert not (flags & ~there).any() and (flags.any(1) == there.any(1)).all()
    several = there.all(1)
    # Of three, all are hidden with chance .064, and then none: 1 - (.4 - .064).
    assert abs(float(flags[several].float().mean()) - 0.664) < 0.02
    assert torch.equal(present_flags(batch, SPEC.modalities), there)


def test_every_method_overfits_32_patients(write_made_store: Write, tmp_path: Path) -> None:
    """Labels at random; for the regressions, whose penalty is chosen to prevent it, labels that the table tells."""
    rng = np.random.default_rng(0)
    roles = np.array([1] * 32 + [2] * 8 + [3] * 8)
    slides: list[Any] = [rng.normal(size=(rng.integers(2, 9), 8)) for _ in roles]
    table = rng.normal(size=(48, 12))
    y, told = np.arange(48) // 2 % 2, (table[:, 0] > 0).astype(int)
    full = {"patience": "0", "dropout": "0", "epochs": "60", "lr": "0.01", "weight_decay": "0"}
    for name in [*NETWORKS, "single", *FITTED]:
        options = full if name in (*NETWORKS, "single") else {}
        if name in NETWORKS:
            options = options | {"modality_dropout": "0"}
        if name == "boosting":
            options = {"leaf": "1"}
        labels = told if name in ("late", "logistic") else y
        store = write_made_store(tmp_path / f"{name}.h5", {"y": labels}, {"slide": slides}, {"t": table}, roles)
        out = tmp_path / name
        modalities = ["slide"] if name == "single" else []
        teacher.run(
            TeacherSettings(stores=[store], out=out, quiet=True, method=name, set=options, modalities=modalities)
        )
        frame = pd.read_parquet(out / "cv-0-seed-0/predictions-y.parquet")
        frame = frame[frame.split == "train"]
        assert roc_auc_score(frame.label == "yes", frame.p_yes) > 0.99, name


def test_requests_that_a_method_cannot_meet(write_made_store: Write, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bags = {n: [rng.normal(size=(2, 3)) for _ in range(40)] for n in ("slide", "he")}
    tables = {n: rng.normal(size=(40, 3)) for n in "tuvwx"}
    store = write_made_store(tmp_path / "s.h5", {"y": np.arange(40) % 2}, bags, tables)
    cases: list[tuple[str, list[str], dict[str, str], str]] = [
        ("single", [], {}, "takes one modality, here are 7"),
        ("lnmp", [], {}, r"takes one modality of instances and tables, here are 2 \(he, slide\)"),
        ("lnmp", ["t", "u"], {}, "`mmcli extract-features` makes one, and `attention` takes tables alone"),
        ("cross-attention", ["t", "u"], {"heads": "5"}, "does not divide width=32"),
        ("mdfn", list("tuvwx"), {"low_rank": "false"}, "the full product of 5 modalities has 39,135,393 numbers"),
        ("mdfn", list("tuv"), {"width": "300"}, "the full product of 3 modalities has 27,270,901 numbers"),
    ]
    for method, modalities, options, problem in cases:
        out = tmp_path / "run"
        with pytest.raises(RequestError, match=problem):
            teacher.run(TeacherSettings(stores=[store], out=out, method=method, modalities=modalities, set=options))
        assert not out.exists()
