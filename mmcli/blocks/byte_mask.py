"""Dropout's masks from a random byte a number, a fifth of the price of torch's; its chance is rounded to a 256th."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

STEPS = 1 << 8  # of a chance
BITS = {torch.float64: torch.int64, torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


class ByteMasks:
    """Random masks that leave `keeps` of 256 numbers, from a seed of torch's generator."""

    def __init__(self, keeps: int) -> None:
        self.keeps = keeps
        self._draws = np.random.SFC64(int(torch.randint(1 << 62, ())))

    def draw(self, numbers: int) -> NDArray[np.bool_]:
        """(numbers,), true where a number is left."""
        words = self._draws.random_raw(-(-numbers // 8)).view(np.uint8)[:numbers]
        mask: NDArray[np.bool_] = words < self.keeps
        return mask


def masked(x: Tensor, mask: NDArray[np.bool_] | NDArray[np.uint8]) -> Tensor:
    """What `mask` (numbers of x,) of true and false, or 1 and 0, leaves of a contiguous x: each number's bits are all
    kept or none. The mask's memory is used up."""
    minus = mask.view(np.int8)
    all_or_none = torch.from_numpy(np.negative(minus, out=minus)).view(x.shape).to(BITS[x.dtype])
    return torch.bitwise_and(x.view(BITS[x.dtype]), all_or_none, out=all_or_none).view(x.dtype)
