"""Made slides, read back with OpenSlide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from mmcli.demo.slides import HEIGHT, WIDTH, damage, draw_slide, write_slide


@pytest.fixture(scope="module")
def looks() -> dict[float, np.ndarray]:
    return {z: draw_slide(np.random.default_rng([5, i]), z) for i, z in enumerate(np.linspace(-2, 2, 7))}


def dark_share(pixels: np.ndarray) -> float:
    """Share of the tissue that nuclei cover: little red light."""
    return (pixels[..., 0] < 135).sum() / (pixels.min(axis=-1) < 215).sum()


def test_openslide_reads_pyramid_tiles_and_mpp(tmp_path: Path, looks: dict[float, np.ndarray]) -> None:
    drawn = next(iter(looks.values()))
    write_slide(tmp_path / "a.tif", drawn)
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.5)
        assert slide.level_dimensions == ((1152, 1024), (576, 512), (288, 256))
        read = np.asarray(slide.read_region((0, 0), 0, (WIDTH, HEIGHT)).convert("RGB")).astype(int)
        small = np.asarray(slide.read_region((0, 0), 2, (288, 256)).convert("RGB")).astype(int)
    assert np.abs(read - drawn).mean() < 5
    mean = drawn.reshape(256, 4, 288, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - mean).mean() < 5
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert [len(page.dataoffsets) for page in tif.pages] == [5 * 4, 3 * 2, 2 * 1]
        assert all(page.compression.name == "JPEG" and page.tilewidth == 256 for page in tif.pages)


def test_damaged_slide_is_refused_by_every_reader(tmp_path: Path, looks: dict[float, np.ndarray]) -> None:
    path = tmp_path / "a.tif"
    write_slide(path, next(iter(looks.values())))
    openslide.OpenSlide(path).close()
    damage(path)
    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(path)
    with pytest.raises(Exception, match=r"."):
        tifffile.imread(path)


def test_white_paper_pink_stroma_purple_nuclei(looks: dict[float, np.ndarray]) -> None:
    for pixels in looks.values():
        assert pixels.shape == (1024, 1152, 3) and pixels.dtype == np.uint8
        paper = pixels.min(axis=-1) > 230
        assert 0.1 < paper.mean() < 0.7
        nuclei = pixels[..., 0] < 135
        red, green, blue = pixels[nuclei].mean(axis=0)
        assert blue > red > green
        red, green, blue = pixels[~paper & ~nuclei].mean(axis=0)
        assert red > blue > green


def test_factor_is_seen_in_the_nuclei(looks: dict[float, np.ndarray]) -> None:
    shares = np.log([dark_share(pixels) for pixels in looks.values()])
    assert np.corrcoef(list(looks), shares)[0, 1] > 0.8
    assert shares[-1] - shares[0] > np.log(3)


def test_same_generator_same_pixels() -> None:
    first, again = (draw_slide(np.random.default_rng(9), 0.3, 2) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (draw_slide(np.random.default_rng(10), 0.3, 2) != first).any()
