"""The one training loop. It knows phases, turns and patients, and no method."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmcli.errors import DamagedError, RequestError
from mmcli.store.parts import TRAIN, VALIDATION
from mmcli.training import checkpoint as checkpoints
from mmcli.training.batch import Batch
from mmcli.training.checkpoint import Checkpoint, LoopState, Moment
from mmcli.training.data import PartData
from mmcli.training.method import Method, Phase, Turn
from mmcli.training.predicting import answer, validation_auc
from mmcli.training.seeds import derive, generator
from mmcli.training.turns import balanced, freeze_all_but, make_optimiser, parameters_of, rate

Ints = NDArray[np.int64]
State = tuple[dict[str, Tensor], list[Moment]]
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
    """Trains one part's method through its phases, and resumes from `folder` where it was killed.

    `precision` bfloat16 computes the training losses under autocast; validation, weights and predictions stay float32.
    `watch` is called after each epoch.
    """

    def __init__(
        self,
        method: Method,
        data: PartData,
        roles: NDArray[np.int8],
        name: PartName,
        folder: Path | None = None,
        *,
        precision: torch.dtype = torch.float32,
        watch: Callable[[Trainer], None] | None = None,
    ) -> None:
        self.method = method
        self.data = data
        self.roles = roles
        self.name = name
        self.path = folder / CHECKPOINT if folder else None
        self.precision = precision
        self.watch = watch
        self.state = LoopState()
        self.best: dict[str, Tensor] | None = None
        self._good: Callable[[], State] = lambda: ({}, [])
        self._saved = time.monotonic()
        self._started = time.monotonic()

    def train(self) -> LoopState:
        """Run all phases; the method holds the kept weights afterwards."""
        found = self.resume()
        phases = self.method.phases()
        for number, phase in enumerate(phases):
            if number < self.state.phase:
                continue
            resumed = found is not None and found.state.epoch > 0 and number == found.state.phase
            self._phase(phase, found if resumed else None)
            self.end_phase()
            if number + 1 < len(phases):
                self.save(self.method.state_dict(), [])
        self.method.requires_grad_(True).eval()
        return self.state

    def resume(self) -> Checkpoint | None:
        """Take up the checkpoint of the folder, if there is one."""
        found = checkpoints.load_checkpoint(self.path) if self.path else None
        self._started = time.monotonic() - (found.state.seconds if found else 0.0)
        if found is not None:
            self.state, self.best = found.state, found.best
            try:
                self.method.load_state_dict(found.weights)
            except RuntimeError:
                raise DamagedError(
                    f"{self.path}: its weights are those of another network than {self.method.name!r} makes here; "
                    "remove it, and the part starts again"
                ) from None
        return found

    @property
    def seconds(self) -> float:
        """How long the part has been trained, with what was spent on it before it was killed."""
        return time.monotonic() - self._started

    def _phase(self, phase: Phase, found: Checkpoint | None) -> None:
        train, validation = self.rows(phase, TRAIN), self.rows(phase, VALIDATION)
        if found is None:
            torch.manual_seed(derive(*self.name.key, phase.name, "start"))
            self.method.before_phase(phase)
        if phase.fit is not None:
            self.method.eval()
            with torch.no_grad():
                phase.fit(*(map(self.data.batch, self.data.pieces(rows)) for rows in (train, validation)))
            return
        groups = [parameters_of(self.method, turn) for turn in phase.turns]
        optimisers = [make_optimiser(turn.optimiser, group) for turn, group in zip(phase.turns, groups, strict=True)]
        if found is not None:
            found.restore_optimisers(optimisers)
        pieces = list(self.data.pieces(validation))
        stopped = False
        while self.state.epoch < phase.epochs and not stopped:
            rates = self.rates(phase)
            self._keep_good(optimisers)
            loss = self._epoch(phase, train, optimisers, groups, rates)
            value = self._validate(phase, pieces) if pieces else None
            stopped = self.close_epoch(
                phase,
                rates[self.players(phase)[0]],
                loss,
                value,
                lambda: self._watched(phase, validation),
                self.method.state_dict,
            )
            if not stopped and self.due():
                self.save(self.method.state_dict(), checkpoints.moments_of(optimisers))
        if self.best is not None:
            self.method.load_state_dict(self.best)

    def rows(self, phase: Phase, role: int) -> Ints:
        """The patients of a role who take part in a phase; RequestError where there is none to train on."""
        rows = np.flatnonzero(self.roles == role)
        chosen: Ints = rows[phase.who(self.data.roster(rows)).numpy()] if len(rows) else rows
        if role == TRAIN and not len(chosen):
            raise RequestError(
                f"fold {self.name.fold} of {self.name.fold_set!r}: no training patient can take part in {phase.name!r} "
                "(label and modalities that it needs)"
            )
        return chosen

    def players(self, phase: Phase) -> list[int]:
        """The turns that move in the epoch that comes."""
        everybody = list(range(len(phase.turns)))
        return everybody if phase.alternate == "step" else [self.state.epoch % len(everybody)]

    def rates(self, phase: Phase) -> list[float]:
        """Each turn's learning rate in the epoch that comes."""
        rows = [h for h in self.state.history if h["phase"] == phase.name]
        losses = [h["validation_loss"] for h in rows if h["validation_loss"] is not None]
        return [rate(turn.optimiser, self.state.epoch, phase.epochs, losses) for turn in phase.turns]

    def steps(self, phase: Phase, rows: Ints) -> list[Ints]:
        """The training patients of each step of the epoch that comes. A step whose bags are very large becomes
        several, so that memory is bounded."""
        rng = generator(*self.name.key, phase.name, self.state.epoch, "order")
        if phase.sampler == "weighted":
            labels = [y.cpu().numpy()[rows] for y in self.data.labels.values()]
            order = rng.choice(rows, len(rows), p=balanced(labels))
        else:
            order = rng.permutation(rows)
        steps = max(1, round(len(rows) / phase.batch))
        return [piece for step in np.array_split(order, steps) for piece in self.data.pieces(step)]

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
        for optimiser, now in zip(optimisers, rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = now
        players = self.players(phase)
        if len(players) == 1:
            freeze_all_but(self.method, phase.turns[players[0]], groups[players[0]])
        losses: list[list[Tensor]] = [[] for _ in phase.turns]
        pieces = self.steps(phase, rows)
        for piece in pieces:
            batch = self.data.batch(piece)
            for player in players:
                turn = phase.turns[player]
                if len(players) > 1:
                    freeze_all_but(self.method, turn, groups[player])
                for _ in range(turn.repeats):
                    loss = self._loss(turn, batch)
                    optimisers[player].zero_grad(set_to_none=True)
                    if loss.requires_grad:
                        loss.backward()  # type: ignore[no-untyped-call]
                        nn.utils.clip_grad_norm_(groups[player], phase.clip)
                        optimisers[player].step()
                losses[player].append(loss.detach().double())
            with torch.no_grad():
                self.method.after_step(phase, batch)
        told = {player: torch.stack(losses[player]).cpu().numpy() for player in players}
        for player in sorted(players, key=lambda p: np.isfinite(told[p]).cumprod().sum()):  # who failed first
            self.check_finite(phase, told[player], rates[player])
        return float(told[players[0]] @ np.array([len(piece) for piece in pieces])) / len(rows)

    def _loss(self, turn: Turn, batch: Batch) -> Tensor:
        if self.precision == torch.float32:
            return turn.loss(batch)
        with torch.autocast(self.data.device.type, self.precision):
            return turn.loss(batch)

    def check_finite(self, phase: Phase, losses: NDArray[np.float64], rate: float) -> None:
        """RequestError names epoch, batch and learning rate of the first loss of an epoch that is no number."""
        if not np.isfinite(losses).all():
            first = int(np.flatnonzero(~np.isfinite(losses))[0])
            what = f"the loss of {phase.name!r} became {losses[first]} in batch {first} of {len(losses)},"
            raise self._diverged(what, rate)

    def _diverged(self, what: str, rate: float) -> RequestError:
        kept = ""
        if self.path is not None:
            self.save(*self._good())
            kept = f"; {self.path} holds the state before that epoch"
        return RequestError(
            f"{self.name}: {what} in epoch {self.state.epoch} at learning rate {rate:g}; try a smaller one (--set "
            f"lr=...), in another --out or with --force{kept}"
        )

    @torch.no_grad()
    def _validate(self, phase: Phase, pieces: list[Ints]) -> float:
        self.method.eval()
        torch.manual_seed(derive(*self.name.key, phase.name, "validation"))
        loss = phase.monitor or phase.turns[0].loss
        values = [float(loss(self.data.batch(piece))) * len(piece) for piece in pieces]
        return sum(values) / sum(map(len, pieces))

    def _watched(self, phase: Phase, rows: Ints) -> float:
        task, main = self.method.spec.tasks[0].name, self.method.variants[0]
        found = answer(self.method, self.data, rows, self.name.key)[main]
        return validation_auc(self.data, self.roles, task, found)

    def close_epoch(
        self,
        phase: Phase,
        rate: float,
        train_loss: float,
        value: float | None,
        auc: Callable[[], float],
        weights: Callable[[], dict[str, Tensor]],
    ) -> bool:
        """Enter an epoch into the books: the validation loss `value` (None without validation patients) keeps the
        weights if it is the best so far. True when the phase stops here."""
        epoch = self.state.epoch
        if value is not None and not math.isfinite(value):
            raise self._diverged(f"the validation loss of {phase.name!r} became {value}", rate)
        stops = phase.patience > 0 and value is not None
        if value is not None and stops and (self.state.best_loss is None or value < self.state.best_loss):
            self.state.best_loss, self.state.best_epoch = value, epoch
            self.best = {n: t.detach().clone() for n, t in weights().items()}
        area = auc() if value is not None and phase.watch else math.nan
        self.state.history.append({"phase": phase.name, "epoch": epoch, "lr": rate, "train_loss": train_loss,
                                   "validation_loss": value,
                                   "validation_auc": None if math.isnan(area) else area})  # fmt: skip
        self.state.epoch += 1
        if self.watch is not None:
            self.watch(self)
        return stops and epoch - self.state.best_epoch >= phase.patience

    def end_phase(self) -> None:
        """The next phase comes; it has no best epoch yet."""
        self.state.phase, self.state.epoch = self.state.phase + 1, 0
        self.state.best_loss, self.state.best_epoch, self.best = None, -1, None

    def keep_good(self, state: Callable[[], State]) -> None:
        """What gives the weights and moments before an epoch, for the checkpoint of one that fails."""
        self._good = state

    def _keep_good(self, optimisers: list[torch.optim.Optimizer]) -> None:
        if self.path is not None:
            weights = {n: t.clone() for n, t in self.method.state_dict().items()}
            moments = [(*m[:3], m[3].clone()) for m in checkpoints.moments_of(optimisers)]
            self.keep_good(lambda: (weights, moments))

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self._saved >= CHECKPOINT_EVERY_S

    def save(self, weights: dict[str, Tensor], moments: list[Moment]) -> None:
        """Write a checkpoint."""
        if self.path is not None:
            self.state.seconds = self.seconds
            checkpoints.save_checkpoint(self.path, self.state, weights, self.best, moments)
        self._saved = time.monotonic()
