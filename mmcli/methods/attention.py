"""Gated attention pooling for each bag, an MLP for each table, joined with their presence: the honest baseline."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from mmcli.methods.branches import Branches
from mmcli.training.batch import Batch
from mmcli.training.method import (
    Method,
    MethodSettings,
    Optimiser,
    Phase,
    Turn,
    everyone,
    probabilities,
    weighted_cross_entropy,
)
from mmcli.training.spec import DataSpec


class AttentionSettings(MethodSettings):
    """Options of `attention`. The defaults are for cohorts of some hundred patients."""

    width: int = Field(32, ge=1, description="Width of a modality's latent.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout in the branches and before the heads.")
    modality_dropout: float = Field(
        0.2, ge=0, lt=1, description="In training, the chance that a present modality is hidden; one always stays."
    )
    class_weights: bool = Field(True, description="Weight the cross entropy by n / (K n_c) of the training patients.")
    lr: float = Field(1e-3, gt=0, description="Learning rate of AdamW.")
    weight_decay: float = Field(1e-2, ge=0, description="Weight decay of AdamW.")
    schedule: str = Field("cosine", pattern="^(constant|cosine|plateau)$", description="Learning-rate schedule.")
    epochs: int = Field(200, ge=1, description="Most epochs.")
    patience: int = Field(20, ge=0, description="Epochs without a better validation loss before it stops; 0 = never.")
    batch: int = Field(32, ge=1, description="Patients in a step.")


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
        present = torch.stack([batch.present[m] for m in self.names], -1)  # (n, M)
        if self.training and self.modality_dropout:
            present = _hide(present, self.modality_dropout)
        flags = present.float()
        z = [flags[:, i : i + 1] * self.branches(batch, m) for i, m in enumerate(self.names)]
        return torch.cat([*z, flags], -1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits (n, K) of each task."""
        z = self.dropout(self.embed(batch))
        return {task: head(z) for task, head in zip(self.tasks, self.heads, strict=True)}


def _hide(present: Tensor, chance: float) -> Tensor:
    """Present flags (n, M) with some hidden at random; of a patient who would lose all, none."""
    kept = present & (torch.rand(present.shape, device=present.device) >= chance)
    return torch.where(kept.any(-1, keepdim=True), kept, present)


class Attention(Method):
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

    def loss(self, batch: Batch) -> Tensor:
        """Class-weighted cross entropy, summed over the tasks."""
        return weighted_cross_entropy(self.spec, self.network(batch), batch, self.settings.class_weights)

    def phases(self) -> list[Phase]:
        """One phase: everything learns."""
        s = self.settings
        optimiser = Optimiser("adamw", s.lr, s.weight_decay, schedule=s.schedule)
        turn = Turn(["network"], self.loss, optimiser)
        return [Phase("train", [turn], s.epochs, s.patience, s.batch, who=everyone)]

    def predict(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Softmax of the logits."""
        return {"": probabilities(self.network(batch))}

    def latents(self, batch: Batch) -> dict[str, Tensor]:
        """The concatenation before the heads."""
        return {"joint": self.network.embed(batch)}

    def attention(self, batch: Batch) -> dict[str, Tensor]:
        """The pooling's weights a_k (Ilse et al. 2018, eq. 9) in each bag modality."""
        return self.network.branches.attention(batch)
