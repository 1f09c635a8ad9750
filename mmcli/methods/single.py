"""One modality alone, to know what each is worth."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from mmcli.errors import RequestError
from mmcli.methods.branches import Branches
from mmcli.methods.network import Heads, NetworkMethod, TrainingSettings
from mmcli.training.batch import Batch
from mmcli.training.method import MethodSettings
from mmcli.training.spec import DataSpec


class SingleSettings(TrainingSettings):
    """Options of `single`."""


class SingleNetwork(nn.Module):
    """The branch of `attention` for the one modality, then a linear head a task."""

    def __init__(self, spec: DataSpec, settings: SingleSettings) -> None:
        super().__init__()
        (self.name,) = spec.modalities
        self.branches = Branches(spec, settings.width, settings.dropout)
        self.heads = Heads(spec, [settings.width], settings.dropout)

    def embed(self, batch: Batch) -> Tensor:
        """(n, width)."""
        z: Tensor = self.branches(batch, self.name)
        return z

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits (n, K) of each task."""
        logits: dict[str, Tensor] = self.heads(self.embed(batch))
        return logits


class Single(NetworkMethod):
    """One modality alone: gated attention pooling of a bag, or an MLP of a table, and a linear head.

    `--modalities` picks it. Trained on the patients who have it; whoever lacks it gets the training prior.
    """

    name: ClassVar[str] = "single"
    source: ClassVar[str] = "Ilse, Tomczak & Welling 2018, arXiv:1802.04712 (the pooling)"
    stages: ClassVar[frozenset[str]] = frozenset({"train-teacher"})
    Settings: ClassVar[type[MethodSettings]] = SingleSettings

    @classmethod
    def check(cls, bags: list[str], tables: list[str], settings: Any) -> None:
        """One modality, no more."""
        names = bags + tables
        if len(names) != 1:
            raise RequestError(
                f"--modalities: the method 'single' takes one modality, here are {len(names)} ({', '.join(names)}); "
                f"write --modalities {names[0]}"
            )

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__(spec, settings)
        self.network = SingleNetwork(spec, settings)
