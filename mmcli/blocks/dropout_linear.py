"""Dropout and the linear layer behind it as one, for many rows that need no gradient: instances of bags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

NUMBERS = 1 << 16  # at a time, which stay in the processor's cache
STEPS = 1 << 8  # of a chance
BITS = {torch.float64: torch.int64, torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


class DropoutLinear(nn.Linear):
    """linear(dropout(x)): torch's two modules in one, with torch.nn.Linear's parameters.

    With a wide x the random numbers and the copies of x cost more than the product. Here x (N, in) is taken in pieces,
    a random byte decides on each number, and the gradient draws the same bytes again: no copy of x is kept. The chance
    `p` is rounded to a 256th, and the rest is scaled by what it is then. On a GPU, and where x needs a gradient, it is
    the two functions of torch.
    """

    def __init__(self, width: int, out: int, p: float) -> None:
        super().__init__(width, out)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """(N, in) to (N, out)."""
        keeps = STEPS - round(self.p * STEPS)
        if not self.training or keeps == STEPS:
            return functional.linear(x, self.weight, self.bias)
        if x.requires_grad or x.device.type != "cpu" or x.dim() != 2 or not keeps:
            return functional.linear(functional.dropout(x, self.p), self.weight, self.bias)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        y: Tensor = _Product.apply(x, self.weight, self.bias, keeps, dtype)  # type: ignore[no-untyped-call]
        return y


class _Product(torch.autograd.Function):
    """x * mask / share @ weight.T + bias, piece by piece; the mask is drawn from a seed of torch's generator."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, keeps: int, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(x)
        ctx.how = int(torch.randint(1 << 62, ())), keeps, dtype
        ctx.dtype = weight.dtype
        scaled, shift = (weight * (STEPS / keeps)).to(dtype).t(), bias.to(dtype)
        y = torch.empty(len(x), len(weight), dtype=dtype)
        for rows, left in _pieces(x, *ctx.how):
            torch.addmm(shift, left, scaled, out=y[rows])
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        dy, (x,) = gradients[0], ctx.saved_tensors
        total = torch.zeros(dy.shape[1], x.shape[1], dtype=ctx.dtype)
        for rows, left in _pieces(x, *ctx.how):
            total += dy[rows].t() @ left
        return None, total * (STEPS / ctx.how[1]), dy.sum(0, dtype=ctx.dtype), None, None


def _pieces(x: Tensor, seed: int, keeps: int, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """What dropout leaves of x as `dtype`, some rows at a time: `keeps` of 256 numbers, their bits all or none."""
    draws, bits = np.random.SFC64(seed), BITS[dtype]
    step = max(NUMBERS // x.shape[1], 1)
    for a in range(0, len(x), step):
        piece = x[a : a + step]
        words = draws.random_raw(-(-piece.numel() // 8)).view(np.uint8)[: piece.numel()]
        mask = (words < keeps).view(np.int8)
        all_or_none = torch.from_numpy(np.negative(mask, out=mask)).view(piece.shape).to(bits)
        yield slice(a, a + len(piece)), (piece.to(dtype).view(bits) & all_or_none).view(dtype)
