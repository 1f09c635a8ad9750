"""What a method is: a module with its losses and its inference, and nothing of the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from mmcli.fields import fill_options
from mmcli.training.batch import Batch, Roster
from mmcli.training.spec import DataSpec

Loss = Callable[[Batch], Tensor]
Who = Callable[[Roster], Tensor]


def everyone(roster: Roster) -> Tensor:
    """All patients with a label."""
    return roster.labelled


class MethodSettings(BaseModel):
    """A method's own options: each field has a description with the paper's equation or section."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Optimiser:
    """One optimiser's settings. `lr` is the rate at the start (after `warmup` epochs); "cosine" lets it fall to
    `least_lr` at the phase's last epoch; "plateau" divides it by ten after `plateau` epochs without a better
    validation loss."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    warmup: int = 0
    least_lr: float = 0.0
    plateau: int = 10


@dataclass(frozen=True)
class Turn:
    """One player's move: which submodules learn (all others are frozen and in evaluation mode), by which loss.

    `trains` are names of submodules, [""] the whole method. `repeats` is for players that move more often.
    """

    trains: list[str]
    loss: Loss
    optimiser: Optimiser
    repeats: int = 1


@dataclass(frozen=True)
class Phase:
    """A stretch of training. The turns are taken one after another in every step (or, `alternate="epoch"`, in every
    epoch), so that two players or two branches need no loop of their own.

    `who` picks the patients of the roster who take part. `monitor` is the validation loss that stops the phase after
    `patience` epochs without a better one and picks the epoch that is kept; default the first turn's loss. 0 as
    `patience` trains all epochs and keeps the last.
    """

    name: str
    turns: list[Turn]
    epochs: int
    patience: int
    batch: int
    who: Who = everyone
    monitor: Loss | None = None
    alternate: Literal["step", "epoch"] = "step"
    clip: float = 5.0


class Method(nn.Module):
    """Base class of all methods.

    A subclass sets `name`, `stages`, `Settings`, builds its modules in `__init__`, and answers `phases` and
    `predict`. The rest has defaults. The first line of its docstring is what `mmcli methods` prints.
    """

    name: ClassVar[str]
    source: ClassVar[str] = ""  # the paper, for `mmcli methods`
    stages: ClassVar[frozenset[str]]
    Settings: ClassVar[type[MethodSettings]] = MethodSettings
    variants: ClassVar[tuple[str, ...]] = ("",)  # the first is the main one
    needs: ClassVar[frozenset[str]] = frozenset()  # "teacher-latents": also the teacher's latents in `extra`

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__()
        self.spec = spec
        self.settings = settings

    def phases(self) -> list[Phase]:
        """What is trained, in order."""
        raise TypeError(f"the method {self.name!r} does not say how it is trained")

    def predict(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Probabilities (n, K) of each variant and task; (draws, n, K) where a method samples: the mean is then the
        prediction and the spread its uncertainty. Called in evaluation mode, without gradients, with seeded
        generators. Rows of patients who lack what a variant needs (`used`) may hold anything."""
        raise TypeError(f"the method {self.name!r} does not say how it predicts")

    def used(self, present: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """For each variant, (n,) bool for each modality: what its prediction for a patient rests on.

        A patient for whom a variant uses nothing gets no row in that variant; in the main one, the training prior.
        """
        return {variant: {m: present[m] for m in self.spec.modalities} for variant in self.variants}

    def latents(self, batch: Batch) -> dict[str, Tensor]:
        """Named latents (n, width) that a student may learn from and that `--keep-latents` keeps; the steps of a
        diffusion in their order. A method without any gives none."""
        return {}

    def attention(self, batch: Batch) -> dict[str, Tensor]:
        """The weight (N,) of each instance of a bag modality, in the order of `batch.bags`; each patient's sum to 1. Of
        the modalities that the method pools by attention; a method without attention gives none."""
        return {}

    def before_phase(self, phase: Phase) -> None:
        """Called before a phase starts (never on resuming it)."""

    def after_step(self, phase: Phase, batch: Batch) -> None:
        """Called without gradients after each step: where memories outside the gradient are updated. They are buffers,
        so that checkpoints and weights carry them."""


def method_settings(method: type[Method], given: dict[str, str]) -> Any:
    """The method's settings from `--set name=value` texts; RequestError names the option."""
    return fill_options(method.Settings, given, f"method {method.name}")


def weighted_cross_entropy(spec: DataSpec, logits: dict[str, Tensor], batch: Batch, weighted: bool = True) -> Tensor:
    """Sum over the tasks of the class-weighted mean cross entropy of the labelled patients; logits[task] (n, K)."""
    total = torch.zeros((), device=batch.rows.device)
    for task in spec.tasks:
        y = batch.labels[task.name]
        if bool((y >= 0).any()):
            weights = logits[task.name].new_tensor(task.weights) if weighted else None
            total = total + nn.functional.cross_entropy(logits[task.name], y, weights, ignore_index=-1)
    return total


def probabilities(logits: dict[str, Tensor]) -> dict[str, Tensor]:
    """Softmax over the classes of each task, in float64 so that rows sum to 1 closely."""
    return {task: x.double().softmax(-1) for task, x in logits.items()}
