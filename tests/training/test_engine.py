"""The loop with a small method: what learns, what rests, when it stops, and that it goes on to the same bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmcli.errors import RequestError
from mmcli.store import Stores
from mmcli.training import engine, turns
from mmcli.training.checkpoint import load_checkpoint
from mmcli.training.data import PartData, data_spec, fit_preparation, fit_tasks, load_cohort
from mmcli.training.engine import CHECKPOINT, PartName, Trainer
from mmcli.training.method import (
    Method,
    MethodSettings,
    Optimiser,
    Phase,
    Turn,
    method_settings,
    probabilities,
    weighted_cross_entropy,
)

NAME = PartName("cv", 0, 0)


class Two(Method):
    """Two linear layers and a memory."""

    name: ClassVar[str] = "two"
    Settings: ClassVar[type[MethodSettings]] = MethodSettings

    def __init__(self, spec: Any, settings: Any, phases: list[dict[str, Any]]) -> None:
        super().__init__(spec, settings)
        width = len(spec.tables[0].columns)
        self.a, self.b = nn.Linear(width, 4), nn.Sequential(nn.Dropout(0.3), nn.Linear(4, 2))
        self.register_buffer("steps", torch.zeros(()))
        self.wanted = phases
        self.seen: list[tuple[str, bool, bool, bool]] = []

    def logits(self, batch: Any) -> dict[str, Tensor]:
        """(n, 2)."""
        return {"y": self.b(self.a(batch.tables["t"].values))}

    def loss(self, batch: Any) -> Tensor:
        """Cross entropy."""
        if torch.is_grad_enabled():
            learns = [next(m.parameters()).requires_grad for m in (self.a, self.b)]
            self.seen.append(("step", *learns, self.b.training))
        return weighted_cross_entropy(self.spec, self.logits(batch), batch)

    def phases(self) -> list[Phase]:
        """As the test says."""
        defaults: dict[str, Any] = {"epochs": 6, "patience": 0, "batch": 8}
        return [
            Phase(turns=[Turn(t, self.loss, o) for t, o in p.pop("turns")], **(defaults | p))
            for p in [dict(p) for p in self.wanted]
        ]

    def predict(self, batch: Any) -> dict[str, dict[str, Tensor]]:
        """Softmax."""
        return {"": probabilities(self.logits(batch))}

    def after_step(self, phase: Phase, batch: Any) -> None:
        """Count."""
        self.steps += 1


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, write_made_store: Callable[..., Path]) -> Any:
    """(data, roles, spec) of 60 patients with a table."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    x = rng.normal(size=(60, 3)) + y[:, None] * [1.0, 0, 0]
    path = write_made_store(tmp_path_factory.mktemp("engine") / "s.h5", {"y": y}, tables={"t": x})
    with Stores([path]) as stores:
        data = load_cohort(stores, ["y"], ["t"], budget=1 << 30, withhold={}, seed=0)
        roles = stores.patients.folds["cv"][:, 0]
    prepared = fit_preparation(data, roles)
    return PartData(data, prepared, {}), roles, data_spec(data, prepared, fit_tasks(data, roles), {})


def trained(made: Any, phases: list[dict[str, Any]], folder: Path | None = None) -> tuple[Two, Trainer]:
    data, roles, spec = made
    torch.manual_seed(5)
    method = Two(spec, MethodSettings(), phases)
    trainer = Trainer(method, data, roles, NAME, folder)
    trainer.train()
    return method, trainer


ADAM, SGD = Optimiser("adamw", 1e-2), Optimiser("sgd", 1e-2, momentum=0.9)


def test_a_phase_trains_its_modules_and_leaves_the_rest_alone(made: Any) -> None:
    before, _ = trained(made, [])
    method, _ = trained(made, [{"name": "one", "turns": [(["a"], ADAM)]}])
    assert set(method.seen) == {("step", True, False, False)}  # b is frozen, and its dropout rests
    assert not torch.equal(method.a.weight, before.a.weight)
    assert torch.equal(method.b[1].weight, before.b[1].weight)
    assert all(p.requires_grad for p in method.parameters()) and not method.training


def test_turns_alternate_in_steps_and_in_epochs(made: Any) -> None:
    turns = [(["a"], ADAM), (["b"], SGD)]
    steps = len(trained(made, [{"name": "one", "turns": turns[:1]}])[0].seen) // 6
    a, b = ("step", True, False, False), ("step", False, True, True)
    assert trained(made, [{"name": "one", "turns": turns}])[0].seen == [a, b] * (6 * steps)
    slow = [(["a"], ADAM), (["b"], Optimiser("sgd", 1e-3))]
    by_epoch, trainer = trained(made, [{"name": "one", "turns": slow, "alternate": "epoch"}])
    assert by_epoch.seen == ([a] * steps + [b] * steps) * 3
    assert [row["lr"] for row in trainer.state.history] == [1e-2, 1e-3] * 3  # of whoever moved


def test_the_kept_weights_are_those_of_the_best_validation_loss(made: Any) -> None:
    hot = Optimiser("sgd", 1.0)
    phase = {"name": "one", "turns": [([""], hot)], "epochs": 200, "patience": 3}
    method, trainer = trained(made, [phase])
    losses = [row["validation_loss"] for row in trainer.state.history]
    assert len(losses) < 200 and len(losses) - 1 - int(np.argmin(losses)) == 3
    rows = trainer.rows(method.phases()[0], 2)
    with torch.no_grad():
        assert float(method.loss(made[0].batch(rows))) == pytest.approx(min(losses), rel=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "plateau"])
def test_resumed_after_any_epoch_it_ends_with_the_same_bits(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: Any
) -> None:
    adam = Optimiser("adamw", 1e-2, 1e-2, schedule=schedule, warmup=2, plateau=1)
    phases = [
        {"name": "one", "turns": [([""], adam)], "patience": 4},
        {"name": "two", "turns": [(["a"], SGD), (["b"], adam)]},
    ]
    whole, reference = trained(made, phases)
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY_S", 0.0)
    real = engine.checkpoints.save_checkpoint
    for stop_after in (1, 4, 7, 9):
        saves = 0

        def dies(*args: Any, last: int = stop_after) -> None:
            nonlocal saves
            real(*args)
            saves += 1
            if saves == last:
                raise KeyboardInterrupt

        folder = tmp_path / str(stop_after)
        folder.mkdir()
        monkeypatch.setattr(engine.checkpoints, "save_checkpoint", dies)
        with pytest.raises(KeyboardInterrupt):
            trained(made, phases, folder)
        assert (folder / CHECKPOINT).exists()
        monkeypatch.setattr(engine.checkpoints, "save_checkpoint", real)
        again, resumed = trained(made, phases, folder)
        assert len(again.seen) < len(whole.seen)  # it did not start from the beginning
        assert resumed.state.history == reference.state.history
        for name, value in whole.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), name


def test_a_loss_that_is_not_finite_stops_with_epoch_batch_and_rate(made: Any, tmp_path: Path) -> None:
    class Breaks(Two):
        def loss(self, batch: Any) -> Tensor:
            return super().loss(batch) * (math.nan if len(self.seen) > 8 else 1.0)

    data, roles, spec = made
    torch.manual_seed(5)
    method = Breaks(spec, MethodSettings(), [{"name": "one", "turns": [([""], ADAM)]}])
    with pytest.raises(
        RequestError, match=r"loss of 'one' became nan in batch 3 of 5, in epoch 1 at .* 0.01; .*--set lr"
    ) as error:
        Trainer(method, data, roles, NAME, tmp_path).train()
    assert f"{tmp_path / CHECKPOINT} holds the state before that epoch" in str(error.value)
    assert "\n" not in str(error.value)
    kept = load_checkpoint(tmp_path / CHECKPOINT)
    assert kept is not None and kept.state.epoch == 1
    one, _ = trained(made, [{"name": "one", "turns": [([""], ADAM)], "epochs": 1}])
    assert all(torch.equal(kept.weights[n], t) for n, t in one.state_dict().items())


def test_the_loss_of_any_turn_stops_it(made: Any) -> None:
    class Breaks(Two):
        def phases(self) -> list[Phase]:
            second = Turn(["b"], lambda batch: super(Breaks, self).loss(batch) * math.nan, SGD)
            return [Phase("one", [Turn(["a"], self.loss, ADAM), second], 1, 0, 8)]

    data, roles, spec = made
    with pytest.raises(RequestError, match=r"loss of 'one' became nan in batch 0 of 5, in epoch 0"):
        Trainer(Breaks(spec, MethodSettings(), []), data, roles, NAME).train()


def test_an_infinite_validation_loss_stops_too(made: Any) -> None:
    phase = {"name": "one", "turns": [([""], ADAM)], "monitor": lambda batch: torch.tensor(math.inf)}
    with pytest.raises(RequestError, match=r"validation loss of .one. became inf in epoch 0 at learning rate"):
        trained(made, [phase])


def test_the_history_has_the_validation_auc(made: Any) -> None:
    from sklearn.metrics import roc_auc_score

    phase = {"name": "one", "turns": [([""], ADAM)], "epochs": 4}
    method, trainer = trained(made, [phase])
    data, roles, _ = made
    rows = np.flatnonzero(roles == 2)
    with torch.no_grad():
        p = method.predict(data.batch(rows))[""]["y"][:, 1].numpy()
    expected = roc_auc_score(data.labels["y"].numpy()[rows], p)
    assert trainer.state.history[-1]["validation_auc"] == pytest.approx(expected)
    unwatched, other = trained(made, [phase | {"watch": False}])
    assert other.state.history[-1]["validation_auc"] is None
    assert torch.equal(unwatched.a.weight, method.a.weight)  # looking changes nothing


def test_weighted_sampling_shows_every_class_equally_often(made: Any) -> None:
    data, roles, _ = made
    rows = np.flatnonzero(roles == 1)
    y = data.labels["y"].numpy()
    rows = np.concatenate([rows[y[rows] == 0], rows[y[rows] == 1][:4]])
    phase = Phase("one", [], 1, 0, 8, sampler="weighted")
    trainer = Trainer(trained(made, [])[0], data, roles, NAME)
    shown = []
    for trainer.state.epoch in range(300):
        pieces = trainer.steps(phase, rows)
        assert sum(map(len, pieces)) == len(rows)
        shown += list(np.concatenate(pieces))
    counts = np.bincount(y[shown])
    assert abs(counts[1] / counts.sum() - 0.5) < 4 * 0.5 / math.sqrt(counts.sum())
    np.testing.assert_allclose(turns.balanced([np.array([0, 0, 0, 1, -1])]), np.array([5, 5, 5, 15, 7.5]) / 37.5 * 1.0)
    again = trainer.steps(phase, rows)
    assert all(np.array_equal(a, b) for a, b in zip(again, trainer.steps(phase, rows), strict=True))


def test_bf16_computes_in_bf16_and_keeps_float32(made: Any) -> None:
    seen = []

    class Sees(Two):
        def logits(self, batch: Any) -> dict[str, Tensor]:
            found = super().logits(batch)
            seen.append((torch.is_grad_enabled(), found["y"].dtype))
            return found

    data, roles, spec = made
    phases = [{"name": "one", "turns": [([""], ADAM)], "epochs": 20}]
    torch.manual_seed(5)
    method = Sees(spec, MethodSettings(), phases)
    trainer = Trainer(method, data, roles, NAME, precision=torch.bfloat16)
    trainer.train()
    assert set(seen) == {(True, torch.bfloat16), (False, torch.float32)}
    assert {p.dtype for p in method.parameters()} == {torch.float32}
    _, exact = trained(made, phases)
    losses = [[h["validation_loss"] for h in t.state.history] for t in (trainer, exact)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)
    assert losses[0] != losses[1]


def test_a_phase_that_nobody_can_take_part_in(made: Any) -> None:
    nobody = {"name": "pairs", "turns": [([""], ADAM)], "who": lambda roster: torch.zeros(len(roster.labelled)).bool()}
    with pytest.raises(RequestError, match="fold 0 of 'cv': no training patient can take part in 'pairs'"):
        trained(made, [nobody])


def test_settings_from_text() -> None:
    from mmcli.methods.attention import Attention

    assert method_settings(Attention, {"width": "8", "class_weights": "false"}).width == 8
    for given, message in (({"widht": "8"}, "did you mean 'width'"), ({"width": "no"}, "--set width=no"),
                           ({"schedule": "steps"}, "--set schedule=steps")):  # fmt: skip
        with pytest.raises(RequestError, match=message):
            method_settings(Attention, given)


def test_weighted_cross_entropy_is_scikit_learns(made: Any) -> None:
    from sklearn.metrics import log_loss
    from sklearn.utils.class_weight import compute_class_weight

    data, roles, spec = made
    rows = np.flatnonzero(roles == 1)
    y = data.labels["y"].numpy()[rows]
    balanced = compute_class_weight("balanced", classes=np.array([0, 1]), y=y)
    np.testing.assert_allclose(spec.tasks[0].weights, balanced)
    logits = torch.randn(len(rows), 2, dtype=torch.float64)
    ours = float(weighted_cross_entropy(spec, {"y": logits}, data.batch(rows)))
    assert ours == pytest.approx(log_loss(y, logits.softmax(-1).numpy(), sample_weight=balanced[y]))


def test_a_step_of_very_large_bags_becomes_several(
    made: Any, write_made_store: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmcli.methods.attention import Attention

    path = write_made_store(tmp_path / "s.h5", {"y": [0, 1] * 10}, {"slide": [np.ones((4, 2))] * 20})
    with Stores([path]) as stores:
        data = load_cohort(stores, ["y"], ["slide"], budget=1 << 30, withhold={}, seed=0)
        roles = stores.patients.folds["cv"][:, 0]
    prepared = fit_preparation(data, roles)
    method = Attention(data_spec(data, prepared, fit_tasks(data, roles), {}), Attention.Settings(epochs=1))
    sizes: list[int] = []
    monkeypatch.setattr(method, "after_step", lambda phase, batch: sizes.append(len(batch.bags["slide"].features)))
    monkeypatch.setattr("mmcli.training.data.INSTANCES_AT_ONCE", 10)
    Trainer(method, PartData(data, prepared, {}), roles, NAME).train()
    assert max(sizes) == 8 and sum(sizes) == 4 * int((roles == 1).sum())


def test_pooling_of_large_bags_in_bf16_keeps_its_digits() -> None:
    from mmcli.methods.branches import BagBranch
    from mmcli.store.batch import PackedBag

    torch.manual_seed(0)
    branch = BagBranch(16, 8, 0.0)
    bag = PackedBag(torch.randn(6000, 16), torch.tensor([0, 5000, 6000]), torch.ones(2, dtype=torch.bool))
    exact = branch(bag)
    with torch.autocast("cpu", torch.bfloat16):
        ours, weights = branch(bag), branch.attention(bag)
    assert weights.dtype == torch.float32 and float(weights[:5000].detach().sum()) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(ours, exact, rtol=0.02, atol=0.01)


def test_a_batch_without_a_label_has_no_loss(made: Any) -> None:
    data, _, spec = made
    batch = data.batch(np.arange(6))
    batch.labels["y"].fill_(-1)
    logits = torch.randn(6, 2, requires_grad=True)
    loss = weighted_cross_entropy(spec, {"y": logits}, batch)
    loss.backward()
    assert float(loss.detach()) == 0 and logits.grad is not None and not logits.grad.any()
