"""What the networks that are trained in one phase have in common: their options, cross entropy, softmax."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from mmcli.blocks.mlp import MLP
from mmcli.training.batch import Batch, Roster
from mmcli.training.method import (
    Method,
    MethodSettings,
    Optimiser,
    Phase,
    Turn,
    probabilities,
    weighted_cross_entropy,
)
from mmcli.training.spec import DataSpec


class TrainingSettings(MethodSettings):
    """Options of any network that is trained in one phase. The defaults are for cohorts of some hundred patients."""

    width: int = Field(32, ge=1, description="Width of a modality's latent.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout in the branches and before the heads.")
    class_weights: bool = Field(True, description="Weight the cross entropy by n / (K n_c) of the training patients.")
    optimiser: Literal["adamw", "adam", "sgd"] = Field("adamw", description="Optimiser.")
    lr: float = Field(1e-3, gt=0, description="Learning rate.")
    weight_decay: float = Field(1e-2, ge=0, description="Weight decay.")
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum of sgd.")
    schedule: Literal["constant", "cosine", "plateau"] = Field("cosine", description="Learning-rate schedule.")
    warmup: int = Field(0, ge=0, description="Epochs in which the learning rate rises to lr.")
    epochs: int = Field(200, ge=1, description="Most epochs.")
    patience: int = Field(20, ge=0, description="Epochs without a better validation loss before it stops; 0 = never.")
    batch: int = Field(32, ge=1, description="Patients in a step.")
    sampler: Literal["shuffle", "weighted"] = Field(
        "shuffle", description="weighted: every class is drawn equally often (then best with class_weights=false)."
    )


class FusionSettings(TrainingSettings):
    """Options of any network on several modalities."""

    modality_dropout: float = Field(
        0.2, ge=0, lt=1, description="In training, the chance that a present modality is hidden; one always stays."
    )


class Network(Protocol):
    """What a `NetworkMethod` holds: from a batch to the latent before the heads, and to each task's logits."""

    def embed(self, batch: Batch) -> Tensor:
        """(n, width of the latent)."""

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Logits (n, K) of each task."""


class NetworkMethod(Method):
    """Base class of methods with one network `self.network`, trained in one phase by cross entropy."""

    stackable: ClassVar[bool] = True
    network: Any

    def loss(self, batch: Batch) -> Tensor:
        """Class-weighted cross entropy, summed over the tasks."""
        return weighted_cross_entropy(self.spec, self.network(batch), batch, self.settings.class_weights)

    def who(self, roster: Roster) -> Tensor:
        """Whoever has a label and one of the modalities."""
        return roster.labelled & torch.stack([roster.present[m] for m in self.spec.modalities]).any(0)

    def phases(self) -> list[Phase]:
        """One phase: everything learns."""
        s = self.settings
        turn = Turn(["network"], self.loss, optimiser(s))
        return [Phase("train", [turn], s.epochs, s.patience, s.batch, who=self.who, sampler=s.sampler)]

    def predict(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Softmax of the logits."""
        return {"": probabilities(self.network(batch))}

    def latents(self, batch: Batch) -> dict[str, Tensor]:
        """The fused vector before the heads."""
        return {"joint": self.network.embed(batch)}

    def attention(self, batch: Batch) -> dict[str, Tensor]:
        """The weights of the pooling in each bag modality, where the network pools by attention."""
        branches = getattr(self.network, "branches", None)
        return branches.attention(batch) if branches is not None else {}


def optimiser(settings: TrainingSettings) -> Optimiser:
    """The optimiser that the options ask for."""
    s = settings
    return Optimiser(s.optimiser, s.lr, s.weight_decay, momentum=s.momentum, schedule=s.schedule, warmup=s.warmup)


class Heads(nn.Module):
    """Dropout and an MLP to the logits of each task."""

    def __init__(self, spec: DataSpec, widths: list[int], dropout: float) -> None:
        """`widths`: of the input, then of hidden layers, if any."""
        super().__init__()
        self.tasks = [t.name for t in spec.tasks]
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleList(MLP([*widths, len(t.classes)], dropout) for t in spec.tasks)

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        """(n, widths[0]) to logits (n, K) of each task."""
        z = self.dropout(z)
        return {task: head(z) for task, head in zip(self.tasks, self.heads, strict=True)}


def present_flags(batch: Batch, names: list[str], hidden: float = 0.0) -> Tensor:
    """Who has which modality (n, M) bool; in training, `hidden` is the chance that a present one is taken for absent
    (modality dropout): of a patient who would lose all, none."""
    present = torch.stack([batch.present[m] for m in names], -1)
    if not hidden:
        return present
    kept = present & (torch.rand(present.shape, device=present.device) >= hidden)
    return torch.where(kept.any(-1, keepdim=True), kept, present)
