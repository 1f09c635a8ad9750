from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from mmcli.store import Stores
from mmcli.training.batch import Batch
from mmcli.training.checkpoint import LoopState, load_checkpoint, save_checkpoint
from mmcli.training.data import CohortData, PartData, data_spec, fit_preparation, fit_tasks, load_cohort
from mmcli.training.method import Method, MethodSettings
from mmcli.training.predicting import answer, predictions_frame


@pytest.fixture(scope="module")
def bags() -> list[Any]:
    """Ten patients: the third has no slide, the fourth an empty bag."""
    rng = np.random.default_rng(0)
    made: list[Any] = [rng.normal(3, 2, (k, 3)) for k in (2, 5, 1, 0, 4, 3, 3, 2, 6, 1)]
    made[2] = None
    return made


@pytest.fixture(scope="module")
def stores(bags: list[Any], tmp_path_factory: pytest.TempPathFactory, write_made_store: Callable[..., Path]) -> Any:
    """An open store of them; the last three patients test."""
    roles = np.array([1] * 6 + [2, 3, 3, 3])
    path = write_made_store(
        tmp_path_factory.mktemp("d") / "s.h5", {"y": [0, 1, 0, 1, 1, -1, 0, 0, 1, -1]}, {"slide": bags}, roles=roles
    )
    with Stores([path]) as opened:
        yield opened


def view(stores: Stores, budget: int = 1 << 30, **withhold: float) -> tuple[CohortData, PartData]:
    data = load_cohort(stores, ["y"], ["slide"], budget=budget, withhold=withhold, seed=0)
    return data, PartData(data, fit_preparation(data, stores.patients.folds["cv"][:, 0]), {})


def test_bags_are_standardised_by_training_patients_in_memory_and_from_the_file(
    stores: Stores, bags: list[Any]
) -> None:
    train = np.concatenate([b for b in bags[:6] if b is not None]).astype(np.float32)
    rows = np.array([8, 2, 0, 3])
    data, part = view(stores)
    packed = part.batch(rows).bags["slide"]
    expected = (np.concatenate([bags[8], bags[0]]) - train.mean(0)) / train.std(0)
    np.testing.assert_allclose(packed.features.numpy(), expected, atol=1e-5)
    assert packed.offsets.tolist() == [0, 6, 6, 8, 8]
    assert part.roster(rows).present["slide"].tolist() == [True, False, True, False]  # an empty bag is no evidence
    other_data, other = view(stores, budget=0)
    assert data.latents["slide"].features is not None and other_data.latents["slide"].features is None
    assert torch.equal(other.batch(rows).bags["slide"].features, packed.features)


def test_weights_and_priors_are_of_labelled_training_patients(stores: Stores) -> None:
    data, _ = view(stores)
    (task,) = fit_tasks(data, stores.patients.folds["cv"][:, 0])  # 0 1 0 1 1 -1
    assert task.prior == [0.4, 0.6]
    assert task.weights == pytest.approx([5 / 4, 5 / 6])


def test_pieces_hold_all_rows_once(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    _, part = view(stores)
    monkeypatch.setattr("mmcli.training.data.INSTANCES_AT_ONCE", 6)
    pieces = [p.tolist() for p in part.pieces(np.arange(10))]
    assert pieces == [[0], [1, 2, 3], [4], [5, 6], [7], [8], [9]]


def test_withheld_is_not_there(stores: Stores) -> None:
    data, part = view(stores, slide=1.0)
    assert not data.present["slide"].any() and len(part.batch(np.arange(10)).bags["slide"].features) == 0


class Samples(Method):
    """Draws its answers."""

    name: ClassVar[str] = "samples"

    def predict(self, batch: Batch) -> dict[str, dict[str, torch.Tensor]]:
        """(draws, n, K)."""
        return {"": {"y": torch.rand(200, len(batch), 2).softmax(-1)}}


def test_a_method_that_samples_has_an_uncertainty_and_the_prior_where_it_saw_nothing(stores: Stores) -> None:
    data, part = view(stores)
    roles = stores.patients.folds["cv"][:, 0]
    spec = data_spec(data, fit_preparation(data, roles), fit_tasks(data, roles), {})
    method = Samples(spec, MethodSettings())
    frames = [
        predictions_frame(method, part, roles, "y", answer(method, part, np.arange(10), ("key",))) for _ in range(2)
    ]
    assert frames[0].equals(frames[1])  # seeded
    frame = frames[0].set_index("patient_id")
    assert (frame.uncertainty > 0.05).all() and abs(frame.p_yes["p0000"] - 0.5) < 0.05
    assert frame.p_yes["p0002"] == frame.p_yes["p0003"] == pytest.approx(0.6)
    assert list(frame.label[:3]) == ["no", "yes", "no"] and frame.label["p0009"] is None


def test_a_damaged_checkpoint_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    assert load_checkpoint(path) is None
    save_checkpoint(path, LoopState(1, 2, 0.1 + 0.2, history=[{"a": 1 / 3}]), {"w.x": torch.ones(2)}, None, [])
    found = load_checkpoint(path)
    assert found and found.state == LoopState(1, 2, 0.1 + 0.2, history=[{"a": 1 / 3}]) and found.best is None
    assert found.weights["w.x"].tolist() == [1, 1]
    path.write_bytes(path.read_bytes()[:20])
    assert load_checkpoint(path) is None
