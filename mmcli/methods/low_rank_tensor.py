"""Low-rank multimodal fusion (Liu et al. 2018)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from mmcli.blocks.low_rank_fusion import LowRankFusion
from mmcli.methods.branches import Branches
from mmcli.methods.network import FusionSettings, NetworkMethod, present_flags
from mmcli.training.batch import Batch
from mmcli.training.method import MethodSettings
from mmcli.training.spec import DataSpec


class LowRankSettings(FusionSettings):
    """Options of `low-rank-tensor`."""

    rank: int = Field(4, ge=1, description="Rank R of the decomposition, eq. 5.")


class LowRankNetwork(nn.Module):
    """A branch a modality; the low-rank fusion of their latents is the logits, as in the authors' code."""

    def __init__(self, spec: DataSpec, settings: LowRankSettings) -> None:
        super().__init__()
        self.names, self.hidden = spec.modalities, settings.modality_dropout
        self.branches = Branches(spec, settings.width, settings.dropout)
        self.dropout = nn.Dropout(settings.dropout)
        widths = [settings.width] * len(self.names)
        self.fusions = nn.ModuleList(LowRankFusion(widths, len(t.classes), settings.rank) for t in spec.tasks)
        self.tasks = [t.name for t in spec.tasks]

    def vectors(self, batch: Batch) -> list[Tensor]:
        """The latent (n, width) of each modality, zeros where it is absent."""
        flags = present_flags(batch, self.names, self.hidden if self.training else 0)
        return [flags[:, i : i + 1] * self.branches(batch, m) for i, m in enumerate(self.names)]

    def embed(self, batch: Batch) -> Tensor:
        """The latents side by side (n, M width)."""
        return torch.cat(self.vectors(batch), -1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits (n, K) of each task, eq. 7."""
        z = [self.dropout(x) for x in self.vectors(batch)]
        return {task: fusion(z) for task, fusion in zip(self.tasks, self.fusions, strict=True)}


class LowRankTensor(NetworkMethod):
    """Low-rank tensor fusion: a linear map of the outer product of all modalities, decomposed.

    Liu et al. 2018, eqs 5-7, on the branches of `attention`. At inference an absent modality is [1, 0, ..., 0] in the
    product: what the others have in common stays.
    """

    name: ClassVar[str] = "low-rank-tensor"
    source: ClassVar[str] = "Liu et al. 2018, arXiv:1806.00064"
    stages: ClassVar[frozenset[str]] = frozenset({"train-teacher"})
    Settings: ClassVar[type[MethodSettings]] = LowRankSettings

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__(spec, settings)
        self.network = LowRankNetwork(spec, settings)
