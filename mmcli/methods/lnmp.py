"""LNMP: the base network of bidirectional distillation (one bag of tiles and the clinical vector)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmcli.blocks.segment import segment_softmax, segment_sum
from mmcli.errors import RequestError
from mmcli.methods.network import FusionSettings, Heads, NetworkMethod, present_flags
from mmcli.store.batch import PackedBag
from mmcli.training.batch import Batch
from mmcli.training.method import MethodSettings
from mmcli.training.spec import DataSpec


class LNMPSettings(FusionSettings):
    """Options of `lnmp`. The paper's values stand in brackets: `--set optimiser=sgd --set lr=1e-4 --set momentum=0.3
    --set weight_decay=1e-3 --set batch=1 --set schedule=constant --set modality_dropout=0`."""

    width: int = Field(256, ge=1, description="Width of a tile's and of the slide's feature (paper: 256).")
    clinical: int = Field(50, ge=1, description="Width of the clinical feature (paper: 50).")
    hidden: int = Field(64, ge=1, description="Hidden width of the head (paper: 64).")
    dropout: float = Field(0.5, ge=0, lt=1, description="Dropout of the tiles' features (paper: 0.5).")
    optimiser: Literal["adamw", "adam", "sgd"] = Field("adamw", description="Optimiser (paper: sgd).")
    lr: float = Field(3e-4, gt=0, description="Learning rate (paper: 1e-4 with sgd).")
    weight_decay: float = Field(1e-2, ge=0, description="Weight decay (paper: 1e-3).")
    momentum: float = Field(0.3, ge=0, lt=1, description="Momentum of sgd (paper: 0.3).")
    batch: int = Field(32, ge=1, description="Patients in a step (paper: 1).")


class TilePooling(nn.Module):
    """Tiles -> Linear -> dropout -> ReLU, then attention Linear -> tanh -> Linear to one score a tile, softmax."""

    def __init__(self, dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(dim, width), nn.Dropout(dropout), nn.ReLU())
        self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, bag: PackedBag) -> Tensor:
        """The slide's feature (n, width), zeros without a tile."""
        h = self.project(bag.features)
        return segment_sum(self._weights(h, bag).unsqueeze(-1) * h, bag.owner, len(bag))

    def attention(self, bag: PackedBag) -> Tensor:
        """The weight (N,) of each tile; each patient's sum to 1."""
        return self._weights(self.project(bag.features), bag)

    def _weights(self, h: Tensor, bag: PackedBag) -> Tensor:
        return segment_softmax(self.score(h).squeeze(-1), bag.owner, len(bag))


class LNMPNetwork(nn.Module):
    """[slide feature (256), clinical feature (50)] -> 64 -> ReLU -> classes."""

    def __init__(self, spec: DataSpec, settings: LNMPSettings) -> None:
        super().__init__()
        s = settings
        self.hidden = s.modality_dropout
        (bag,) = spec.bags
        self.slide, self.tables = bag.name, [t.name for t in spec.tables]
        self.tiles = TilePooling(bag.dim, s.width, s.dropout)
        columns = sum(len(t.columns) for t in spec.tables)
        self.clinical = nn.Linear(columns, s.clinical) if columns else None
        self.heads = Heads(spec, [s.width + (s.clinical if columns else 0), s.hidden], 0.0)

    def embed(self, batch: Batch) -> Tensor:
        """(n, 306): zeros for the slide's or the clinical part that a patient lacks."""
        flags = present_flags(batch, [self.slide, *self.tables], self.hidden if self.training else 0)
        slide: Tensor = self.tiles(batch.bags[self.slide]) * flags[:, :1]
        if self.clinical is None:
            return slide
        values = [batch.tables[t].values * flags[:, i : i + 1] for i, t in enumerate(self.tables, 1)]
        clinical = self.clinical(torch.cat(values, -1)) * flags[:, 1:].any(-1, keepdim=True)
        return torch.cat([slide, clinical], -1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits (n, K) of each task."""
        logits: dict[str, Tensor] = self.heads(self.embed(batch))
        return logits


class LNMP(NetworkMethod):
    """LNMP: attention over the tiles of one slide, the clinical vector mapped to 50, one head on both.

    The base network that bidirectional distillation names (sec. IV, its reference 10). Several tables make one clinical
    vector. At inference an absent slide, or clinical vector, is zeros before the head (the paper's baseline "Filling");
    of several tables an absent one is its training mean.

    Departures: AdamW with early stopping on the validation loss and class weights are the defaults (the paper's SGD
    with one bag a step is an option); modality dropout, which the paper has not.
    """

    name: ClassVar[str] = "lnmp"
    source: ClassVar[str] = "bidirectional distillation's base network (its reference 10)"
    stages: ClassVar[frozenset[str]] = frozenset({"train-teacher"})
    Settings: ClassVar[type[MethodSettings]] = LNMPSettings

    @classmethod
    def check(cls, bags: list[str], tables: list[str], settings: Any) -> None:
        """One bag modality."""
        if len(bags) != 1:
            makes = "; `mmcli extract-features` makes one, and `attention` takes tables alone"
            how = f" ({', '.join(bags)}); leave all but one out" if bags else makes
            raise RequestError(
                f"--modalities: the method 'lnmp' takes one modality of instances and tables, here are {len(bags)}{how}"
            )

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__(spec, settings)
        self.network = LNMPNetwork(spec, settings)

    def attention(self, batch: Batch) -> dict[str, Tensor]:
        """The weight of each tile."""
        slide = self.network.slide
        return {slide: self.network.tiles.attention(batch.bags[slide])}
