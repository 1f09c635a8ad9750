"""Parts of one run trained as one: their parameters are the rows of one tensor, each step moves all of them.

Each part keeps its own books (a `Trainer`): its order of patients, its random numbers, its learning rate, its best
epoch, its checkpoint, which training alone takes up as well. Parts need not be in the same epoch; one that stops no
longer moves and is handed over at once. A step's batches have unequal numbers of patients: the smaller ones are filled
up with a patient who has no label and no modality, whom no loss of a `stackable` method sees.

Batches and random numbers are those of training one after another; results differ in the rounding of float32, which
grows with the number of steps (measured: 2e-7 of the predictions with early stopping, 2e-4 after 60 full epochs of 14
steps). Killed and resumed, a part ends with the same bits, whatever other parts are in the stack then: the checkpoint
holds the sizes that its batches were filled up to, and every matrix of a product starts where a cache line does.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmcli.metrics.auc import auc_of_each
from mmcli.store.parts import TRAIN, VALIDATION
from mmcli.training.batch import Batch
from mmcli.training.checkpoint import Checkpoint, Moment, load_checkpoint
from mmcli.training.engine import Trainer
from mmcli.training.method import Method, Phase
from mmcli.training.recording import ALIGNED, aligned
from mmcli.training.seeds import derive
from mmcli.training.stacked_optimiser import StackedOptimiser, pack, unpack
from mmcli.training.stacked_program import Inputs, Played, Program, Tensors
from mmcli.training.stacked_tables import StackedTables
from mmcli.training.turns import freeze_all_but, parameters_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
NOBODY: Ints = np.zeros(0, np.int64)
FEW = 16  # rows of a stack that cost hardly more than fewer
MOST_NUMBERS = 1 << 25  # parameters of a stack
LARGEST = 1 << 18  # parameters of a part; larger ones leave the processor's cache, and take longer together than alone


def stack_key(trainer: Trainer) -> Hashable | None:
    """Parts with the same key can be trained in one stack; None where a part cannot be in any: a method that does not
    say that it can, bags, further inputs, a GPU (whose dropout draws in an order of its own), other than float32."""
    method, data = trainer.method, trainer.data
    if not method.stackable or data.scalers or data.extra or data.device.type != "cpu":
        return None
    if trainer.precision != torch.float32:
        return None
    own = type(method)
    if own.before_phase is not Method.before_phase or own.after_step is not Method.after_step:
        return None
    phases = method.phases()
    if any(phase.fit is not None or len(phase.turns) != 1 for phase in phases) or not phases:
        return None
    settings = [(p.name, p.epochs, p.patience, p.batch, p.clip, p.sampler, p.turns[0].optimiser) for p in phases]
    shapes = [(name, tuple(tensor.shape)) for name, tensor in method.state_dict().items()]
    if len(method.state_dict()) != len([*method.parameters(), *method.buffers()]):
        return None  # parameters with two names
    return repr((settings, shapes, [len(t.columns) for t in method.spec.tables]))


def stacks_of(trainers: list[Trainer]) -> list[list[Trainer]]:
    """The trainers in stacks, in their order; those that cannot be stacked, or with nobody else, stand alone."""
    groups: dict[Hashable, list[Trainer]] = {}
    for number, trainer in enumerate(trainers):
        key = stack_key(trainer)
        groups.setdefault(("alone", number) if key is None else key, []).append(trainer)
    found = []
    for group in groups.values():
        size = sum(p.numel() for p in group[0].method.parameters())
        most = max(MOST_NUMBERS // max(size, 1), 1) if size <= LARGEST else 1
        found += [group[i : i + most] for i in range(0, len(group), most)]
    return found


def began_in_stack(trainer: Trainer) -> bool:
    """Whether a checkpoint of the part comes from a stack: it goes on in one, if all alone, to the same bits."""
    found = load_checkpoint(trainer.path) if trainer.path else None
    return found is not None and bool(found.state.padded) and stack_key(trainer) is not None


def train_stack(trainers: list[Trainer], done: Callable[[Trainer], None]) -> None:
    """Run all phases of all parts. `done` is called for each as soon as it has run its last; its method then holds the
    kept weights."""
    found = {trainer.name: trainer.resume() for trainer in trainers}
    count = len(trainers[0].method.phases())
    for number in range(count):
        here = [trainer for trainer in trainers if trainer.state.phase == number]
        resumed = [found[t.name] if t.state.epoch else None for t in here]

        def ends(trainer: Trainer, last: bool = number + 1 == count) -> None:
            trainer.end_phase()
            if not last:
                trainer.save(trainer.method.state_dict(), [])
                return
            trainer.method.requires_grad_(True).eval()
            done(trainer)

        if here:
            _StackedPhase(here, number, resumed, ends).run()


class _StackedPhase:
    """One phase of the parts of a stack. Row k of every tensor is part k's; the row of a part that has stopped moves no
    longer, and leaves with others once they are half of many. At least the last row is nobody's, since the last numbers
    of a tensor may be computed by other instructions than the rest; and a phase that is resumed begins with as many
    rows as before."""

    def __init__(
        self, trainers: list[Trainer], number: int, found: list[Checkpoint | None], ends: Callable[[Trainer], None]
    ) -> None:
        self.number, self.ends = number, ends
        kept = [f.state.padded for f in found if f is not None and f.state.padded]
        least = max([len(trainers) + 1, *(sizes[2] for sizes in kept)])
        spare = least - len(trainers)
        trainers, found = [*trainers, *trainers[:1] * spare], [*found, *found[:1] * spare]
        self.rows = [_Row(trainer, trainer.method.phases()[number]) for trainer in trainers]
        for k in range(len(trainers) - spare, len(trainers)):
            self.rows[k].live = False
        names = {id(p): name for name, p in trainers[0].method.named_parameters()}
        turn = self.rows[0].phase.turns[0]
        self.names = [names[id(p)] for p in parameters_of(trainers[0].method, turn)]
        parameters = [dict(t.method.named_parameters()) for t in trainers]
        self.shapes = [parameters[0][n].shape for n in self.names]
        flat = torch.stack([pack([p[n] for n in self.names]) for p in parameters])
        rest = [n for n in parameters[0] if n not in self.names]
        self.rest = {n: torch.stack([p[n].detach() for p in parameters]) for n in rest}
        buffers = [dict(t.method.named_buffers()) for t in trainers]
        self.buffers = {n: torch.stack([of[n] for of in buffers]) for n in buffers[0]}
        self.optimiser = StackedOptimiser(turn.optimiser, flat, self.shapes)
        for k, checkpoint in enumerate(found):
            if checkpoint is not None:
                self.optimiser.restore(k, checkpoint.moments)
        self.tables = StackedTables(trainers)
        widths = np.max([*(row.widths() for row in self.rows), *(sizes[:2] for sizes in kept)], axis=0).tolist()
        # Half a line does where a matrix has an even number of columns; and no tail of a tensor is more than a row.
        self.padded = [max(aligned(widths[0], ALIGNED // 2), ALIGNED), aligned(widths[1]), len(self.rows)]
        self._programs()
        for trainer in trainers:
            trainer.state.padded = self.padded

    def _programs(self) -> None:
        self.method = copy.deepcopy(self.rows[0].part.method)
        self.phase = self.method.phases()[self.number]
        task, main = self.method.spec.tasks[0].name, self.method.variants[0]

        def probabilities(batch: Batch) -> Tensor:
            return self.method.predict(batch)[main][task]

        loss = self.phase.turns[0].loss
        pieces = unpack(self.optimiser.flat, self.shapes)
        self.gradients = unpack(self.optimiser.gradient, self.shapes)
        self.step = Program(self.method, loss, self.names, pieces, self.buffers, True)
        self.validate = Program(self.method, self.phase.monitor or loss, self.names, pieces, self.buffers, False)
        self.predict = Program(self.method, probabilities, self.names, pieces, self.buffers, False)
        self._validation()

    def _validation(self) -> None:
        """The validation patients piece by piece; their labels and who has nothing to go by, (K, pieces x width)."""
        count, width = max(len(row.validation) for row in self.rows), self.padded[1]
        self.pieces: list[tuple[list[Ints], Inputs]] = []
        self.y = np.full((len(self.rows), count * width), -1)
        self.nothing = np.zeros(self.y.shape, bool)
        for j in range(count):
            chosen = [row.validation[j] if j < len(row.validation) else NOBODY for row in self.rows]
            self.pieces.append((chosen, self.tables.inputs(chosen, width)))
            for k, rows in enumerate(chosen):
                if len(rows):
                    at = slice(j * width, j * width + len(rows))
                    self.y[k, at], self.nothing[k, at] = self.rows[k].labels[j], self.rows[k].nothing[j]

    def run(self) -> None:
        """All epochs of all parts."""
        while live := [k for k, row in enumerate(self.rows) if row.live]:
            stopped = self._epoch(live)
            going = [k for k in live if k not in stopped]
            if going and self.rows[going[0]].part.due():
                for k in going:
                    self.rows[k].part.save(*self._state(self.optimiser, self.buffers, k))
            for k in stopped:
                row = self.rows[k]
                row.live = False
                row.part.method.load_state_dict(self._weights(k) if row.part.best is None else row.part.best)
                self.ends(row.part)
            if stopped:
                self._close_ranks()

    def _close_ranks(self) -> None:
        """Leave out the rows of parts that have stopped, once they are half of many: a row's numbers do not depend on
        how many others there are, and the programs are recorded anew."""
        rows = [k for k, row in enumerate(self.rows) if row.live]
        if len(self.rows) <= FEW or not rows or 2 * (len(rows) + 1) > len(self.rows):
            return
        rows.append(len(self.rows) - 1)  # nobody's
        self.rows = [self.rows[k] for k in rows]
        self.rest, self.buffers = ({n: x[rows] for n, x in of.items()} for of in (self.rest, self.buffers))
        self.optimiser = self.optimiser.of(rows)
        self.tables.keep(rows)
        self._programs()

    def _weights(self, k: int) -> Tensors:
        return self._state(self.optimiser, self.buffers, k)[0]

    def _state(self, optimiser: StackedOptimiser, buffers: Tensors, k: int) -> tuple[Tensors, list[Moment]]:
        pieces = zip(self.names, unpack(optimiser.flat[k], self.shapes), strict=True)
        return dict(pieces) | {n: x[k] for n, x in (self.rest | buffers).items()}, optimiser.moments(k)

    def _epoch(self, live: list[int]) -> list[int]:
        """One epoch of each live part; the rows of those that stop with it."""
        steps: list[list[Ints]] = [[] for _ in self.rows]
        rates = np.zeros(len(self.rows))
        before = self.optimiser.snapshot(), {n: x.clone() for n, x in self.buffers.items()}
        for k in live:
            row = self.rows[k]
            rates[k] = row.part.rates(row.phase)[0]
            row.part.keep_good(partial(self._state, *before, k))
            steps[k] = row.part.steps(row.phase, row.train)
            row.seed(row.part.state.epoch)
        turn = self.phase.turns[0]
        freeze_all_but(self.method, turn, parameters_of(self.method, turn))
        losses = []
        for j in range(max(map(len, steps))):
            chosen = [of[j] if j < len(of) else NOBODY for of in steps]
            inputs = self.tables.inputs(chosen, self.padded[0])
            moves = np.array([len(rows) > 0 for rows in chosen])
            moving = torch.from_numpy(moves.nonzero()[0])
            for _ in range(turn.repeats):
                loss, gradients, buffers = self._call(self.step, inputs, chosen)
                for place, gradient in zip(self.gradients, gradients, strict=True):
                    place.copy_(gradient)
                self.optimiser.step(rates, moves, self.phase.clip)
                for name, x in buffers.items():
                    self.buffers[name][moving] = x[moving]
            losses.append(loss)
        told = torch.stack(losses).double().numpy()
        for k in live:
            self.rows[k].part.check_finite(self.rows[k].phase, told[: len(steps[k]), k], rates[k])
        self.method.eval()
        values = self._validated()
        areas = self._areas() if self.phase.watch else np.full(len(self.rows), math.nan)
        stopped = []
        for k in live:
            row, sizes = self.rows[k], np.array([len(rows) for rows in steps[k]])
            train_loss = float(told[: len(sizes), k] @ sizes) / len(row.train)
            weights = partial(self._weights, k)
            stops = row.part.close_epoch(
                row.phase, float(rates[k]), train_loss, values[k], partial(float, areas[k]), weights
            )
            if stops or row.part.state.epoch >= row.phase.epochs:
                stopped.append(k)
        return stopped

    def _call(self, program: Program, inputs: Inputs, chosen: Sequence[Ints]) -> Played:
        return program(self.rest, inputs, [len(c) for c in chosen], [row.generator for row in self.rows])

    def _on_validation(self, program: Program, what: str) -> list[Floats]:
        """For each piece of the validation patients what a program says of it, (K, ...)."""
        for row in self.rows:
            row.seed(what)
        return [self._call(program, inputs, chosen)[0].double().numpy() for chosen, inputs in self.pieces]

    def _validated(self) -> list[float | None]:
        sizes = np.array([[len(c) for c in chosen] for chosen, _ in self.pieces]).reshape(-1, len(self.rows))
        told = np.array(self._on_validation(self.validate, "validation")).reshape(sizes.shape)
        total, counts = np.where(sizes > 0, told * sizes, 0.0).sum(0), sizes.sum(0)
        return [float(v) / int(n) if n else None for v, n in zip(total, counts, strict=True)]

    def _areas(self) -> Floats:
        """AUC (K,) of the validation patients' probabilities, by the rules of every answer."""
        if not self.pieces:
            return np.full(len(self.rows), math.nan)
        told = np.concatenate(self._on_validation(self.predict, "predict"), 1)
        p = np.where(self.nothing[:, :, None], np.array([row.prior for row in self.rows])[:, None], told)
        return auc_of_each(self.y, p / p.sum(2, keepdims=True))


class _Row:
    """A part's place in a stack."""

    def __init__(self, part: Trainer, phase: Phase) -> None:
        self.part, self.phase, self.live = part, phase, True
        self.train, validation = part.rows(phase, TRAIN), part.rows(phase, VALIDATION)
        self.validation = list(part.data.pieces(validation))
        self.generator = torch.Generator()
        method, task = part.method, part.method.spec.tasks[0]
        self.prior = task.prior
        used = method.used(part.data.roster(validation).present)[method.variants[0]]
        nothing = ~torch.stack(list(used.values())).any(0).numpy()
        labels = part.data.labels[task.name].numpy()[validation]
        ends = np.cumsum([len(rows) for rows in self.validation])[:-1]
        self.labels, self.nothing = np.split(labels, ends), np.split(nothing, ends)

    def seed(self, *what: object) -> None:
        """Make the generator ready for an epoch, or for what else is done in a phase."""
        self.generator.manual_seed(derive(*self.part.name.key, self.phase.name, *what))

    def widths(self) -> list[int]:
        """The most patients of a training step, and of a validation piece."""
        steps = self.part.steps(self.phase, self.train)
        return [max(map(len, steps)), max(map(len, self.validation), default=0)]
