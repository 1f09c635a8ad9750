"""Latents on the plane."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.manifold import trustworthiness
from threadpoolctl import threadpool_limits

from mmcli.evaluation.figures.embedding import davies_bouldin, draw_embedding, project


def clusters(n: int, classes: int, apart: float, d: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return generator.normal(size=(n, d)) + apart * generator.normal(size=(classes, d))[y], y


def test_davies_bouldin_by_hand() -> None:
    # Two classes, each two points 2 apart: mean distance to the centre is 1 each, the centres are 10 apart.
    latents = np.array([[0.0, -1], [0, 1], [10, -1], [10, 1]])
    y = np.array([0, 0, 1, 1])
    assert davies_bouldin(latents, y) == pytest.approx((1 + 1) / 10)
    assert math.isnan(davies_bouldin(latents, np.zeros(4, dtype=np.int64)))
    assert math.isnan(davies_bouldin(latents, np.arange(4)))


def test_pca_is_that_of_standardised_latents() -> None:
    latents, _ = clusters(50, 2, 3.0)
    latents[:, 3] = 7.0
    latents[:, 0] *= 1000
    places = project(latents, "PCA", 0)
    z = np.delete(latents, 3, axis=1)
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    values, vectors = np.linalg.eigh(np.cov(z.T))
    for axis in (0, 1):
        expected = z @ vectors[:, -1 - axis]
        assert abs(np.corrcoef(places[:, axis], expected)[0, 1]) == pytest.approx(1.0)
        assert places[:, axis].var(ddof=1) == pytest.approx(values[-1 - axis])


def test_tsne_keeps_neighbours_and_is_the_same_with_any_threads() -> None:
    latents, _ = clusters(40, 2, 4.0)
    with threadpool_limits(1):
        places = project(latents, "t-SNE", 3)
    with threadpool_limits(2):
        np.testing.assert_array_equal(project(latents, "t-SNE", 3), places)
    assert trustworthiness((latents - latents.mean(axis=0)) / latents.std(axis=0), places) > 0.85


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("d", [1, 6])
def test_few_patients(n: int, d: int) -> None:
    latents, _ = clusters(n, 2, 1.0, d)
    for how in ("t-SNE", "PCA"):
        places = project(latents, how, 0)
        assert places.shape == (n, 2)
        assert np.isfinite(places).all()


@pytest.mark.parametrize(("steps", "width"), [(1, 1050), (2, 1050), (5, 2160)])
def test_a_panel_a_step(steps: int, width: int, check_picture: Callable) -> None:
    made = {f"step ${i}" + "x" * 40 * i: clusters(40, 3, float(i))[0] for i in range(steps)}
    y = clusters(40, 3, 0.0)[1]
    classes = ["_a $", "b" * 90, "c"]
    check_picture(lambda: draw_embedding(made, y, classes, "r" * 90, "PCA"), width)
    figure = draw_embedding(made, y, classes, "run", "PCA")
    assert len(figure.axes) == steps
    for axes, latents in zip(figure.axes, made.values(), strict=True):
        assert axes.get_title().endswith(f"\nDB {davies_bouldin(latents, y):.2f}")
        places = project(latents, "PCA", 0)
        for k, dots in enumerate(axes.collections):
            np.testing.assert_allclose(dots.get_offsets(), places[y == k])
    hollow = [len(dots.get_facecolors()) == 0 for dots in figure.axes[0].collections]
    assert hollow == [False, True, False]


def test_latents_that_are_not_finite_and_one_class(check_picture: Callable) -> None:
    latents, _ = clusters(12, 2, 1.0)
    broken = latents.copy()
    broken[3, 2] = np.nan
    y = np.zeros(12, dtype=np.int64)
    check_picture(lambda: draw_embedding({"a": latents, "b": broken}, y, ["x", "y"], "run", "t-SNE"))
    figure = draw_embedding({"a": latents, "b": broken}, y, ["x", "y"], "run", "PCA")
    assert [len(a.collections[0].get_offsets()) for a in figure.axes] == [11, 11]
    assert "Left out: 1 patients" in figure.caption
    assert figure.axes[0].get_title() == "a\nDB –"


def test_hundred_thousand_patients_are_sampled_and_scored_whole(check_picture: Callable) -> None:
    latents, y = clusters(100_000, 2, 1.0, 4)
    made = {f"{i}": latents for i in range(4)}
    figure = draw_embedding(made, y, ["a", "b"], "run", "PCA")
    assert sum(len(dots.get_offsets()) for dots in figure.axes[0].collections) == 1000
    assert figure.axes[0].get_title() == f"0\nDB {davies_bouldin(latents, y):.2f}"
    assert "A sample of 1000" in figure.caption
    check_picture(lambda: draw_embedding(made, y, ["a", "b"], "run", "PCA"), 2160)
