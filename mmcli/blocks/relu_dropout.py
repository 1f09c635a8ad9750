"""ReLU and dropout as one, for the many numbers of a bag's hidden layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmcli.blocks.byte_mask import BITS, STEPS, ByteMasks, masked


class ReLUDropout(nn.Module):
    """dropout(relu(x)) with masks of random bytes. The gradient passes where the result is not zero, so nothing else
    is kept. On a GPU it is the two functions of torch."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """The shape of x."""
        keeps = STEPS - round(self.p * STEPS)
        if not self.training or keeps == STEPS:
            return x.relu()
        if x.device.type != "cpu" or x.dtype not in BITS or not keeps:
            return functional.dropout(x.relu(), self.p)
        y: Tensor = _ReLUDropout.apply(x, keeps)  # type: ignore[no-untyped-call]
        return y


class _ReLUDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, keeps: int) -> Tensor:
        left = x.contiguous().relu()
        y = masked(left, ByteMasks(keeps).draw(x.numel())).mul_(STEPS / keeps)
        ctx.save_for_backward(y)
        ctx.share = keeps / STEPS
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradients[0], y, 0).div_(ctx.share), None
