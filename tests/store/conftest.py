"""A small store of every kind of part, and the pieces that it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcli.store import BagData, BagMeta, Label, Patients, Source, Table, write_store
from mmcli.store.hdf5 import Rows


@dataclass
class Content:
    """What a made store holds, as plain arrays."""

    patients: Patients
    table: Table
    bags: dict[str, list[np.ndarray]]

    def bag_data(self, name: str = "slide", encoder: str = "e") -> BagData:
        arrays = self.bags[name]
        counts = [len(a) for a in arrays]
        present = np.array(counts) > 0
        sources = [Source(f"{i}.svs", 10 + i, f"f{i}", 0.5, "metadata") for i in range(len(arrays))]
        stacked = np.concatenate(arrays)
        coords = np.arange(2 * len(stacked), dtype=np.int32).reshape(-1, 2)
        return BagData(
            BagMeta("slide", encoder, "w", {"tile_px": 224}, ("x", "y")), present, np.zeros(len(arrays), bool),
            np.concatenate([[0], np.cumsum(counts)]),
            {"features": Rows.of(stacked), "coords": Rows.of(coords),
             "source": Rows.of(np.repeat(np.arange(len(arrays), dtype=np.int32), counts))}, sources,
        )  # fmt: skip

    def write(self, path: Path, **given: Any) -> Path:
        given = {
            "request": {"what": "test"},
            "bags": {"slide": self.bag_data()},
            "tables": {"markers": self.table},
            **given,
        }
        write_store(path, given.pop("request"), self.patients, given.pop("tables"), given.pop("bags"), **given)
        return path


def make_content(n: int = 12, seed: int = 0) -> Content:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 3))
    values[:, 2] = rng.integers(0, 2, n)
    observed = rng.random((n, 3)) > 0.3
    table = Table(["afp", "crp", "sex"], ["numeric", "numeric", "categorical"], {"sex": ["f", "m"]},
                  observed.any(1), np.where(observed, values, np.nan), observed, {"afp": "ng/ml"})  # fmt: skip
    label = Label(rng.integers(-1, 2, n), ["no", "yes"])
    folds = rng.integers(0, 4, (n, 2)).astype(np.int8)
    patients = Patients(
        [f"P{i:03d}" for i in range(n)], [f"s{i % 3}" for i in range(n)], {"relapse": label}, {"cv": folds}
    )
    counts = rng.integers(0, 5, n)
    counts[0] = 3
    bag = [rng.normal(size=(c, 8)).astype(np.float16) for c in counts]
    return Content(patients, table, {"slide": bag})


@pytest.fixture
def content() -> Content:
    return make_content()
