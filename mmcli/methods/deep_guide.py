"""Deep multimodal guidance (Mallya and Hamarneh 2022): the inferior modality steered by what the superior one knows."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmcli.blocks.guidance import Guidance
from mmcli.blocks.mlp import MLP
from mmcli.methods.branches import Branches
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

Name = Literal["adamw", "adam", "sgd"]


class DeepGuideSettings(MethodSettings):
    """Options of `deep-guide`. The paper's values, for latents of 1024 and 512, stand in brackets."""

    width: int = Field(32, ge=1, description="Width of z_I and z_S, eq. 3 (paper: 1024 and 512).")
    hidden: int = Field(50, ge=1, description="Hidden width of the combined decoder D_c, eq. 5 (paper: 50).")
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout in encoders and decoders.")
    guide_dropout: float = Field(0.1, ge=0, lt=1, description="Dropout in G, fig. 1b (paper: 0.25).")
    last_relu: bool = Field(True, description="ReLU after G's last layer too, fig. 1b (paper: true).")
    class_weights: bool = Field(True, description="Weight the cross entropy by n / (K n_c) (paper: true).")
    lr: float = Field(1e-3, gt=0, description="Learning rate of the classifiers C_I and C_S, eqs 1 and 2.")
    weight_decay: float = Field(1e-2, ge=0, description="Weight decay of classifiers and decoders.")
    optimiser: Name = Field("adamw", description="Optimiser of classifiers and decoders (paper: sgd for D_c).")
    guide_optimiser: Name = Field("adamw", description="Optimiser of G, eq. 4 (paper: sgd, Nesterov momentum 0.9).")
    guide_lr: float = Field(2e-3, gt=0, description="Learning rate of G (paper: 0.5 with sgd).")
    guide_weight_decay: float = Field(1e-6, ge=0, description="Weight decay of G (paper: 1e-6).")
    guide_epochs: int = Field(150, ge=1, description="Most epochs of G (paper: 150).")
    guide_batch: int = Field(50, ge=1, description="Patients in a step of G (paper: 50).")
    decoder_lr: float = Field(1e-3, gt=0, description="Learning rate of D_c, eq. 5 (paper: 1e-3 with sgd).")
    epochs: int = Field(200, ge=1, description="Most epochs of each classifier and decoder (paper: 500 for D_c).")
    patience: int = Field(20, ge=0, description="Epochs without a better validation loss (paper: 200 for D_c).")
    batch: int = Field(32, ge=1, description="Patients in a step of classifiers and decoders.")


class Decoder(nn.Module):
    """D: from a latent to the logits of each task (the paper's Derm7pt model has one decoder a task, too)."""

    def __init__(self, spec: DataSpec, widths: list[int], dropout: float) -> None:
        super().__init__()
        self.names = [t.name for t in spec.tasks]
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Dropout(dropout), MLP([*widths, len(t.classes)], dropout)) for t in spec.tasks
        )

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        """(n, width) to logits (n, K) of each task."""
        return {name: head(z) for name, head in zip(self.names, self.heads, strict=True)}


class DeepGuide(Method):
    """Deep guidance: G learns the superior latent from the inferior one, and a decoder uses both estimates.

    Three steps (sec. 3): (i) classifiers C_I = D_I o E_I and C_S = D_S o E_S (eqs 1-3); (ii) with the encoders frozen,
    G maps z_I to z_S by MSE (eq. 4), on all training patients who have both modalities, labelled or not; (iii) with
    encoders and G frozen, D_c predicts from [G(z_I), z_I] (eq. 5). A fourth decoder, on [z_S, z_I], gives the table's
    row S+I. Variants: "G(I)+I" is the method; "S+I", "S", "I" and "G(I)" = D_S(G(z_I)) are what it is compared with.

    Inference: G(I)+I, I and G(I) need the inferior modality, S the superior, S+I both; a variant answers for the
    patients who have what it needs. Without the inferior modality the method answers with the training prior.

    Departures: encoders are our branches on cached latents with z >= 0; the optimisers default to AdamW with early
    stopping, as the paper's rates belong to its latents' widths (they are options); the paper trains on labelled pairs
    only, here each step takes every patient whom its loss can use; the weighted sampler is left out, since the class
    weights do its work.
    """

    name: ClassVar[str] = "deep-guide"
    source: ClassVar[str] = "Mallya & Hamarneh 2022 (MICCAI), arXiv:2203.05683"
    stages: ClassVar[frozenset[str]] = frozenset({"train-guide"})
    Settings: ClassVar[type[MethodSettings]] = DeepGuideSettings
    variants: ClassVar[tuple[str, ...]] = ("G(I)+I", "S+I", "S", "I", "G(I)")

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__(spec, settings)
        self.I, self.S = spec.roles["inferior"], spec.roles["superior"]
        s, w = settings, settings.width
        self.E_I = Branches(spec.only([self.I]), w, s.dropout)
        self.E_S = Branches(spec.only([self.S]), w, s.dropout)
        self.D_I = Decoder(spec, [w], s.dropout)
        self.D_S = Decoder(spec, [w], s.dropout)
        self.G = Guidance(w, w, s.guide_dropout, s.last_relu)
        self.D_c = Decoder(spec, [2 * w, s.hidden], s.dropout)
        self.D_SI = Decoder(spec, [2 * w, s.hidden], s.dropout)

    def z_I(self, batch: Batch) -> Tensor:  # noqa: N802
        """z_I = E_I(x_I), eq. 3: (n, width)."""
        z: Tensor = self.E_I(batch, self.I)
        return z

    def z_S(self, batch: Batch) -> Tensor:  # noqa: N802
        """z_S = E_S(x_S), eq. 3: (n, width)."""
        z: Tensor = self.E_S(batch, self.S)
        return z

    def guided(self, z: Tensor) -> Tensor:
        """[G(z_I), z_I], the input of D_c in eq. 5: (n, 2 width)."""
        return torch.cat([self.G(z), z], -1)

    def both(self, batch: Batch) -> Tensor:
        """[z_S, z_I], for the row S+I: (n, 2 width)."""
        return torch.cat([self.z_S(batch), self.z_I(batch)], -1)

    def _cross_entropy(self, logits: dict[str, Tensor], batch: Batch) -> Tensor:
        return weighted_cross_entropy(self.spec, logits, batch, self.settings.class_weights)

    def loss_I(self, batch: Batch) -> Tensor:  # noqa: N802
        """Cross entropy of y_I = D_I(E_I(x_I)), eq. 2."""
        return self._cross_entropy(self.D_I(self.z_I(batch)), batch)

    def loss_S(self, batch: Batch) -> Tensor:  # noqa: N802
        """Cross entropy of y_S = D_S(E_S(x_S)), eq. 2."""
        return self._cross_entropy(self.D_S(self.z_S(batch)), batch)

    def loss_G(self, batch: Batch) -> Tensor:  # noqa: N802
        """MSE between G(z_I) and z_S, eq. 4; both latents come from frozen encoders."""
        return nn.functional.mse_loss(self.G(self.z_I(batch)), self.z_S(batch))

    def loss_c(self, batch: Batch) -> Tensor:
        """Cross entropy of D_c([G(z_I), z_I]), eq. 5."""
        return self._cross_entropy(self.D_c(self.guided(self.z_I(batch))), batch)

    def loss_SI(self, batch: Batch) -> Tensor:  # noqa: N802
        """Cross entropy of the comparison row S+I."""
        return self._cross_entropy(self.D_SI(self.both(batch)), batch)

    def phases(self) -> list[Phase]:
        """C_I, C_S; G; D_c, and the comparison's decoder."""
        s = self.settings
        classifier = _optimiser(s.optimiser, s.lr, s.weight_decay)
        guide = _optimiser(s.guide_optimiser, s.guide_lr, s.guide_weight_decay)
        decoder = _optimiser(s.optimiser, s.decoder_lr, s.weight_decay)
        common = (s.epochs, s.patience, s.batch)
        return [
            Phase("C_I", [Turn(["E_I", "D_I"], self.loss_I, classifier)], *common, who=self._labelled(self.I)),
            Phase("C_S", [Turn(["E_S", "D_S"], self.loss_S, classifier)], *common, who=self._labelled(self.S)),
            Phase("G", [Turn(["G"], self.loss_G, guide)], s.guide_epochs, s.patience, s.guide_batch, who=self._paired),
            Phase("D_c", [Turn(["D_c"], self.loss_c, decoder)], *common, who=self._labelled(self.I)),
            Phase("D_SI", [Turn(["D_SI"], self.loss_SI, decoder)], *common, who=self._labelled(self.I, self.S)),
        ]

    def _paired(self, roster: Roster) -> Tensor:
        return roster.present[self.I] & roster.present[self.S]

    def _labelled(self, *names: str) -> Any:
        return lambda roster: roster.labelled & torch.stack([roster.present[m] for m in names]).all(0)

    def predict(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """All five rows of the paper's tables."""
        z_I, z_S = self.z_I(batch), self.z_S(batch)
        return {
            "G(I)+I": probabilities(self.D_c(self.guided(z_I))),
            "S+I": probabilities(self.D_SI(torch.cat([z_S, z_I], -1))),
            "S": probabilities(self.D_S(z_S)),
            "I": probabilities(self.D_I(z_I)),
            "G(I)": probabilities(self.D_S(self.G(z_I))),
        }

    def used(self, present: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """What each row rests on: I alone, S alone, or both together."""
        inferior, superior = present[self.I], present[self.S]
        pair = inferior & superior
        return {
            "G(I)+I": {self.I: inferior},
            "S+I": {self.S: pair, self.I: pair},
            "S": {self.S: superior},
            "I": {self.I: inferior},
            "G(I)": {self.I: inferior},
        }

    def latents(self, batch: Batch) -> dict[str, Tensor]:
        """z_I, z_S and the estimate G(z_I)."""
        z_I = self.z_I(batch)
        return {"z_I": z_I, "z_S": self.z_S(batch), "G(z_I)": self.G(z_I)}

    def attention(self, batch: Batch) -> dict[str, Tensor]:
        """The weights of the pooling in E_I and E_S, where they pool bags."""
        return self.E_I.attention(batch) | self.E_S.attention(batch)


def _optimiser(name: Name, lr: float, weight_decay: float) -> Optimiser:
    """The paper's SGD has Nesterov momentum 0.9."""
    sgd = name == "sgd"
    return Optimiser(name, lr, weight_decay, momentum=0.9 if sgd else 0.0, nesterov=sgd)
