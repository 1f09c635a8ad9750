"""Resampling against slow means, Pillow, and by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mmcli.readers.resample import on_white, resize

SlowMean = Callable[..., NDArray[np.float64]]


def stained(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.floats(0, 3), st.floats(0, 3), st.floats(9, 16), st.floats(9, 19)),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
def test_shrinking_is_the_exact_mean_over_area(
    slow_mean: SlowMean, box: tuple[float, float, float, float], size: tuple[int, int]
) -> None:
    pixels = stained(19, 16)
    got = resize(pixels, box, size)
    assert got.flags.c_contiguous and got.shape == (size[1], size[0], 3) and got.dtype == np.uint8
    assert np.abs(got - slow_mean(pixels, box, size)).max() <= 0.6  # Pillow rounds its fixed point


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 3), st.integers(0, 3), st.integers(0, 9))
def test_halving_is_pillows_mean_of_two_by_two(h: int, w: int, x: int, y: int, seed: int) -> None:
    pixels = stained(2 * h + 5, 2 * w + 5, seed)
    part = np.ascontiguousarray(pixels[y : y + 2 * h, x : x + 2 * w])
    got = resize(pixels, (x, y, x + 2 * w, y + 2 * h), (w, h))
    np.testing.assert_array_equal(got, np.asarray(Image.fromarray(part).reduce((2, 2))))
    exact = part.reshape(h, 2, w, 2, 3).astype(int).sum(axis=(1, 3))
    np.testing.assert_array_equal(got, (exact + 2) // 4)  # halves go up


def test_whole_ratios_and_enlarging_by_hand() -> None:
    pixels = stained(12, 12)
    np.testing.assert_array_equal(resize(pixels, (3, 2, 7, 9), (4, 7)), pixels[2:9, 3:7])
    means = pixels.reshape(4, 3, 4, 3, 3).mean(axis=(1, 3))
    assert np.abs(resize(pixels, (0, 0, 12, 12), (4, 4)) - means).max() <= 0.6
    two = np.array([[[0] * 3, [100] * 3]], np.uint8)
    # centres of the four pixels lie at -.25, .25, .75 and 1.25 of the two
    assert resize(two, (0, 0, 2, 1), (4, 1))[0, :, 0].tolist() == [0, 25, 75, 100]
    # white stays white and black stays black, however odd the ratio
    for value in (0, 255):
        flat = np.full((301, 299, 3), value, np.uint8)
        assert (resize(flat, (0.1, 0.7, 298.3, 300.9), (97, 101)) == value).all()


def test_transparent_is_white() -> None:
    rgba = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], np.uint8)
    assert on_white(rgba)[0].tolist() == [[200, 100, 0], [255, 255, 255], [244, 224, 204]]
