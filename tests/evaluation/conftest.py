"""Run directories and tables of predictions, as other stages and other tools write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


def _write(
    run: Path, strength: float = 1.0, *, classes: Sequence[str] = ("no", "yes"), n: int = 60, folds: int = 3,
    seeds: int = 2, variants: Sequence[str] = ("main",), seed: int = 0, task: str = "relapse",
) -> Path:  # fmt: skip
    """A run over `n` patients 000, 001, ... whose labels are the same in every run; the last patient has none.

    Patient i is in the test split of fold i modulo `folds`.
    """
    labels = np.random.default_rng(7).integers(len(classes), size=n)
    generator = np.random.default_rng(seed)
    parts = [f"cv-{k}-seed-{s}" for k in range(folds) for s in range(seeds)]
    for index, part in enumerate(parts):
        frames = []
        for variant in variants:
            logits = generator.normal(size=(n, len(classes))) + strength * np.eye(len(classes))[labels]
            p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            columns = {
                "patient_id": [f"{i:03d}" for i in range(n)],
                "split": ["test" if i % folds == index // seeds else "train" for i in range(n)],
                "label": pd.Series([classes[k] for k in labels[:-1]] + [None], dtype=object),
                **{f"p_{c}": p[:, k] for k, c in enumerate(classes)},
                "modalities": "ct",
                **({"variant": variant} if len(variants) > 1 else {}),
            }
            frames.append(pd.DataFrame(columns))
        (run / part).mkdir(parents=True)
        pd.concat(frames).to_parquet(run / part / f"predictions-{task}.parquet", index=False)
    about = {
        "stage": "train-teacher", "method": "attention", "tasks": {task: {"classes": [*classes], "ordinal": False}},
        "parts": parts, "variants": [*variants], "modalities": ["ct"], "fold_set": "cv",
        "folds": list(range(folds)), "seeds": list(range(seeds)),
    }  # fmt: skip
    (run / "run.json").write_text(json.dumps(about))
    return run


@pytest.fixture
def write_run() -> Callable[..., Path]:
    """The function that writes a run directory."""
    return _write
