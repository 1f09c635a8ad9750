from __future__ import annotations

import torch
from torch import nn

from mmcli.blocks.projection import Projection


def test_the_papers_layers_and_only_the_present_rows() -> None:
    torch.manual_seed(0)
    block = Projection(5, 3, 0.2)
    assert [type(m).__name__ for m in block.layers] == ["BatchNorm", "Dropout"] + ["Linear", "ReLU"] * 3
    x, present = torch.randn(8, 5), torch.tensor([True] * 5 + [False] * 3)
    block.train()
    block(torch.where(present.unsqueeze(-1), x, 1e9), present)
    reference = nn.BatchNorm1d(5)
    reference(x[:5])
    torch.testing.assert_close(block.layers[0].running_mean, reference.running_mean)
    block.eval()
    z = block(x, present)
    assert (z[5:] == 0).all() and (z >= 0).all()
    torch.testing.assert_close(z[:5], block.layers(x[:5]))


def test_one_row_or_none_in_training() -> None:
    block = Projection(4, 2, 0.0).train()
    x = torch.randn(3, 4)
    assert torch.isfinite(block(x, torch.tensor([False, True, False]))).all()
    assert (block(x, torch.zeros(3, dtype=torch.bool)) == 0).all()
    assert (block.layers[0].running_mean == 0).all()
