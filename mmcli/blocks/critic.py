"""Wasserstein critics with gradient penalty, many at once."""

from __future__ import annotations

import torch
from torch import Tensor

from mmcli.blocks.stacked import layers, linear

SLOPE = 0.2


def critic_widths(inputs: int, width: int) -> list[int]:
    """Two hidden layers and one score."""
    return [inputs, width, width, 1]


def critic(flat: Tensor, widths: list[int], x: Tensor) -> Tensor:
    """Scores (K, n) of K critics, MLPs with leaky ReLU (.2), on x (K, n, in); `flat` (K, P)."""
    scores, _ = _forward(flat, widths, x)
    return scores


def critic_and_gradient(flat: Tensor, widths: list[int], x: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """Scores (K, n), and the gradient (K, r, in) of the scores of some `rows` with respect to their inputs.

    The gradient is multiplied out, layer by layer, rather than asked of autograd: it is exact (the slope of a leaky
    ReLU is locally constant), can itself be differentiated, and costs no second pass through the graph.
    """
    scores, hidden = _forward(flat, widths, x)
    weights = [weight for weight, _ in layers(flat, widths)]
    gradient = weights[-1].transpose(1, 2)
    for weight, h in zip(reversed(weights[:-1]), reversed(hidden), strict=True):
        slope = torch.where(h[:, rows] > 0, 1.0, SLOPE)
        gradient = torch.bmm(slope * gradient, weight.transpose(1, 2))
    return scores, gradient


def gradient_penalty(gradient: Tensor) -> Tensor:
    """(K,) mean over rows of (||gradient|| - 1)^2 of (K, r, in): Gulrajani et al. 2017, eq. 3, without its weight."""
    norm = (gradient.square().sum(-1) + 1e-12).sqrt()
    return (norm - 1).square().mean(-1)


def _forward(flat: Tensor, widths: list[int], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    *inner, last = layers(flat, widths)
    hidden = []
    for layer in inner:
        x = torch.nn.functional.leaky_relu(linear(x, layer), SLOPE)
        hidden.append(x)
    return linear(x, last).squeeze(-1), hidden
