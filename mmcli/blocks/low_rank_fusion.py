"""Low-rank tensor fusion: a linear map of the outer product that never makes the outer product."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmcli.blocks.tensor_fusion import prepend_one


class LowRankFusion(nn.Module):
    """h = sum_r o_r * prod_m (W_m^r [1, z_m]) + b, elementwise products over the modalities m.

    Liu et al. 2018, "Efficient low-rank multimodal fusion with modality-specific factors", eqs 6-7: what a linear layer
    on the full product gives whose weight is sum_r o_r (W_1^r x ... x W_M^r). It costs sum(d_m), not prod(d_m). The
    weights o_r of the ranks are the authors' code's. An absent modality, z_m = 0, contributes its factor W_m^r[0], the
    products of the others alone.

    Departure: the factor's row of the 1 starts at 1, not at a random number, so that the product of many modalities
    starts as 1 + the sum of their linear parts, and not as a product of M small numbers.
    """

    def __init__(self, widths: Sequence[int], out: int, rank: int = 4) -> None:
        """`widths` d_m of the modalities' vectors, `out` of h, `rank` R."""
        super().__init__()
        self.factors = nn.ParameterList()
        for d in widths:
            factor = torch.randn(rank, d + 1, out) * math.sqrt(1 / ((d + 1) * len(widths)))
            factor[:, 0] = 1
            self.factors.append(nn.Parameter(factor))
        # Ranks that start alike and equal in weight cancel in the mean, so half of them are subtracted.
        signs = torch.tensor([(-1.0) ** r for r in range(rank)])
        self.ranks = nn.Parameter(signs / math.sqrt(rank) if rank > 1 else torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        """M vectors (n, d_m) to (n, out)."""
        product = vectors[0].new_ones(())
        for z, factor in zip(vectors, self.factors, strict=True):
            product = product * torch.einsum("nd,rdo->rno", prepend_one(z), factor)
        return torch.einsum("r,rno->no", self.ranks, product) + self.bias

    def full_weight(self) -> Tensor:
        """The weight (prod(d_m + 1), out) of the linear layer on `tensor_fusion` that this is."""
        rank, _, out = self.factors[0].shape
        weight = self.ranks.view(rank, 1, 1).expand(rank, 1, out)
        for factor in self.factors:
            weight = (weight.unsqueeze(2) * factor.unsqueeze(1)).flatten(1, 2)
        return weight.sum(0)
