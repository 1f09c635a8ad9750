"""What a method is: a module with its losses and its inference, and nothing of the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from mmcli.fields import fill_options
from mmcli.registry import Registry
from mmcli.training.batch import Batch, Roster
from mmcli.training.spec import DataSpec

Loss = Callable[[Batch], Tensor]
Who = Callable[[Roster], Tensor]
Fit = Callable[[Iterable[Batch], Iterable[Batch]], None]


def everyone(roster: Roster) -> Tensor:
    """All patients with a label."""
    return roster.labelled


class MethodSettings(BaseModel):
    """A method's own options: each field has a description with the paper's equation or section."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Optimiser:
    """One optimiser's settings. `lr` is the rate at the start (after `warmup` epochs); "cosine" lets it fall to
    `least_lr` at the phase's last epoch, or begins anew after every `restart` epochs; "plateau" divides it by ten after
    `plateau` epochs without a better validation loss."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    warmup: int = 0
    least_lr: float = 0.0
    restart: int = 0
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

    `sampler`: "shuffle" shows each patient once an epoch; "weighted" draws as many with replacement, each by the
    balanced weight of its class (the mean over its tasks), so that every class comes equally often. `watch` asks for
    the main variant's AUC on the phase's validation patients after each epoch: for the history and the progress, never
    for a choice; a method whose inference costs much may turn it off.

    `fit` makes it a phase without turns and epochs, for what is fitted and not trained in steps: it is called once with
    the training patients and the validation patients who take part, each in pieces in the stores' order, so that it
    never needs all instances in memory. Its result lives in buffers; killed, it is called again. Random numbers come
    from torch's generator, which is seeded for the part and the phase.
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
    sampler: Literal["shuffle", "weighted"] = "shuffle"
    watch: bool = True
    fit: Fit | None = None


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
    # Whether parts may be trained as one stack (training/stacked.py). It promises that losses and `predict` on tables
    # branch on no tensor's value, are not changed by a patient without label and modalities, read class weights from
    # `self.spec` alone, draw random numbers by dropout and torch.rand only (a row a patient), and change buffers in
    # training steps only, by assigning a new tensor.
    stackable: ClassVar[bool] = False
    # What `distill` must add. "teacher-latents": the teacher's latents in `Batch.extra`. "teacher": the teacher itself,
    # as a third argument of `__init__`, and its view of the patients, as `Batch.teacher`.
    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__()
        self.spec = spec
        self.settings = settings

    @classmethod
    def check(cls, bags: list[str], tables: list[str], settings: Any) -> None:
        """RequestError when the method cannot work with these modalities; called before anything is written."""

    @classmethod
    def check_teacher(cls, teacher: Method, settings: Any) -> None:
        """RequestError when the method, which needs the teacher itself, cannot learn from this one; called before
        anything is written."""

    @classmethod
    def maps(cls, bags: list[str], settings: Any) -> dict[str, list[str]]:
        """Bag modality -> the stages whose maps (spatial latents) its batches shall hold beside the features."""
        return {}

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


class Fitted(Method):
    """Base class of methods that are fitted in one go, without gradients: one phase, one call of `fit`."""

    def fit(self, train: Iterable[Batch], validation: Iterable[Batch]) -> None:
        """Fit to the labelled training patients, in pieces; what it finds goes into buffers."""
        raise TypeError(f"the method {self.name!r} does not say how it is fitted")

    def who(self, roster: Roster) -> Tensor:
        """Whoever has a label and one of the modalities."""
        return roster.labelled & torch.stack([roster.present[m] for m in self.spec.modalities]).any(0)

    def phases(self) -> list[Phase]:
        """One call of `fit`."""
        return [Phase("fit", [], epochs=0, patience=0, batch=0, who=self.who, fit=self.fit)]


def build_method(methods: Registry, name: str, spec: DataSpec, settings: dict[str, Any]) -> Method:
    """A method as it was built before, with its teacher where its `spec` has one, for weights to be loaded into."""
    kind: type[Method] = methods.get(name)
    teacher = [] if (t := spec.teacher) is None else [build_method(methods, t.method, t.spec, t.settings)]
    return kind(spec, kind.Settings(**settings), *teacher)


def method_settings(method: type[Method], given: dict[str, str]) -> Any:
    """The method's settings from `--set name=value` texts; RequestError names the option."""
    return fill_options(method.Settings, given, f"method {method.name}")


def weighted_cross_entropy(spec: DataSpec, logits: dict[str, Tensor], batch: Batch, weighted: bool = True) -> Tensor:
    """Sum over the tasks of the class-weighted mean cross entropy of the labelled patients; logits[task] (n, K)."""
    total = torch.zeros((), device=batch.rows.device)
    for task in spec.tasks:
        y, x = batch.labels[task.name], logits[task.name]
        known = (y >= 0).any()
        # Nobody labelled: any label stands in, and the term is 0. A branch would keep parts from being stacked.
        stand_in = torch.where(known, y, torch.zeros_like(y))
        weights = torch.as_tensor(task.weights, dtype=x.dtype, device=x.device) if weighted else None
        loss = nn.functional.cross_entropy(x, stand_in, weights, ignore_index=-1)
        total = total + torch.where(known, loss, torch.zeros_like(loss))
    return total


def probabilities(logits: dict[str, Tensor]) -> dict[str, Tensor]:
    """Softmax over the classes of each task, in float64 so that rows sum to 1 closely."""
    return {task: x.double().softmax(-1) for task, x in logits.items()}
