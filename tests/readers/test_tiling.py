"""Tissue and tile grids: masks drawn by hand, slow counting, real tiles and slides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mmcli.errors import UnreadableError
from mmcli.readers.slide import FlatSlide, open_slide
from mmcli.readers.tiling import otsu, tile_grid, tissue_mask, tissue_share

PINK = (210, 130, 180)


def flat(
    width: int, height: int, mpp: float | None = 0.5, tissue: tuple[int, int, int, int] | None = None
) -> FlatSlide:
    """A white slide with one pink rectangle (x, y, width, height)."""
    pixels = np.full((height, width, 3), 244, np.uint8)
    if tissue:
        x, y, w, h = tissue
        pixels[y : y + h, x : x + w] = PINK
    return FlatSlide(Path("made.png"), pixels, mpp, "cohort" if mpp else "none")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=2, max_size=60))
def test_otsu_equals_trying_every_threshold(numbers: list[int]) -> None:
    values = np.array(numbers, np.uint8)

    def between(t: int) -> float:
        low, high = values[values <= t].astype(float), values[values > t].astype(float)
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else 0.0

    assert between(otsu(values)) == pytest.approx(max(between(t) for t in range(256)))


def test_mask_of_a_drawn_slide() -> None:
    picture = np.full((200, 300, 3), 244, np.uint8)
    picture[50:150, 60:200] = PINK
    picture[90:92, 100:102] = 244  # a small hole is filled
    picture[10, 10] = PINK  # a speck is dropped
    picture[160:190, 210:290] = (40, 150, 120)  # a stroke of green pen
    expected = np.zeros((200, 300), bool)
    expected[50:150, 60:200] = True
    mask = tissue_mask(picture)
    assert mask.dtype == np.bool_ and (mask != expected).mean() < 0.01
    assert mask[91, 101] and not mask[10, 10] and not mask[155:195, 205:295].any()
    assert not tissue_mask(np.full((64, 64, 3), 240, np.uint8)).any()
    assert tissue_mask(np.full((64, 64, 3), PINK, np.uint8)).all()


def test_dark_background_is_refused(data: Path) -> None:
    with pytest.raises(UnreadableError, match="not a brightfield slide"):
        tissue_mask(np.zeros((50, 50, 3), np.uint8))
    with open_slide(data / "images/slides/test3-DAPI-2-(387).ndpi") as slide:
        with pytest.raises(UnreadableError, match="dark background"):
            tile_grid(slide, 0.5)
        assert len(tile_grid(slide, 0.5, min_tissue=0)) > 0


def test_real_tiles_with_and_without_tissue(data: Path) -> None:
    def share(name: str) -> float:
        return float(tissue_mask(np.asarray(Image.open(data / "images/tiles" / name).convert("RGB"))).mean())

    for name in ("almost-white-1", "no-tissue", "no-tissue2", "no-tissue-line"):
        assert share(f"histolab/{name}.png") < 0.01, name
    assert share("kather_nct_crc_he/BACK-AAQSHYMA.tif") == 0
    for name in ("tissue-level0-4302-10273-4814-10785", "tissue-level0-7352-11762-7864-12274"):
        assert share(f"histolab/{name}.png") > 0.5, name
    assert share("histolab/medium-nuclei-score-level1.png") > 0.5
    for start in ("DEB", "LYM", "MUS", "STR", "NORM", "CRC"):
        (path,) = (data / "images/tiles/kather_nct_crc_he").glob(f"{start}*")
        assert share(f"kather_nct_crc_he/{path.name}") > 0.8, start
    assert share("histolab/no-tissue-green-pen.png") < 0.1  # 0.78 of it is coloured
    assert share("histolab/no-tissue-red-pen.png") < 0.45  # 0.73 of it is coloured; ink over ink stays


def test_grid_by_hand() -> None:
    slide = flat(1000, 700, mpp=0.25, tissue=(0, 0, 1000, 700))
    grid = tile_grid(slide, 0.5, tile_px=100)  # 200 pixels of level 0 a tile
    assert grid.dtype == np.int32 and grid.shape == (15, 4)
    assert grid[:6].tolist() == [[x, 0, 200, 200] for x in range(0, 1000, 200)] + [[0, 200, 200, 200]]
    assert grid[-1].tolist() == [800, 400, 200, 200]
    overlapping = tile_grid(slide, 0.5, tile_px=100, overlap_px=50)
    assert sorted({x for x, *_ in overlapping.tolist()}) == list(range(0, 801, 100))
    assert tile_grid(slide, None, tile_px=350).tolist() == [[x, y, 350, 350] for y in (0, 350) for x in (0, 350)]
    assert tile_grid(slide, 0.5, tile_px=400).shape == (0, 4)
    odd = tile_grid(slide, 0.3, tile_px=224, min_tissue=0)  # 268.8 pixels: starts are rounded one by one
    assert [x for x, y, *_ in odd.tolist() if y == 0] == [0, 269, 538] and set(odd[:, 2].tolist()) == {269}


def test_only_tiles_with_enough_tissue() -> None:
    slide = flat(1024, 1024, tissue=(256, 256, 384, 256))
    everything = tile_grid(slide, None, tile_px=128, min_tissue=0)
    assert len(everything) == 64
    kept = {(x // 128, y // 128) for x, y, *_ in tile_grid(slide, None, tile_px=128, min_tissue=0.5).tolist()}
    assert kept == {(x, y) for x in (2, 3, 4) for y in (2, 3)}
    assert tile_grid(flat(512, 512), None, tile_px=128).shape == (0, 4)
    given_mask = np.zeros((8, 8), bool)
    given_mask[7, 0] = True
    assert tile_grid(slide, None, tile_px=128, tissue=given_mask).tolist() == [[0, 896, 128, 128]]


def test_unknown_or_too_coarse_mpp() -> None:
    with pytest.raises(UnreadableError, match="mpp column or --mpp"):
        tile_grid(flat(500, 500, mpp=None), 0.5)
    assert len(tile_grid(flat(500, 500, mpp=None), None, tile_px=100, min_tissue=0)) == 25
    with pytest.raises(UnreadableError, match="too coarse"):
        tile_grid(flat(500, 500, mpp=2.0), 0.5)
    with pytest.raises(ValueError, match="overlap"):
        tile_grid(flat(500, 500), None, tile_px=100, overlap_px=100)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(3, 9), st.integers(3, 9))
def test_tissue_share_equals_counting_pixels(seed: int, h: int, w: int) -> None:
    tissue: NDArray[np.bool_] = np.random.default_rng(seed).random((h, w)) < 0.5
    fine = np.kron(tissue, np.ones((12, 12)))  # each mask pixel is 12 x 12 of level 0
    columns, rows, side = np.arange(0, 12 * w - 17, 5), np.arange(0, 12 * h - 17, 7), 17
    share = tissue_share(tissue, (12 * w, 12 * h), columns, rows, side)
    counted = [[fine[y : y + side, x : x + side].mean() for x in columns] for y in rows]
    np.testing.assert_allclose(share, np.array(counted).reshape(share.shape), atol=1e-9)


def test_real_slide(data: Path) -> None:
    with open_slide(data / "images/slides/CMU-1-Small-Region.svs") as slide:
        assert len(tile_grid(slide, None, tile_px=256, min_tissue=0)) == 88
        grid = tile_grid(slide, None, tile_px=256)
        # the data's own facts: 33 of 88 tiles have saturation above 20 of 255 on half of their pixels
        assert 28 <= len(grid) <= 38
        whole = slide.read(0, 0, *slide.dimensions, slide.dimensions)
        saturated = [
            (np.ptp(t := whole[y : y + 256, x : x + 256].astype(int), axis=2) * 255 > 20 * t.max(axis=2)).mean()
            for x, y, *_ in grid.tolist()
        ]
        assert min(saturated) > 0.35
        assert len(tile_grid(slide, 0.998, tile_px=128)) == len(grid)
    with open_slide(data / "images/slides/kidney-48-5.tif") as slide:
        assert tile_grid(slide, None, tile_px=224).shape == (0, 4)
