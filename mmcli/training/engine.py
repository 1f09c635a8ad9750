"""The one training loop. It knows phases, turns and patients, and no method."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmcli.errors import RequestError
from mmcli.store.parts import TRAIN, VALIDATION
from mmcli.training import checkpoint as checkpoints
from mmcli.training.checkpoint import LoopState
from mmcli.training.data import PartData
from mmcli.training.method import Method, Optimiser, Phase, Turn
from mmcli.training.seeds import derive, generator

Ints = NDArray[np.int64]
CHECKPOINT_EVERY_S = 20.0
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class PartName:
    """Which part: a fold of a set, a seed, and the command's own `--seed`."""

    fold_set: str
    fold: int
    seed: int
    base_seed: int = 0

    def __str__(self) -> str:
        return f"{self.fold_set}-{self.fold}-seed-{self.seed}"

    @property
    def key(self) -> tuple[object, ...]:
        """What its random numbers are derived from."""
        return self.base_seed, self.fold_set, self.fold, self.seed


class Trainer:
    """Trains one part's method through its phases, and resumes from `folder` where it was killed."""

    def __init__(
        self, method: Method, data: PartData, roles: NDArray[np.int8], name: PartName, folder: Path | None = None
    ) -> None:
        self.method = method
        self.data = data
        self.roles = roles
        self.name = name
        self.path = folder / CHECKPOINT if folder else None
        self.state = LoopState()
        self._best: dict[str, Tensor] | None = None
        self._saved = time.monotonic()
        self._started = time.monotonic()

    def train(self) -> LoopState:
        """Run all phases; the method holds the kept weights afterwards."""
        found = checkpoints.load_checkpoint(self.path) if self.path else None
        if found is not None:
            self.state, self._best = found.state, found.best
            self.method.load_state_dict(found.weights)
            self._started -= found.state.seconds
        phases = self.method.phases()
        for number, phase in enumerate(phases):
            if number < self.state.phase:
                continue
            resumed = found is not None and found.state.epoch > 0 and number == found.state.phase
            self._phase(phase, found if resumed else None)
            self.state.phase, self.state.epoch = number + 1, 0
            self.state.best_loss, self.state.best_epoch, self._best = None, -1, None
            if number + 1 < len(phases):
                self._save([])
        self.method.requires_grad_(True).eval()
        return self.state

    def _phase(self, phase: Phase, found: checkpoints.Checkpoint | None) -> None:
        train, validation = self._rows(phase, TRAIN), self._rows(phase, VALIDATION)
        if not len(train):
            raise RequestError(
                f"fold {self.name.fold} of {self.name.fold_set!r}: no training patient can take part in {phase.name!r} "
                "(label and modalities that it needs)"
            )
        if found is None:
            torch.manual_seed(derive(*self.name.key, phase.name, "start"))
            self.method.before_phase(phase)
        groups = [_parameters(self.method, turn) for turn in phase.turns]
        optimisers = [_optimiser(turn.optimiser, group) for turn, group in zip(phase.turns, groups, strict=True)]
        if found is not None:
            found.restore_optimisers(optimisers)
        stops = phase.patience > 0 and len(validation) > 0
        pieces = list(self.data.pieces(validation))
        while self.state.epoch < phase.epochs:
            epoch = self.state.epoch
            rates = [_rate(turn.optimiser, epoch, phase.epochs, self._losses(phase)) for turn in phase.turns]
            loss = self._epoch(phase, train, optimisers, groups, rates)
            value = self._validate(phase, pieces) if pieces else math.nan
            if pieces and not math.isfinite(value):
                raise self._diverged(phase, f"the validation loss of {phase.name!r} became {value}", rates[0])
            if stops and (self.state.best_loss is None or value < self.state.best_loss):
                self.state.best_loss, self.state.best_epoch = value, epoch
                self._best = {n: t.detach().clone() for n, t in self.method.state_dict().items()}
            self.state.history.append({"phase": phase.name, "epoch": epoch, "lr": rates[0], "train_loss": loss,
                                       "validation_loss": None if math.isnan(value) else value})  # fmt: skip
            self.state.epoch += 1
            if stops and epoch - self.state.best_epoch >= phase.patience:
                break
            if time.monotonic() - self._saved >= CHECKPOINT_EVERY_S:
                self._save(optimisers)
        if self._best is not None:
            self.method.load_state_dict(self._best)

    def _rows(self, phase: Phase, role: int) -> Ints:
        rows = np.flatnonzero(self.roles == role)
        chosen: Ints = rows[phase.who(self.data.roster(rows)).numpy()] if len(rows) else rows
        return chosen

    def _epoch(
        self,
        phase: Phase,
        rows: Ints,
        optimisers: list[torch.optim.Optimizer],
        groups: list[list[nn.Parameter]],
        rates: list[float],
    ) -> float:
        """One pass over the training patients; the mean loss of the first turn that moved."""
        epoch = self.state.epoch
        torch.manual_seed(derive(*self.name.key, phase.name, epoch))
        order = generator(*self.name.key, phase.name, epoch, "order").permutation(rows)
        steps = max(1, round(len(rows) / phase.batch))
        for optimiser, rate in zip(optimisers, rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate
        players = list(range(len(phase.turns)))
        if phase.alternate == "epoch":
            players = [epoch % len(players)]
        if len(players) == 1:
            _freeze_all_but(self.method, phase.turns[players[0]], groups[players[0]])
        losses: list[Tensor] = []
        # A step whose bags are very large becomes several, so that memory is bounded.
        pieces = [piece for step in np.array_split(order, steps) for piece in self.data.pieces(step)]
        for piece in pieces:
            batch = self.data.batch(piece)
            for player in players:
                turn = phase.turns[player]
                if len(players) > 1:
                    _freeze_all_but(self.method, turn, groups[player])
                for _ in range(turn.repeats):
                    loss = turn.loss(batch)
                    optimisers[player].zero_grad(set_to_none=True)
                    if loss.requires_grad:
                        loss.backward()  # type: ignore[no-untyped-call]
                        nn.utils.clip_grad_norm_(groups[player], phase.clip)
                        optimisers[player].step()
                if player == players[0]:
                    losses.append(loss.detach().double())
            with torch.no_grad():
                self.method.after_step(phase, batch)
        values = torch.stack(losses).cpu().numpy()
        self._check_finite(phase, values, rates[0])
        return float(values @ np.array([len(piece) for piece in pieces])) / len(rows)

    def _check_finite(self, phase: Phase, losses: NDArray[np.float64], rate: float) -> None:
        if not np.isfinite(losses).all():
            first = int(np.flatnonzero(~np.isfinite(losses))[0])
            what = f"the loss of {phase.name!r} became {losses[first]} in batch {first} of {len(losses)},"
            raise self._diverged(phase, what, rate)

    def _diverged(self, phase: Phase, what: str, rate: float) -> RequestError:
        return RequestError(
            f"{self.name}: {what} in epoch {self.state.epoch} at learning rate {rate:g}; try a smaller one (--set "
            "lr=...), in another --out or with --force"
        )

    @torch.no_grad()
    def _validate(self, phase: Phase, pieces: list[Ints]) -> float:
        self.method.eval()
        torch.manual_seed(derive(*self.name.key, phase.name, "validation"))
        loss = phase.monitor or phase.turns[0].loss
        values = [float(loss(self.data.batch(piece))) * len(piece) for piece in pieces]
        return sum(values) / sum(map(len, pieces))

    def _losses(self, phase: Phase) -> list[float]:
        rows = [h for h in self.state.history if h["phase"] == phase.name]
        return [h["validation_loss"] for h in rows if h["validation_loss"] is not None]

    def _save(self, optimisers: list[torch.optim.Optimizer]) -> None:
        if self.path is not None:
            self.state.seconds = time.monotonic() - self._started
            checkpoints.save_checkpoint(self.path, self.state, self.method.state_dict(), self._best, optimisers)
        self._saved = time.monotonic()


def _modules(method: Method, turn: Turn) -> list[nn.Module]:
    return [method.get_submodule(name) for name in turn.trains]


def _parameters(method: Method, turn: Turn) -> list[nn.Parameter]:
    return list(dict.fromkeys(p for module in _modules(method, turn) for p in module.parameters()))


def _freeze_all_but(method: Method, turn: Turn, learning: list[nn.Parameter]) -> None:
    """Only the turn's modules learn and are in training mode; dropout and batch statistics of the others rest."""
    method.eval()
    method.requires_grad_(False)
    for parameter in learning:
        parameter.requires_grad_(True)
    for module in _modules(method, turn):
        module.train()


def _optimiser(wanted: Optimiser, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if wanted.name == "sgd":
        return torch.optim.SGD(
            parameters, wanted.lr, momentum=wanted.momentum, weight_decay=wanted.weight_decay, nesterov=wanted.nesterov
        )
    kind = torch.optim.AdamW if wanted.name == "adamw" else torch.optim.Adam
    fused = all(p.is_floating_point() for p in parameters)
    return kind(parameters, wanted.lr, betas=wanted.betas, weight_decay=wanted.weight_decay, fused=fused)


def _rate(wanted: Optimiser, epoch: int, epochs: int, losses: list[float]) -> float:
    """The learning rate of an epoch: a function of the epoch and the validation losses so far, so that a resumed
    schedule needs no state."""
    if epoch < wanted.warmup:
        return wanted.lr * (epoch + 1) / (wanted.warmup + 1)
    if wanted.schedule == "cosine":
        share = (epoch - wanted.warmup) / max(epochs - wanted.warmup, 1)
        return wanted.least_lr + (wanted.lr - wanted.least_lr) * (1 + math.cos(math.pi * share)) / 2
    if wanted.schedule == "plateau":
        drops, best, since = 0, math.inf, 0
        for loss in losses:
            best, since = (loss, 0) if loss < best else (best, since + 1)
            if since >= wanted.plateau:
                drops, since = drops + 1, 0
        return max(wanted.lr / 10.0**drops, wanted.least_lr)
    return wanted.lr
