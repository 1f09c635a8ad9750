"""Dropout and a linear layer in one are torch's two, with the mask that was drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcli.blocks import dropout_linear
from mmcli.blocks.dropout_linear import DropoutLinear
from mmcli.store.batch import Room, StandardisedRows


def made(p: float, dtype: torch.dtype = torch.float64) -> tuple[DropoutLinear, Tensor]:
    torch.manual_seed(0)
    return DropoutLinear(40, 6, p).to(dtype), torch.randn(50, 40, dtype=dtype)


def mask_of(layer: DropoutLinear, seed: int) -> Tensor:
    """Which numbers are left: the layer as the identity, on ones."""
    probe = DropoutLinear(40, 40, layer.p).double()
    with torch.no_grad():
        probe.weight.copy_(torch.eye(40))
        probe.bias.zero_()
    torch.manual_seed(seed)
    return probe(torch.ones(50, 40, dtype=torch.float64)).detach() > 0


@pytest.mark.parametrize("numbers", [1 << 16, 40 * 7])
def test_it_is_the_two_functions(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropout_linear, "NUMBERS", numbers)
    layer, x = made(0.25)
    mask = mask_of(layer, 3)
    torch.manual_seed(3)
    y = layer(x)
    slow = functional.linear(x * mask / 0.75, layer.weight, layer.bias)
    torch.testing.assert_close(y, slow)
    weights = torch.randn_like(y)
    found = torch.autograd.grad((y.square() * weights).sum(), list(layer.parameters()))
    expected = torch.autograd.grad((slow.square() * weights).sum(), list(layer.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    torch.manual_seed(3)
    assert torch.equal(layer(x), y) and not torch.equal(layer(x), y)


def test_the_chance_and_the_mean() -> None:
    layer, _ = made(0.15, torch.float32)
    x = torch.ones(20000, 40)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(6, 40))
        layer.bias.zero_()
        y = layer(x)
    left = (y > 0).float()
    share = 1 - round(0.15 * 256) / 256
    assert left.mean().item() == pytest.approx(share, abs=0.005)  # 5 standard errors
    assert y[y > 0].unique().numel() == 1 and y.max().item() == pytest.approx(1 / share)
    correlations = torch.corrcoef(left.T) - torch.eye(6)
    assert correlations.abs().max() < 0.04
    assert torch.corrcoef(torch.stack([left[1:, 0], left[:-1, 0]]))[0, 1].abs() < 0.04


def test_without_dropout_and_with_a_gradient_for_the_input() -> None:
    layer, x = made(0.25)
    assert torch.equal(layer.eval()(x), functional.linear(x, layer.weight, layer.bias))
    layer.train()
    none, _ = made(0.0)
    assert torch.equal(none(x), functional.linear(x, none.weight, none.bias))
    x.requires_grad_()
    torch.manual_seed(1)
    y = layer(x)
    torch.manual_seed(1)
    assert torch.equal(y, functional.linear(functional.dropout(x, 0.25), layer.weight, layer.bias))
    assert layer(torch.empty(0, 40, dtype=torch.float64)).shape == (0, 6)


def test_bfloat16_under_autocast_is_close() -> None:
    layer, x = made(0.25, torch.float32)
    torch.manual_seed(5)
    exact = layer(x)
    torch.manual_seed(5)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.05)
    found, expected = (torch.autograd.grad(z.float().square().sum(), layer.weight)[0] for z in (y, exact))
    assert found.dtype == torch.float32 and nn.functional.cosine_similarity(found.ravel(), expected.ravel(), 0) > 0.999


def rows_of(x: Tensor) -> StandardisedRows:
    """Three bags of which two change places; standardised they are x."""
    mean, scale = torch.randn(x.shape[1]), torch.rand(x.shape[1]) + 0.5
    source = torch.cat([x[20:50], x[:20]]) / scale + mean
    return StandardisedRows(source, np.array([30, 0, 10]), np.array([0, 20, 30, 50]), mean, scale, Room())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("numbers", [1 << 18, 40 * 7])
def test_rows_that_are_not_computed_yet(
    numbers: int, training: bool, precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same product, mask and gradients as of the tensor."""
    monkeypatch.setattr(dropout_linear, "NUMBERS", numbers)
    layer, x = made(0.25, torch.float32)
    layer.train(training)
    rows, found = rows_of(x), []
    for one in (rows, rows.tensor()):
        torch.manual_seed(4)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            y = layer(one)
        found.append([y, *torch.autograd.grad(y.float().square().sum(), list(layer.parameters()))])
    assert found[0][0].dtype == precision
    narrow = precision == torch.bfloat16 and not training  # where torch sums the bias's gradient in bfloat16
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **({"rtol": 0.02, "atol": 0.1} if narrow else {}))
    nothing = StandardisedRows(x, np.array([3]), np.array([0, 0]), torch.zeros(40), torch.ones(40), Room())
    y = layer(nothing)
    y.sum().backward()
    assert y.shape == (0, 6) and not layer.weight.grad.any() and not layer.bias.grad.any()
