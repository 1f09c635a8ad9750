"""Volume statistics against numpy, SciPy and numbers worked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmcli.encoders import load_encoder
from mmcli.encoders.volume_statistics import COLUMNS, volume_statistics
from mmcli.errors import RequestError, UnreadableError


def named(volume: Any) -> dict[str, float]:
    return dict(zip(COLUMNS, volume_statistics(volume).tolist(), strict=True))


def test_there_are_48_and_they_have_names() -> None:
    assert len(COLUMNS) == len(set(COLUMNS)) == 48


def test_a_ramp_and_a_lesion_by_hand() -> None:
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None] / 8, (8, 8, 8)).copy()
    s = named(ramp)
    assert (s["gradient1_z"], s["gradient1_y"], s["gradient1_x"]) == (1 / 64, 0, 0)
    assert s["gradient2_z"] == pytest.approx(1 / 16)  # boxes of two slices grow by a quarter
    assert [s[f"bin{i}"] for i in range(16)] == [1 / 8, 0] * 8
    assert s["above_0.5"] == 3 / 8  # 5/8, 6/8, 7/8
    assert (s["p0"], s["p100"], s["mean"]) == (0, 7 / 8, 7 / 16)
    lesion = np.zeros((8, 8, 8), np.float32)
    lesion[2:6, 2:6, 2:6] = 1
    s = named(lesion)
    assert (s["centre_mean"], s["centre_sd"], s["mean"], s["bin15"]) == (1, 0, 1 / 8, 1 / 8)
    assert s["skewness"] == pytest.approx((1 - 2 / 8) / (1 / 8 * 7 / 8) ** 0.5)  # of a Bernoulli variable
    constant = named(np.full((4, 4, 4), 0.3, np.float32))
    assert (constant["sd"], constant["skewness"], constant["kurtosis"]) == (0, 0, 0)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_against_numpy_and_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    volume = rng.beta(2, 5, tuple(rng.integers(4, 12, 3))).astype(np.float32)
    s = named(volume)
    flat = volume.astype(float).ravel()
    assert s["sd"] == pytest.approx(flat.std())
    assert s["skewness"] == pytest.approx(stats.skew(flat), abs=1e-9)
    assert s["kurtosis"] == pytest.approx(stats.kurtosis(flat), abs=1e-9)
    assert [s[f"bin{i}"] for i in range(16)] == pytest.approx(np.histogram(flat, 16, (0, 1))[0] / flat.size)
    assert s["above_0.3"] == pytest.approx(np.count_nonzero(flat > 0.3) / flat.size)
    assert s["gradient1_x"] == pytest.approx(np.mean((volume[..., 1:].astype(float) - volume[..., :-1]) ** 2))


def test_encoder() -> None:
    encoder = load_encoder("intensity-statistics")
    volumes = np.random.default_rng(0).random((3, 6, 7, 8), dtype=np.float32)
    whole = encoder.encode(volumes)
    assert whole.shape == (3, 48)
    assert (encoder.encode(volumes[1:2]) == whole[1:2]).all()
    volumes[1, 0, 0, 0] = np.inf
    with pytest.raises(UnreadableError, match=r"intensity-statistics gave NaN.*row 1 "):
        encoder.encode(volumes)
    with pytest.raises(RequestError, match="at least 4 voxels"):
        encoder.encode(volumes[:, :2])
    with pytest.raises(RequestError, match="takes no weights"):
        load_encoder("intensity-statistics", weights=Path("w.pth"))
