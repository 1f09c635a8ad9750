"""Training of MDFN's imputation units, all at once: a unit learns a marker's distribution given the determinants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmcli.blocks.critic import critic, critic_and_gradient, critic_widths, gradient_penalty
from mmcli.blocks.residual_generator import generator_widths, residual_generator
from mmcli.blocks.stacked import StackedAdam, embed, extract, parameter_count, start_weights

Floats = NDArray[np.float64]
# More units at once fall out of the processor's cache, and their random numbers out of memory.
GROUP = 32
# Validation rows are answered this often, with noise that stays the same.
VALIDATION_DRAWS = 8


@dataclass(frozen=True)
class Unit:
    """What one unit learns from: n patients who have the marker. determinants (n, d) scores with 0 in holes; shown
    (n, d) bool, which are known; marker (n, q) scores; all of its randomness is of `seed`."""

    determinants: Floats
    shown: NDArray[np.bool_]
    marker: Floats
    seed: int


def train_units(units: Sequence[Unit], settings: Any) -> list[Floats]:
    """(P,) weights of each unit's generator from determinants to marker (see `mmcli.blocks.residual_generator`; inputs
    are determinants (d), shown (d) and noise). Units do not touch each other: one alone comes out the same but for
    rounding. `settings` are CycleGanSettings."""
    trained: list[Floats] = []
    for first in range(0, len(units), GROUP):
        trained += Training(units[first : first + GROUP], settings).run()
    return trained


def energy_score(one: Tensor, other: Tensor, truth: Tensor) -> Tensor:
    """(...) energy score of two independent draws (..., q) against truth (..., q): in expectation least where the
    draws have the truth's distribution (Gneiting and Raftery 2007, eq. 22)."""
    return (_norm(one - truth) + _norm(other - truth) - _norm(one - other)) / 2


def _norm(x: Tensor) -> Tensor:
    return (x.square().sum(-1) + 1e-12).sqrt()


def cycle_loss(returned: Tensor, start: Tensor, weights: Tensor) -> Tensor:
    """(K,) mean absolute difference of (K, n, c), over the cells with weight 1 among `weights` (0 or 1)."""
    total = weights.expand_as(start).sum((1, 2))
    return ((returned - start).abs() * weights).sum((1, 2)) / total.clamp(min=1)


class Training:
    """A group of K units. Tensors are padded to the widest unit; what is added is 0 and stays 0."""

    def __init__(self, units: Sequence[Unit], settings: Any) -> None:
        self.units, self.own = units, settings
        self.d = max(u.determinants.shape[1] for u in units)
        self.q = max(u.marker.shape[1] for u in units)
        self.rngs = [np.random.default_rng(u.seed) for u in units]
        self.to_marker = generator_widths(2 * self.d + self.own.noise, self.own.width, self.q)
        # Back comes the noise too, and before the determinants, so that padding stays behind.
        self.to_determinants = generator_widths(self.q, self.own.width, self.own.noise + self.d)
        self.judge = critic_widths(max(self.d, self.q), self.own.width)
        self.split = parameter_count(self.to_marker)
        self._place_data()
        betas = (self.own.beta1, self.own.beta2)
        generators, critics = self._start()
        self.generators = StackedAdam(torch.from_numpy(generators), self.own.rate, betas)
        # The critics of determinants come first, then those of markers.
        self.critics = StackedAdam(torch.from_numpy(critics), self.own.rate, betas)
        self.alive = torch.arange(len(units))

    def _place_data(self) -> None:
        """Pad the rows, and part them into training rows (the first `trained`) and validation rows (the others)."""
        longest = max(len(u.marker) for u in self.units)
        determinants = np.zeros((len(self.units), longest, self.d))
        shown, marker = np.zeros_like(determinants), np.zeros((len(self.units), longest, self.q))
        self.trained = np.zeros(len(self.units), np.int64)
        held = [max(2, round(self.own.validation * len(u.marker))) for u in self.units]
        validation = np.zeros((len(self.units), max(held)), np.int64)
        self.weights = torch.zeros(len(self.units), max(held), dtype=torch.float64)
        noise = np.zeros((len(self.units), max(held), VALIDATION_DRAWS, self.own.noise))
        for k, (unit, rng) in enumerate(zip(self.units, self.rngs, strict=True)):
            n, d = unit.determinants.shape
            order = rng.permutation(n)
            determinants[k, :n, :d] = unit.determinants[order]
            shown[k, :n, :d] = unit.shown[order]
            marker[k, :n, : unit.marker.shape[1]] = unit.marker[order]
            self.trained[k] = n - held[k]
            validation[k, : held[k]] = np.arange(n - held[k], n)
            self.weights[k, : held[k]] = 1 / held[k]
            noise[k, : held[k]] = rng.standard_normal((held[k], *noise.shape[2:]))
        self.determinants, self.shown = torch.from_numpy(determinants), torch.from_numpy(shown)
        self.marker = torch.from_numpy(marker)
        self.cells = torch.tensor([[u.marker.shape[1]] for u in self.units]) > torch.arange(self.q)
        self.validation, self.noise = torch.from_numpy(validation), torch.from_numpy(noise)

    def _places(self, unit: Unit) -> list[int]:
        """Where the inputs of a unit's own generator stand among the padded ones."""
        d = unit.determinants.shape[1]
        return [*range(d), *range(self.d, self.d + d), *range(2 * self.d, 2 * self.d + self.own.noise)]

    def _start(self) -> tuple[Floats, Floats]:
        """First weights (K, P) of both generators and (2K, P) of both critics, each unit's from its own numbers."""
        generators, critics = [], []
        for unit, rng in zip(self.units, self.rngs, strict=True):
            d, q = unit.determinants.shape[1], unit.marker.shape[1]
            forth = generator_widths(2 * d + self.own.noise, self.own.width, q)
            back = generator_widths(q, self.own.width, self.own.noise + d)
            generators.append(np.concatenate([
                embed(start_weights(forth, rng), forth, self.to_marker, self._places(unit)),
                embed(start_weights(back, rng), back, self.to_determinants, range(q)),
            ]))  # fmt: skip
            for inputs in (d, q):
                widths = critic_widths(inputs, self.own.width)
                critics.append(embed(start_weights(widths, rng), widths, self.judge, range(inputs)))
        return np.stack(generators), np.stack(critics[::2] + critics[1::2])

    def run(self) -> list[Floats]:
        """Train until every unit has stopped; each unit's best generator."""
        k = len(self.units)
        best, waited = torch.zeros(k, self.split, dtype=torch.float64), torch.zeros(k)
        best_score = torch.full((k,), torch.inf, dtype=torch.float64)
        done = 0
        while len(self.alive) and done < self.own.steps:
            steps = min(self.own.check, self.own.steps - done)
            self._steps(steps)
            done += steps
            score = self._validate()
            better = score < best_score[self.alive]
            rows = self.alive[better]
            best[rows], best_score[rows] = self.generators.parameters.detach()[better, : self.split], score[better]
            waited[self.alive] = torch.where(better, 0, waited[self.alive] + 1)
            self._keep(waited[self.alive] < self.own.patience)
        return [self._extract(best[i].numpy(), unit) for i, unit in enumerate(self.units)]

    def _extract(self, wide: Floats, unit: Unit) -> Floats:
        d, q = unit.determinants.shape[1], unit.marker.shape[1]
        return extract(wide, generator_widths(2 * d + self.own.noise, self.own.width, q), self.to_marker,
                       self._places(unit))  # fmt: skip

    def _keep(self, going: Tensor) -> None:
        if not going.all():
            self.generators.keep(going)
            self.critics.keep(going.repeat(2))
            self.alive = self.alive[going]

    def _forth(self, flat: Tensor, determinants: Tensor, shown: Tensor, noise: Tensor) -> Tensor:
        return residual_generator(flat[:, : self.split], self.to_marker, torch.cat([determinants, shown, noise], -1))

    def _back(self, flat: Tensor, marker: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Determinants (K, n, d), those that are `shown`, and noise (K, n, .) that would give the marker."""
        made = residual_generator(flat[:, self.split :], self.to_determinants, marker)
        return made[..., self.own.noise :] * shown, made[..., : self.own.noise]

    def _both(self, determinants: Tensor, marker: Tensor) -> Tensor:
        """Inputs (2K, n, .) of all critics."""
        wide = self.judge[0]
        padded = [torch.nn.functional.pad(x, (0, wide - x.shape[-1])) for x in (determinants, marker)]
        return torch.cat(padded)

    def _steps(self, steps: int) -> None:
        """Some steps of the generators, each after `critic_steps` of the critics."""
        n, turns = self.own.batch, self.own.critic_steps
        rows, noise, keep, mix = self._randomness(steps, n, turns)
        at = self.alive[:, None]
        for t in range(steps):
            shown = self.shown[at, rows[t]] * keep[t]
            batch = self.determinants[at, rows[t]] * shown, shown, self.marker[at, rows[t]], noise[t]
            self._critic_steps([x[:, : turns * n] for x in batch], mix[t])
            self._generator_step(*(x[:, turns * n :] for x in batch))

    def _randomness(self, steps: int, n: int, turns: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of each step: rows (K, R), noise (K, R + n, .), determinants not withheld (K, R, d), mixing (K, turns n, 1),
        R = (turns + 1) n. Every unit draws its own, whoever else is there."""
        many, k = (turns + 1) * n, len(self.alive)
        rows = np.zeros((steps, k, many), np.int64)
        noise = np.zeros((steps, k, many + n, self.own.noise))
        keep = np.ones((steps, k, many, self.d), bool)
        mix = np.zeros((steps, k, turns * n, 1))
        for i, unit in enumerate(self.alive.tolist()):
            rng, d = self.rngs[unit], self.units[unit].determinants.shape[1]
            rows[:, i] = rng.integers(0, self.trained[unit], (steps, many))
            noise[:, i] = rng.standard_normal((steps, many + n, self.own.noise))
            mix[:, i] = rng.random((steps, turns * n, 1))
            if self.own.withhold:
                keep[:, i, :, :d] = rng.random((steps, many, d)) >= self.own.withhold
        return torch.from_numpy(rows), torch.from_numpy(noise), torch.from_numpy(keep), torch.from_numpy(mix)

    def _critic_steps(self, batch: Sequence[Tensor], mix: Tensor) -> None:
        """The generators stand still meanwhile: what they make for all steps is made at once."""
        determinants, shown, marker, noise = batch
        n = self.own.batch
        flat = self.generators.parameters.detach()
        real = self._both(determinants, marker)
        made = self._both(self._back(flat, marker, shown)[0], self._forth(flat, determinants, shown, noise))
        between = torch.lerp(made, real, mix.repeat(2, 1, 1))
        for first in range(0, real.shape[1], n):
            here = slice(first, first + n)
            x = torch.cat([real[:, here], made[:, here], between[:, here]], 1)
            scores, gradient = critic_and_gradient(self.critics.parameters, self.judge, x, slice(2 * n, 3 * n))
            distance = scores[:, :n].mean(1) - scores[:, n : 2 * n].mean(1)
            self.critics.step((self.own.penalty * gradient_penalty(gradient) - distance).sum())

    def _generator_step(self, determinants: Tensor, shown: Tensor, marker: Tensor, noise: Tensor) -> None:
        n, flat = self.own.batch, self.generators.parameters
        twice = self._forth(flat, determinants.repeat(1, 2, 1), shown.repeat(1, 2, 1), noise)
        made, other = twice[:, :n], twice[:, n:]
        made_determinants, made_noise = self._back(flat, marker, shown)
        scores = critic(self.critics.parameters.detach(), self.judge, self._both(made_determinants, made))
        around = cycle_loss(self._back(flat, made, shown)[0], determinants, shown)
        back = self._forth(flat, made_determinants, shown, made_noise)
        around = around + cycle_loss(back, marker, self.cells[self.alive, None].double())
        paired = energy_score(made, other, marker).mean(1)
        self.generators.step((self.own.cycle * around + self.own.paired * paired).sum() - scores.mean(1).sum())

    def _validate(self) -> Tensor:
        """(K,) mean energy score of the generators' draws on the units' validation rows."""
        at, rows = self.alive[:, None], self.validation[self.alive]
        determinants, shown = (
            x[at, rows].repeat_interleave(VALIDATION_DRAWS, 1) for x in (self.determinants, self.shown)
        )
        with torch.no_grad():
            noise = self.noise[self.alive].flatten(1, 2)
            made = self._forth(self.generators.parameters, determinants, shown, noise)
            made = made.reshape(*rows.shape, VALIDATION_DRAWS, self.q)
            half, marker = VALIDATION_DRAWS // 2, self.marker[at, rows].unsqueeze(2)
            scores = energy_score(made[:, :, :half], made[:, :, half:], marker).mean(-1)
            return (scores * self.weights[self.alive]).sum(1)
