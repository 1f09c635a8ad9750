"""Packed bags against the usual ways to feed them: `python tests/benchmarks/bench_bags.py`.

1. Bags of hundreds of tiles, the same network (`attention`): one bag a step in a plain loop of torch's own modules in
   float32, all features standardised beforehand and in memory; the engine's packed bags in float32 and in bf16
   (`--precision`), and in float32 with torch's own modules in the place of `DropoutLinear` and `ReLUDropout`.
2. The same with a network that is wide (256), where matrix products dominate.
3. Narrow again, with bags of at most 64 instances.
4. Large bags, one bag a step, from a slide's own h5 that is opened for each bag.
5. Peak memory of loading and training in a fresh process above that of its libraries, against the size of the
   latents, of these and of four times as many bags.

A pass of the engine is whole: assembly of the batch, standardising, forward, backward, clipping, optimiser. All ways
take turns, seed by seed, and each is judged by the fastest of its last passes, of as many for every way, in seconds of
the processor, which other work on the machine disturbs less than the clock; --clock asks for the clock.

Passes are not training: a packed step has 32 bags and there are a 32nd of the steps. Its learning rate is the square
root of 32 times as high, and it takes more passes (--packed-passes) to the same AUC. So beside bags a second stand the
validation AUC at the end, mean and spread over seeds, and the seconds of training until it was first REACHED.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmcli.methods.attention import Attention
from mmcli.methods.branches import BagBranch
from mmcli.metrics.auc import AUC
from mmcli.store import BagData, BagMeta, Label, Patients, Stores, write_store
from mmcli.store.batch import PackedBag
from mmcli.store.hdf5 import Rows
from mmcli.store.parts import TRAIN, VALIDATION
from mmcli.training.batch import Batch
from mmcli.training.data import CohortData, PartData, data_spec, fit_preparation, fit_tasks, load_cohort
from mmcli.training.engine import PartName, Trainer
from mmcli.training.memory import peak_memory

Ints = NDArray[np.int64]
Batches = Callable[[Ints], Iterator[Batch]]
RATE = 1e-3  # the learning rate of one bag a step
REACHED = 0.95  # a validation AUC


@dataclass
class Run:
    """What each pass took, and the validation AUC after it."""

    seconds: list[float]
    auc: list[float]

    def until_reached(self) -> float | None:
        """Seconds of training until the AUC was REACHED."""
        there = next((i for i, a in enumerate(self.auc) if a >= REACHED), None)
        return None if there is None else sum(self.seconds[: there + 1])


def made_store(path: Path, n: int, least: int, most: int, dim: int) -> Path:
    """A bag a patient of `least` to `most` instances; a twentieth of a positive's instances are shifted."""
    rng = np.random.default_rng(0)
    y = (np.arange(n) % 2).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(least, most + 1, n))])
    features = rng.standard_normal((int(offsets[-1]), dim), np.float32)
    for i in np.flatnonzero(y):
        rows = offsets[i] + np.flatnonzero(rng.random(offsets[i + 1] - offsets[i]) < 0.05)
        features[rows, :8] += 1.0
    roles = np.full((n, 1), TRAIN, np.int8)
    roles[::5] = VALIDATION
    nobody = np.zeros(n, bool)
    bag = BagData(BagMeta("slide", "made", "", {}), ~nobody, nobody, offsets, {"features": Rows.of(features)})
    ids = [f"p{i:05}" for i in range(n)]
    write_store(
        path, {"made": 1}, Patients(ids, None, {"y": Label(y, ["no", "yes"])}, {"cv": roles}), {}, {"slide": bag}
    )
    return path


def plain_forward(branch: BagBranch, bag: PackedBag) -> torch.Tensor:
    """As `BagBranch`, for modules that take a tensor."""
    pooled: torch.Tensor = branch.pool(branch.project(bag.features), bag.owner, len(bag))
    return pooled


class Loop:
    """The engine's `Trainer` on a store, and a plain loop of the same network that takes one bag a step."""

    def __init__(self, store: Path, now: Callable[[], float] = time.process_time, width: int = 32) -> None:
        self.now, self.width = now, width
        with Stores([store]) as stores:
            self.data: CohortData = load_cohort(stores, ["y"], ["slide"], budget=1 << 40, withhold={}, seed=0)
            self.roles = stores.patients.folds["cv"][:, 0]
        self.prepared = fit_preparation(self.data, self.roles)
        self.spec = data_spec(self.data, self.prepared, fit_tasks(self.data, self.roles), {})
        self.view = PartData(self.data, self.prepared, {})
        self.train_rows, self.validation = (np.flatnonzero(self.roles == role) for role in (TRAIN, VALIDATION))

    def method(self, seed: int, epochs: int = 1, plain: bool = False) -> Attention:
        """A new network; `plain` puts torch's own modules in the place of ours."""
        torch.manual_seed(seed)
        settings = Attention.Settings(width=self.width, epochs=epochs, patience=0, schedule="constant")
        method = Attention(self.spec, settings)
        if plain:
            project = method.network.branches.branches[0].project
            layer = project[0]
            linear = nn.Linear(layer.in_features, layer.out_features)
            linear.load_state_dict(layer.state_dict())
            project[0] = nn.Sequential(nn.Dropout(layer.p), linear)
            project[1] = nn.Sequential(nn.ReLU(), nn.Dropout(project[1].p))
            branch = method.network.branches.branches[0]
            branch.forward = partial(plain_forward, branch)
        return method

    def auc(self, method: Attention) -> float:
        """On the validation patients."""
        method.eval()
        with torch.no_grad():
            pieces = [method.predict(self.view.batch(p))[""]["y"] for p in self.view.pieces(self.validation)]
        return float(AUC.of(self.data.tasks["y"].values[self.validation].astype(np.int64), torch.cat(pieces).numpy()))

    def packed(self, seed: int, passes: int, precision: torch.dtype, plain: bool = False) -> Run:
        """The engine's own epochs."""
        method = self.method(seed, passes, plain)
        trainer = Trainer(method, self.view, self.roles, PartName("cv", 0, seed), precision=precision)
        (phase,) = method.phases()
        rate = RATE * phase.batch**0.5
        optimiser = torch.optim.AdamW(method.parameters(), rate, weight_decay=1e-2, fused=True)
        groups, run = [list(method.parameters())], Run([], [])
        for trainer.state.epoch in range(passes):
            started = self.now()
            trainer._epoch(phase, self.train_rows, [optimiser], groups, [rate])
            run.seconds.append(self.now() - started)
            run.auc.append(self.auc(method))
        return run

    def one_by_one(self, seed: int, passes: int, batches: Batches) -> Run:
        """A plain loop in float32."""
        method, rng = self.method(seed, plain=True), np.random.default_rng(seed)
        optimiser = torch.optim.AdamW(method.parameters(), RATE, weight_decay=1e-2, fused=True)
        run = Run([], [])
        for _ in range(passes):
            method.train()
            started = self.now()
            for batch in batches(rng.permutation(self.train_rows)):
                optimiser.zero_grad(set_to_none=True)
                method.loss(batch).backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(method.parameters(), 5.0)
                optimiser.step()
            run.seconds.append(self.now() - started)
            run.auc.append(self.auc(method))
        return run

    def from_memory(self) -> Batches:
        """One bag a step, features in memory, standardised beforehand."""
        mean, scale = self.view.scalers["slide"]
        latents = self.data.latents["slide"]
        assert latents.features is not None
        ready, offsets = (latents.features.float() - mean) * scale, latents.bag.offsets.tolist()
        return lambda rows: (self._single(int(i), ready[offsets[i] : offsets[i + 1]]) for i in rows)

    def _single(self, i: int, x: torch.Tensor) -> Batch:
        packed, index = PackedBag(x, torch.tensor([0, len(x)]), torch.ones(1, dtype=torch.bool)), torch.tensor([i])
        return Batch(index, {"slide": packed}, {}, {"y": self.view.labels["y"][index]})

    def from_files(self, folder: Path) -> Batches:
        """One bag a step, from a file a slide that is opened each time, as the usual data sets do."""
        bag = self.data.latents["slide"]
        assert bag.features is not None
        for i, (a, b) in enumerate(zip(bag.bag.offsets[:-1], bag.bag.offsets[1:], strict=True)):
            with h5py.File(folder / f"{i}.h5", "w") as file:
                file["features"] = bag.features[a:b].numpy()
        mean, scale = self.view.scalers["slide"]

        def batches(rows: Ints) -> Iterator[Batch]:
            for i in rows:
                with h5py.File(folder / f"{i}.h5", "r") as file:
                    features = torch.from_numpy(file["features"][:])
                yield self._single(int(i), (features.float() - mean) * scale)

        return batches


def report(name: str, bags: int, runs: list[Run], last: int, reference: float | None = None) -> float:
    """Print a line; seconds a pass, the fastest of the `last` ones of the seeds."""
    seconds = min(s for run in runs for s in run.seconds[-last:])
    areas = [run.auc[-1] for run in runs]
    spread = float(np.std(areas, ddof=1)) if len(areas) > 1 else 0.0
    ratio = f"{reference / seconds:5.2f}x" if reference else "      "
    times = [t for run in runs if (t := run.until_reached()) is not None]
    reached = f"{statistics.mean(times):6.2f} s to {REACHED}" if times else f"{REACHED} not reached"
    seeds = f" ({len(times)} of {len(runs)} seeds)" if 0 < len(times) < len(runs) else ""
    print(
        f"  {name:48} {bags / seconds:7.0f} bags/s {ratio}  AUC {statistics.mean(areas):.3f} +- {spread:.3f}"
        f"  {reached}{seeds}",
        flush=True,
    )
    return seconds


def compare(title: str, loop: Loop, passes: int, long: int, seeds: int, files: Path | None) -> None:
    """Print the ways on one store: `passes` of one bag a step, `long` of packed bags."""
    bags, size = len(loop.train_rows), loop.data.latents["slide"].bag.offsets[-1] / len(loop.data)
    print(
        f"{title}: {bags} training bags, {size:.0f} instances each, dim {loop.spec.bags[0].dim}, width {loop.width}; "
        f"AUC after {passes} passes of one bag a step and {long} of packed bags"
    )
    plain = "one bag a step, float32, in memory"
    memory, opened = loop.from_memory(), loop.from_files(files) if files is not None else None
    ways: dict[str, Callable[[int], Run]] = {plain: lambda s: loop.one_by_one(s, passes, memory)}
    for name, precision in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        ways[f"packed, {name}"] = partial(loop.packed, passes=long, precision=precision)
    ways["packed, float32, torch's modules"] = partial(loop.packed, passes=long, precision=torch.float32, plain=True)
    if opened is not None:
        ways["one bag a step, a slide's h5 opened for each"] = lambda s: loop.one_by_one(s, passes, opened)
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for seed in range(seeds):
        for name, way in ways.items():
            runs[name].append(way(seed))
    base = min(s for run in runs[plain] for s in run.seconds[-passes:])
    seconds = {name: report(name, bags, of, passes, None if name == plain else base) for name, of in runs.items()}
    if opened is not None:
        slow = list(seconds.values())[-1]
        against = ", ".join(f"{name} {slow / s:.2f}x" for name, s in seconds.items() if name.startswith("packed"))
        print(f"  against opening files: {against}")


def peak(store: Path) -> None:
    """Load and train in this process; print its peak memory."""
    torch.optim.AdamW(nn.Linear(1, 1).parameters(), fused=True).zero_grad()  # which loads more of torch
    before = peak_memory()
    loop = Loop(store)
    loop.packed(0, 1, torch.float32)
    latents = loop.data.latents["slide"]
    size = int(latents.bag.offsets[-1]) * latents.dim * latents.bag.dtype.itemsize
    mb = 1 << 20
    print(
        f"Peak memory: {peak_memory() / mb:.0f} MB, {before / mb:.0f} MB of it before the store was opened; latents "
        f"{size / mb:.0f} MB: {(peak_memory() - before) / size:.2f} times their size"
    )


def main() -> None:
    """Parse the options and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--passes", type=int, default=8)
    parser.add_argument("--packed-passes", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0 = torch's own choice")
    parser.add_argument("--clock", action="store_true", help="seconds of the clock, not of the processor")
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.peak:
        peak(options.peak)
        return
    print(f"{torch.get_num_threads()} threads; bf16 units: {torch.backends.cpu.get_cpu_capability()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large = made_store(folder / "large.h5", 160, 300, 900, options.dim)
        small = made_store(folder / "small.h5", 800, 8, 64, options.dim)
        (folder / "files").mkdir()
        now = time.perf_counter if options.clock else time.process_time
        passes, seeds = (options.passes, options.packed_passes), options.seeds
        compare("Large bags", Loop(large, now), *passes, seeds, folder / "files")
        compare("Large bags, wide network", Loop(large, now, 256), passes[0], max(passes[1] // 2, 1), seeds, None)
        compare("Bags of at most 64", Loop(small, now), *passes, seeds, None)
        larger = made_store(folder / "larger.h5", 640, 300, 900, options.dim)
        for store in (large, larger):
            subprocess.run([sys.executable, __file__, "--threads", "1", "--peak", str(store)], check=True)


if __name__ == "__main__":
    main()
