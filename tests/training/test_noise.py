"""Noise of a method that samples: at inference a matter of part and patient alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmcli.evaluation.repredict import Repredictor
from mmcli.methods import METHODS
from mmcli.settings import PredictSettings, TeacherSettings
from mmcli.stages import predict, teacher
from mmcli.training.batch import Batch

Write = Callable[..., Path]


def batch(ids: list[str], key: str = "a") -> Batch:
    return Batch(torch.arange(len(ids)), {}, {}, {}).with_noise_keys([(key, i) for i in ids])


def test_a_patients_noise_does_not_depend_on_the_others() -> None:
    both, one = batch(["x", "y"]), batch(["y"])
    assert torch.equal(both.noise("z", 5, 3)[1], one.noise("z", 5, 3)[0])
    assert torch.equal(both.noise("z"), both.noise("z"))
    different = [one.noise("z", 4), both.noise("z", 4)[:1], one.noise("w", 4), batch(["y"], "b").noise("z", 4)]
    assert len({tuple(x[0].tolist()) for x in different}) == 4
    torch.manual_seed(0)
    plain = Batch(torch.arange(2), {}, {}, {})
    drawn = plain.noise("z", 4)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.randn(2, 4)) and not torch.equal(drawn, plain.noise("z", 4))


def test_the_teachers_noise_is_another() -> None:
    inner = Batch(torch.arange(2), {}, {}, {})
    outer = Batch(torch.arange(2), {}, {}, {}, teacher=inner).with_noise_keys([(0,), (1,)])
    assert outer.teacher is not None and not torch.equal(outer.noise("z", 4), outer.teacher.noise("z", 4))


def test_it_is_standard_normal() -> None:
    stats = pytest.importorskip("scipy.stats")
    drawn = batch([str(i) for i in range(4000)]).noise("z", 2).numpy()
    for x in (*drawn.T, drawn[:, 0] * drawn[:, 1] / np.abs(drawn[:, 1])):
        assert stats.kstest(x, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.06 and abs(np.corrcoef(drawn[1:, 0], drawn[:-1, 0])[0, 1]) < 0.06


def test_asked_together_or_in_part_a_patient_gets_the_same_draws(
    plugin: Any, tmp_path: Path, write_made_store: Write
) -> None:
    rng = np.random.default_rng(0)
    t, y = rng.normal(size=(60, 3)), np.arange(60) % 2
    store = write_made_store(tmp_path / "s.h5", {"y": y}, tables={"t": t}, roles=np.repeat([1, 2, 3], 20))
    run = tmp_path / "run"
    teacher.run(TeacherSettings(stores=[store], out=run, method="sampler", seeds=[0, 1], quiet=True))
    own = [pd.read_parquet(run / f"cv-0-seed-{s}/predictions-y.parquet").set_index("patient_id") for s in (0, 1)]
    assert (own[0].uncertainty > 0.01).all() and not np.allclose(own[0].uncertainty, own[1].uncertainty)
    with Repredictor(run, METHODS) as again:
        for s, frames in enumerate(again.frames({}, ["test"]).values()):
            found = frames["y"].set_index("patient_id")
            assert len(found) == 20
            for column in ("p_yes", "uncertainty"):
                np.testing.assert_allclose(found[column], own[s][column][found.index], atol=1e-7)
    few = write_made_store(tmp_path / "few.h5", {}, tables={"t": t[:5]}, roles=False)  # other patients, first ids same
    predict.run(PredictSettings(run=run / "cv-0-seed-0", stores=[few], out=tmp_path / "p.csv", quiet=True))
    found = pd.read_csv(tmp_path / "p.csv", index_col="patient_id")
    np.testing.assert_allclose(found.p_yes, own[0].p_yes[found.index], atol=1e-7)
    np.testing.assert_allclose(found.uncertainty, own[0].uncertainty[found.index], atol=1e-7)
