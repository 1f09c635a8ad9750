"""Packed bags against the usual ways to feed them: `python tests/benchmarks/bench_bags.py`.

1. Bags of hundreds of tiles, the same network (`attention`), features in memory on both sides: one bag a step in
   float32, packed bags in float32, packed bags in bf16. Bags a second, and the validation AUC after as many passes over
   the patients, mean and spread over seeds.
2. The same with bags of at most 64 instances.
3. Large bags again, one bag a step, from a slide's own h5 that is opened for each bag.
4. Peak memory of loading and training in a fresh process, against the size of the latents.

A pass is whole: assembly of the batch, standardising, forward, backward, clipping, optimiser.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmcli.methods.attention import Attention
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


class Loop:
    """The engine's `Trainer` on a store, and a plain loop of the same network that takes one bag a step."""

    def __init__(self, store: Path) -> None:
        with Stores([store]) as stores:
            self.data: CohortData = load_cohort(stores, ["y"], ["slide"], budget=1 << 40, withhold={}, seed=0)
            self.roles = stores.patients.folds["cv"][:, 0]
        self.prepared = fit_preparation(self.data, self.roles)
        self.spec = data_spec(self.data, self.prepared, fit_tasks(self.data, self.roles), {})
        self.view = PartData(self.data, self.prepared, {})
        self.train_rows, self.validation = (np.flatnonzero(self.roles == role) for role in (TRAIN, VALIDATION))

    def method(self, seed: int, epochs: int = 1) -> Attention:
        """A new network."""
        torch.manual_seed(seed)
        settings = Attention.Settings(epochs=epochs, patience=0, schedule="constant")
        return Attention(self.spec, settings)

    def auc(self, method: Attention) -> float:
        """On the validation patients."""
        method.eval()
        with torch.no_grad():
            pieces = [method.predict(self.view.batch(p))[""]["y"] for p in self.view.pieces(self.validation)]
        return float(AUC.of(self.data.tasks["y"].values[self.validation].astype(np.int64), torch.cat(pieces).numpy()))

    def packed(self, seed: int, passes: int, precision: torch.dtype) -> tuple[float, float]:
        """(seconds a pass, AUC) of the engine's own epochs."""
        trainer = Trainer(
            self.method(seed, passes), self.view, self.roles, PartName("cv", 0, seed), precision=precision
        )
        (phase,) = trainer.method.phases()
        optimiser = torch.optim.AdamW(trainer.method.parameters(), 1e-3, weight_decay=1e-2, fused=True)
        groups = [list(trainer.method.parameters())]
        started = time.perf_counter()
        for trainer.state.epoch in range(passes):
            trainer._epoch(phase, self.train_rows, [optimiser], groups, [1e-3])
        return (time.perf_counter() - started) / passes, self.auc(trainer.method)  # type: ignore[arg-type]

    def one_by_one(self, seed: int, passes: int, batches: Batches) -> tuple[float, float]:
        """(seconds a pass, AUC) of a plain loop in float32."""
        method, rng = self.method(seed), np.random.default_rng(seed)
        optimiser = torch.optim.AdamW(method.parameters(), 1e-3, weight_decay=1e-2, fused=True)
        started = time.perf_counter()
        for _ in range(passes):
            method.train()
            for batch in batches(rng.permutation(self.train_rows)):
                optimiser.zero_grad(set_to_none=True)
                method.loss(batch).backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(method.parameters(), 5.0)
                optimiser.step()
        return (time.perf_counter() - started) / passes, self.auc(method)

    def from_memory(self, rows: Ints) -> Iterator[Batch]:
        """One bag a step, features in memory."""
        return (self.view.batch(rows[i : i + 1]) for i in range(len(rows)))

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
                x = (features.float() - mean) * scale
                packed = PackedBag(x, torch.tensor([0, len(x)]), torch.ones(1, dtype=torch.bool))
                index = torch.tensor([i])
                yield Batch(index, {"slide": packed}, {}, {"y": self.view.labels["y"][index]})

        return batches


def report(name: str, bags: int, runs: list[tuple[float, float]], reference: float | None = None) -> float:
    """Print a line; seconds a pass, the fastest of the seeds."""
    seconds = min(s for s, _ in runs)
    areas = [a for _, a in runs]
    spread = float(np.std(areas, ddof=1)) if len(areas) > 1 else 0.0
    ratio = f"{reference / seconds:5.2f}x" if reference else "      "
    print(
        f"  {name:44} {bags / seconds:9.0f} bags/s {ratio}  AUC {statistics.mean(areas):.3f} +- {spread:.3f}",
        flush=True,
    )
    return seconds


def compare(title: str, store: Path, passes: int, seeds: int, files: Path | None) -> None:
    """Print the ways on one store."""
    loop = Loop(store)
    bags, size = len(loop.train_rows), loop.data.latents["slide"].bag.offsets[-1] / len(loop.data)
    print(f"{title}: {bags} training bags, {size:.0f} instances each, dim {loop.spec.bags[0].dim}")
    plain = [loop.one_by_one(s, passes, loop.from_memory) for s in range(seeds)]
    base = report("one bag a step, float32, in memory", bags, plain)
    fast = {}
    for name, precision in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        runs = [loop.packed(s, passes, precision) for s in range(seeds)]
        fast[name] = report(f"packed, {name}, against the first line", bags, runs, base)
    if files is not None:
        opened = [loop.one_by_one(0, passes, loop.from_files(files))]
        slow = report("one bag a step, a slide's h5 opened for each", bags, opened)
        against = ", ".join(f"packed {name} {slow / seconds:.2f}x" for name, seconds in fast.items())
        print(f"  against opening files: {against}")


def peak(store: Path) -> None:
    """Load and train in this process; print its peak memory."""
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
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0 = torch's own choice")
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
        compare("Large bags", large, options.passes, options.seeds, folder / "files")
        compare("Bags of at most 64", small, options.passes, options.seeds, None)
        subprocess.run([sys.executable, __file__, "--peak", str(large)], check=True)


if __name__ == "__main__":
    main()
