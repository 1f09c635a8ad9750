"""Five folds times five seeds on tables, together and one after another: `python tests/benchmarks/bench_stacked.py`.

The same engine, network, folds and random numbers on both sides; one thread. Prints the seconds of both (wall clock,
and processor time, which other work on the machine disturbs less), their ratio, and the largest difference between the
two sides' predicted probabilities of any patient.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mmcli.cohort.folds import make_folds
from mmcli.methods import METHODS
from mmcli.store import Label, Patients, Stores, Table, write_store
from mmcli.training.data import CohortData, PartData, data_spec, fit_preparation, fit_tasks, load_cohort
from mmcli.training.engine import PartName, Trainer
from mmcli.training.predicting import answer
from mmcli.training.seeds import derive, reproducible
from mmcli.training.stacked import stacks_of, train_stack


def made_store(path: Path, n: int, widths: list[int]) -> Path:
    """Tables of n patients, of which some columns know something of the label; a tenth of the cells are holes."""
    rng = np.random.default_rng(0)
    y = (rng.random(n) < 0.35).astype(np.int64)
    tables = {}
    for number, width in enumerate(widths):
        values = rng.normal(size=(n, width)) + 0.4 * y[:, None] * (np.arange(width) < 5)
        observed = rng.random(values.shape) > 0.1
        columns = [f"c{j}" for j in range(width)]
        values = np.where(observed, values, np.nan)
        tables[f"t{number}"] = Table(columns, ["numeric"] * width, {}, np.ones(n, bool), values, observed)
    ids = [f"p{i:05}" for i in range(n)]
    folds = {"cv": make_folds(ids, y, None, n=5, repeats=1, validation=0.2, seed=0)}
    write_store(path, {"made": 1}, Patients(ids, None, {"y": Label(y, ["no", "yes"])}, folds), tables, {})
    return path


def made_trainers(data: CohortData, method: str, given: dict[str, int], seeds: int) -> list[Trainer]:
    """A trainer for each fold and seed."""
    kind, found = METHODS.get(method), []
    for k in range(5):
        roles = data.stores.patients.folds["cv"][:, k]
        prepared = fit_preparation(data, roles)
        spec, view = data_spec(data, prepared, fit_tasks(data, roles), {}), PartData(data, prepared, {})
        for s in range(seeds):
            name = PartName("cv", k, s)
            torch.manual_seed(derive(*name.key, "weights"))
            found.append(Trainer(kind(spec, kind.Settings(**given)), view, roles, name))
    return found


def measure(data: CohortData, method: str, given: dict[str, int], seeds: int) -> None:
    """Print one line."""
    together, alone = (made_trainers(data, method, given, seeds) for _ in range(2))
    (stack,) = stacks_of(together)
    with reproducible():
        start = time.perf_counter(), time.process_time()
        train_stack(stack, lambda trainer: None)
        middle = time.perf_counter(), time.process_time()
        for trainer in alone:
            trainer.train()
        end = time.perf_counter(), time.process_time()
    rows, largest = np.arange(len(data)), 0.0
    for one, other in zip(alone, together, strict=True):
        p, q = (answer(t.method, t.data, rows, t.name.key)[""]["y"].probabilities for t in (one, other))
        largest = max(largest, float(np.abs(p - q).max()))
    epochs = sum(len(t.state.history) for t in alone)
    wall, cpu = ([b[i] - a[i] for a, b in ((start, middle), (middle, end))] for i in (0, 1))
    print(
        f"{method:16} {given!s:32} {epochs:6} epochs | together {wall[0]:6.1f} s, one after another {wall[1]:6.1f} s: "
        f"{wall[1] / wall[0]:5.2f}x | processor {cpu[0]:6.1f}, {cpu[1]:6.1f} s: {cpu[1] / cpu[0]:5.2f}x | "
        f"largest difference {largest:.1e}",
        flush=True,
    )


def main() -> None:
    """Parse the options and print a line for each setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=763)
    parser.add_argument("--columns", default="40,15", help="width of each table")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--method", default="attention", help="with commas several")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        widths = [int(w) for w in options.columns.split(",")]
        store = made_store(Path(folder) / "s.h5", options.patients, widths)
        with Stores([store]) as stores:
            names = [f"t{i}" for i in range(len(widths))]
            data = load_cohort(stores, ["y"], names, budget=1 << 30, withhold={}, seed=0)
    for method in options.method.split(","):
        measure(data, method, {"epochs": 60, "patience": 0}, options.seeds)
        measure(data, method, {"epochs": 200, "patience": 20}, options.seeds)


if __name__ == "__main__":
    main()
