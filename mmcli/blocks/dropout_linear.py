"""Dropout and the linear layer behind it as one, for many rows that need no gradient: instances of bags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcli.blocks.byte_mask import STEPS, ByteMasks, masked
from mmcli.store.batch import StandardisedRows

NUMBERS = 1 << 18  # at a time, which stay in the processor's cache
Rows = Tensor | StandardisedRows


class DropoutLinear(nn.Linear):
    """linear(dropout(x)): torch's two modules in one, with torch.nn.Linear's parameters.

    With a wide x the random numbers and the copies of x cost more than the product. Here x (N, in) is taken in pieces,
    which may be computed on the way, a random byte decides on each number, and the gradient takes the pieces again with
    a bit a number for the mask: no copy of x is made. The chance `p` is rounded to a 256th, and the rest is scaled by
    what it is then. On a GPU, and where x needs a gradient, it is the two functions of torch.
    """

    def __init__(self, width: int, out: int, p: float) -> None:
        super().__init__(width, out)
        self.p = p

    def forward(self, x: Rows) -> Tensor:
        """(N, in) to (N, out)."""
        keeps = STEPS - round(self.p * STEPS) if self.training else STEPS
        if isinstance(x, Tensor):
            if keeps == STEPS:
                return functional.linear(x, self.weight, self.bias)
            if x.requires_grad or x.device.type != "cpu" or x.dim() != 2 or not keeps:
                return functional.linear(functional.dropout(x, self.p), self.weight, self.bias)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else self.weight.dtype
        y: Tensor = _Product.apply(x, self.weight, self.bias, keeps, dtype)  # type: ignore[no-untyped-call]
        return y


class _Product(torch.autograd.Function):
    """x * mask / share @ weight.T + bias, piece by piece."""

    @staticmethod
    def forward(ctx: Any, x: Rows, weight: Tensor, bias: Tensor, keeps: int, dtype: torch.dtype) -> Tensor:
        ctx.x, ctx.keeps, ctx.dtype, ctx.masks, ctx.wide = x, keeps, dtype, [], weight.dtype
        scaled, shift = (weight * (STEPS / keeps)).to(dtype).t(), bias.to(dtype)
        masks = ByteMasks(keeps) if keeps < STEPS else None
        y = torch.empty(len(x), len(weight), dtype=dtype)
        for rows, left in _pieces(x, dtype):
            if masks is not None:
                mask = masks.draw(left.numel())
                ctx.masks.append(np.packbits(mask))
                left = masked(left, mask)
            torch.addmm(shift, left, scaled, out=y[rows])
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        dy, x, masks = gradients[0], ctx.x, iter(ctx.masks)
        total = torch.zeros(dy.shape[1], x.shape[1], dtype=ctx.wide)
        for rows, left in _pieces(x, ctx.dtype):
            if ctx.masks:
                left = masked(left, np.unpackbits(next(masks), count=left.numel()))
            total += dy[rows].t() @ left
        return None, total * (STEPS / ctx.keeps), dy.sum(0, dtype=total.dtype), None, None


def _pieces(x: Rows, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    if isinstance(x, StandardisedRows):
        yield from x.pieces(NUMBERS, dtype)
        return
    step = max(NUMBERS // max(x.shape[1], 1), 1)
    yield from ((slice(a, a + step), x[a : a + step].to(dtype).contiguous()) for a in range(0, len(x), step))
