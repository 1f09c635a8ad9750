"""Image statistics against numpy, colorsys, slow loops and numbers worked by hand."""

from __future__ import annotations

import colorsys
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcli.encoders import load_encoder
from mmcli.encoders.statistics import COLUMNS, image_statistics
from mmcli.errors import RequestError


def named(image: Any) -> dict[str, float]:
    return dict(zip(COLUMNS, image_statistics(image).tolist(), strict=True))


def noise(seed: int, h: int = 17, w: int = 21) -> Any:
    rng = np.random.default_rng(seed)
    return rng.integers(0, rng.integers(2, 257), (h, w, 3), dtype=np.uint8)


def test_there_are_64_and_they_have_names() -> None:
    assert len(COLUMNS) == len(set(COLUMNS)) == 64


def test_a_uniform_image_by_hand() -> None:
    s = named(np.full((12, 12, 3), (255, 0, 51), np.uint8))
    assert (s["r_mean"], s["g_p50"], s["b_p95"], s["r_sd"]) == (1, 0, pytest.approx(0.2), 0)
    # hue of (1, 0, .2) is -12 degrees, saturation 1
    assert s["hue_cos"] == pytest.approx(math.cos(math.radians(-12)))
    assert s["hue_sin"] == pytest.approx(math.sin(math.radians(-12)))
    assert s["od_r_mean"] == 0
    assert s["od_g_mean"] == pytest.approx(math.log(256))
    assert (s["od_rg"], s["entropy"], s["gradient1_energy"], s["right_contrast"]) == (0, 0, 0, 0)
    assert (s["lbp8"], s["right_energy"], s["below_correlation"], s["share_coloured"]) == (1, 1, 1, 1)


def test_a_ramp_and_stripes_by_hand() -> None:
    ramp = np.repeat(np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[None, :, None], 24, axis=0), 3, axis=2)
    s = named(ramp)
    # luma grows by 10/255 a pixel, so by 20/255 a box of 2 and 40/255 a box of 4
    for scale, step in ((1, 10), (2, 20), (4, 40)):
        assert s[f"gradient{scale}_energy"] == pytest.approx((step / 255) ** 2)
        assert s[f"gradient{scale}_sd"] == pytest.approx(0, abs=1e-9)
    # 5 of 8 neighbours are at least the centre, in one arc
    assert s["lbp5"] == 1
    stripes = np.zeros((12, 12, 3), np.uint8)
    stripes[:, ::2] = 255
    s = named(stripes)
    # levels 0 and 7 alternate to the right: contrast 49, p = 1/2 at each of (0, 7) and (7, 0); downwards all equal
    assert (s["right_contrast"], s["right_homogeneity"], s["right_energy"]) == (49, pytest.approx(1 / 50), 0.5)
    assert s["right_correlation"] == pytest.approx(-1)
    assert (s["below_contrast"], s["below_homogeneity"], s["below_correlation"]) == (0, 1, pytest.approx(1))
    assert s["entropy"] == pytest.approx(1)
    assert (s["share_dark"], s["share_blank"]) == (0.5, 0.5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_colour_against_numpy_and_colorsys(seed: int) -> None:
    image = noise(seed)
    s = named(image)
    values = image.astype(float) / 255
    for c, name in enumerate("rgb"):
        assert s[f"{name}_mean"] == pytest.approx(values[..., c].mean())
        assert s[f"{name}_sd"] == pytest.approx(values[..., c].std(), abs=1e-12)
        for p in (5, 25, 50, 75, 95):
            assert s[f"{name}_p{p}"] == pytest.approx(np.percentile(values[..., c], p), abs=1e-12)
    hsv = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in values.reshape(-1, 3)])
    assert s["s_mean"] == pytest.approx(hsv[:, 1].mean())
    assert s["s_sd"] == pytest.approx(hsv[:, 1].std(), abs=1e-12)
    assert s["v_sd"] == pytest.approx(hsv[:, 2].std(), abs=1e-12)
    assert s["hue_cos"] == pytest.approx((hsv[:, 1] * np.cos(2 * np.pi * hsv[:, 0])).mean(), abs=1e-9)
    assert s["hue_sin"] == pytest.approx((hsv[:, 1] * np.sin(2 * np.pi * hsv[:, 0])).mean(), abs=1e-9)
    od = -np.log((image.astype(float) + 1) / 256).reshape(-1, 3)
    assert s["od_b_sd"] == pytest.approx(od[:, 2].std(), abs=1e-12)
    assert s["od_gb"] == pytest.approx(np.corrcoef(od.T)[1, 2], abs=1e-9)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_texture_against_slow_loops(seed: int) -> None:
    image = noise(seed, 13, 14)
    s = named(image)
    luma = image.astype(int) @ np.array([299, 587, 114])
    circle = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
    patterns = [0] * 10
    for y in range(1, 12):
        for x in range(1, 13):
            bits = [int(luma[y + dy, x + dx] >= luma[y, x]) for dy, dx in circle]
            changes = sum(bits[i] != bits[i - 1] for i in range(8))
            patterns[sum(bits) if changes <= 2 else 9] += 1
    assert [s[f"lbp{i}"] for i in range(10)] == pytest.approx([n / (11 * 12) for n in patterns])
    levels = [[min(int(8 * v) // 255000, 7) for v in row] for row in luma.tolist()]
    p = np.zeros((8, 8))
    for y in range(13):
        for x in range(13):
            p[levels[y][x], levels[y][x + 1]] += 1
            p[levels[y][x + 1], levels[y][x]] += 1
    p /= p.sum()
    assert s["right_contrast"] == pytest.approx(sum(p[i, j] * (i - j) ** 2 for i in range(8) for j in range(8)))
    assert s["right_homogeneity"] == pytest.approx(
        sum(p[i, j] / (1 + (i - j) ** 2) for i in range(8) for j in range(8))
    )
    across, down = np.gradient(luma / 255000, axis=1)[1:-1, 1:-1], np.gradient(luma / 255000, axis=0)[1:-1, 1:-1]
    assert s["gradient1_energy"] == pytest.approx((across**2 + down**2).mean())


def test_encoder_rows_are_independent_and_bad_requests_are_clear() -> None:
    encoder = load_encoder("statistics")
    images = np.stack([noise(i) for i in range(4)])
    whole = encoder.encode(images)
    assert whole.shape == (4, 64)
    assert whole.dtype == np.float32
    assert (encoder.encode(images[2:3]) == whole[2:3]).all()
    assert encoder.encode(images[:0]).shape == (0, 64)
    assert encoder.weights_sha256 == ""
    assert encoder.kinds == {"slide", "image"}
    with pytest.raises(RequestError, match="at least 12 pixels a side, not 8 x 21"):
        encoder.encode(images[:, :8])
    with pytest.raises(RequestError, match="has no option 'x'"):
        load_encoder("statistics", options={"x": "1"})
