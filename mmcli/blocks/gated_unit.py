"""The gated multimodal unit: each modality's share of each hidden number is decided by all modalities together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class GatedUnit(nn.Module):
    """h = sum_m g_m * tanh(W_m x_m), g_m = sigm(V_m [x_1, ..., x_M]), elementwise.

    Arevalo et al. 2017, "Gated multimodal units for information fusion", eqs 1-3 in the form for any number of
    modalities (fig. 2a). An absent modality has gate 0 and zeros as its part of [x_1, ..., x_M].
    """

    def __init__(self, widths: Sequence[int], out: int) -> None:
        """`widths` of the modalities' vectors, `out` of h."""
        super().__init__()
        self.W = nn.ModuleList(nn.Linear(d, out) for d in widths)
        self.V = nn.ModuleList(nn.Linear(sum(widths), out) for _ in widths)

    def forward(self, vectors: Sequence[Tensor], present: Tensor) -> Tensor:
        """M vectors (n, d_m) and the present flags (n, M) to (n, out)."""
        flags = [present[:, m : m + 1].to(vectors[0].dtype) for m in range(len(vectors))]
        shown = [f * x for f, x in zip(flags, vectors, strict=True)]
        everything = torch.cat(shown, -1)
        parts = [
            f * V(everything).sigmoid() * W(x).tanh() for f, x, W, V in zip(flags, shown, self.W, self.V, strict=True)
        ]
        return torch.stack(parts).sum(0)
