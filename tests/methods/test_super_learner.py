"""The super learner: its combination by hand and by a grid, what it holds out, and that it finds the better model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mmcli.errors import RequestError
from mmcli.methods import METHODS
from mmcli.methods.super_learner import SMALLEST, SuperLearner, SuperLearnerSettings, combine, pooled_votes, summarised
from mmcli.settings import TeacherSettings
from mmcli.stages import teacher
from mmcli.store import Stores
from mmcli.store.batch import PackedBag
from mmcli.training.batch import Batch, TableRows
from mmcli.training.data import PartData, load_cohort
from mmcli.training.part import read_part
from mmcli.training.spec import DataSpec, TableSpec, TaskSpec

HALF = np.array([0.5, 0.5])


def log_p(log_odds: np.ndarray) -> np.ndarray:
    """(n, J) log-odds to log p (n, J, 2)."""
    return np.stack([-np.logaddexp(0, log_odds), -np.logaddexp(0, -log_odds)], -1)


def test_votes_are_pooled_over_those_who_are_there() -> None:
    """(1 * 2 + 3 * 6) / 4 = 5; without the second 2; without any nothing."""
    votes = torch.tensor([[[0.0, 2.0], [0.0, 6.0]]], dtype=torch.float64).expand(3, 2, 2)
    there = torch.tensor([[True, True], [True, False], [False, False]])
    found = pooled_votes(there, votes, torch.tensor([0.25, 0.75], dtype=torch.float64))
    assert found[:, 1].tolist() == pytest.approx([5, 2, 0])


def test_weights_and_scale_are_the_best_of_a_grid() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=800)
    y = (rng.random(800) < 1 / (1 + np.exp(-2 * truth))).astype(np.int64)
    # The second learner says the same with much more noise.
    odds = np.stack([truth + 0.5 * rng.normal(size=800), truth + 1.5 * rng.normal(size=800)], 1)
    there = np.ones((800, 2), dtype=bool)
    w, scale = combine(there, log_p(odds), y, HALF, penalty=0.0)
    assert w.sum() == pytest.approx(1) and w[0] > 0.75

    def loss(first: float, s: float) -> float:
        return float(np.logaddexp(0, -s * (2 * y - 1) * (odds @ [first, 1 - first])).mean())

    grid = min((loss(a, s), a, s) for a in np.linspace(0, 1, 101) for s in np.linspace(0.5, 3, 51))
    assert loss(w[0], scale) <= grid[0] + 1e-6
    assert w[0] == pytest.approx(grid[1], abs=0.02) and scale == pytest.approx(grid[2], abs=0.06)


def test_a_large_penalty_leaves_them_alike() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 300)
    odds = np.stack([(2 * y - 1) + 2 * rng.normal(size=300), rng.normal(size=300)], 1)
    w, scale = combine(np.ones((300, 2), dtype=bool), log_p(odds), y, HALF, penalty=1e6)
    assert w == pytest.approx([0.5, 0.5], abs=1e-3) and scale == pytest.approx(1, abs=1e-2)


def test_a_bag_is_summarised_by_its_mean() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 5.0]])
    there = torch.tensor([True, False, True])
    bag = PackedBag(x, torch.tensor([0, 2, 2, 3]), there)
    found = summarised(Batch(torch.arange(3), {"b": bag}, {}, {})).bags["b"]
    assert found.features.tolist() == [[2.0, 4.0], [5.0, 5.0]] and found.offsets.tolist() == [0, 1, 1, 2]


def test_held_out_patients_are_not_seen() -> None:
    """Labels of noise: a forest knows them by heart, held-out predictions do not, so that its evidence is shrunk."""
    rng = np.random.default_rng(2)
    x = torch.from_numpy(rng.normal(size=(120, 6)).astype(np.float32))
    task = TaskSpec(name="y", classes=["no", "yes"], ordinal=False, prior=[0.5, 0.5], weights=[1.0, 1.0])
    spec = DataSpec(bags=[], tables=[TableSpec(name="t", columns=list("abcdef"))], tasks=[task])
    there = torch.ones(120, dtype=torch.bool)
    labels = torch.from_numpy(rng.permutation(np.arange(120) % 2))
    batch = Batch(torch.arange(120), {}, {"t": TableRows(x, torch.ones(120, 6), there)}, {"y": labels})
    torch.manual_seed(0)
    learner = SuperLearner(spec, SuperLearnerSettings(learners="forest", trees=50, penalty=0.1))
    learner.fit(iter([batch]), iter([]))
    assert learner.scale.item() < 0.4


def test_it_follows_the_better_learner() -> None:
    """A product of two columns, which only trees see, then a sum, which regressions see better. Over seeds."""
    task = TaskSpec(name="y", classes=["no", "yes"], ordinal=False, prior=[0.5, 0.5], weights=[1.0, 1.0])
    spec = DataSpec(bags=[], tables=[TableSpec(name=t, columns=list("xyz")) for t in "ab"], tasks=[task])
    found: dict[tuple[str, str], list[float]] = {}
    for kind in ("product", "sum"):
        for seed in range(2):
            rng = np.random.default_rng(seed)
            a, b = (rng.normal(size=(260, 3)).astype(np.float32) for _ in range(2))
            score = 2 * a[:, 0] * np.sign(a[:, 1]) if kind == "product" else (a + b).sum(1) / 2
            y = (score + 0.5 * rng.normal(size=260) > 0).astype(np.int64)
            train, test = (batch_of({"a": a[rows], "b": b[rows]}, y[rows]) for rows in (slice(110), slice(110, None)))
            torch.manual_seed(seed)
            learner = SuperLearner(spec, SuperLearnerSettings(learners="late,forest", trees=20, folds=2))
            learner.fit(iter([train]), iter([]))
            for name, model in (("super-learner", learner), *learner.models.items()):
                p = model.predict(test)[""]["y"][:, 1]
                found.setdefault((kind, name), []).append(roc_auc_score(y[110:], p))
    mean = {key: float(np.mean(values)) for key, values in found.items()}
    for kind, better, worse in (("product", "forest", "late"), ("sum", "late", "forest")):
        assert mean[kind, better] > mean[kind, worse] + 0.02
        assert mean[kind, "super-learner"] > mean[kind, better] - 0.02
        assert mean[kind, "super-learner"] > mean[kind, worse] + 0.02


def test_a_network_is_a_learner_like_the_others(write_made_store: Callable[..., Path], tmp_path: Path) -> None:
    """The trained part's prediction is the prior and the mean evidence of its two models; the network's classes were
    weighted alike, so that its evidence is log p - log 1/2."""
    rng = np.random.default_rng(3)
    y = (rng.random(90) < 0.3).astype(np.int64)
    bags: list[Any] = [rng.normal(size=(3, 4)) + label for label in y]
    roles = np.array([1] * 60 + [2] * 15 + [3] * 15)
    store = write_made_store(tmp_path / "s.h5", {"y": y}, {"b": bags}, {"t": rng.normal(size=(90, 3))}, roles)
    given: dict[str, Any] = {"stores": [store], "label": ["y"], "quiet": True, "method": "super-learner"}
    options = {"learners": "late,gated", "weights": "equal"}
    teacher.run(TeacherSettings(**given, out=tmp_path / "run", set=options))
    folder = tmp_path / "run/cv-0-seed-0"
    frame = pd.read_parquet(folder / "predictions-y.parquet").set_index("patient_id")
    part = read_part(folder, METHODS)
    assert [phase.name for phase in part.method.phases()] == ["fit", "gated"]
    epochs = pd.read_csv(folder / "history.csv")
    assert len(epochs) > 2 and epochs["train_loss"].iloc[-1] < epochs["train_loss"].iloc[0]
    with Stores([store]) as stores:
        data = load_cohort(stores, ["y"], ["b", "t"], budget=1 << 30, withhold={}, seed=0)
        batch = PartData(data, part.prepared, {}).batch(np.arange(90))
        late, gated = (part.method.models[name].eval() for name in ("late", "gated"))
        with torch.no_grad():
            p = [model.predict(batch)[""]["y"].clamp(min=SMALLEST) for model in (late, gated)]
    prior = torch.tensor(part.method.spec.tasks[0].prior, dtype=torch.float64)
    assert prior[1] != 0.5
    logits = prior.log() + ((p[0] / prior).log() + (p[1] / 0.5).log()) / 2
    assert frame["p_yes"].to_numpy() == pytest.approx(logits.softmax(-1)[:, 1].numpy(), abs=1e-6)


def test_weights_are_not_learned_for_a_network() -> None:
    with pytest.raises(RequestError, match="'gated' is trained once; add --set weights=equal"):
        SuperLearner.check(["b"], ["t"], SuperLearnerSettings(learners="late,gated"))
    SuperLearner.check(["b"], ["t"], SuperLearnerSettings(learners="late,gated", weights="equal"))


def batch_of(tables: dict[str, np.ndarray], y: np.ndarray) -> Batch:
    there = torch.ones(len(y), dtype=torch.bool)
    rows = {n: TableRows(torch.from_numpy(x), torch.ones(x.shape), there) for n, x in tables.items()}
    return Batch(torch.arange(len(y)), {}, rows, {"y": torch.from_numpy(y)})
