"""What makes a slide's own tiles untrusted: other colours, other places, other damage than OpenSlide's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from mmcli.errors import UnreadableError
from mmcli.readers.slide import open_slide
from mmcli.readers.tiff_tiles import Pixels, TileFile, TileLevel, open_tiles
from mmcli.readers.tile_check import agrees

Change = Callable[[TileLevel], TileLevel]


def verdicts(path: Path, change: Change | None = None) -> list[bool]:
    """Whether each level agrees, after its decoding or its tiles' places were changed."""
    with openslide.OpenSlide(path) as own:
        sizes, downsamples = [(int(w), int(h)) for w, h in own.level_dimensions], own.level_downsamples
    tiles = open_tiles(path, sizes)
    assert tiles is not None
    if change is not None:
        tiles = TileFile(path, [level and change(level) for level in tiles.levels])
    try:
        return [agrees(tiles, level, path, downsample) for level, downsample in enumerate(downsamples)]
    finally:
        tiles.close()


def decoding(then: Callable[[Pixels], Pixels]) -> Change:
    def change(level: TileLevel) -> TileLevel:
        return dataclasses.replace(level, decode=lambda raw, h, w: np.ascontiguousarray(then(level.decode(raw, h, w))))

    return change


def one_more(pixels: Pixels) -> Pixels:
    pixels[7, 11, 1] ^= 1
    return pixels


CHANGES: dict[str, Change] = {
    "channels": decoding(lambda p: p[:, :, ::-1]),
    "brighter": decoding(lambda p: np.minimum(p, 250) + np.uint8(5)),
    "a column on": decoding(lambda p: np.roll(p, 1, axis=1)),
    "smoothed": decoding(lambda p: ndimage.uniform_filter(p, (1, 3, 1))),
    "next tile": lambda of: dataclasses.replace(of, offsets=np.roll(of.offsets, 1), counts=np.roll(of.counts, 1)),
}  # fmt: skip


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two levels whose downsample is whole, one where it is not."""
    rough = np.random.default_rng(0).normal(128, 200, (603, 801, 3))
    pixels: NDArray[np.uint8] = np.clip(ndimage.gaussian_filter(rough, (1.2, 1.2, 0)), 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("check") / "p.tif"
    with tifffile.TiffWriter(path) as tiff:
        for level, part in enumerate((pixels[:602, :800], pixels[:602:2, :800:2], pixels[:600:4, :799:4])):
            tiff.write(part, tile=(64, 64), photometric="rgb", compression="jpeg", subfiletype=int(level > 0))
    return path


def test_the_files_own_tiles_agree_at_whole_and_other_downsamples(pyramid: Path, data: Path) -> None:
    with openslide.OpenSlide(pyramid) as own:
        assert own.level_downsamples[1] == 2 and own.level_downsamples[2] % 1 > 0
    assert verdicts(pyramid) == [True] * 3
    assert verdicts(data / "images/slides/CropBreastSlide.tiff") == [True] * 6


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_differs_is_found_at_every_level(pyramid: Path, data: Path, name: str) -> None:
    assert verdicts(pyramid, CHANGES[name]) == [False] * 3
    assert verdicts(data / "images/slides/CropBreastSlide.tiff", CHANGES[name])[:3] == [False] * 3


def test_one_bit_of_one_value_is_found_where_openslide_does_not_interpolate(pyramid: Path) -> None:
    assert verdicts(pyramid, decoding(one_more))[:2] == [False, False]


def test_damage_that_only_one_side_sees(pyramid: Path) -> None:
    def refuse(pixels: Pixels) -> Pixels:
        raise ValueError("made up")

    assert verdicts(pyramid, decoding(refuse)) == [False] * 3


def test_a_tile_that_openslide_fills_up_is_refused_nevertheless(tmp_path: Path) -> None:
    """Half of the fullest tile's bytes are zeros: OpenSlide decodes them, to grey."""
    path, pixels = tmp_path / "p.tif", np.zeros((512, 512, 3), np.uint8)
    pixels[128:192, 128:192] = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="ycbcr", subsampling=(1, 1), compression="jpeg")
    with tifffile.TiffFile(path) as tiff:
        at, count = tiff.pages[0].dataoffsets[18], tiff.pages[0].databytecounts[18]
    with openslide.OpenSlide(path) as own:
        whole = np.asarray(own.read_region((0, 0), 0, (512, 512)))[..., :3]
    raw = bytearray(path.read_bytes())
    raw[at + count // 2 : at + count] = bytes(count - count // 2)
    path.write_bytes(bytes(raw))
    with openslide.OpenSlide(path) as own:
        filled = np.asarray(own.read_region((128, 128), 0, (64, 64)))[..., :3]
    assert np.abs(filled.astype(int) - whole[128:192, 128:192]).max() > 50
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 90, 90, (90, 90)), whole[:90, :90])
        with pytest.raises(UnreadableError, match="damaged pixels at level 0, tile 2,2"):
            slide.read(100, 100, 90, 90, (90, 90))
