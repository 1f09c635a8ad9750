"""ReLU and dropout in one are torch's two, with the mask that was drawn."""

from __future__ import annotations

import pytest
import torch

from mmcli.blocks.relu_dropout import ReLUDropout


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_it_is_the_two_functions(dtype: torch.dtype) -> None:
    layer = ReLUDropout(0.25)
    torch.manual_seed(1)
    mask = layer(torch.ones(30, 7, dtype=dtype)) > 0
    x = torch.randn(30, 7, dtype=dtype, requires_grad=True)
    torch.manual_seed(1)
    y, slow = layer(x), x.relu() * mask / 0.75
    torch.testing.assert_close(y, slow)
    weights = torch.randn_like(y)
    found, expected = (torch.autograd.grad((z * weights).sum(), x)[0] for z in (y, slow))
    torch.testing.assert_close(found, expected)


def test_the_chance_and_the_mean() -> None:
    torch.manual_seed(0)
    y = ReLUDropout(0.3)(torch.ones(200_000))
    share = 1 - round(0.3 * 256) / 256
    assert (y > 0).double().mean().item() == pytest.approx(share, abs=0.005)  # 5 standard errors
    assert y[y > 0].unique().tolist() == pytest.approx([1 / share])
    left = (y > 0).double()
    assert torch.corrcoef(torch.stack([left[1:], left[:-1]]))[0, 1].abs() < 0.012
    torch.manual_seed(0)
    assert torch.equal(ReLUDropout(0.3)(torch.ones(200_000)), y)


def test_without_dropout() -> None:
    x = torch.randn(6, 5)
    assert torch.equal(ReLUDropout(0.3).eval()(x), x.relu()) and torch.equal(ReLUDropout(0.0)(x), x.relu())
    assert not ReLUDropout(1.0)(x).any()
    turned = torch.randn(5, 6).t()
    assert ReLUDropout(0.5)(turned).shape == (6, 5) and ReLUDropout(0.5)(torch.empty(0, 5)).shape == (0, 5)
