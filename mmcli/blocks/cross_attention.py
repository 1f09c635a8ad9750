"""Attention between a patient's modalities: each present one asks all present ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Multi-head attention over the M tokens of a patient, softmax(Q K^T / sqrt(d)) V, absent tokens masked.

    Vaswani et al. 2017, "Attention is all you need", eq. 1 and sec. 3.2.2. Masked scores are -inf, so an absent token
    has no weight whatever it holds; its own row, and all of a patient without a modality, are 0.
    """

    def __init__(self, width: int, heads: int) -> None:
        """`width` of a token, a multiple of `heads`."""
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def weights(self, tokens: Tensor, present: Tensor) -> Tensor:
        """(n, heads, M, M): how much each token (row) takes from each (column); a row sums to 1 over the present."""
        q, k = self._split(self.q(tokens)), self._split(self.k(tokens))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        pairs = (present.unsqueeze(1) & present.unsqueeze(2)).unsqueeze(1)  # (n, 1, M, M)
        nobody = ~pairs.any(-1, keepdim=True)
        return scores.masked_fill(~pairs & ~nobody, -torch.inf).softmax(-1) * pairs

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Tokens (n, M, width) and present flags (n, M) to (n, M, width)."""
        tokens = tokens * present.unsqueeze(-1)
        mixed = self.weights(tokens, present) @ self._split(self.v(tokens))
        merged: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return merged * present.unsqueeze(-1)

    def _split(self, x: Tensor) -> Tensor:
        n, m, width = x.shape
        return x.view(n, m, self.heads, width // self.heads).transpose(1, 2)  # (n, heads, M, width / heads)
