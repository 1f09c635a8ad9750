"""MDFN against the paper's numbers, and each part against its ablation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mmcli.methods.mdfn import MDFN, MDFNSettings
from mmcli.settings import TeacherSettings
from mmcli.stages import teacher
from mmcli.store.batch import PackedBag
from mmcli.training.batch import Batch, TableRows
from mmcli.training.spec import BagSpec, DataSpec, TableSpec, TaskSpec

Write = Callable[..., Path]
TASK = TaskSpec(name="origin", classes=list("abcde"), ordinal=False, prior=[0.2] * 5, weights=[1.0] * 5)
PAPER = DataSpec(bags=[BagSpec(name="bus", kind="image", dim=1024), BagSpec(name="cdfi", kind="image", dim=1024)],
                 tables=[TableSpec(name="markers", columns=[f"m{i}" for i in range(10)])], tasks=[TASK])  # fmt: skip


def made(**options: Any) -> MDFN:
    torch.manual_seed(0)
    return MDFN(PAPER, MDFNSettings(modality_dropout=0, **options)).eval()


def batch(present: torch.Tensor | None = None, n: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    there = torch.ones(n, 3, dtype=torch.bool) if present is None else present
    bags = {}
    for i, name in enumerate(("bus", "cdfi")):
        x = torch.randn(n, 1024, generator=generator)[there[:, i]]
        bags[name] = PackedBag(x, torch.cat([torch.zeros(1, dtype=torch.int64), there[:, i].cumsum(0)]), there[:, i])
    values = torch.randn(n, 10, generator=generator) * there[:, 2:]
    table = TableRows(values, torch.ones(n, 10) * there[:, 2:], there[:, 2])
    return Batch(torch.arange(n), bags, {"markers": table}, {"origin": torch.arange(n) % 5})


def test_the_papers_sizes() -> None:
    """33^3 = 35 937 -> 33 -> classes; three layers of 32 a modality; 3-10-3 in the channel attention, here on 1024."""
    network = made().network
    assert (network.mix.in_features, network.mix.out_features) == (35937, 33)
    layers = [m for m in network.markers[0].modules() if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [(10, 32), (32, 32), (32, 32)]
    assert network.images[0].channels.squeeze.out_features == 10
    assert network.heads.heads[0].layers[0].in_features == 33 and len(network.auxiliary) == 2
    assert MDFNSettings().patience == 20 and MDFNSettings().auxiliary_weight == 0.2
    assert made(tensor_fusion=False).network.mix.in_features == 96
    assert made(low_rank="true").network.mix is None
    assert made(channel_attention=False).network.images[0].channels is None
    assert len(made(auxiliary_heads=False).network.auxiliary) == 0


@torch.no_grad()
def test_the_loss_by_hand() -> None:
    """CE + 0.2 CE(bus head) + 0.2 CE(cdfi head), an image head over the patients who have the image."""
    method = made(class_weights=False)
    present = torch.ones(6, 3, dtype=torch.bool)
    present[4:, 1] = False
    data = batch(present)
    y, network = data.labels["origin"], method.network
    (z_bus, z_cdfi, z_markers), _ = network.vectors(data)
    one = torch.ones(6, 1)
    product = torch.einsum("na,nb,nc->nabc", *(torch.cat([one, z], -1) for z in (z_bus, z_cdfi, z_markers)))
    logits = network.heads.heads[0](torch.relu(network.mix(product.flatten(1))))
    torch.testing.assert_close(method.predict(data)[""]["origin"].float(), logits.softmax(-1))
    ce = torch.nn.functional.cross_entropy
    expected = ce(logits, y) + 0.2 * ce(network.auxiliary[0].heads[0](z_bus), y)
    expected += 0.2 * ce(network.auxiliary[1].heads[0](z_cdfi[:4]), y[:4])
    torch.testing.assert_close(method.loss(data), expected)


@torch.no_grad()
def test_an_absent_modality_is_one_and_zeros() -> None:
    """Without the markers the product is that of the images in the slice of the 1, and zeros elsewhere."""
    method = made()
    present = torch.ones(6, 3, dtype=torch.bool)
    present[:, 2] = False
    (z_bus, z_cdfi, z_markers), _ = method.network.vectors(batch(present))
    assert (z_markers == 0).all() and z_bus.abs().sum() > 0
    one = torch.ones(6, 1)
    weight = method.network.mix.weight.view(33, 33, 33, 33)[:, :, :, 0]  # (out, bus, cdfi)
    bus, cdfi = torch.cat([one, z_bus], -1), torch.cat([one, z_cdfi], -1)
    expected = torch.einsum("oab,na,nb->no", weight, bus, cdfi) + method.network.mix.bias
    torch.testing.assert_close(method.network.embed(batch(present)), expected.relu(), atol=1e-5, rtol=1e-4)


def of_products(seed: int) -> dict[str, Any]:
    """The label is the sign of a product: a number of one table times a number of the other."""
    rng = np.random.default_rng(seed)
    roles = np.repeat([1, 2, 3], [240, 60, 200])
    a, b = rng.normal(size=(500, 5)), rng.normal(size=(500, 5))
    y = (a[:, 0] * b[:, 0] + 0.1 * rng.normal(size=500) > 0).astype(int)
    return {"labels": {"y": y}, "tables": {"a": a, "b": b}, "roles": roles}


def of_noisy_channels(seed: int) -> dict[str, Any]:
    """Six of 200 channels tell the label, the rest is noise."""
    rng = np.random.default_rng(seed)
    roles, y = np.repeat([1, 2, 3], [200, 60, 300]), np.arange(560) % 2
    x = rng.normal(size=(560, 200))
    x[:, :6] += 0.5 * (2 * y - 1)[:, None]
    return {"labels": {"y": y}, "bags": {"image": [row[None] for row in x]}, "roles": roles}


def of_a_shortcut(seed: int) -> dict[str, Any]:
    """In training a table tells the label nearly alone; no test patient has it."""
    rng = np.random.default_rng(seed)
    roles, y = np.repeat([1, 2, 3], [200, 60, 300]), np.arange(560) % 2
    x, t = rng.normal(size=(560, 10)), rng.normal(size=(560, 3)) + 2.5 * (2 * y - 1)[:, None]
    x[:, :3] += 0.6 * (2 * y - 1)[:, None]
    t[roles == 3] = np.nan
    return {"labels": {"y": y}, "bags": {"image": [row[None] for row in x]}, "tables": {"t": t}, "roles": roles}


@pytest.mark.parametrize(
    ("part", "data", "margin"),
    [("tensor_fusion", of_products, 0.1), ("channel_attention", of_noisy_channels, 0.02),
     ("auxiliary_heads", of_a_shortcut, 0.1)],
)  # fmt: skip
def test_each_part_beats_its_ablation(
    part: str, data: Callable[[int], dict[str, Any]], margin: float, write_made_store: Write, tmp_path: Path
) -> None:
    """Mean test AUC over three seeds, without modality dropout. It was 0.944 against 0.498 without the tensor fusion,
    0.886 against 0.845 without channel attention, 0.797 against 0.393 without the auxiliary heads."""
    rows = []
    for seed in range(3):
        store = write_made_store(tmp_path / f"{seed}.h5", **data(seed))
        scores = []
        for on in ("true", "false"):
            out = tmp_path / f"{seed}-{on}"
            options = {"modality_dropout": "0", "patience": "10", part: on}
            teacher.run(TeacherSettings(stores=[store], out=out, quiet=True, method="mdfn", set=options))
            frame = pd.read_parquet(out / "cv-0-seed-0/predictions-y.parquet")
            frame = frame[frame.split == "test"]
            scores.append(roc_auc_score(frame.label == "yes", frame.p_yes))
        rows.append(scores)
    print(rows)
    with_part, without = np.mean(rows, 0)
    assert with_part > without + margin
