"""Late fusion: one model a modality, their log-odds averaged over the modalities that a patient has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmcli.blocks.softmax_regression import SoftmaxRegression
from mmcli.methods.attention import PresentAwareNetwork
from mmcli.methods.network import TrainingSettings, optimiser
from mmcli.methods.pooled import POOL_HELP, Pool, pooled_rows, row_width
from mmcli.training.batch import Batch, Roster
from mmcli.training.method import (
    Fitted,
    MethodSettings,
    Phase,
    Turn,
    probabilities,
    weighted_cross_entropy,
)
from mmcli.training.spec import DataSpec


class LateSettings(TrainingSettings):
    """Options of `late`. Those of training steps (width to batch) are for `model=network`."""

    model: Literal["logistic", "network"] = Field(
        "logistic", description="What a modality's model is: logistic regression, or the network of `attention`."
    )
    votes: Literal["modality", "kind"] = Field(
        "modality", description="Whose votes count alike: each modality's, or all bags of a kind share one model."
    )
    pool: Pool = Field("mean", description=f"{POOL_HELP} (logistic)")
    inner_folds: int = Field(5, ge=2, description="Folds, inside training, that choose the penalty. (logistic)")
    class_weights: bool = Field(False, description="Weight each class by n / (K n_c) of the training patients.")


class Late(Fitted):
    """Late fusion: one model a modality, the mean of their log-odds over the modalities that a patient has.

    The model is a logistic regression on the table or the pooled bag, fitted to convergence on the training patients
    who have the modality. Its L2 penalty is chosen inside them, by the log loss of a stratified cross validation. Of K
    classes the mean is of log p_k, then softmax; of two that is the mean of the log-odds (the product of experts with
    equal weights: Genest & Zidek 1986, logarithmic opinion pool). `model=network` trains the network of `attention` on
    each modality instead, each with its own early stopping.

    At inference an absent modality has no vote. A modality whose training patients have no label never has one. A
    group of bags (`votes=kind`) votes when one of them is there; the others are their training mean and an absent flag.
    """

    name: ClassVar[str] = "late"
    source: ClassVar[str] = "Genest & Zidek 1986, doi:10.1214/ss/1177013825 (logarithmic opinion pool)"
    stages: ClassVar[frozenset[str]] = frozenset({"train-teacher"})
    Settings: ClassVar[type[MethodSettings]] = LateSettings

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__(spec, settings)
        self.groups = voters(spec, settings.votes)
        models: list[nn.Module] = []
        for names in self.groups:
            if settings.model == "network":
                models.append(PresentAwareNetwork(spec.only(names), settings.width, settings.dropout, 0.0))
            else:
                columns = row_width(spec, names, settings.pool)
                models.append(nn.ModuleList(SoftmaxRegression(columns, len(t.classes)) for t in spec.tasks))
        self.models = nn.ModuleList(models)

    def phases(self) -> list[Phase]:
        """One fit; or a phase a network, for the labelled patients who have one of its modalities."""
        s = self.settings
        if s.model == "logistic":
            return super().phases()
        return [
            Phase(
                "+".join(names), [Turn([f"models.{i}"], self._loss(i), optimiser(s))],
                s.epochs, s.patience, s.batch, who=self._who(names), sampler=s.sampler,
            )
            for i, names in enumerate(self.groups)
        ]  # fmt: skip

    def fit(self, train: Iterable[Batch], validation: Iterable[Batch]) -> None:
        """Fit each regression to the labelled training patients who have its modality."""
        s = self.settings
        pieces = [([pooled_rows(b, g, s.pool) for g in self.groups], self._present(b), b.labels) for b in train]
        present = torch.cat([there for _, there, _ in pieces]).cpu()
        for t, task in enumerate(self.spec.tasks):
            y = torch.cat([labels[task.name] for _, _, labels in pieces]).cpu()
            for i in range(len(self.groups)):
                x = torch.cat([rows[i] for rows, _, _ in pieces]).cpu().double()
                who = present[:, i] & (y >= 0)
                seed = int(torch.randint(2**31 - 1, ()))
                model: Any = self.models[i]
                model[t].fit(x[who].numpy(), y[who].numpy(), s.inner_folds, seed, s.class_weights)

    def votes(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Who has which vote (n, G), and of each task log p_k of each group's model (n, G, K)."""
        found: dict[str, list[Tensor]] = {t.name: [] for t in self.spec.tasks}
        for names, model in zip(self.groups, self.models, strict=True):
            made: dict[str, Tensor]
            if self.settings.model == "network":
                made = model(batch)
            else:
                x, fitted = pooled_rows(batch, names, self.settings.pool), list(model)  # type: ignore[call-overload]
                made = {t.name: m(x) for t, m in zip(self.spec.tasks, fitted, strict=True)}
            for task, logits in made.items():
                found[task].append(logits.double().log_softmax(-1))
        there = self._present(batch) & self._counts().to(batch.rows.device)
        return there, {t: torch.stack(v, 1) for t, v in found.items()}

    def predict(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """softmax_k of the mean over the present votes of log p_k; where no vote counts, the training prior."""
        there, votes = self.votes(batch)
        shares = there.double() / there.sum(-1, keepdim=True).clamp(min=1)
        logits = {}
        for task in self.spec.tasks:
            mean = torch.einsum("ng,ngk->nk", shares, votes[task.name])
            prior = mean.new_tensor(task.prior).clamp(min=1e-12).log()
            logits[task.name] = torch.where(there.any(-1, keepdim=True), mean, prior)
        return {"": probabilities(logits)}

    def used(self, present: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """The modalities whose vote counts."""
        counts = self._counts().cpu()
        counted = {m: counts[i] for i, names in enumerate(self.groups) for m in names}
        return {"": {m: present[m] & counted[m] for m in self.spec.modalities}}

    def _counts(self) -> Tensor:
        """(G,) bool: whose model had someone to learn from, in every task."""
        if self.settings.model == "network":
            return torch.ones((), dtype=torch.bool).expand(len(self.groups))
        models: list[Any] = list(self.models)
        return torch.stack([torch.stack([m.fitted for m in model]).all() for model in models])

    def _present(self, batch: Batch) -> Tensor:
        return torch.stack([torch.stack([batch.present[m] for m in g]).any(0) for g in self.groups], -1)

    def _who(self, names: list[str]) -> Any:
        def who(roster: Roster) -> Tensor:
            return roster.labelled & torch.stack([roster.present[m] for m in names]).any(0)

        return who

    def _loss(self, i: int) -> Any:
        def loss(batch: Batch) -> Tensor:
            return weighted_cross_entropy(self.spec, self.models[i](batch), batch, self.settings.class_weights)

        return loss


def voters(spec: DataSpec, votes: str) -> list[list[str]]:
    """The modalities of each vote, in the order of the modalities."""
    if votes == "modality":
        return [[name] for name in spec.modalities]
    kinds = list(dict.fromkeys(b.kind for b in spec.bags))
    return [[b.name for b in spec.bags if b.kind == kind] for kind in kinds] + [[t.name] for t in spec.tables]
