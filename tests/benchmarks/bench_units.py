"""Ten CycleGAN units trained as one stack and one after another: `python tests/benchmarks/bench_units.py`.

"One after another" is measured twice: the same code with one unit in the stack, and the plain way (`torch.nn` modules,
`torch.optim.Adam`, the gradient penalty by a second pass of autograd), which is what a loop over units costs.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mmcli.imputers.cyclegan import CycleGanSettings
from mmcli.imputers.cyclegan_units import Training, Unit, train_units


def made_units(count: int, n: int, d: int) -> list[Unit]:
    """Markers of one number each that depend on determinants, which are all known."""
    rng = np.random.default_rng(0)
    units = []
    for k in range(count):
        a = rng.standard_normal((n, d))
        b = np.tanh(a @ rng.standard_normal((d, 1))) + 0.3 * rng.standard_normal((n, 1))
        units.append(Unit(a, np.ones((n, d), bool), b, 1000 + k))
    return units


class Residual(nn.Module):
    """The generator as one writes it for one unit."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, width)])
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layers[0](x).relu()
        for layer in self.layers[1:]:
            h = h + layer(h).relu()
        return self.last(h)


@dataclass
class Plain:
    """One unit trained by the book, on the random numbers and from the weights that `Training` gives it."""

    training: Training

    def run(self) -> np.ndarray:
        own, t = self.training.own, self.training
        d, q, width = t.d, t.q, own.width
        forth, back = Residual(2 * d + own.noise, width, q), Residual(q, width, own.noise + d)
        judges = [
            nn.Sequential(
                nn.Linear(c, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1)
            )
            for c in (d, q)
        ]
        flat = t.generators.parameters.detach()[0]
        fill(forth, flat[: t.split], 2 * d + own.noise)
        fill(back, flat[t.split :], q)
        for judge, row, inputs in zip(judges, t.critics.parameters.detach(), (d, q), strict=True):
            fill(judge, row, t.judge[0], inputs)
        betas = (own.beta1, own.beta2)
        generators = torch.optim.Adam([*forth.parameters(), *back.parameters()], own.rate, betas)
        critics = [torch.optim.Adam(judge.parameters(), own.rate, betas) for judge in judges]
        n, turns = own.batch, own.critic_steps
        for first in range(0, own.steps, own.check):
            steps = min(own.check, own.steps - first)
            rows, noise, keep, mix = t._randomness(steps, n, turns)
            for i in range(steps):
                shown = t.shown[0, rows[i, 0]] * keep[i, 0]
                a, b, z = t.determinants[0, rows[i, 0]] * shown, t.marker[0, rows[i, 0]], noise[i, 0]
                for c in range(turns):
                    here = slice(c * n, (c + 1) * n)
                    with torch.no_grad():
                        fakes = back(b[here])[:, own.noise :] * shown[here], forth(join(a, shown, z, here))
                    for judge, optimiser, real, fake in zip(judges, critics, (a[here], b[here]), fakes, strict=True):
                        between = torch.lerp(fake, real, mix[i, 0, here]).requires_grad_()
                        (slope,) = torch.autograd.grad(judge(between).sum(), between, create_graph=True)
                        penalty = ((slope.square().sum(1) + 1e-12).sqrt() - 1).square().mean()
                        loss = judge(fake).mean() - judge(real).mean() + own.penalty * penalty
                        optimiser.zero_grad()
                        loss.backward()
                        optimiser.step()
                here = slice(turns * n, (turns + 1) * n)
                a, b, shown = a[here], b[here], shown[here]
                one, two = (forth(torch.cat([a, shown, x], 1)) for x in (z[turns * n : -n], z[-n:]))
                made = back(b)
                guess, guessed = made[:, own.noise :] * shown, made[:, : own.noise]
                adversarial = judges[0](guess).mean() + judges[1](one).mean()
                around = ((back(one)[:, own.noise :] * shown - a).abs() * shown).sum() / shown.sum()
                around = around + (forth(torch.cat([guess, shown, guessed], 1)) - b).abs().mean()
                norms = [(x.square().sum(1) + 1e-12).sqrt().mean() for x in (one - b, two - b, one - two)]
                paired = (norms[0] + norms[1] - norms[2]) / 2
                generators.zero_grad()
                (own.cycle * around + own.paired * paired - adversarial).backward()
                generators.step()
        return torch.cat([(p.detach().T if p.ndim > 1 else p.detach()).reshape(-1) for p in forth.parameters()]).numpy()


def join(a: Tensor, shown: Tensor, z: Tensor, here: slice) -> Tensor:
    return torch.cat([a[here], shown[here], z[here]], 1)


def fill(module: nn.Module, flat: Tensor, inputs: int, own: int | None = None) -> None:
    """Weights of a stack's row; of its `inputs` the network has the first `own`."""
    start = 0
    for linear in (m for m in module.modules() if isinstance(m, nn.Linear)):
        a, b = inputs, linear.out_features
        with torch.no_grad():
            linear.weight.copy_(flat[start : start + a * b].view(a, b)[:own].T)
            linear.bias.copy_(flat[start + a * b : start + (a + 1) * b])
        start, inputs, own = start + (a + 1) * b, b, None


def seconds(work) -> tuple[float, list[np.ndarray]]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=10)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--determinants", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    options = dict(pair.split("=") for pair in given.set)
    own = CycleGanSettings(steps=given.steps, check=given.steps, patience=10**6, **options)
    units = made_units(given.units, given.rows, given.determinants)
    train_units(units[:1], own)
    Plain(Training(units[:1], own.model_copy(update={"steps": 2, "check": 2}))).run()
    together, stacked = seconds(lambda: train_units(units, own))
    alone, ones = seconds(lambda: [train_units([unit], own)[0] for unit in units])
    plain, books = seconds(lambda: [Plain(Training([unit], own)).run() for unit in units])
    print(f"{given.units} units, {given.rows} rows, {given.determinants} determinants, {given.steps} steps, 1 thread")
    print(f"stacked          {together:7.2f} CPU s")
    for name, time_, weights in (("one at a time", alone, ones), ("plain modules", plain, books)):
        apart = max(float(np.abs(a - b).max()) for a, b in zip(stacked, weights, strict=True))
        print(f"{name:16s} {time_:7.2f} CPU s   {time_ / together:5.1f} x   weights differ by at most {apart:.1e}")


if __name__ == "__main__":
    main()
