"""A multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers of the given widths with ReLU and dropout between them.

    widths = [in, hidden ..., out]; `last_relu` puts a ReLU (no dropout) after the last layer too.
    """

    def __init__(self, widths: Sequence[int], dropout: float = 0.0, last_relu: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(widths)):
            if i:
                layers += [nn.ReLU(), nn.Dropout(dropout)]
            layers.append(nn.Linear(a, b))
        self.layers = nn.Sequential(*layers, nn.ReLU()) if last_relu else nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(n, widths[0]) to (n, widths[-1])."""
        out: Tensor = self.layers(x)
        return out
