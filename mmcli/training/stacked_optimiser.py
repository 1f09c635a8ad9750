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
from mmcli.training.recording import aligned

EPSILON = 1e-8  # torch's default


def pack(parameters: Sequence[Tensor]) -> Tensor:
    """A part's parameters as one row, each at the start of a cache line."""
    sizes = [(p.numel(), aligned(p.numel())) for p in parameters]
    padded = [
        torch.cat([p.detach().flatten(), p.new_zeros(b - a)]) for p, (a, b) in zip(parameters, sizes, strict=True)
    ]
    return torch.cat(padded)


def unpack(rows: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """The parameters again, as views of a row (P,), or of several (K, P): (K, *shape)."""
    pieces = torch.split_with_sizes(rows, [aligned(shape.numel()) for shape in shapes], -1)
    pairs = zip(pieces, shapes, strict=True)
    return [piece[..., : shape.numel()].view(rows.shape[:-1] + shape) for piece, shape in pairs]


class StackedOptimiser:
    """Moves the rows of `flat` (K, P), each packed from parameters of these shapes, by torch's fused kernels.

    `gradient` (K, P) is filled before a step; what lies between the parameters stays zero in it.
    """

    def __init__(self, wanted: Optimiser, flat: Tensor, shapes: Sequence[torch.Size]) -> None:
        self.wanted, self.flat, self.shapes = wanted, flat, shapes
        names = ["exp_avg", "exp_avg_sq"] if wanted.name != "sgd" else ["momentum_buffer"] if wanted.momentum else []
        self.state = {name: torch.zeros_like(flat) for name in names}
        self.steps = torch.zeros(len(flat))
        self.gradient = torch.zeros_like(flat)
        self._rows = {n: list(x.unbind()) for n, x in (self.state | {"w": flat, "g": self.gradient}).items()}
        self._counts = list(self.steps.unbind())

    @torch.no_grad()
    def step(self, rates: NDArray[np.float64], moves: NDArray[np.bool_], clip: float) -> None:
        """One step of the parts that move; the gradient (P,) of each is first clipped to the norm `clip`."""
        norms = torch.linalg.vector_norm(self.gradient, dim=1, keepdim=True)
        kept = clip / (norms + 1e-6)
        if not bool((kept >= 1).all()):
            self.gradient.mul_(kept.clamp_(max=1))
        self.steps += torch.from_numpy(moves)
        for rate in set(rates[moves].tolist()):
            self._move(np.flatnonzero(moves & (rates == rate)).tolist(), rate)

    def _move(self, rows: list[int], rate: float) -> None:
        w = self.wanted
        of = {name: [rows_of[k] for k in rows] for name, rows_of in self._rows.items()}
        if w.name == "sgd":
            torch._fused_sgd_(of["w"], of["g"], of.get("momentum_buffer", []), weight_decay=w.weight_decay,
                              momentum=w.momentum, lr=rate, dampening=0.0, nesterov=w.nesterov, maximize=False,
                              is_first_step=False)  # fmt: skip
            return
        kernel = torch._fused_adamw_ if w.name == "adamw" else torch._fused_adam_
        kernel(of["w"], of["g"], of["exp_avg"], of["exp_avg_sq"], [], [self._counts[k] for k in rows], lr=rate,
               beta1=w.betas[0], beta2=w.betas[1], weight_decay=w.weight_decay, eps=EPSILON, amsgrad=False,
               maximize=False)  # fmt: skip

    def snapshot(self) -> StackedOptimiser:
        """A copy that moves no more with this one."""
        return self.of(slice(None))

    def of(self, rows: list[int] | slice) -> StackedOptimiser:
        """A copy that has these rows alone."""
        copy = StackedOptimiser(self.wanted, self.flat[rows].clone(), self.shapes)
        for name, x in self.state.items():
            copy.state[name].copy_(x[rows])
        copy.steps.copy_(self.steps[rows])
        return copy

    def moments(self, k: int) -> list[Moment]:
        """What torch's optimiser of part k alone would remember."""
        step = self.steps[k].clone() if self.wanted.name != "sgd" else None
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
                self.steps[k] = max(float(self.steps[k]), 1.0)
