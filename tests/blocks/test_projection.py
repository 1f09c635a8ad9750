from __future__ import annotations

import pytest
import torch
from torch import nn

from mmcli.blocks.projection import MaskedBatchNorm, Projection


def test_the_papers_layers_and_only_the_present_rows() -> None:
    torch.manual_seed(0)
    block = Projection(5, 3, 0.2)
    assert [type(m).__name__ for m in block.layers] == ["MaskedBatchNorm", "Dropout"] + ["Linear", "ReLU"] * 3
    x, present = torch.randn(8, 5), torch.tensor([True] * 5 + [False] * 3)
    block.train()
    block(torch.where(present.unsqueeze(-1), x, 1e9), present)
    reference = nn.BatchNorm1d(5)
    reference(x[:5])
    torch.testing.assert_close(block.layers[0].running_mean, reference.running_mean)
    block.eval()
    z = block(x, present)
    assert (z[5:] == 0).all() and (z >= 0).all()
    torch.testing.assert_close(z[:5], block.layers[1:](reference.eval()(x[:5])))


@pytest.mark.parametrize("seed", range(4))
def test_normalised_as_torch_does_with_the_present_rows_alone(seed: int) -> None:
    """Values, gradients and running statistics, over three steps and at inference."""
    torch.manual_seed(seed)
    ours, theirs = MaskedBatchNorm(6), nn.BatchNorm1d(6)
    ours.load_state_dict(theirs.state_dict())
    for _ in range(3):
        present = torch.rand(11) < 0.5
        present[:2] = True
        x = (3 * torch.randn(11, 6) + 5).requires_grad_()
        factor = torch.randn(11, 6)
        found, expected = ours(x, present)[present], theirs(x[present])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        gradients = [
            torch.autograd.grad((y * factor[present]).sum(), [x, norm.weight, norm.bias])
            for y, norm in ((found, ours), (expected, theirs))
        ]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
        assert not getattr(ours, name).requires_grad
    x = torch.randn(4, 6)
    torch.testing.assert_close(ours.eval()(x, torch.zeros(4, dtype=torch.bool)), theirs.eval()(x))


def test_one_row_or_none_in_training() -> None:
    block = Projection(4, 2, 0.0).train()
    x = torch.randn(3, 4)
    assert torch.isfinite(block(x, torch.tensor([False, True, False]))).all()
    assert (block(x, torch.zeros(3, dtype=torch.bool)) == 0).all()
    assert (block.layers[0].running_mean == 0).all()
