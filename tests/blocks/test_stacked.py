"""Stacked networks against single `torch.nn` modules, and Adam against torch's."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmcli.blocks.critic import critic, critic_and_gradient, critic_widths
from mmcli.blocks.residual_generator import generator_widths, residual_generator
from mmcli.blocks.stacked import StackedAdam, embed, extract, layers, linear, parameter_count, start_weights


def single_layers(flat: torch.Tensor, widths: list[int]) -> list[nn.Linear]:
    """One network's row of parameters (P,) as torch's linear layers."""
    made, start = [], 0
    for a, b in pairwise(widths):
        layer = nn.Linear(a, b).double()
        with torch.no_grad():
            layer.weight.copy_(flat[start : start + a * b].reshape(a, b).T)
            layer.bias.copy_(flat[start + a * b : start + a * b + b])
        start += a * b + b
        made.append(layer)
    assert start == len(flat)
    return made


SIZES = st.integers(1, 5)


@settings(max_examples=40, deadline=None)
@given(k=SIZES, n=SIZES, inputs=SIZES, width=SIZES, outputs=SIZES, seed=st.integers(0, 99))
def test_a_stack_is_a_loop_over_single_modules(k, n, inputs, width, outputs, seed):
    torch.manual_seed(seed)
    x = torch.randn(k, n, inputs, dtype=torch.float64)
    widths = generator_widths(inputs, width, outputs)
    flat = torch.randn(k, parameter_count(widths), dtype=torch.float64)
    made = residual_generator(flat, widths, x)
    for i in range(k):
        first, second, third, last = single_layers(flat[i], widths)
        h = first(x[i]).relu()
        h = h + second(h).relu()
        h = h + third(h).relu()
        torch.testing.assert_close(made[i], last(h))
    widths = critic_widths(inputs, width)
    flat = torch.randn(k, parameter_count(widths), dtype=torch.float64)
    scores = critic(flat, widths, x)
    for i in range(k):
        one, two, three = single_layers(flat[i], widths)
        alone = nn.Sequential(one, nn.LeakyReLU(0.2), two, nn.LeakyReLU(0.2), three)
        torch.testing.assert_close(scores[i], alone(x[i])[:, 0])
        rows = x[i].clone().requires_grad_()
        (expected,) = torch.autograd.grad(alone(rows).sum(), rows)
        _, gradient = critic_and_gradient(flat, widths, x, slice(0, n))
        torch.testing.assert_close(gradient[i], expected)


def test_layers_by_hand():
    flat = torch.tensor([[1.0, 2, 3, 4, 5, 6], [0, 0, 0, 0, 7, 8]])
    ((weight, bias),) = layers(flat, [2, 2])
    assert weight[0].tolist() == [[1, 2], [3, 4]] and bias.tolist() == [[[5, 6]], [[7, 8]]]
    x = torch.tensor([[[1.0, 10]], [[1, 1]]])
    assert linear(x, (weight, bias)).tolist() == [[[36, 48]], [[7, 8]]]


def test_start_weights_are_bounded_by_their_inputs():
    drawn = start_weights([4, 100, 1], np.random.default_rng(0))
    assert len(drawn) == parameter_count([4, 100, 1]) == 601
    assert 0.45 < np.abs(drawn[:500]).max() <= 0.5 and 0.09 < np.abs(drawn[500:]).max() <= 0.1


@pytest.mark.parametrize("places", [[0, 1, 2], [0, 3, 5]])
def test_an_embedded_network_is_the_same_and_comes_back(places):
    own, wide = [3, 4, 2], [6, 4, 5]
    flat = start_weights(own, np.random.default_rng(1))
    embedded = embed(flat, own, wide, places)
    assert np.array_equal(extract(embedded, own, wide, places), flat)
    assert np.count_nonzero(embedded) == len(flat)
    x = torch.randn(1, 7, 3, dtype=torch.float64)
    padded = torch.zeros(1, 7, 6, dtype=torch.float64)
    padded[..., places] = x

    def run(parameters, widths, rows):
        one, two = layers(torch.from_numpy(parameters)[None], widths)
        return linear(linear(rows, one).relu(), two)

    made = run(embedded, wide, padded)
    torch.testing.assert_close(made[..., :2], run(flat, own, x))
    assert (made[..., 2:] == 0).all()


def test_adam_is_torchs_and_networks_may_leave():
    start = torch.randn(3, 5, dtype=torch.float64)
    scale = torch.tensor([[1.0], [10.0], [0.1]], dtype=torch.float64)
    ours = StackedAdam(start.clone(), 0.03, (0.5, 0.999))
    theirs = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([theirs], 0.03, (0.5, 0.999))
    rows = torch.arange(3)
    for step in range(12):
        if step == 6:
            rows = torch.tensor([0, 2])
            ours.keep(rows)
        ours.step(((ours.parameters - 1).pow(2) * scale[rows]).sum())
        optimiser.zero_grad()
        ((theirs - 1).pow(2) * scale).sum().backward()
        optimiser.step()
    torch.testing.assert_close(ours.parameters, theirs[rows])
