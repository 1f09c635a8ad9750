"""Sums and softmax over the bags of a packed batch: no padding, whatever the bags' lengths.

In all of them `owner` (N,) int64 says which of `n` bags each of the N instances belongs to. A bag without instances
gives zeros. Sums and softmax of bfloat16 or float16 are taken in float32: a sum of hundreds of instances would lose
most of its digits.
"""

from __future__ import annotations

import torch
from torch import Tensor


def segment_sum(values: Tensor, owner: Tensor, n: int) -> Tensor:
    """Sum of each bag: (N, ...) to (n, ...)."""
    values = _wide(values)
    return values.new_zeros((n, *values.shape[1:])).index_add(0, owner, values)


def segment_softmax(scores: Tensor, owner: Tensor, n: int) -> Tensor:
    """Softmax of the scores (N, ...) within each bag; the same shape, each bag's weights sum to 1.

    The largest score of a bag is subtracted first, so that no exponential overflows; it takes no part in the gradient,
    which it cannot change.
    """
    scores = _wide(scores)
    index = owner.view(-1, *[1] * (scores.dim() - 1)).expand_as(scores)
    largest = scores.new_zeros((n, *scores.shape[1:]))
    largest = largest.scatter_reduce(0, index, scores.detach(), "amax", include_self=False)
    weights = (scores - largest[owner]).exp()
    return weights / segment_sum(weights, owner, n)[owner]


def segment_max(values: Tensor, owner: Tensor, n: int) -> Tensor:
    """Largest value of each bag: (N, ...) to (n, ...)."""
    index = owner.view(-1, *[1] * (values.dim() - 1)).expand_as(values)
    return values.new_zeros((n, *values.shape[1:])).scatter_reduce(0, index, values, "amax", include_self=False)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
