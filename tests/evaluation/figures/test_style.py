"""Names and looks: nothing is mathematics, nothing is too long, no two runs look the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import is_math_text

from mmcli.evaluation.figures import file_names, plain
from mmcli.evaluation.figures.style import COLOURS, fit, look, names, thin, width_in


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=80), inches=st.floats(0.4, 2.5))
def test_any_name_fits_and_is_not_mathematics(text: str, inches: float) -> None:
    short = fit(text, inches, 7.0)
    assert short
    assert "\n" not in short
    assert width_in(short.replace(r"\$", "$"), 7.0) <= max(inches, 0.45)
    assert not is_math_text(short)
    assert not is_math_text(plain(text, 20))


def test_names_that_are_cut_to_the_same_are_numbered() -> None:
    texts = ["a" * 60 + "1" + "b" * 60, "c", "a" * 60 + "2" + "b" * 60]
    short, said = names(texts, 1.5, 7.0)
    assert short[1] == "c"
    assert short[0].startswith("[1] aa")
    assert short[2].startswith("[3] aa")
    assert all(width_in(s, 7.0) <= 1.5 for s in short)
    assert said == f" [1] {texts[0]}; [3] {texts[2]}."
    assert names(["teacher", "student"], 1.5, 7.0) == (["teacher", "student"], "")


def test_no_two_of_forty_runs_look_the_same() -> None:
    looks = [look(i, 40) for i in range(40)]
    assert len({(str(s["color"]), str(s["linestyle"]), s["marker"]) for s in looks}) == 40
    # Without its colours too, as in grey print: line and mark.
    assert len({(str(s["linestyle"]), s["marker"]) for s in looks}) == 40
    assert "marker" not in look(0, 3)


def test_first_colours_differ_for_those_who_do_not_see_green() -> None:
    # Machado, Oliveira and Fernandes, IEEE TVCG 15, 2009: deuteranopia, on linear RGB.
    matrix = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]])
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ matrix.T, 0, 1) ** (1 / 2.2)
    apart = np.abs(seen[:, None] - seen[None]).sum(axis=2)
    assert apart[~np.eye(len(COLOURS), dtype=bool)].min() > 0.2


def test_thinned_curve_covers_the_same_dots() -> None:
    generator = np.random.default_rng(0)
    x = np.sort(generator.random(50_000))
    y = np.sin(9 * x) + 0.1 * generator.random(50_000)
    y[123] = 3.0
    short_x, short_y = thin(x, y)
    assert len(short_x) <= 3200
    assert (short_x[0], short_y[-1]) == (x[0], y[-1])
    column, short_column = np.floor(x * 800), np.floor(short_x * 800)
    for c in np.unique(column):
        assert short_y[short_column == c].max() == y[column == c].max()
        assert short_y[short_column == c].min() == y[column == c].min()
    few = np.array([0.0, 0.5, 1.0])
    assert thin(few, few)[0] is few


def test_file_names_are_safe_and_different() -> None:
    assert file_names(["roc-a/b c", "roc-a b/c", "ROC-a-b-c", "../.."]) == [
        "roc-a-b-c",
        "roc-a-b-c-2",
        "ROC-a-b-c-3",
        "run",
    ]
