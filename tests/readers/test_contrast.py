"""CLAHE: OpenCV's own pixels, and what must hold of it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmcli.readers.contrast import clahe, equalise


def ramp() -> NDArray[np.uint8]:
    grey = (np.arange(48 * 40).reshape(48, 40) * 7 % 251).astype(np.uint8)
    grey[:20] //= 3
    return grey


def test_opencv_gives_the_same_pixels() -> None:
    """cv2.createCLAHE(clip, (8, 8)).apply of OpenCV 5.0.0: the hash of all pixels, and some of them to read."""
    got = equalise(ramp(), 2.0)
    assert got[::12, ::10].tolist() == [[17, 38, 90, 196], [89, 166, 236, 47], [221, 13, 106, 182], [34, 96, 196, 255]]
    assert hashlib.sha256(got.tobytes()).hexdigest().startswith("87c72de8cc778aca8de9741c6460ede20d2d4ec8d180fa3c")
    odd = equalise(np.ascontiguousarray(ramp()[:45, :37]), 3.0)  # no whole number of tiles
    assert odd[::22, ::9].tolist() == [[17, 38, 77, 161, 17], [178, 207, 22, 146, 199], [35, 132, 192, 227, 40]]
    assert hashlib.sha256(odd.tobytes()).hexdigest().startswith("6408cff766db8c6ba6d0de9b209b72d3b7e4a95b736ad6c6")


@pytest.mark.parametrize("shape", [(64, 64), (65, 64), (64, 70), (100, 131), (16, 200)])
def test_opencv_where_it_is_installed(shape: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    grey = (np.random.default_rng(0).beta(1, 3, shape) * 255).astype(np.uint8)
    for clip in (0.5, 1.0, 2.0, 4.0, 40.0):
        np.testing.assert_array_equal(equalise(grey, clip), cv2.createCLAHE(clip, (8, 8)).apply(grey))


def test_grey_stays_grey_colours_stay_and_a_flat_picture_has_nothing_to_equalise() -> None:
    grey = np.repeat(ramp()[:, :, None], 3, axis=2)
    got = clahe(grey, 2.0)
    assert (got == got[:, :, :1]).all()
    np.testing.assert_array_equal(got[:, :, 0], equalise(ramp(), 2.0))
    red = np.zeros((64, 64, 3), np.uint8)
    red[:, :, 0] = np.linspace(40, 120, 64).astype(np.uint8)
    after = clahe(red, 3.0).astype(int)
    assert (after[:, :, 0] > after[:, :, 1] + 30).all() and np.abs(after[:, :, 1] - after[:, :, 2]).max() < 4
    for height, width in ((1, 1), (3, 5), (9, 9), (7, 300)):  # fewer pixels than tiles
        assert clahe(np.full((height, width, 3), 9, np.uint8), 2.0).shape == (height, width, 3)


def test_more_clip_more_contrast() -> None:
    dim = (np.random.default_rng(1).beta(2, 2, (128, 128)) * 40 + 60).astype(np.uint8)
    spread = [int(np.ptp(np.percentile(equalise(dim, clip), [5, 95]))) for clip in (1.0, 2.0, 4.0, 8.0)]
    assert spread == sorted(spread) and spread[-1] > 3 * np.ptp(np.percentile(dim, [5, 95]))


@given(height=st.integers(1, 40), width=st.integers(1, 40), clip=st.floats(0.01, 256), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_any_size(height: int, width: int, clip: float, seed: int) -> None:
    grey = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    got = equalise(grey, clip)
    assert got.shape == grey.shape and got.dtype == np.uint8
