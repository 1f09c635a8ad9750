"""Gated attention pooling for each bag, an MLP for each table, joined with their presence: the honest baseline."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmcli.methods.branches import Branches
from mmcli.methods.network import FusionSettings, NetworkMethod, present_flags
from mmcli.training.batch import Batch
from mmcli.training.method import MethodSettings
from mmcli.training.spec import DataSpec


class AttentionSettings(FusionSettings):
    """Options of `attention`."""


class PresentAwareNetwork(nn.Module):
    """A branch a modality (Ilse et al. 2018, eq. 9, for bags), then a linear head a task on the concatenation.

    Present-aware concatenation: [present_1 z_1, ..., present_M z_M, present_1, ..., present_M]. A modality that a
    patient lacks adds zeros, and the flags let the heads learn what its absence means; nothing else stands for it.
    """

    def __init__(self, spec: DataSpec, width: int, dropout: float, modality_dropout: float) -> None:
        super().__init__()
        self.names = spec.modalities
        self.modality_dropout = modality_dropout
        self.branches = Branches(spec, width, dropout)
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleList(nn.Linear(len(self.names) * (width + 1), len(t.classes)) for t in spec.tasks)
        self.tasks = [t.name for t in spec.tasks]

    def embed(self, batch: Batch) -> Tensor:
        """The concatenation (n, M (width + 1))."""
        flags = present_flags(batch, self.names, self.modality_dropout if self.training else 0).float()
        z = [flags[:, i : i + 1] * self.branches(batch, m) for i, m in enumerate(self.names)]
        return torch.cat([*z, flags], -1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits (n, K) of each task."""
        z = self.dropout(self.embed(batch))
        return {task: head(z) for task, head in zip(self.tasks, self.heads, strict=True)}


class Attention(NetworkMethod):
    """Gated attention pooling for each bag modality, an MLP for each table, present-aware concatenation.

    At inference it takes any subset of its modalities by the rule it was trained with: what is absent adds zeros and
    an absent flag. A patient with none of them gets the training prior.
    """

    name: ClassVar[str] = "attention"
    source: ClassVar[str] = "Ilse, Tomczak & Welling 2018, arXiv:1802.04712 (the pooling)"
    stages: ClassVar[frozenset[str]] = frozenset({"train-teacher"})
    Settings: ClassVar[type[MethodSettings]] = AttentionSettings

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__(spec, settings)
        self.network = PresentAwareNetwork(spec, settings.width, settings.dropout, settings.modality_dropout)
