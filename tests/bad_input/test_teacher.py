"""Wrong requests to train-teacher: one line, the exit code, nothing lost."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mmcli import cli

CASES: list[tuple[str, str, int]] = [
    ("none.h5 --out o", "none.h5: no such feature store", 2),
    ("thesis.txt --out o", "thesis.txt: not a feature store", 4),
    ("schema2.h5 --out o", "schema", 4),
    ("s.h5 s.h5 --out o", "is in two of the stores", 2),
    ("bare.h5 --out o", "--cohort with folds", 2),
    ("one.h5 --out o", "all labelled patients are 'yes'", 2),
    ("thin.h5 --out o", "has no training patient of class 'no'", 2),
    ("nan.h5 --out o", "the features of patient p0000 are not all finite", 4),
    ("s.h5 --label z --out o", "unknown label 'z'", 2),
    ("s.h5 --folds z --out o", "unknown fold set 'z'", 2),
    ("s.h5 --modalities slid --out o", "did you mean 'slide'?", 2),
    ("s.h5 --modalities lung --out o", "give its store too: `mmcli preprocess` makes tables, `extract-features`", 2),
    ("s.h5 --out thesis.txt/o", "settings.yaml: cannot be written (Not a directory); give another --out", 2),
    ("s.h5 --method kd --out o", "is a method of distill", 2),
    ("s.h5 --method atention --out o", "did you mean 'attention'?", 2),
    ("s.h5 --imputer mice --out o", "there is no table among the modalities", 2),
    ("s.h5 --seeds , --out o", "--seeds: is empty", 2),
    ("s.h5 --seeds 0-99999999 --out o", "more than 10000 numbers", 2),
    ("s.h5 --only-folds 5 --out o", "there is no fold 5", 2),
    ("s.h5 --only-seeds 1 --out o", "1 is not one of --seeds 0", 2),
    ("s.h5 --withhold slide=2 --out o", "a number from 0 to 1", 2),
    ("s.h5 --withhold slide=nan --out o", "a number from 0 to 1", 2),
    ("s.h5 --withhold slide=1 --out o", "no training patient has the modality slide", 2),
    ("s.h5 --set lr=inf --out o", "finite number", 2),
    ("s.h5 --set epochs=0 --out o", "greater than or equal to 1", 2),
    ("s.h5 --set lrr=1 --out o", "did you mean 'lr'?", 2),
    ("s.h5 --workers -1 --out o", "--workers", 2),
    ("s.h5 --memory much --out o", "--memory", 2),
    ("s.h5 --out teacher", "holds the answer to another request (set.epochs", 2),
    ("s.h5 --out thesis.txt --force", "thesis.txt exists and is no run", 2),
    ("s.h5 --out mine --force", "mine exists and is no run", 2),
    ("s.h5 --out foreign --force", "its run.json is not one of mmcli", 2),
    ("s.h5 --out s.h5 --force", "is, or holds, the input s.h5", 2),
    ("s.h5 --out . --force", "is, or holds, the input s.h5", 2),
]


@pytest.mark.parametrize(("line", "message", "code"), CASES, ids=[line for line, *_ in CASES])
def test_teacher(wrong: Callable[..., str], line: str, message: str, code: int) -> None:
    wrong(f"train-teacher {line}", message, code)


@pytest.fixture
def told(
    tmp_path: Path, write_made_store: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """`told(y, table, roles, *more)`: exit code and stderr of a short training on a table of 30 patients."""

    def run(y: Any, table: Any, roles: Any = None, *more: str) -> tuple[int, str]:
        store = write_made_store(tmp_path / "s.h5", {"y": y}, tables={"t": table}, roles=roles)
        line = ["train-teacher", str(store), "--out", str(tmp_path / "run"), "--set", "width=4"]
        code = cli._guarded([*line, *(more or ["--set", "epochs=2"])])
        return code, capsys.readouterr().err

    return run


X, Y = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 2


def test_a_class_with_fewer_patients_than_folds(told: Callable[..., Any]) -> None:
    few = np.zeros(30, int)
    few[0] = 1
    code, err = told(few, X)
    (line,) = [line for line in err.splitlines() if line.startswith("mmcli: ")]
    assert code == 2 and "has no training patient of class 'yes' of y; make folds" in line


def test_no_positive_patient_in_a_fold_is_said(told: Callable[..., Any]) -> None:
    roles, y = np.array([1] * 16 + [2] * 6 + [3] * 8), Y.copy()
    y[22:] = 0
    code, err = told(y, X, roles)
    assert code == 0 and "fold 0 of 'cv': no test patient of class yes of y\n" in err


def test_a_column_that_is_constant_in_training_is_said(told: Callable[..., Any]) -> None:
    x = X.copy()
    x[:, 1] = np.nan
    x[:16, 2] = 5
    roles = np.array([1] * 16 + [2] * 6 + [3] * 8)
    code, err = told(Y, x, roles)
    assert code == 0
    assert "t: the training patients have no two values of c1 (fold 0), c2 (fold 0): it counts as 0\n" in err
    assert err.count("no two values") == 1


def test_stores_of_two_cohorts(wrong: Callable[..., str]) -> None:
    wrong("train-teacher s.h5 other.h5 --out o", "is it a store of another cohort?", 2)


def test_stores_of_two_cohorts_with_the_same_ids(
    tmp_path: Path, write_made_store: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    stores = [
        write_made_store(tmp_path / f"{name}.h5", {"y": y}, tables={name: X}) for name, y in (("t", Y), ("u", 1 - Y))
    ]
    line = ["train-teacher", *map(str, stores), "--out", str(tmp_path / "run"), "--set", "epochs=2"]
    assert cli._guarded(line) == 2 and not (tmp_path / "run").exists()
    err = capsys.readouterr().err
    assert "u.h5: patient p0000 is 'yes' of y, and 'no' in " in err and "is it a store of another cohort?" in err


def test_a_loss_that_is_not_finite(told: Callable[..., Any], tmp_path: Path) -> None:
    code, err = told(Y, X, None, "--set", "lr=1e30", "--set", "optimiser=sgd", "--set", "epochs=50")
    (line,) = [line for line in err.splitlines() if line.startswith("mmcli: ")]
    assert code == 2 and " in epoch " in line and "at learning rate 1e+30" in line and "Traceback" not in err
    assert list(tmp_path.glob("run/.cv-*.partial/checkpoint.safetensors"))


def test_a_disk_that_is_full(
    tmp_path: Path, write_made_store: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    store = write_made_store(tmp_path / "s.h5", {"y": Y}, tables={"t": X})
    line = ["train-teacher", str(store), "--out", str(tmp_path / "run"), "--set", "epochs=2", "--set", "width=64"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, before[1]))
    try:
        code = cli._guarded(line)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 2 and not list(tmp_path.glob("run/cv-*"))
    err = capsys.readouterr().err
    assert "cv-0-seed-0.partial: cannot be written (File too large)" in err and "Traceback" not in err
    assert cli._guarded(line) == 0 and len(list(tmp_path.glob("run/cv-*"))) == 5


def test_weights_of_another_shape(told: Callable[..., Any], tmp_path: Path) -> None:
    assert told(Y, X)[0] == 0
    part = tmp_path / "run" / "cv-0-seed-0"
    weights = load_file(part / "weights.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: torch.zeros(7, 7)}, part / "weights.safetensors")
    code = cli._guarded(
        ["predict", str(tmp_path / "run"), str(tmp_path / "s.h5"), "--out", str(tmp_path / "p.csv"), "--quiet"]
    )
    assert code == 4 and not (tmp_path / "p.csv").exists()


def test_a_checkpoint_of_another_network(
    told: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmcli.training import engine

    monkeypatch.setattr(engine, "CHECKPOINT_EVERY_S", 0.0)
    real = engine.checkpoints.save_checkpoint

    def other(path: Any, state: Any, weights: Any, *more: Any) -> None:
        real(path, state, {n: torch.zeros(7, 7) for n in weights}, *more)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.checkpoints, "save_checkpoint", other)
    told(Y, X, None, "--only-folds", "0")
    monkeypatch.setattr(engine.checkpoints, "save_checkpoint", real)
    code, err = told(Y, X, None, "--only-folds", "0")
    (line,) = [line for line in err.splitlines() if line.startswith("mmcli: ")]
    assert code == 4 and "are those of another network than 'attention' makes here; remove it" in line
