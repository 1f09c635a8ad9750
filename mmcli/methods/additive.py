"""Additive fusion: an expert a modality and a joint term, summed in the logits over what is present."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmcli.methods.branches import BagBranch
from mmcli.methods.network import FusionSettings, NetworkMethod, present_flags
from mmcli.training.batch import Batch
from mmcli.training.method import MethodSettings, weighted_cross_entropy
from mmcli.training.spec import DataSpec


class AdditiveSettings(FusionSettings):
    """Options of `additive`."""

    expert: Literal["linear", "mlp"] = Field("linear", description="What answers for a table: a line, or a layer more.")
    input_dropout: float = Field(0.3, ge=0, lt=1, description="Dropout on the columns that the experts see.")
    joint: bool = Field(True, description="The joint term, which sees how modalities go together.")
    members: int = Field(1, ge=1, le=100, description="Networks that differ in their start; their logits are averaged.")
    own_loss: float = Field(0.5, ge=0, description="Weight of the experts' own losses.")
    weight_decay: float = Field(0.1, ge=0, description="Weight decay.")
    modality_dropout: float = Field(
        0.3, ge=0, lt=1, description="In training, the chance that a present modality is hidden; one always stays."
    )


class Expert(nn.Module):
    """From a table's [values, 1 - observed] or a bag to a latent (n, width) and the logits of each task."""

    def __init__(self, columns: int, settings: AdditiveSettings, classes: list[int], bag: bool) -> None:
        super().__init__()
        s = settings
        self.bag = BagBranch(columns, s.width, s.dropout) if bag else None
        self.drop = nn.Dropout(s.input_dropout)
        self.hide = nn.Dropout(s.dropout)
        self.inner = nn.Linear(s.width if bag else 2 * columns, s.width)
        straight = s.expert == "linear" and not bag
        self.heads = nn.ModuleList(nn.Linear(2 * columns if straight else s.width, k) for k in classes)
        self.straight = straight

    def forward(self, batch: Batch, name: str) -> tuple[Tensor, list[Tensor]]:
        """Latent and logits; both mean nothing for a patient without the modality."""
        if self.bag is not None:
            x = self.bag(batch.bags[name])
        else:
            table = batch.tables[name]
            x = self.drop(torch.cat([table.values, 1 - table.observed], -1))
        z = self.inner(x).relu()
        seen = x if self.straight else self.hide(z)
        return z, [head(seen) for head in self.heads]


class AdditiveNetwork(nn.Module):
    """l = sum_m f_m a_m e_m / sum_m f_m a_m + joint([f_1 z_1, ..., f_M z_M, f]) with flags f and weights a_m > 0."""

    def __init__(self, spec: DataSpec, settings: AdditiveSettings) -> None:
        super().__init__()
        s = settings
        self.names, self.tasks, self.settings = spec.modalities, [t.name for t in spec.tasks], s
        classes = [len(t.classes) for t in spec.tasks]
        bags = [Expert(b.dim, s, classes, True) for b in spec.bags]
        self.experts = nn.ModuleList(bags + [Expert(len(t.columns), s, classes, False) for t in spec.tables])
        count = len(self.names)
        self.importance = nn.Parameter(torch.zeros(count))
        self.scale = nn.Parameter(torch.zeros(1))
        self.dropout = nn.Dropout(s.dropout)
        joint = [nn.Linear(count * (s.width + 1), k) for k in classes if s.joint]
        for head in joint:
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        self.joint = nn.ModuleList(joint)

    def parts(self, batch: Batch) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Flags (n, M), the latents side by side (n, M (width + 1)), and of each task the experts' logits (n, M, K)."""
        flags = present_flags(batch, self.names, self.settings.modality_dropout if self.training else 0).float()
        made = [expert(batch, name) for expert, name in zip(self.experts, self.names, strict=True)]
        z = torch.cat([*(flags[:, i : i + 1] * z for i, (z, _) in enumerate(made)), flags], -1)
        return flags, z, [torch.stack([logits[t] for _, logits in made], 1) for t in range(len(self.tasks))]

    def embed(self, batch: Batch) -> Tensor:
        """The latents side by side."""
        return self.parts(batch)[1]

    def fuse(self, flags: Tensor, z: Tensor, experts: list[Tensor]) -> dict[str, Tensor]:
        """Logits (n, K) of each task."""
        shares = flags * self.importance.exp()
        shares = shares / shares.sum(-1, keepdim=True).clamp(min=1e-9)
        logits = {}
        for t, task in enumerate(self.tasks):
            mean = torch.einsum("nm,nmk->nk", shares, experts[t]) * self.scale.exp()
            logits[task] = mean + self.joint[t](self.dropout(z)) if len(self.joint) else mean
        return logits

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits (n, K) of each task."""
        return self.fuse(*self.parts(batch))


class Ensemble(nn.Module):
    """Several networks on the same patients; the mean of their logits."""

    def __init__(self, spec: DataSpec, settings: AdditiveSettings) -> None:
        super().__init__()
        self.members = nn.ModuleList(AdditiveNetwork(spec, settings) for _ in range(settings.members))

    def embed(self, batch: Batch) -> Tensor:
        """The members' latents side by side."""
        return torch.cat([member.embed(batch) for member in self.members], -1)  # type: ignore[operator]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits (n, K) of each task."""
        made = [member(batch) for member in self.members]
        return {task: torch.stack([logits[task] for logits in made]).mean(0) for task in made[0]}


class Additive(NetworkMethod):
    """Additive fusion: each modality's expert votes in the logits, and a joint term corrects the sum.

    The weighted mean of the present experts' logits is a product of experts (Hinton 2002, eq. 1), whose factors for
    absent modalities are left out, as in Wu & Goodman 2018 (there for latents). The loss is the cross
    entropy of the sum, plus `own_loss` times the mean over the modalities of each expert's own over the patients who
    have it (Du et al. 2023, uni-modal ensembles and teachers: without it the easiest modality is all that is learned).
    Modality dropout trains the sum on any subset. The joint term is linear in the latents of all, and starts at 0.
    `members` > 1 is a deep ensemble (Lakshminarayanan et al. 2017) in one part, stopped together.

    At inference an absent modality's expert has no vote and its latent is zeros with an absent flag.
    """

    name: ClassVar[str] = "additive"
    source: ClassVar[str] = "Hinton 2002, doi:10.1162/089976602760128018; Wu & Goodman 2018, arXiv:1802.05335"
    stages: ClassVar[frozenset[str]] = frozenset({"train-teacher"})
    Settings: ClassVar[type[MethodSettings]] = AdditiveSettings

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__(spec, settings)
        self.network = Ensemble(spec, settings)

    def loss(self, batch: Batch) -> Tensor:
        """The members' mean of CE(sum) + own_loss mean_m CE(expert m over who has m)."""
        losses = [self._loss(member, batch) for member in self.network.members]
        return torch.stack(losses).mean(0)

    def _loss(self, network: Any, batch: Batch) -> Tensor:
        s = self.settings
        flags, z, experts = network.parts(batch)
        total = weighted_cross_entropy(self.spec, network.fuse(flags, z, experts), batch, s.class_weights)
        for i, name in enumerate(network.names):
            there = batch.present[name]
            labels = {task: y.masked_fill(~there, -1) for task, y in batch.labels.items()}
            own = {task: experts[t][:, i] for t, task in enumerate(network.tasks)}
            seen = Batch(batch.rows, {}, {}, labels)
            term = weighted_cross_entropy(self.spec, own, seen, s.class_weights)
            total = total + s.own_loss / len(network.names) * term
        return total
