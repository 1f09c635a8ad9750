"""Early fusion: everything side by side into one MLP."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from mmcli.methods.network import FusionSettings, Heads, NetworkMethod, present_flags
from mmcli.methods.pooled import POOL_HELP, Pool, pool_bag
from mmcli.training.batch import Batch
from mmcli.training.method import MethodSettings
from mmcli.training.spec import DataSpec


class EarlySettings(FusionSettings):
    """Options of `early`; `width` is that of the hidden layers."""

    width: int = Field(64, ge=1, description="Width of the hidden layers.")
    layers: int = Field(1, ge=1, description="Hidden layers.")
    pool: Pool = Field("mean", description=POOL_HELP)


class EarlyNetwork(nn.Module):
    """An MLP on [inputs of all modalities, present flags]."""

    def __init__(self, spec: DataSpec, settings: EarlySettings) -> None:
        super().__init__()
        self.names, self.settings = spec.modalities, settings
        sizes = {"mean": 1, "mean-sd": 2, "mean-max-min": 3}
        width = sum(sizes[settings.pool] * b.dim for b in spec.bags)
        width += sum(2 * len(t.columns) for t in spec.tables) + len(self.names)
        self.heads = Heads(spec, [width] + [settings.width] * settings.layers, settings.dropout)

    def embed(self, batch: Batch) -> Tensor:
        """Pooled bags, then [values, holes] of the tables, zeros for what is absent, then the flags: (n, width)."""
        s = self.settings
        flags = present_flags(batch, self.names, s.modality_dropout if self.training else 0)
        parts = []
        for i, name in enumerate(self.names):
            if name in batch.bags:
                x = pool_bag(batch.bags[name], s.pool)
            else:
                table = batch.tables[name]
                x = torch.cat([table.values, 1 - table.observed], -1)
            parts.append(x * flags[:, i : i + 1])
        return torch.cat([*parts, flags.float()], -1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits (n, K) of each task."""
        logits: dict[str, Tensor] = self.heads(self.embed(batch))
        return logits


class Early(NetworkMethod):
    """Early fusion: tables and pooled bags side by side, with their presence, into an MLP.

    The plainest network there is. At inference an absent modality is zeros (the training mean) and an absent flag.
    """

    name: ClassVar[str] = "early"
    source: ClassVar[str] = "Baltrusaitis, Ahuja & Morency 2019, arXiv:1705.09406, sec. 6.1 (the term)"
    stages: ClassVar[frozenset[str]] = frozenset({"train-teacher"})
    Settings: ClassVar[type[MethodSettings]] = EarlySettings

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__(spec, settings)
        self.network = EarlyNetwork(spec, settings)
