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


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation by the statistics of the rows that are present: torch's on those rows alone, without a shape
    that depends on who is present. With fewer than two of them, by its running statistics."""

    def forward(self, x: Tensor, present: Tensor) -> Tensor:  # type: ignore[override]
        """(n, d) and who counts (n,) to (n, d)."""
        mean, var = self.running_mean, self.running_var
        assert mean is not None and var is not None and self.momentum is not None
        if self.training:
            counted = present.unsqueeze(-1).to(x.dtype)
            count = counted.sum()
            own_mean = (x * counted).sum(0) / count.clamp(min=1)
            squares = ((x - own_mean).square() * counted).sum(0)
            enough = count > 1
            with torch.no_grad():
                moved = torch.where(enough, self.momentum, 0.0)
                self.running_mean = mean + moved * (own_mean - mean)
                self.running_var = var + moved * (squares / (count - 1).clamp(min=1) - var)
            mean = torch.where(enough, own_mean, mean)
            var = torch.where(enough, squares / count.clamp(min=1), var)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


class Projection(nn.Module):
    """BatchNorm, dropout, then three times Linear and ReLU: (n, d) to (n, width), not negative.

    The sub-network of tensor fusion (Zadeh et al. 2017, sec. 4.1), as MDFN has it for each modality. The batch
    statistics know nothing of the rows that are not present; those get zeros. `norm=False` leaves the normalisation to
    who comes before.
    """

    def __init__(self, d: int, width: int, dropout: float, norm: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = [*([MaskedBatchNorm(d)] if norm else []), nn.Dropout(dropout)]
        for a in (d, width, width):
            layers += [nn.Linear(a, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Vectors (n, d) and who has them (n,) to (n, width)."""
        for layer in self.layers:
            x = layer(x, present) if isinstance(layer, MaskedBatchNorm) else layer(x)
        return torch.where(present.unsqueeze(-1), x, 0.0)
