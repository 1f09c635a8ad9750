"""Adam, AdamW and SGD for the parts of a stack: torch's, with a learning rate and a number of steps of each part's own.

Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2; torch.optim.SGD without dampening.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmcli.training.checkpoint import Moment
from mmcli.training.method import Optimiser

EPSILON = 1e-8  # torch's default


ALIGNED = 16  # float32 numbers; a matrix product may round otherwise where a matrix starts elsewhere in a cache line


def aligned(n: int) -> int:
    """n, or the next number that keeps what comes behind in place."""
    return -(-n // ALIGNED) * ALIGNED


def pack(parameters: Sequence[Tensor]) -> Tensor:
    """A part's parameters as one row, each at the start of a cache line."""
    sizes = [(p.numel(), aligned(p.numel())) for p in parameters]
    padded = [
        torch.cat([p.detach().flatten(), p.new_zeros(b - a)]) for p, (a, b) in zip(parameters, sizes, strict=True)
    ]
    return torch.cat(padded)


def unpack(row: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """The parameters again, as views of the row."""
    pieces = torch.split_with_sizes(row, [aligned(shape.numel()) for shape in shapes])
    return [piece[: shape.numel()].view(shape) for piece, shape in zip(pieces, shapes, strict=True)]


class StackedOptimiser:
    """Moves the rows of `flat` (K, P), each packed from parameters of these shapes."""

    def __init__(self, wanted: Optimiser, flat: Tensor, shapes: Sequence[torch.Size]) -> None:
        self.wanted, self.flat, self.shapes = wanted, flat, shapes
        names = ["exp_avg", "exp_avg_sq"] if wanted.name != "sgd" else ["momentum_buffer"] if wanted.momentum else []
        self.state = {name: torch.zeros_like(flat) for name in names}
        self.steps = np.zeros(len(flat))

    @torch.no_grad()
    def step(self, gradients: Tensor, rates: NDArray[np.float64], moves: NDArray[np.bool_], clip: float) -> None:
        """One step of the parts that move; the gradient (P,) of each is first clipped to the norm `clip`."""
        gradients = gradients * (clip / (torch.linalg.vector_norm(gradients, dim=1, keepdim=True) + 1e-6)).clamp_(max=1)
        self.steps += moves
        rest = torch.from_numpy(np.flatnonzero(~moves))
        # All rows are computed, and those that rest are put back: a row's bits do not depend on which others move.
        before = [(x, x[rest]) for x in (self.flat, *self.state.values())] if len(rest) else []
        self._move(self.flat, gradients, self.state, rates, np.maximum(self.steps, 1))
        for x, kept in before:
            x[rest] = kept

    def _move(
        self, flat: Tensor, g: Tensor, state: dict[str, Tensor], rates: NDArray[np.float64], t: NDArray[np.float64]
    ) -> None:
        w, rate = self.wanted, _column(rates)
        if w.name == "adamw":
            if w.weight_decay:
                flat.mul_(_column(1 - rates * w.weight_decay))
        elif w.weight_decay:
            g = g.add(flat, alpha=w.weight_decay)
        if w.name == "sgd":
            if w.momentum:
                buffer = state["momentum_buffer"].mul_(w.momentum).add_(g)
                g = g.add(buffer, alpha=w.momentum) if w.nesterov else buffer
            flat.sub_(rate * g)
            return
        one, two = w.betas
        first, second = state["exp_avg"], state["exp_avg_sq"]
        first.lerp_(g, 1 - one)
        second.mul_(two).addcmul_(g, g, value=1 - two)
        scale = second.sqrt().div_(_column(np.sqrt(1 - two**t))).add_(EPSILON)
        flat.sub_(torch.div(first, scale).mul_(_column(rates / (1 - one**t))))

    def moments(self, k: int) -> list[Moment]:
        """What torch's optimiser of part k alone would remember."""
        step = torch.tensor(float(self.steps[k])) if self.wanted.name != "sgd" else None
        found: list[Moment] = []
        split = {n: unpack(x[k], self.shapes) for n, x in self.state.items()} if self.steps[k] else {}
        for i in range(len(self.shapes) if split else 0):
            found += [(0, i, name, pieces[i]) for name, pieces in split.items()]
            found += [(0, i, "step", step)] if step is not None else []
        return found

    def restore(self, k: int, moments: list[Moment]) -> None:
        """Take up what a checkpoint of part k holds."""
        views = {name: unpack(x[k], self.shapes) for name, x in self.state.items()}
        for _, i, name, value in moments:
            if name == "step":
                self.steps[k] = float(value)
            elif name in self.state:
                views[name][i].copy_(value)
                self.steps[k] = max(self.steps[k], 1)


def _column(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32)).unsqueeze(1)
