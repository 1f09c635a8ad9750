"""Gradient penalty by hand; the critic's scores and gradients are compared with torch's modules in test_stacked.py."""

from __future__ import annotations

import pytest
import torch

from mmcli.blocks.critic import critic_and_gradient, critic_widths, gradient_penalty


def test_penalty_of_a_linear_critic_by_hand():
    # D(x) = 3 x1 + 4 x2 has the gradient (3, 4) of norm 5 everywhere: (5 - 1)^2 = 16, times lambda 10 = 160.
    gradient = torch.tensor([[[3.0, 4.0]] * 6, [[0.6, 0.8]] * 6])
    assert (10 * gradient_penalty(gradient)).tolist() == pytest.approx([160, 0], abs=1e-4)


def test_penalty_is_the_mean_over_rows_and_finite_at_zero():
    gradient = torch.tensor([[[0.0, 0.0], [3.0, 0.0]]], requires_grad=True)
    penalty = gradient_penalty(gradient)
    assert penalty.item() == pytest.approx((1 + 4) / 2, abs=1e-5)
    (slope,) = torch.autograd.grad(penalty.sum(), gradient)
    assert torch.isfinite(slope).all()


def test_gradient_of_a_small_critic_by_hand():
    # h1 = x1 - x2, h2 = 2 h1, score = 5 h2: slope 10 (1, -1) where h1 > 0, times .2 twice where it is not.
    flat = torch.tensor([[1.0, -1, 0, 2, 0, 5, 7]])
    x = torch.tensor([[[9.0, 9], [3, 1], [1, 3]]])
    scores, gradient = critic_and_gradient(flat, critic_widths(2, 1), x, slice(1, 3))
    torch.testing.assert_close(scores, torch.tensor([[7.0, 27, 7 - 5 * 0.2 * 2 * 0.2 * 2]]))
    torch.testing.assert_close(gradient, torch.tensor([[[10.0, -10], [0.4, -0.4]]]))


def test_the_gradient_can_be_differentiated():
    torch.manual_seed(0)
    widths = critic_widths(2, 3)
    flat = torch.randn(1, 2 * 3 + 3 + 9 + 3 + 4, dtype=torch.float64, requires_grad=True)
    x = torch.randn(1, 4, 2, dtype=torch.float64)

    def penalty(parameters):
        return gradient_penalty(critic_and_gradient(parameters, widths, x, slice(0, 4))[1])

    assert torch.autograd.gradcheck(penalty, flat)
