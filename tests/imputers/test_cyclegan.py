"""`cyclegan`: its losses by hand, its units together and alone, the contract's promises, and that it learns."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from mmcli.blocks.residual_generator import generator_widths, residual_generator
from mmcli.blocks.stacked import parameter_count
from mmcli.errors import RequestError
from mmcli.imputers import load_imputer, make_imputer
from mmcli.imputers.cyclegan import BLOCK, CycleGanImputer, CycleGanSettings, forward
from mmcli.imputers.cyclegan_units import Training, Unit, cycle_loss, energy_score, train_units
from mmcli.imputers.imputer import Columns

FEW = {"steps": "4", "check": "2", "batch": "8", "width": "6", "samples": "8"}
ANSWERS = ["mean", "median", "draw"]


def few_settings(**options) -> CycleGanSettings:
    return CycleGanSettings(**{k: int(v) for k, v in FEW.items()} | options)


def fitted(made, rows=slice(0, 60), seed=0, draws=3, **options) -> CycleGanImputer:
    return make_imputer("cyclegan", FEW | options).fit(made.values[rows], made.columns, seed=seed, draws=draws)


def made_units() -> list[Unit]:
    """Four units of different sizes."""
    rng = np.random.default_rng(0)
    units = []
    for k, (n, d, q) in enumerate([(40, 3, 1), (25, 1, 4), (60, 7, 2), (31, 3, 1)]):
        shown = rng.random((n, d)) < 0.8
        units.append(Unit(rng.normal(size=(n, d)) * shown, shown, rng.normal(size=(n, q)), 10 + k))
    return units


def test_cycle_loss_by_hand():
    start = torch.tensor([[[1.0, 2.0], [0.0, 4.0]], [[1.0, 0.0], [1.0, 0.0]]])
    back = torch.tensor([[[2.0, 9.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]])
    shown = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert cycle_loss(back, start, shown).tolist() == pytest.approx([(1 + 3 + 0) / 3, 0])
    # One marker column among two padded ones, the same for every row.
    assert cycle_loss(back, start, torch.tensor([[[1.0, 0.0]]])).tolist() == pytest.approx([2, 0.5])


def test_energy_score_by_hand_and_least_for_the_right_distribution():
    def point(*x):
        return torch.tensor(x, dtype=torch.float64)

    assert energy_score(point(0), point(4), point(1)).item() == pytest.approx((1 + 3 - 4) / 2, abs=1e-5)
    assert energy_score(point(3, 4), point(3, 4), point(0, 0)).item() == pytest.approx(5, abs=1e-5)
    truth, one, other = torch.randn(3, 200_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scores = {
        (m, s): energy_score(m + s * one, m + s * other, truth).mean() for m in (0, 0.5) for s in (0, 0.7, 1, 1.3)
    }
    assert min(scores, key=scores.get) == (0, 1)


@pytest.mark.parametrize("options", [{}, {"paired": 0.0}, {"withhold": 0.0, "critic_steps": 2}])
def test_units_together_are_each_alone(options):
    units, own = made_units(), few_settings(steps=30, check=3, patience=2, **options)
    together = train_units(units, own)
    for unit, weights in zip(units, together, strict=True):
        d, q = unit.determinants.shape[1], unit.marker.shape[1]
        assert len(weights) == parameter_count(generator_widths(2 * d + own.noise, own.width, q))
        np.testing.assert_allclose(train_units([unit], own)[0], weights, rtol=0, atol=1e-7)


class Watched(Training):
    """Writes down who is trained."""

    def _steps(self, steps: int) -> None:
        self.__dict__.setdefault("trained_units", []).append(self.alive.tolist())
        assert len(self.generators.parameters) == len(self.alive) == len(self.critics.parameters) // 2
        super()._steps(steps)


def test_a_unit_that_has_stopped_moves_no_more():
    units, own = made_units(), few_settings(steps=80, check=2, patience=2, rate=0.02)
    watched = Watched(units, own)
    weights = watched.run()
    looks = [sum(k in alive for alive in watched.trained_units) for k in range(4)]
    assert len(set(looks)) > 1 and max(looks) < 40
    for before, after in pairwise(watched.trained_units):
        assert set(after) <= set(before)
    for k, unit in enumerate(units):
        # Its last look but `patience` was its best: training that ends there gives the same weights.
        best = train_units([unit], own.model_copy(update={"steps": 2 * (looks[k] - 2)}))[0]
        np.testing.assert_allclose(weights[k], best, rtol=0, atol=1e-8)
        moved = train_units([unit], own.model_copy(update={"steps": 2}))[0]
        assert looks[k] == 3 or not np.allclose(weights[k], moved)


def test_the_numpy_generator_is_the_stacked_one():
    rng = np.random.default_rng(0)
    widths = generator_widths(5, 6, 2)
    flat, x = rng.normal(size=parameter_count(widths)), rng.normal(size=(3, BLOCK, 5))
    expected = residual_generator(torch.from_numpy(flat)[None], widths, torch.from_numpy(x.reshape(1, -1, 5)))
    np.testing.assert_allclose(forward(flat, widths, x).reshape(-1, 2), expected[0].numpy(), rtol=1e-10)


@pytest.mark.parametrize("answer", ANSWERS)
def test_observed_stay_and_filled_are_in_the_training_range(answer, made):
    filled = fitted(made, slice(0, 40)).transform(made.values, made.ids, draws=3, answer=answer)
    holes, train = np.isnan(made.values), made.values[:40]
    assert len(fitted(made, slice(0, 40)).generators) == 5
    for one in filled:
        assert one[~holes].tobytes() == made.values[~holes].tobytes()
    for j in range(5):
        cells, seen = filled[:, holes[:, j], j], train[~np.isnan(train[:, j]), j]
        assert seen.min() <= cells.min() and cells.max() <= seen.max()
        assert j < 3 or np.isin(cells, seen).all()


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_patient_alone_among_others_and_from_a_stored_imputer(answer, made, tmp_path):
    imputer = fitted(made, slice(0, 40))
    whole = imputer.transform(made.values, made.ids, draws=3, answer=answer)
    np.savez(tmp_path / "state.npz", **imputer.state())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        assert all(v.ndim >= 1 for v in state.values())
        again = load_imputer(dict(state))
    assert again.transform(made.values, made.ids, draws=3, answer=answer).tobytes() == whole.tobytes()
    for chosen in ([0], [59], [7, 3], list(range(59, -1, -1))):
        some = imputer.transform(made.values[chosen], [made.ids[i] for i in chosen], draws=3, answer=answer)
        assert some.tobytes() == whole[:, chosen].tobytes()
    if answer == "draw":
        fewer = imputer.transform(made.values, made.ids, draws=2, answer="draw")
        assert np.array_equal(fewer, whole[:2]) and (whole[0] != whole[1]).any()


def test_values_of_test_patients_change_nothing_else(made):
    def run(values):
        imputer = fitted(made, slice(0, 40))
        return imputer.state(), imputer.transform(values, made.ids, draws=2, answer="draw")

    changed = made.values.copy()
    changed[45:, :3] = np.nan_to_num(changed[45:, :3]) + 100
    (state, filled), (state2, filled2) = run(made.values), run(changed)
    assert all(np.array_equal(state[k], state2[k]) for k in state)
    assert np.array_equal(filled[:, :45], filled2[:, :45])


def test_the_seed_and_the_column_decide_a_unit(made):
    one, same, other = fitted(made, seed=1), fitted(made, seed=1), fitted(made, seed=2)
    for column, weights in one.generators.items():
        assert np.array_equal(weights, same.generators[column])
        assert not np.array_equal(weights, other.generators[column])
    assert not np.array_equal(one.generators[0][:20], one.generators[1][:20])


def test_all_folds_at_once_are_each_fold_alone(made):
    folds = [made.values[:40], made.values[10:50], made.values[20:]]
    settings = few_settings(steps=10)
    together = CycleGanImputer.fit_folds(settings, folds, made.columns, seeds=[3, 4, 5], draws=2)
    for imputer, train, seed in zip(together, folds, (3, 4, 5), strict=True):
        alone = CycleGanImputer(settings).fit(train, made.columns, seed=seed, draws=2)
        assert imputer.state().keys() == alone.state().keys()
        for key, array in alone.state().items():
            np.testing.assert_allclose(imputer.state()[key], array, rtol=0, atol=1e-8)
    # The contract's own way, a loop.
    mean = type(make_imputer("mean")).fit_folds(None, folds, made.columns, seeds=[0, 0, 0])
    assert [m.marginals.count.tolist() for m in mean] == [(~np.isnan(t)).sum(0).tolist() for t in folds]


def test_which_columns_are_determinants(made):
    assert fitted(made, determinants="complete").chosen.tolist() == [0, 1, 2, 3, 4]  # none is nearly complete
    made.values[:, 0] = np.arange(60)
    made.values[:, 3] = np.where(np.isnan(made.values[:, 3]) & (np.arange(60) > 4), 1, made.values[:, 3])
    nearly = fitted(made, determinants="complete")
    assert nearly.chosen.tolist() == [0, 3] and 0 not in nearly.generators
    assert fitted(made).chosen.tolist() == [0, 1, 2, 3, 4]
    named = fitted(made, determinants="b, site")
    assert named.chosen.tolist() == [1, 4] and {1, 2, 4} <= set(named.generators)
    alone = fitted(made, determinants="b")
    assert 1 not in alone.generators  # nothing is left to make it from
    assert np.isfinite(alone.transform(made.values, made.ids)).all()
    with pytest.raises(RequestError, match="no column 'sit'; did you mean 'site'"):
        fitted(made, determinants="a,sit")


@pytest.mark.parametrize("answer", ANSWERS)
def test_empty_and_constant_columns_few_patients_and_patients_with_nothing(answer, made):
    values = made.values.copy()
    values[:, 0], values[:, 3] = np.nan, np.nan
    values[:, 1] = np.where(np.arange(60) % 3, 7, np.nan)
    values[10] = np.nan
    imputer = make_imputer("cyclegan", FEW).fit(values, made.columns, draws=2)
    filled = imputer.transform(values, made.ids, draws=2, answer=answer)
    assert set(imputer.generators) == {2, 4} and np.isfinite(filled).all()
    assert (filled[..., 0] == 0).all() and (filled[..., 3] == 0).all() and (filled[..., 1] == 7).all()
    two = np.array([[1.5, np.nan, -3.0, 2.0, 1.0], [2.5, 4.0, np.nan, 1.0, 1.0]])
    imputer = make_imputer("cyclegan", FEW).fit(two, made.columns, draws=1)
    filled = imputer.transform(np.full((1, 5), np.nan), ["p"], answer=answer)
    assert not imputer.generators and np.isfinite(filled).all() and filled[0, 0, 1] == 4


def learnable(seed: int):
    """A skewed marker and a category that follow from one determinant; another determinant tells nothing."""
    rng = np.random.default_rng(seed)
    a, other = rng.normal(size=(2, 900))
    marker = np.exp(a + 0.4 * rng.normal(size=900))
    site = np.digitize(a + 0.3 * rng.normal(size=900), [-0.5, 0.5])
    whole = np.stack([a, other, marker, site], 1)
    columns = Columns(["a", "other", "marker", "site"], ["numeric"] * 3 + ["categorical"], {"site": ["x", "y", "z"]})
    holed = whole.copy()
    holed[rng.random(900) < 0.4, 2] = np.nan
    holed[rng.random(900) < 0.4, 3] = np.nan
    return whole, holed, columns, [f"P{i}" for i in range(900)]


@pytest.mark.parametrize("seed", range(3))
def test_it_learns_from_a_strong_determinant(seed):
    whole, holed, columns, ids = learnable(seed)
    imputer = make_imputer("cyclegan").fit(holed[:300], columns, seed=seed, draws=3)
    test, truth = holed[300:], whole[300:]
    hidden, category = np.isnan(test[:, 2]), np.isnan(test[:, 3])
    answers = {a: imputer.transform(test, ids[300:], draws=3, answer=a) for a in ANSWERS}
    point, drawn, centre = answers["mean"][0, hidden, 2], answers["draw"][:, hidden, 2], np.nanmean(holed[:300, 2])
    middle = answers["median"][0, hidden, 2]
    expected = truth[hidden, 2]

    def rmse(x):
        return np.sqrt(np.mean((x - expected) ** 2))

    assert rmse(point) < 0.75 * rmse(centre)
    assert np.abs(middle - expected).mean() < 0.7 * np.abs(np.nanmedian(holed[:300, 2]) - expected).mean()
    far = wasserstein_distance(np.full(hidden.sum(), centre), expected)
    assert np.mean([wasserstein_distance(one, expected) for one in drawn]) < 0.4 * far
    assert (answers["mean"][0, category, 3] == truth[category, 3]).mean() > 0.7
    # Draws are draws: they differ from each other about as much as patients with the same determinant do.
    apart = np.std(np.log(drawn), 0).mean()
    assert 0.15 < apart < 0.7
