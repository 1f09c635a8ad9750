"""Many small networks of one shape, computed and trained as one: their parameters are the rows of one tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


def parameter_count(widths: Sequence[int]) -> int:
    """How many weights and biases a network of linear layers has; `widths` = [in, hidden ..., out]."""
    return sum((a + 1) * b for a, b in pairwise(widths))


def layers(flat: Tensor, widths: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """(weight (K, in, out), bias (K, 1, out)) of each linear layer of K networks, as views of `flat` (K, P)."""
    pairs = list(pairwise(widths))
    parts = torch.split_with_sizes(flat, [size for a, b in pairs for size in (a * b, b)], 1)
    weights = [part.view(len(part), *pair) for part, pair in zip(parts[::2], pairs, strict=True)]
    return [(weight, bias.unsqueeze(1)) for weight, bias in zip(weights, parts[1::2], strict=True)]


def linear(x: Tensor, layer: tuple[Tensor, Tensor]) -> Tensor:
    """K linear layers on K batches (K, n, in): (K, n, out)."""
    weight, bias = layer
    return torch.baddbmm(bias, x, weight)


def start_weights(widths: Sequence[int], rng: np.random.Generator) -> Floats:
    """(P,) uniform in +-1/sqrt(in), weights and biases, as torch.nn.Linear starts."""
    drawn = [rng.uniform(-1, 1, (a + 1) * b) / np.sqrt(a) for a, b in pairwise(widths)]
    return np.concatenate(drawn)


def embed(own: Floats, widths: Sequence[int], into: Sequence[int], places: Sequence[int]) -> Floats:
    """A network of `widths` (P,) as a wider one of widths `into`: its inputs stand at `places`, its outputs come
    first. What is added is zero, and stays zero under gradient descent where the added inputs are zero."""
    wide = np.zeros(parameter_count(into))
    for source, target, rows in _pairs(own, wide, widths, into, places):
        target[rows, : source.shape[1]] = source
    return wide


def extract(wide: Floats, widths: Sequence[int], into: Sequence[int], places: Sequence[int]) -> Floats:
    """The network that `embed` put into a wider one."""
    own = np.zeros(parameter_count(widths))
    for source, target, rows in _pairs(own, wide.copy(), widths, into, places):
        source[:] = target[rows, : source.shape[1]]
    return own


def _pairs(
    own: Floats, wide: Floats, widths: Sequence[int], into: Sequence[int], places: Sequence[int]
) -> Iterator[tuple[Floats, Floats, NDArray[np.int64]]]:
    """Views of each weight and bias of both networks, and the rows of the wide one that the other has."""
    at, to = 0, 0
    for i, ((a, b), (c, d)) in enumerate(zip(pairwise(widths), pairwise(into), strict=True)):
        rows = np.asarray(places, np.int64) if i == 0 else np.arange(a)
        yield own[at : at + a * b].reshape(a, b), wide[to : to + c * d].reshape(c, d), rows
        at, to = at + a * b, to + c * d
        yield own[at : at + b].reshape(1, b), wide[to : to + d].reshape(1, d), np.arange(1)
        at, to = at + b, to + d


class StackedAdam:
    """Adam (Kingma and Ba 2015, algorithm 1) on the rows of one parameter tensor (K, P), some of which may leave."""

    def __init__(self, parameters: Tensor, rate: float, betas: tuple[float, float]) -> None:
        self.parameters = parameters.requires_grad_()
        self.rate, self.betas, self.steps = rate, betas, 0
        self.first, self.second = torch.zeros_like(parameters), torch.zeros_like(parameters)

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`, the sum over the K networks of their own losses."""
        (gradient,) = torch.autograd.grad(loss, self.parameters)
        self.steps += 1
        one, two = self.betas
        with torch.no_grad():
            self.first.lerp_(gradient, 1 - one)
            self.second.mul_(two).addcmul_(gradient, gradient, value=1 - two)
            scale = (self.second / (1 - two**self.steps)).sqrt_().add_(1e-8)
            self.parameters.addcdiv_(self.first, scale, value=-self.rate / (1 - one**self.steps))

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the networks alone."""
        self.parameters = self.parameters.detach()[rows].requires_grad_()
        self.first, self.second = self.first[rows], self.second[rows]
