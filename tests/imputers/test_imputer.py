"""The promises of the contract, for every built-in imputer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmcli.errors import DamagedError, RequestError
from mmcli.imputers import IMPUTERS, load_imputer, make_imputer
from mmcli.imputers.imputer import Columns

ALL = ["blend", "copula", "cyclegan", "knn", "mean", "median", "mice", "missforest", "regression", "zero"]
ANSWERS = ["mean", "median", "draw"]
# The promises do not depend on how well a network has learnt.
QUICK = {"cyclegan": {"steps": "4", "check": "2", "width": "6", "batch": "8"}}


def quick_imputer(name):
    return make_imputer(name, QUICK.get(name))


def test_every_builtin_imputer_is_tested_here():
    assert set(ALL) == set(IMPUTERS._builtin)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("name", ALL)
def test_observed_stay_and_filled_are_in_the_training_range(name, answer, made):
    train, draws = made.values[:40], 3
    imputer = quick_imputer(name).fit(train, made.columns, seed=1, draws=draws)
    filled = imputer.transform(made.values, made.ids, draws=draws, answer=answer)
    assert filled.shape == (draws if answer == "draw" else 1, 60, 5)
    holes = np.isnan(made.values)
    for one in filled:
        assert one[~holes].tobytes() == made.values[~holes].tobytes()
    low, high = np.nanmin(train, 0), np.nanmax(train, 0)
    if name == "zero":
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    cells = [filled[:, holes[:, j], j] for j in range(5)]
    for j in range(5):
        assert cells[j].min() >= low[j] and cells[j].max() <= high[j]
    for j in (3, 4):
        assert np.isin(cells[j], np.unique(train[~np.isnan(train[:, j]), j])).all()


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("name", ALL)
def test_a_stored_imputer_fills_new_patients_with_the_same_bits(name, answer, made, tmp_path):
    imputer = quick_imputer(name).fit(made.values[:40], made.columns, seed=5, draws=4)
    np.savez(tmp_path / "state.npz", **imputer.state())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        again = load_imputer(dict(state))
    new, ids = made.values[40:], made.ids[40:]
    one = imputer.transform(new, ids, draws=4, answer=answer)
    assert again.transform(new, ids, draws=4, answer=answer).tobytes() == one.tobytes()
    assert again.state().keys() == imputer.state().keys()
    assert all(np.array_equal(again.state()[k], v) for k, v in imputer.state().items())


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("name", ALL)
def test_a_patient_is_filled_alike_alone_and_among_others(name, answer, made):
    imputer = quick_imputer(name).fit(made.values[:40], made.columns, seed=2, draws=3)
    whole = imputer.transform(made.values, made.ids, draws=3, answer=answer)
    for chosen in ([0], [59], [7, 3], list(range(59, -1, -1)), list(range(0, 60, 7))):
        some = imputer.transform(made.values[chosen], [made.ids[i] for i in chosen], draws=3, answer=answer)
        assert some.tobytes() == whole[:, chosen].tobytes()


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("name", ALL)
def test_a_changed_test_patient_moves_nothing_fitted_and_nobody_else(name, answer, made):
    train, test, ids = made.values[:40], made.values[40:], made.ids[40:]
    imputer = quick_imputer(name).fit(train, made.columns, seed=4, draws=2)
    before, state = imputer.transform(test, ids, draws=2, answer=answer), imputer.state()
    changed = test.copy()
    changed[3] = [1e6, np.nan, -1e6, 2, np.nan]
    after = imputer.transform(changed, ids, draws=2, answer=answer)
    others = np.arange(20) != 3
    assert after[:, others].tobytes() == before[:, others].tobytes()
    assert all(imputer.state()[k].tobytes() == v.tobytes() for k, v in state.items())


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("name", ALL)
def test_two_training_patients_are_enough(name, answer, made):
    two = np.array([[1.0, 20.0, 3.0, 0.0, 0.0], [2.0, 10.0, 3.0, 1.0, 2.0]])
    imputer = quick_imputer(name).fit(two, made.columns, draws=2)
    filled = imputer.transform(made.values, made.ids, draws=2, answer=answer)
    holes = np.isnan(made.values)
    for j in range(5) if name != "zero" else (3, 4):
        cells = filled[:, holes[:, j], j]
        assert cells.min() >= two[:, j].min() and cells.max() <= two[:, j].max()


@pytest.mark.parametrize("name", ALL)
def test_fewer_draws_are_the_first_and_more_are_refused(name, made):
    imputer = quick_imputer(name).fit(made.values, made.columns, seed=3, draws=3)
    three = imputer.transform(made.values, made.ids, draws=3, answer="draw")
    assert np.array_equal(imputer.transform(made.values, made.ids, draws=2, answer="draw"), three[:2])
    differ = name != "zero"
    assert (three[0] != three[1]).any() == differ and (three[1] != three[2]).any() == differ
    with pytest.raises(RequestError, match="fitted for 3 draws, not 4"):
        imputer.transform(made.values, made.ids, draws=4, answer="draw")


@pytest.mark.parametrize("name", [n for n in ALL if n != "zero"])
def test_the_seed_decides_the_draws(name, made):
    def draw(seed):
        imputer = quick_imputer(name).fit(made.values, made.columns, seed=seed, draws=1)
        return imputer.transform(made.values, made.ids, draws=1, answer="draw")

    assert np.array_equal(draw(0), draw(0))
    assert not np.array_equal(draw(0), draw(1))


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("name", ALL)
def test_empty_constant_and_rare_columns_and_patients_with_nothing(name, answer):
    nan = np.nan
    values = np.array([
        [nan, 7.0, 1.0, nan, 1.0], [nan, 7.0, nan, nan, 1.0], [nan, nan, 2.0, nan, 0.0],
        [nan, 7.0, 4.0, nan, 1.0], [nan, nan, nan, nan, nan],
    ])  # fmt: skip
    columns = Columns(list("abcde"), ["numeric"] * 3 + ["ordinal", "categorical"], {"d": ["x", "y"], "e": ["x", "y"]})
    filled = quick_imputer(name).fit(values, columns, draws=2).transform(values, list("pqrst"), draws=2, answer=answer)
    assert np.isfinite(filled).all()
    assert (filled[..., 0] == 0).all() and (filled[..., 3] == 0).all()
    if name != "zero":
        assert (filled[..., 1] == 7).all()
        assert ((filled[..., 2] >= 1) & (filled[..., 2] <= 4)).all()
    if answer != "draw" and name != "zero":
        assert filled[0, 4, 4] == 1


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("name", ALL)
def test_one_training_patient_is_copied(name, answer, made):
    row = np.array([[1.5, 2.5, -3.0, 2.0, 1.0]])
    imputer = quick_imputer(name).fit(row, made.columns, draws=1)
    filled = imputer.transform(np.full((2, 5), np.nan), ["p", "q"], answer=answer)
    expected = np.array([[0, 0, 0, 2.0, 1.0]]) if name == "zero" else row
    assert np.array_equal(filled[0], np.repeat(expected, 2, 0))


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float64, (8, 3), elements=st.one_of(st.just(np.nan), st.floats(-1e300, 1e300), st.integers(-3, 3))),
    arrays(np.float64, (4, 3), elements=st.one_of(st.just(np.nan), st.floats(-1e308, 1e308), st.integers(-3, 3))),
    st.sampled_from(ANSWERS),
)
def test_any_numbers_give_cells_in_the_training_range(name, train, new, answer):
    columns = Columns(list("abc"), ["numeric"] * 3, {})
    if np.isnan(train).all():
        with pytest.raises(RequestError, match="no training patient"):
            quick_imputer(name).fit(train, columns)
        return
    imputer = quick_imputer(name).fit(train, columns, draws=2)
    filled = imputer.transform(new, list("pqrs"), draws=2, answer=answer)
    holes = np.isnan(new)
    assert np.isfinite(filled).all()
    for j in range(3):
        seen = train[~np.isnan(train[:, j]), j]
        low, high = (seen.min(), seen.max()) if len(seen) else (0, 0)
        low, high = (0, 0) if name == "zero" else (low, high)
        cells = filled[:, holes[:, j], j]
        assert ((cells >= low) & (cells <= high)).all()


@pytest.mark.parametrize("name", ALL)
def test_infinite_values_wrong_codes_and_shapes_are_refused(name, made):
    with pytest.raises(ValueError, match="infinite"):
        quick_imputer(name).fit(np.full((3, 5), np.inf), made.columns)
    with pytest.raises(ValueError, match=r"codes outside 0 \.\.\. 2"):
        quick_imputer(name).fit(np.full((3, 5), 3.0), made.columns)
    imputer = quick_imputer(name).fit(made.values, made.columns)
    with pytest.raises(ValueError, match="shape"):
        imputer.transform(made.values[:, :4], made.ids)
    with pytest.raises(ValueError, match="59 ids for 60"):
        imputer.transform(made.values, made.ids[1:])


@pytest.mark.parametrize("name", ALL)
def test_a_patient_without_holes_and_no_patient_at_all(name, made):
    imputer = quick_imputer(name).fit(made.values, made.columns)
    whole = np.ones((2, 5))
    assert np.array_equal(imputer.transform(whole, ["p", "q"])[0], whole)
    assert imputer.transform(np.empty((0, 5)), []).shape == (1, 0, 5)


def test_unknown_names_and_options_are_one_clear_line():
    with pytest.raises(RequestError, match="unknown imputer 'mcie'; did you mean 'mice'"):
        make_imputer("mcie")
    with pytest.raises(RequestError, match="imputer mice has no option 'round'; did you mean 'rounds'"):
        make_imputer("mice", {"round": "3"})
    with pytest.raises(
        RequestError, match=r"--set rounds=0: input should be greater than or equal to 1 \(imputer mice\)"
    ):
        make_imputer("mice", {"rounds": "0"})
    assert make_imputer("mice", {"rounds": "3"}).settings.rounds == 3


def test_foreign_and_incomplete_states_are_damaged(made):
    state = make_imputer("mice").fit(made.values, made.columns).state()
    with pytest.raises(DamagedError, match="no fitted imputer"):
        load_imputer({"about": np.frombuffer(b"not json", np.uint8)})
    with pytest.raises(DamagedError, match="lacks arrays"):
        load_imputer({k: v for k, v in state.items() if k != "own-coef"})
