"""Gated multimodal units (Arevalo et al. 2017)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from mmcli.blocks.gated_unit import GatedUnit
from mmcli.methods.branches import Branches
from mmcli.methods.network import FusionSettings, Heads, NetworkMethod, present_flags
from mmcli.training.batch import Batch
from mmcli.training.method import MethodSettings
from mmcli.training.spec import DataSpec


class GatedSettings(FusionSettings):
    """Options of `gated`."""


class GatedNetwork(nn.Module):
    """A branch a modality, the gated unit, a linear head a task."""

    def __init__(self, spec: DataSpec, settings: GatedSettings) -> None:
        super().__init__()
        self.names, self.hidden = spec.modalities, settings.modality_dropout
        self.branches = Branches(spec, settings.width, settings.dropout)
        self.unit = GatedUnit([settings.width] * len(self.names), settings.width)
        self.heads = Heads(spec, [settings.width], settings.dropout)

    def embed(self, batch: Batch) -> Tensor:
        """h (n, width), eq. 3."""
        present = present_flags(batch, self.names, self.hidden if self.training else 0)
        h: Tensor = self.unit([self.branches(batch, m) for m in self.names], present)
        return h

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits (n, K) of each task."""
        logits: dict[str, Tensor] = self.heads(self.embed(batch))
        return logits


class Gated(NetworkMethod):
    """Gated multimodal units: each modality's share of each hidden number is decided by all of them.

    Arevalo et al. 2017, eqs 1-3, on the branches of `attention`. At inference an absent modality has gate 0 and
    is zeros in what the others' gates see.
    """

    name: ClassVar[str] = "gated"
    source: ClassVar[str] = "Arevalo et al. 2017, arXiv:1702.01992"
    stages: ClassVar[frozenset[str]] = frozenset({"train-teacher"})
    Settings: ClassVar[type[MethodSettings]] = GatedSettings

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__(spec, settings)
        self.network = GatedNetwork(spec, settings)
