"""Fixtures that any test may use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data (tables/, images/, volumes/); tests that need it are skipped without it."""
    folder = os.environ.get("MMCLI_TEST_DATA")
    if not folder:
        pytest.skip("MMCLI_TEST_DATA is not set: no real data here")
    return Path(folder)


@pytest.fixture(scope="session")
def killed_after() -> Callable[..., int]:
    """`killed_after(saves, program, *arguments, path=...)` runs a program that writes a checkpoint after each epoch and
    is killed with -9 behind the given one; `path` is put before PYTHONPATH. Its exit status."""
    begin = """
import os, signal, sys
from pathlib import Path
from mmcli.training import engine
engine.CHECKPOINT_EVERY_S = 0.0
real, left = engine.checkpoints.save_checkpoint, [int(sys.argv.pop(1))]
def dies(*args):
    real(*args)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
engine.checkpoints.save_checkpoint = dies
"""

    def run(saves: int, program: str, *arguments: Path, path: Path | None = None) -> int:
        paths = os.pathsep.join(filter(None, [str(path or ""), os.environ.get("PYTHONPATH")]))
        call = [sys.executable, "-c", begin + program, str(saves), *map(str, arguments)]
        done = subprocess.run(call, capture_output=True, env=os.environ | {"PYTHONPATH": paths}, text=True)
        print(done.stderr)
        return done.returncode

    return run


@pytest.fixture(scope="session")
def write_made_store() -> Callable[..., Path]:
    """`write(out, labels, bags={name: [array | None, ...]}, tables={name: values}, roles=...)` writes a made store.

    labels: {task: class indices, -1 = none}; a bag is one array of instances a patient, None without the modality; a
    table is (n, f) with NaN where not observed, a row of NaN without the table; roles (n, K), default 5 folds.
    """
    import numpy as np

    from mmcli.cohort.folds import make_folds
    from mmcli.store import BagData, BagMeta, Label, Patients, Table, write_store
    from mmcli.store.hdf5 import Rows

    def bag(arrays: list[Any], meta: Any) -> BagData:
        present = np.array([a is not None for a in arrays])
        offsets = np.concatenate([[0], np.cumsum([0 if a is None else len(a) for a in arrays])])
        features = np.concatenate([a for a in arrays if a is not None]).astype(np.float32)
        return BagData(meta, present, np.zeros(len(arrays), bool), offsets, {"features": Rows.of(features)})

    def table(values: Any, columns: list[str] | None, categories: dict[str, list[str]]) -> Table:
        observed = ~np.isnan(values)
        names = columns or [f"c{j}" for j in range(values.shape[1])]
        kinds: list[Any] = ["categorical" if c in categories else "numeric" for c in names]
        return Table(names, kinds, categories, observed.any(1), values.astype(float), observed)

    def write(
        out: Path,
        labels: dict[str, Any],
        bags: dict[str, list[Any]] | None = None,
        tables: dict[str, Any] | None = None,
        roles: Any = None,
        *,
        set_name: str = "cv",
        prefix: str = "p",
        classes: list[str] | None = None,
        columns: list[str] | None = None,
        categories: dict[str, list[str]] | None = None,
        encoder: str = "made",
        weights: str = "random:0",
    ) -> Path:
        n = len(next(iter([*(bags or {}).values(), *(tables or {}).values()])))
        ids = [f"{prefix}{i:04}" for i in range(n)]
        made = {t: Label(np.asarray(y, np.int64), classes or ["no", "yes"]) for t, y in labels.items()}
        folds = {}
        if roles is not False:
            strata = next(iter(made.values())).values if made else None
            given = make_folds(ids, strata, None, n=5, repeats=1, validation=0.2, seed=0) if roles is None else roles
            folds = {set_name: np.asarray(given, np.int8).reshape(n, -1)}
        meta = BagMeta("slide", encoder, weights, {"mpp": 0.5})
        write_store(
            out,
            {"made": out.name},
            Patients(ids, None, made, folds),
            {name: table(np.asarray(v), columns, categories or {}) for name, v in (tables or {}).items()},
            {name: bag(arrays, meta) for name, arrays in (bags or {}).items()},
        )
        return out

    return write
