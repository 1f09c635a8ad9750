from __future__ import annotations

import torch
from torch import nn

from mmcli.blocks.guidance import Guidance
from mmcli.blocks.mlp import MLP


def test_mlp_by_hand() -> None:
    mlp = MLP([2, 2, 1]).double()
    with torch.no_grad():
        for parameter, value in zip(mlp.parameters(), ([[1, 0], [0, -1]], [0, 0], [[2, 3]], [1]), strict=True):
            parameter.copy_(torch.tensor(value))
    # relu(3, -(-4)) = (3, 4) -> 6 + 12 + 1;  relu(-3, -4) = 0 -> 1
    assert mlp(torch.tensor([[3.0, -4.0], [-3.0, 4.0]]).double()).flatten().tolist() == [19.0, 1.0]


def test_guidance_has_the_papers_widths() -> None:
    """RadPath: 1024-512-256-256-512, ReLU after each layer including the last, dropout between."""
    guidance = Guidance(1024, 512, dropout=0.25)
    layers = [m for m in guidance.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [(1024, 512), (512, 256), (256, 256), (256, 512)]
    assert sum(isinstance(m, nn.ReLU) for m in guidance.modules()) == 4
    assert [m.p for m in guidance.modules() if isinstance(m, nn.Dropout)] == [0.25] * 3
    assert (guidance(torch.randn(50, 1024)) >= 0).all()
    assert (Guidance(64, 8, 0.0, last_relu=False)(torch.randn(50, 64)) < 0).any()


def test_guidance_gradients() -> None:
    torch.manual_seed(0)
    guidance = Guidance(4, 3, dropout=0.0, last_relu=False).double()
    assert torch.autograd.gradcheck(guidance, torch.randn(2, 4, dtype=torch.float64, requires_grad=True))
