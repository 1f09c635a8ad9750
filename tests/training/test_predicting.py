"""Prediction rows of a multiple imputation: the mean's, and one for each draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmcli.methods import METHODS
from mmcli.settings import GuideSettings, ImputeSettings, TeacherSettings
from mmcli.stages import guide, impute, teacher
from mmcli.store import Stores
from mmcli.training.data import PartData, load_cohort
from mmcli.training.part import read_part
from mmcli.training.predicting import answer, answer_draws

Write = Callable[..., Path]
QUICK = {"epochs": "5", "width": "8"}
ROLES = np.repeat([1, 2, 3, 0], [30, 8, 10, 2])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, write_made_store: Write) -> Path:
    """s.h5 with tables t (holes) and u (none lacks a cell), one.h5 with one imputation of t, three.h5 with three."""
    home, rng = tmp_path_factory.mktemp("draws"), np.random.default_rng(0)
    y = np.arange(50) % 2
    t, u = rng.normal(size=(50, 3)) + y[:, None], rng.normal(size=(50, 2)) + y[:, None]
    t[::3, 0] = t[1::4, 2] = np.nan
    store = write_made_store(home / "s.h5", {"y": y}, tables={"t": t, "u": u}, roles=ROLES)
    for name, draws in (("one", 1), ("three", 3)):
        impute.run(ImputeSettings(stores=[store], table="t", imputations=draws, name="m", out=home / f"{name}.h5",
                                  quiet=True))  # fmt: skip
    return home


def run_of(home: Path, name: str) -> pd.DataFrame:
    """The predictions of a teacher on one of the imputations, trained when it is first asked for."""
    out = home / f"run-{name}"
    teacher.run(TeacherSettings(stores=[home / "s.h5", home / f"{name}.h5"], imputer="m", out=out, set=QUICK,
                                quiet=True))  # fmt: skip
    return pd.read_parquet(out / "cv-0-seed-0/predictions-y.parquet")


def test_a_row_for_each_draw_where_there_are_several(home: Path) -> None:
    frame = run_of(home, "three")
    assert list(frame) == ["patient_id", "split", "label", "p_no", "p_yes", "modalities", "draw"]
    assert frame.groupby("draw").size().to_dict() == {-1: 48, 0: 48, 1: 48, 2: 48}
    assert not frame.duplicated(["patient_id", "draw"]).any()
    wide = frame.pivot(index="patient_id", columns="draw", values="p_yes")
    spread = np.ptp(wide[[0, 1, 2]].to_numpy(), axis=1)
    index = np.array([int(p[1:]) for p in wide.index])
    holes = (index % 3 == 0) | (index % 4 == 1)
    assert (spread[~holes] < 1e-7).all() and (spread[holes] > 1e-5).mean() > 0.9
    np.testing.assert_allclose(wide[-1][~holes], wide[0][~holes], atol=1e-7)
    low, high = wide[[0, 1, 2]].min(axis=1), wide[[0, 1, 2]].max(axis=1)
    assert ((wide[-1] > low - 0.02) & (wide[-1] < high + 0.02)).all()  # the mean's row lies among the draws'
    for column in ("split", "label", "modalities"):
        assert (frame.groupby("patient_id")[column].nunique() == 1).all()


def test_no_column_where_there_is_one(home: Path) -> None:
    assert "draw" not in run_of(home, "one")


def test_a_draws_row_is_the_answer_to_a_table_with_that_draw(home: Path) -> None:
    """The same method, asked about values that are encoded by hand."""
    frame = run_of(home, "three")
    part = read_part(home / "run-three/cv-0-seed-0", METHODS)
    encoder, other = part.prepared.encoders["t"], part.prepared.encoders["u"]
    with Stores([home / "s.h5", home / "three.h5"]) as stores:
        filled, own, u = stores.filled("t", "m", "cv", 0), stores.tables["t"], stores.tables["u"]
    for d in range(3):
        z = np.clip((filled[d] - encoder.mean) * encoder.scale, -6, 6)
        there = torch.ones(50, 1)
        inputs = [torch.tensor(np.c_[z, ~own.observed], dtype=torch.float32)]
        inputs += [torch.tensor(np.c_[(u.values - other.mean) * other.scale, ~u.observed], dtype=torch.float32)]
        network: Any = part.method.network
        with torch.no_grad():
            latents = [b.mlp(x) for b, x in zip(network.branches.branches, inputs, strict=True)]
            p = network.heads[0](torch.cat([*latents, there, there], -1)).softmax(-1)[:, 1]
        ours = frame[frame.draw == d]
        np.testing.assert_allclose(ours.p_yes, p[ROLES != 0], atol=1e-5)


def test_tables_with_several_numbers_of_draws(home: Path) -> None:
    run_of(home, "three")
    part = read_part(home / "run-three/cv-0-seed-0", METHODS)
    rows = np.arange(50)
    with Stores([home / "s.h5", home / "three.h5"]) as stores:
        data = load_cohort(stores, ["y"], ["t", "u"], budget=0, withhold={}, seed=0)
        t, u = stores.filled("t", "m", "cv", 0), stores.tables["u"].values

        def draws(**filled: Any) -> list[Any]:
            view = PartData(data, part.prepared, filled)
            return [a["y"].probabilities for a in answer_draws(part.method, view, part.prepared, filled, rows, (0,))]

        assert draws() == [] and draws(t=t[:1], u=u[None]) == []
        plain = draws(t=t)
        assert len(plain) == 3
        five = np.stack([u + k for k in range(5)])
        least = draws(t=t, u=five)  # draw d of both; the other two of u are nobody's
        assert len(least) == 3
        np.testing.assert_array_equal(draws(t=t, u=u[None])[2], plain[2])
        shifted = replace(data, tables=data.tables | {"u": replace(data.tables["u"], values=u + 1)})
        alone = answer(part.method, PartData(shifted, part.prepared, {"t": t[1:2]}), rows, (0,))[""]["y"]
        np.testing.assert_array_equal(least[1], alone.probabilities)


def test_the_main_variant_alone_has_draws(home: Path) -> None:
    out = home / "guide"
    guide.run(GuideSettings(stores=[home / "s.h5", home / "three.h5"], imputer="m", out=out, superior="u", inferior="t",
                            set=QUICK | {"guide_epochs": "3"}, quiet=True))  # fmt: skip
    frame = pd.read_parquet(out / "cv-0-seed-0/predictions-y.parquet")
    assert frame.groupby(["variant", "draw"]).size().to_dict() == {
        ("G(I)+I", -1): 48, ("G(I)+I", 0): 48, ("G(I)+I", 1): 48, ("G(I)+I", 2): 48,
        ("S+I", -1): 48, ("S", -1): 48, ("I", -1): 48, ("G(I)", -1): 48,
    }  # fmt: skip
