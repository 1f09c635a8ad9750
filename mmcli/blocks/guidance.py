"""The guidance model G of deep-guide: from the inferior modality's latent to the superior one's."""

from __future__ import annotations

from torch import Tensor, nn

from mmcli.blocks.mlp import MLP


class Guidance(nn.Module):
    """z_S^ = G(z_I; theta_G): Mallya and Hamarneh 2022, eq. 4 and figure 1b.

    An autoencoder-like stack whose inner widths narrow to a quarter and widen again: the paper's RadPath model is
    1024-512-256-256-512 (in, in/2, in/4, in/4, out), ReLU after each layer *including the last* and dropout 0.25
    between them. The last ReLU fits superior latents that are themselves the output of a ReLU; switch it off for
    others. `least` keeps the inner widths of narrow latents from vanishing (a departure: the paper's are wide).
    """

    def __init__(self, inferior: int, superior: int, dropout: float, last_relu: bool = True, least: int = 16) -> None:
        super().__init__()
        half, quarter = max(inferior // 2, least), max(inferior // 4, least)
        self.stack = MLP([inferior, half, quarter, quarter, superior], dropout, last_relu)

    def forward(self, z: Tensor) -> Tensor:
        """(n, inferior) to (n, superior)."""
        out: Tensor = self.stack(z)
        return out
