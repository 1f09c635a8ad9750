"""Logit distillation to a subset of the modalities (Hinton, Vinyals and Dean 2015)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mmcli.methods.attention import AttentionSettings, PresentAwareNetwork
from mmcli.methods.network import NetworkMethod
from mmcli.training.batch import Batch, Roster
from mmcli.training.method import MethodSettings, weighted_cross_entropy
from mmcli.training.spec import DataSpec


class DistillationSettings(AttentionSettings):
    """Options of `kd`: the student is the network of `attention`, with its options."""

    alpha: float = Field(
        0.7, ge=0, le=1, description="Weight of the teacher's term; 1 - alpha is the label's (Hinton et al., sec. 2)."
    )
    tau: float = Field(2.0, gt=0, description="Temperature of both softmaxes (Hinton et al., eq. 1).")


def distillation(teacher: Tensor, student: Tensor, tau: float) -> Tensor:
    """tau^2 KL(teacher || student) of each row (n,) at temperature tau; both are logits (n, K).

    Hinton et al. 2015, sec. 2: q_i = exp(z_i/tau) / sum_j exp(z_j/tau) (eq. 1); the gradient shrinks with 1/tau^2,
    hence the factor. log-probabilities may stand for the teacher's logits, as the softmax does not see a shift.
    """
    target, own = (teacher / tau).log_softmax(-1), (student / tau).log_softmax(-1)
    return tau**2 * (target.exp() * (target - own)).sum(-1)


class KnowledgeDistillation(NetworkMethod):
    """Logit distillation: a student on some of the modalities learns from labels and from its teacher's probabilities.

    loss = (1 - alpha) CE(y, student) + alpha tau^2 KL(teacher || student), summed over the tasks. The first term is
    over the labelled patients; the second over all training patients for whom the teacher had something to go by,
    labelled or not. The teacher is the part of the same fold and seed: it has seen the same training patients and no
    other.
    At inference the student takes any subset of its modalities as `attention` does; with none, the training prior.
    """

    name: ClassVar[str] = "kd"
    source: ClassVar[str] = "Hinton, Vinyals & Dean 2015, arXiv:1503.02531"
    stages: ClassVar[frozenset[str]] = frozenset({"distill"})
    stackable: ClassVar[bool] = False  # the loss asks whether a batch has answers of the teacher
    Settings: ClassVar[type[MethodSettings]] = DistillationSettings

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__(spec, settings)
        self.network = PresentAwareNetwork(spec, settings.width, settings.dropout, settings.modality_dropout)

    def loss(self, batch: Batch) -> Tensor:
        """(1 - alpha) CE + alpha tau^2 KL."""
        alpha: float = self.settings.alpha
        logits = self.network(batch)
        labels = weighted_cross_entropy(self.spec, logits, batch, self.settings.class_weights)
        return (1 - alpha) * labels + alpha * self._from_teacher(logits, batch)

    def _from_teacher(self, logits: dict[str, Tensor], batch: Batch) -> Tensor:
        total = torch.zeros((), device=batch.rows.device)
        for task in self.spec.tasks:
            p = batch.extra[f"teacher.{task.name}"]
            known = ~p.isnan().any(-1)
            if bool(known.any()):
                teacher = p[known].clamp(min=1e-7).log()
                total = total + distillation(teacher, logits[task.name][known], self.settings.tau).mean()
        return total

    def who(self, roster: Roster) -> Tensor:
        """Whoever has one of the student's modalities, and a label or a teacher's answer."""
        seen = torch.stack([roster.present[m] for m in self.spec.modalities]).any(0)
        taught = torch.stack([~roster.extra[f"teacher.{t.name}"].isnan().any(-1) for t in self.spec.tasks]).any(0)
        return seen & (roster.labelled | (taught if self.settings.alpha > 0 else roster.labelled))
