"""Parts trained together are the parts trained one after another; killed and resumed, to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from mmcli.methods import METHODS
from mmcli.settings import TeacherSettings
from mmcli.stages import teacher
from mmcli.store import Stores
from mmcli.training import engine, stacked
from mmcli.training.data import PartData, data_spec, fit_preparation, fit_tasks, load_cohort
from mmcli.training.engine import PartName, Trainer
from mmcli.training.method import Optimiser
from mmcli.training.predicting import answer
from mmcli.training.seeds import derive, reproducible
from mmcli.training.stacked import began_in_stack, stacks_of, train_stack
from mmcli.training.stacked_optimiser import StackedOptimiser, pack, unpack
from mmcli.training.turns import make_optimiser

STACKABLE = [n for n in METHODS.names() if METHODS.get(n).stackable and n != "lnmp"]  # which works on bags


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory, write_made_store: Callable[..., Path]) -> Path:
    """A store of 83 patients: two tables with holes, two tasks, one of three unequal classes, some without a label."""
    rng = np.random.default_rng(3)
    y = (np.arange(83) % 3 == 0).astype(int)
    a, b = (rng.normal(size=(83, f)) + y[:, None] * 0.7 for f in (4, 3))
    a[rng.random(a.shape) < 0.2] = np.nan
    b[::4] = np.nan
    a[::8] = np.nan  # every eighth has no table at all
    y[5::9] = -1
    other = rng.integers(0, 2, 83)
    other[::3] = -1
    folder = tmp_path_factory.mktemp("stacked")
    return write_made_store(folder / "s.h5", {"y": y, "z": other}, tables={"a": a, "b": b})


def made_trainers(
    store: Path,
    method: str,
    given: dict[str, Any],
    folds: Any = range(2),
    folder: Path | None = None,
    seeds: Any = (0, 1),
) -> list[Trainer]:
    """Trainers of some parts, each with a network of its own."""
    names = ["a"] if method == "single" else ["a", "b"]
    with Stores([store]) as stores:
        data = load_cohort(stores, ["y", "z"], names, budget=1 << 30, withhold={}, seed=0)
        roles = stores.patients.folds["cv"]
    kind, made = METHODS.get(method), []
    for k in folds:
        prepared = fit_preparation(data, roles[:, k])
        spec = data_spec(data, prepared, fit_tasks(data, roles[:, k]), {})
        view = PartData(data, prepared, {})
        for s in seeds:
            name = PartName("cv", k, s)
            torch.manual_seed(derive(*name.key, "weights"))
            part = folder / str(name) if folder else None
            if part:
                part.mkdir(exist_ok=True, parents=True)
            made.append(Trainer(kind(spec, kind.Settings(**given)), view, roles[:, k], name, part))
    return made


def predicted(trainer: Trainer) -> Any:
    """Probabilities of all patients."""
    found = answer(trainer.method, trainer.data, np.arange(83), trainer.name.key)
    return np.concatenate([a.probabilities for a in found[trainer.method.variants[0]].values()], 1)


def together(trainers: list[Trainer]) -> list[Trainer]:
    """Train them as one stack; in the order in which they were done."""
    done: list[Trainer] = []
    (stack,) = stacks_of(trainers)
    with reproducible():
        train_stack(stack, done.append)
    assert sorted(map(str, (t.name for t in done))) == sorted(str(t.name) for t in trainers)
    return done


CASES: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in STACKABLE] + [
    ("attention", {"patience": 0, "batch": 20}),
    ("attention", {"optimiser": "sgd", "momentum": 0.9, "lr": 0.05, "schedule": "plateau"}),
    ("attention", {"optimiser": "adam", "modality_dropout": 0.0, "class_weights": False}),
    ("attention", {"sampler": "weighted"}),
    ("early", {"epochs": 30, "schedule": "constant"}),
    ("mdfn", {"patience": 0, "low_rank": "true", "width": 7}),
]


@pytest.mark.parametrize(("method", "given"), CASES)
def test_together_is_one_after_another(tables: Path, method: str, given: dict[str, Any]) -> None:
    given = {"epochs": 12, "patience": 2, "width": 8, "batch": 16, "lr": 0.02} | given
    alone, stacked = made_trainers(tables, method, given), made_trainers(tables, method, given)
    together(stacked)
    with reproducible():
        for trainer in alone:
            trainer.train()
    for one, other in zip(alone, stacked, strict=True):
        assert len(one.state.history) == len(other.state.history)
        assert [h["lr"] for h in one.state.history] == [h["lr"] for h in other.state.history]
        for what in ("train_loss", "validation_loss"):
            np.testing.assert_allclose(*([h[what] for h in t.state.history] for t in (one, other)), atol=1e-5)
        areas = [[h["validation_auc"] for h in t.state.history] for t in (one, other)]
        np.testing.assert_allclose(*np.array(areas, float), rtol=0, atol=0.05)  # a pair may change places
        np.testing.assert_allclose(predicted(other), predicted(one), rtol=0, atol=1e-5)
        torch.testing.assert_close(*([*t.method.buffers()] for t in (one, other)), rtol=0, atol=1e-5)
    if method == "attention" and given["patience"]:
        assert len({len(t.state.history) for t in alone}) > 1  # they stop apart


def test_what_is_not_stacked(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainers = made_trainers(tables, "kd", {}) + made_trainers(tables, "attention", {"width": 8})
    trainers += made_trainers(tables, "attention", {"width": 9}, [0])
    assert [len(stack) for stack in stacks_of(trainers)] == [1] * 4 + [4, 2]
    full = made_trainers(tables, "mdfn", {"width": 128, "hidden": 16})  # 129^2 * 16 and some: 2^18 and some
    assert [len(stack) for stack in stacks_of(full)] == [1] * 4
    monkeypatch.setattr("mmcli.training.stacked.MOST_NUMBERS", 700)  # a network has some 300
    sizes = [len(stack) for stack in stacks_of(made_trainers(tables, "attention", {"width": 8}))]
    assert sum(sizes) == 4 and max(sizes) < 4
    trainers[-1].precision = torch.bfloat16
    trainers[-3].data.extra["teacher.y"] = torch.zeros(83, 2)  # of the last fold, whose seeds share it
    assert [len(stack) for stack in stacks_of(trainers[4:])].count(1) >= 3


def test_parts_of_one_network_differ(tables: Path) -> None:
    """What the equality above rests on: parts are not all the same, and training moves them."""
    trainers = made_trainers(tables, "attention", {"epochs": 8, "width": 8, "lr": 0.01})
    before = [predicted(t) for t in trainers]
    together(trainers)
    after = [predicted(t) for t in trainers]
    assert min(np.abs(a - b).max() for a, b in zip(before, after, strict=True)) > 0.01
    assert np.abs(after[0] - after[1]).max() > 0.01 and np.abs(after[0] - after[2]).max() > 0.01


@pytest.mark.parametrize(
    ("stop_after", "few", "width", "method"),
    [(1, 16, 8, "attention"), (2, 1, 7, "attention"), (5, 16, 7, "attention"), (9, 1, 8, "attention"),
     (14, 1, 7, "mdfn"), (17, 16, 5, "mdfn"), (18, 1, 8, "attention")],
)  # fmt: skip
def test_killed_anywhere_and_run_again_it_has_the_same_bits(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int, few: int, width: int, method: str
) -> None:
    """A kill between two parts' checkpoints leaves them in different epochs, and in other places of the stack; with
    `few` 1 the whole run closes its ranks as parts stop."""
    monkeypatch.setattr("mmcli.training.stacked.FEW", few)
    given = {"epochs": 9, "patience": 2, "width": width, "batch": 16, "lr": 0.02}
    whole = made_trainers(tables, method, given)
    together(whole)
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY_S", 0.0)
    real, saves = engine.checkpoints.save_checkpoint, []

    def dies(*args: Any) -> None:
        real(*args)
        saves.append(1)
        if len(saves) == stop_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine.checkpoints, "save_checkpoint", dies)
    with pytest.raises(KeyboardInterrupt):
        together(made_trainers(tables, method, given, folder=tmp_path))
    monkeypatch.setattr(engine.checkpoints, "save_checkpoint", real)
    again = made_trainers(tables, method, given, folder=tmp_path)
    if began_in_stack(again[0]):  # the first goes on by itself
        with reproducible():
            train_stack(again[:1], lambda trainer: None)
        together(again[1:])
    else:
        together(again)
    for one, other in zip(whole, again, strict=True):
        assert one.state.history == other.state.history
        for name, value in one.method.state_dict().items():
            assert torch.equal(value, other.method.state_dict()[name]), name


def test_parts_that_have_stopped_leave_the_stack(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same bits as with all rows to the end."""
    given = {"epochs": 40, "patience": 3, "width": 8, "batch": 16, "lr": 0.02}
    one, other = (made_trainers(tables, "attention", given, range(5)) for _ in range(2))
    together(one)
    monkeypatch.setattr("mmcli.training.stacked.FEW", 1)
    sizes, real = [], stacked._StackedPhase._close_ranks

    def closes(phase: Any) -> None:
        real(phase)
        sizes.append(len(phase.rows))

    monkeypatch.setattr(stacked._StackedPhase, "_close_ranks", closes)
    together(other)
    assert max(sizes) == 11 and min(sizes) < 6
    for a, b in zip(one, other, strict=True):
        assert a.state.history == b.state.history
        assert all(torch.equal(x, y) for x, y in zip(a.method.parameters(), b.method.parameters(), strict=True))


@pytest.mark.parametrize(("batch", "expected"), [(18, 24), (5, 16)])
def test_rows_are_filled_up_to_half_a_line(tables: Path, batch: int, expected: int) -> None:
    trainers = made_trainers(tables, "early", {"epochs": 1, "width": 7, "batch": batch})
    together(trainers)
    assert trainers[0].state.padded[0] == expected


def test_a_parts_checkpoint_serves_training_alone(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"epochs": 8, "patience": 0, "width": 8, "optimiser": "adam"}
    (alone,) = made_trainers(tables, "attention", given, [1], seeds=[1])
    alone.train()
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY_S", 0.0)
    real, saves = engine.checkpoints.save_checkpoint, []

    def dies(*args: Any) -> None:
        real(*args)
        saves.append(1)
        if len(saves) == 4 * 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine.checkpoints, "save_checkpoint", dies)
    with pytest.raises(KeyboardInterrupt):
        together(made_trainers(tables, "attention", given, folder=tmp_path))
    monkeypatch.setattr(engine.checkpoints, "save_checkpoint", real)
    (resumed,) = made_trainers(tables, "attention", given, [1], tmp_path, [1])
    found = engine.checkpoints.load_checkpoint(tmp_path / "cv-1-seed-1" / engine.CHECKPOINT)
    assert found is not None and found.state.epoch == 4
    resumed.train()
    np.testing.assert_allclose(predicted(resumed), predicted(alone), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "wanted",
    [
        Optimiser("adamw", 1e-2, 0.1),
        Optimiser("adam", 1e-2, 0.1, betas=(0.5, 0.9)),
        Optimiser("sgd", 1e-2, 0.1),
        Optimiser("sgd", 1e-2, 0.1, momentum=0.9, nesterov=True),
    ],
)
def test_the_optimiser_is_torchs(wanted: Optimiser) -> None:
    """Three parts with rates of their own; the second misses every third step."""
    torch.manual_seed(0)
    shapes = [torch.Size([3, 2]), torch.Size([4])]
    own = [[nn.Parameter(torch.randn(s)) for s in shapes] for _ in range(3)]
    flat = torch.stack([pack(of) for of in own])
    stacked = StackedOptimiser(wanted, flat.clone(), shapes)
    alone = [make_optimiser(wanted, of) for of in own]
    for step in range(7):
        rates = np.array([0.01, 0.02, 0.03]) / (step + 1)
        moves = np.array([True, step % 3 != 0, True])
        gradients = torch.randn(3, 32) * torch.tensor([[0.1], [1.0], [30.0]])
        gradients[:, 6:16] = gradients[:, 20:] = 0
        stacked.gradient.copy_(gradients)
        stacked.step(rates, moves, 5.0)
        for k in np.flatnonzero(moves):
            pieces = unpack(gradients[k], shapes)
            for parameter, piece in zip(own[k], pieces, strict=True):
                parameter.grad = piece.clone()
            nn.utils.clip_grad_norm_(own[k], 5.0)
            alone[k].param_groups[0]["lr"] = rates[k]
            alone[k].step()
    expected = torch.stack([pack(of) for of in own])
    torch.testing.assert_close(stacked.flat, expected, rtol=1e-5, atol=1e-6)
    again = StackedOptimiser(wanted, stacked.flat.clone(), shapes)
    for k in range(3):
        again.restore(k, stacked.moments(k))
    gradients = torch.randn(3, 32)
    for one in (stacked, again):
        one.gradient.copy_(gradients)
        one.step(rates, np.ones(3, bool), 5.0)
    assert torch.equal(stacked.flat, again.flat)


@pytest.mark.parametrize("shapes", [[(), (3, 2)], [(17,), ()], [(1,), (), (2, 1, 9)]])
def test_parameters_of_any_shape_are_views_of_a_row(shapes: list[tuple[int, ...]]) -> None:
    """A scalar too: alone, and with the parts' dimension in front."""
    torch.manual_seed(0)
    sizes = [torch.Size(shape) for shape in shapes]
    parts = [[torch.randn(size) for size in sizes] for _ in range(3)]
    rows = torch.stack([pack(part) for part in parts])
    for i, size in enumerate(sizes):
        together = unpack(rows, sizes)[i]
        assert together.shape == (3, *size)
        for k in range(3):
            alone = unpack(rows[k], sizes)[i]
            assert torch.equal(alone, parts[k][i]) and torch.equal(together[k], parts[k][i])
            alone += 1.0
            assert torch.equal(together[k], parts[k][i] + 1.0)


def settings(store: Path, out: Path, **more: Any) -> TeacherSettings:
    given: dict[str, Any] = {"set": {"epochs": "12", "patience": "3", "width": "8"}, "label": ["y"], "quiet": True}
    return TeacherSettings(**{"stores": [store], "out": out, "seeds": [0, 1], **given} | more)


def test_a_run_of_tables_is_trained_together(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mmcli.training.live.LINE_EVERY_S", 0.0)
    teacher.run(settings(tables, tmp_path / "run", only_folds=[0, 2], quiet=False))
    said = capsys.readouterr().err
    assert "(one of 4 together): train epoch 3, loss 0." in said and "validation AUC 0." in said
    assert "cv-2-seed-1 (4/4)" in said or "(4/4): " in said
    teacher.run(settings(tables, tmp_path / "run"))
    monkeypatch.setattr(METHODS.get("attention"), "stackable", False)
    teacher.run(settings(tables, tmp_path / "alone"))
    counts = []
    for k in range(5):
        for s in (0, 1):
            one, other = (tmp_path / run / f"cv-{k}-seed-{s}" for run in ("run", "alone"))
            counts.append(json.loads((one / "provenance.json").read_text())["together"])
            a, b = (pd.read_parquet(p / "predictions-y.parquet") for p in (one, other))
            pd.testing.assert_frame_equal(a, b, rtol=0, atol=1e-5)
            assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in other.iterdir())
            ours, theirs = (load_file(p / "weights.safetensors") for p in (one, other))
            assert all(np.allclose(ours[n], theirs[n], atol=1e-4) for n in theirs) and list(ours) == list(theirs)
            history = pd.read_csv(one / "history.csv")
            assert history.validation_auc.between(0, 1).all()
    assert counts == [4, 4, 6, 6, 4, 4, 6, 6, 6, 6]
    assert not list((tmp_path / "run").glob(".*"))


def test_a_part_in_other_hands_is_left_to_them(tables: Path, tmp_path: Path) -> None:
    from mmcli.training.run import part_folder

    with part_folder(tmp_path / "run", "cv-1-seed-0") as folder:
        (folder / "mine").write_text("x")  # type: ignore[operator]
        with pytest.raises(Exception, match="is no run"):
            teacher.run(settings(tables, tmp_path / "run"))
    (tmp_path / "run" / "cv-1-seed-0" / "mine").unlink()
    (tmp_path / "run" / "cv-1-seed-0").rmdir()
    (tmp_path / "run").rmdir()
    teacher.run(settings(tables, tmp_path / "run", only_folds=[0]))
    with part_folder(tmp_path / "run", "cv-1-seed-0") as folder:
        message = teacher.run(settings(tables, tmp_path / "run")).message
        assert "trained 7 parts" in message and "1 are in the hands of another process" in message
        (folder / "mine").write_text("x")  # type: ignore[operator]
    assert [p.name for p in (tmp_path / "run" / "cv-1-seed-0").iterdir()] == ["mine"]
