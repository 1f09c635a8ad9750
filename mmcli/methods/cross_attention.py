"""Cross-attention between modality tokens (Vaswani et al. 2017)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from mmcli.blocks.cross_attention import CrossAttention
from mmcli.blocks.mlp import MLP
from mmcli.errors import RequestError
from mmcli.methods.branches import Branches
from mmcli.methods.network import FusionSettings, Heads, NetworkMethod, present_flags
from mmcli.training.batch import Batch
from mmcli.training.method import MethodSettings
from mmcli.training.spec import DataSpec


class CrossAttentionSettings(FusionSettings):
    """Options of `cross-attention`."""

    heads: int = Field(4, ge=1, description="Attention heads; they divide the width, sec. 3.2.2.")
    layers: int = Field(1, ge=1, description="Layers of attention and feed-forward, sec. 3.1.")


class Layer(nn.Module):
    """LayerNorm(x + attention(x)), then LayerNorm(x + FFN(x)): Vaswani et al. 2017, sec. 3.1, fig. 1."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = CrossAttention(width, heads)
        self.feed = MLP([width, 2 * width, width], dropout)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Tokens (n, M, width), flags (n, M): (n, M, width)."""
        x = self.norms[0](x + self.dropout(self.attention(x, present)))
        x = self.norms[1](x + self.dropout(self.feed(x)))
        return x * present.unsqueeze(-1)


class CrossAttentionNetwork(nn.Module):
    """A token a modality (its branch's latent and a learned name), layers, the mean over the present tokens, heads."""

    def __init__(self, spec: DataSpec, settings: CrossAttentionSettings) -> None:
        super().__init__()
        s = settings
        self.names_of, self.hidden = spec.modalities, s.modality_dropout
        self.branches = Branches(spec, s.width, s.dropout)
        self.names = nn.Parameter(0.1 * torch.randn(len(self.names_of), s.width))
        self.layers = nn.ModuleList(Layer(s.width, s.heads, s.dropout) for _ in range(s.layers))
        self.heads = Heads(spec, [s.width], s.dropout)

    def embed(self, batch: Batch) -> Tensor:
        """(n, width)."""
        present = present_flags(batch, self.names_of, self.hidden if self.training else 0)
        z = torch.stack([self.branches(batch, m) for m in self.names_of], 1)  # (n, M, width)
        tokens = (z + self.names) * present.unsqueeze(-1)
        for layer in self.layers:
            tokens = layer(tokens, present)
        return tokens.sum(1) / present.sum(1, keepdim=True).clamp(min=1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits (n, K) of each task."""
        logits: dict[str, Tensor] = self.heads(self.embed(batch))
        return logits


class CrossAttentionFusion(NetworkMethod):
    """Cross-attention: each modality is a token, and each present token asks all present ones.

    Vaswani et al. 2017, on the branches of `attention`; the tokens' mean goes to a linear head. At inference absent
    tokens are masked in every layer and in the mean.
    """

    name: ClassVar[str] = "cross-attention"
    source: ClassVar[str] = "Vaswani et al. 2017, arXiv:1706.03762"
    stages: ClassVar[frozenset[str]] = frozenset({"train-teacher"})
    Settings: ClassVar[type[MethodSettings]] = CrossAttentionSettings

    @classmethod
    def check(cls, bags: list[str], tables: list[str], settings: Any) -> None:
        """The heads divide the width."""
        if settings.width % settings.heads:
            raise RequestError(f"--set heads={settings.heads}: does not divide width={settings.width}; give another")

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__(spec, settings)
        self.network = CrossAttentionNetwork(spec, settings)
