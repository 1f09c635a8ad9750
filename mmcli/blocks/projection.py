"""One modality's vector before tensor fusion, from the patients who have the modality."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that falls back on its running statistics where one row has no spread to speak of."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, d) to (n, d)."""
        if self.training and len(x) < 2:
            return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


class Projection(nn.Module):
    """BatchNorm, dropout, then three times Linear and ReLU: (n, d) to (n, width), not negative.

    The sub-network of tensor fusion (Zadeh et al. 2017, sec. 4.1), as MDFN has it for each modality. Only the rows that
    are present go through it, so that the batch statistics know nothing of the absent; those get zeros. `norm=False`
    leaves the normalisation to who comes before.
    """

    def __init__(self, d: int, width: int, dropout: float, norm: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = [*([BatchNorm(d)] if norm else []), nn.Dropout(dropout)]
        for a in (d, width, width):
            layers += [nn.Linear(a, width), nn.ReLU()]
        self.width = width
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Vectors (n, d) and who has them (n,) to (n, width)."""
        rows = torch.nonzero(present).squeeze(-1)
        return x.new_zeros(len(x), self.width).index_add(0, rows, self.layers(x[rows]))
