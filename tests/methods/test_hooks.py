"""What a method shows beside its predictions: attention over the instances, latents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmcli.methods import METHODS
from mmcli.store.batch import PackedBag
from mmcli.training.batch import Batch, TableRows
from mmcli.training.method import Method
from mmcli.training.spec import BagSpec, DataSpec, TableSpec, TaskSpec

COUNTS = [3, 0, 1, 6]
TASK = TaskSpec(name="y", classes=["no", "yes"], ordinal=False, prior=[0.5, 0.5], weights=[1.0, 1.0])
BAGS = {"slide": 5, "ct": 4}


def make(name: str, inferior: str = "ct") -> Method:
    """A method on the bags slide and ct and, where it has a part to play, the table t."""
    guided = name == "deep-guide"
    spec = DataSpec(
        bags=[BagSpec(name=n, kind="slide", dim=d) for n, d in BAGS.items()],
        tables=[] if guided and inferior != "t" else [TableSpec(name="t", columns=["a"])],
        tasks=[TASK],
        roles={"superior": "slide", "inferior": inferior} if guided else {},
    )
    kind = METHODS.get(name)
    torch.manual_seed(0)
    method: Method = kind(spec, kind.Settings())
    return method.eval()


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    offsets = torch.tensor([0, *np.cumsum(COUNTS).tolist()])
    present = offsets.diff() > 0
    bags = {n: PackedBag(3 * torch.randn(10, d, generator=generator), offsets, present) for n, d in BAGS.items()}
    table = TableRows(torch.randn(4, 1, generator=generator), torch.ones(4, 1), torch.ones(4, dtype=torch.bool))
    return Batch(torch.arange(4), bags, {"t": table}, {"y": torch.zeros(4, dtype=torch.int64)})


@pytest.mark.parametrize("name", ["attention", "kd", "deep-guide", "mdfn", "gated", "cross-attention"])
@torch.no_grad()
def test_weights_of_a_patients_bag_sum_to_one(name: str) -> None:
    found = make(name).attention(batch())
    assert set(found) == {"slide", "ct"}
    for weights in found.values():
        assert weights.shape == (10,) and (weights >= 0).all() and weights[3] == 1  # a bag of one
        sums = [float(bag.sum()) for bag in weights.split(COUNTS)]
        assert sums == pytest.approx([1, 0, 1, 1])
        assert float(weights[4:].max() - weights[4:].min()) > 1e-4


@torch.no_grad()
def test_they_are_the_weights_that_the_prediction_uses() -> None:
    """sum_k a_k relu(W x_k + b) is the modality's latent in `joint`, in the order of the modalities."""
    method: Any = make("attention")
    data = batch()
    joint, width = method.latents(data)["joint"], method.settings.width
    for i, modality in enumerate(BAGS):
        bag = data.bags[modality]
        h = method.network.branches.branches[i].project[0](bag.features).relu()
        parts = (method.attention(data)[modality].unsqueeze(-1) * h).split(COUNTS)
        z = torch.stack([part.sum(0) for part in parts])
        torch.testing.assert_close(joint[:, i * width : (i + 1) * width], z)


@torch.no_grad()
def test_deep_guide_attends_where_it_pools_bags() -> None:
    assert list(make("deep-guide", "t").attention(batch())) == ["slide"]


def test_a_method_without_attention_or_latents_says_nothing() -> None:
    class Bare(Method):
        """A method of nothing."""

        name = "bare"

        def predict(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
            return {}

    bare = Bare(DataSpec(bags=[], tables=[], tasks=[TASK]), None)
    assert bare.attention(batch()) == {} and bare.latents(batch()) == {}
