"""Slides against OpenSlide's own pixels, slow means, and files of our own."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from mmcli.errors import UnreadableError
from mmcli.readers.slide import Slide, open_slide

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow on damaged tags

SlowMean = Callable[..., NDArray]
SMALL = "images/slides/CMU-1-Small-Region.svs"


def stained(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(60, 250, (height, width, 3), dtype=np.uint8)


def write_pyramid(path: Path, pixels: NDArray[np.uint8], mpp: float | None = 0.5, levels: int = 3) -> Path:
    resolution = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"} if mpp else {}
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            tiff.write(pixels[:: 2**level, :: 2**level], tile=(64, 64), photometric="rgb", compression="zlib",
                       subfiletype=int(level > 0), **(resolution if level == 0 else {}))  # fmt: skip
    return path


# ---- our own files


def test_pyramid_of_our_own(tmp_path: Path, slow_mean: SlowMean) -> None:
    pixels = stained(300, 420)
    with open_slide(write_pyramid(tmp_path / "p.tif", pixels)) as slide:
        assert (slide.source, slide.dimensions, len(slide.levels)) == ("openslide", (420, 300), 3)
        assert slide.mpp == pytest.approx(0.5) and slide.mpp_source == "resolution tag"
        np.testing.assert_array_equal(slide.read(100, 50, 224, 128, (224, 128)), pixels[50:178, 100:324])
        # at half resolution the second level is taken as it is: every other pixel, not a mean
        half = slide.read(100, 50, 128, 128, (64, 64))
        np.testing.assert_array_equal(half, pixels[50:178:2, 100:228:2])
        third = slide.read(0, 0, 300, 300, (100, 100))
        second = pixels[::2, ::2][:150, :150]
        assert np.abs(third - slow_mean(second, (0, 0, 150, 150), (100, 100))).max() <= 0.52
        edge = slide.read(400, 290, 40, 20, (40, 20))
        np.testing.assert_array_equal(edge[:10, :20], pixels[290:, 400:])
        assert (edge[10:] == 255).all() and (edge[:, 20:] == 255).all()
        assert slide.thumbnail(105).shape == (75, 105, 3)


def test_flat_slides_of_our_own(tmp_path: Path, slow_mean: SlowMean) -> None:
    pixels = stained(200, 260)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", resolution=(20_000, 20_000), resolutionunit=3)
    Image.fromarray(pixels).save(tmp_path / "dpi.tif", dpi=(96, 96))
    for name, mpp, source in (("a.png", None, "none"), ("a.tif", 0.5, "resolution tag"), ("dpi.tif", None, "none")):
        with open_slide(tmp_path / name) as slide:
            assert (slide.source, slide.dimensions) == ("flat", (260, 200))
            assert (slide.mpp, slide.mpp_source) == (mpp and pytest.approx(mpp), source)
            np.testing.assert_array_equal(slide.read(10, 20, 100, 90, (100, 90)), pixels[20:110, 10:110])
            beyond = slide.read(-5, 190, 20, 20, (20, 20))
            np.testing.assert_array_equal(beyond[:10, 5:], pixels[190:, :15])
            assert (beyond[:, :5] == 255).all() and (beyond[10:] == 255).all()
            assert (
                np.abs(slide.read(0, 0, 200, 200, (50, 50)) - slow_mean(pixels, (0, 0, 200, 200), (50, 50))).max() < 0.6
            )


def test_mpp_given_unknown_and_not_square(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "p.tif", stained(100, 100))
    with open_slide(path, mpp=0.25) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.25, "cohort")
    with open_slide(path, mpp=0.25, mpp_source="--mpp") as slide:
        assert slide.mpp_source == "--mpp"
    with open_slide(write_pyramid(tmp_path / "n.tif", stained(100, 100), mpp=None)) as slide:
        assert (slide.mpp, slide.mpp_source) == (None, "none")
    with pytest.raises(UnreadableError, match="no size of a pixel"):
        open_slide(path, mpp=0.0)
    tifffile.imwrite(
        tmp_path / "o.tif", stained(64, 64), photometric="rgb", resolution=(20_000, 40_000), resolutionunit=3
    )
    with pytest.raises(UnreadableError, match=r"not square \(0.5 x 0.25"):
        open_slide(tmp_path / "o.tif")
    with open_slide(tmp_path / "o.tif", mpp=0.5) as slide:
        assert slide.mpp == 0.5


def test_broken_files_of_our_own(tmp_path: Path) -> None:
    whole = write_pyramid(tmp_path / "p.tif", stained(300, 300)).read_bytes()
    for name, raw in (("e.svs", b""), ("t.svs", b"no slide"), ("cut.tif", whole[:5000])):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(UnreadableError, match=name), open_slide(tmp_path / name) as slide:
            slide.thumbnail(64)
    with pytest.raises(UnreadableError, match="no such file"):
        open_slide(tmp_path / "none.svs")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnreadableError, match="without a DICOM slide"):
        open_slide(tmp_path / "folder")


@pytest.mark.parametrize("layout", [{"tile": (64, 64)}, {"rowsperstrip": 20}])
@pytest.mark.parametrize("compression", [None, "zlib", "jpeg"])
def test_a_slide_cut_in_its_pixels_is_never_filled_up(tmp_path: Path, layout: dict, compression: str | None) -> None:
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, stained(300, 300), photometric="rgb", compression=compression, **layout)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with pytest.raises(UnreadableError, match=r"cut\.tif"), open_slide(path) as slide:
        slide.thumbnail(100)


def _tile_in_child(slide: Slide, queue: multiprocessing.Queue) -> None:
    queue.put(slide.read(10, 10, 64, 64, (64, 64)))


@pytest.mark.parametrize("big", [False, True])
def test_a_slide_whose_later_pages_are_gone_is_no_flat_picture(tmp_path: Path, big: bool) -> None:
    path = tmp_path / "cut.tif"
    with tifffile.TiffWriter(path, bigtiff=big) as writer:
        for side in (512, 256):
            writer.write(stained(side, side), photometric="rgb", contiguous=False)
    with tifffile.TiffFile(path) as file:
        behind = file.pages[1].offset
        first = sum(file.pages[0].databytecounts)
    assert behind > first
    whole = path.read_bytes()
    with open_slide(path, 0.5) as slide:
        assert slide.dimensions == (512, 512)
    for length in (behind, behind + 9):  # the first page is whole in each
        path.write_bytes(whole[:length])
        with pytest.raises(UnreadableError, match=r"cut\.tif: .* truncated: its page 2 lies behind its end"):
            open_slide(path, 0.5)


def test_threads_and_forked_processes_read_the_same(tmp_path: Path) -> None:
    pixels = stained(400, 400)
    with open_slide(write_pyramid(tmp_path / "p.tif", pixels)) as slide:
        corners = [(x, y) for x in range(0, 300, 30) for y in range(0, 300, 30)]
        with ThreadPoolExecutor(4) as pool:
            tiles = list(pool.map(lambda c: slide.read(*c, 64, 64, (64, 64)), corners))
        for (x, y), tile in zip(corners, tiles, strict=True):
            np.testing.assert_array_equal(tile, pixels[y : y + 64, x : x + 64])
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_tile_in_child, args=(slide, queue))
        child.start()
        np.testing.assert_array_equal(queue.get(timeout=20), pixels[10:74, 10:74])
        child.join(20)
        assert child.exitcode == 0
        np.testing.assert_array_equal(slide.read(0, 0, 9, 9, (9, 9)), pixels[:9, :9])


# ---- real slides


def test_native_pixels_equal_openslides(data: Path, slow_mean: SlowMean) -> None:
    with open_slide(data / SMALL) as slide, openslide.OpenSlide(data / SMALL) as own:
        assert (slide.dimensions, slide.mpp, slide.mpp_source) == ((2220, 2967), 0.499, "metadata")
        for x, y in ((0, 0), (511, 333), (1900, 2700)):
            expected = np.asarray(own.read_region((x, y), 0, (256, 256)))[:, :, :3]
            inside = (min(256, 2967 - y), min(256, 2220 - x))
            np.testing.assert_array_equal(slide.read(x, y, 256, 256, (256, 256))[: inside[0], : inside[1]],
                                          expected[: inside[0], : inside[1]])  # fmt: skip
        whole = np.asarray(own.read_region((0, 0), 0, slide.dimensions))[:, :, :3]
        np.testing.assert_allclose(whole.reshape(-1, 3).mean(axis=0), (214.0, 194.8, 207.9), atol=0.05)
        tile = slide.read(400, 600, 450.9, 450.9, (32, 32))
        assert np.abs(tile - slow_mean(whole, (400, 600, 850.9, 1050.9), (32, 32))).max() <= 0.52
        thumbnail = slide.thumbnail(600)
        assert thumbnail.shape == (600, 449, 3)
        np.testing.assert_allclose(thumbnail.reshape(-1, 3).mean(axis=0), (214.0, 194.8, 207.9), atol=0.1)


def test_mpp_of_real_slides(data: Path) -> None:
    folder = data / "images/slides"
    for name, mpp, source in [
        ("test3-DAPI-2-(387).ndpi", 0.228175, "metadata"), ("CropBreastSlide.tiff", None, "none"),
        ("kidney-48-5.tif", None, "none"), ("openslide_python_fixtures/boxes.tiff", None, "none"),
        ("openslide_python_fixtures/boxes.png", None, "none"), ("highdicom/sm_image.dcm", 0.499, "metadata"),
        ("openslide_python_fixtures/boxes_1.dcm", 0.499, "metadata"),
    ]:  # fmt: skip
        with open_slide(folder / name) as slide:
            assert slide.mpp == (mpp and pytest.approx(mpp, rel=1e-4)), name
            assert slide.mpp_source == source, name
    with open_slide(folder / "kidney-48-5.tif") as slide:
        assert (slide.source, slide.dimensions) == ("flat", (1493, 901))


def test_magnification_stands_in_for_the_mpp(data: Path, tmp_path: Path) -> None:
    # the same bytes without their MPP: "MPP = 0.4990" becomes a word of the same length
    raw = (data / SMALL).read_bytes()
    assert raw.count(b"|MPP = ") >= 1
    (tmp_path / "no-mpp.svs").write_bytes(raw.replace(b"|MPP = ", b"|XXX = "))
    with open_slide(tmp_path / "no-mpp.svs") as slide:
        assert (slide.mpp, slide.mpp_source) == (0.5, "magnification")


def test_dicom_slide_folders(data: Path, tmp_path: Path) -> None:
    folder = data / "images/slides"
    for name in ("boxes_0.dcm", "boxes_1.dcm"):
        shutil.copy(folder / "openslide_python_fixtures" / name, tmp_path / name)
    with open_slide(tmp_path) as slide:
        assert (slide.source, slide.dimensions) == ("openslide", (16, 16))
        assert slide.thumbnail(16).shape == (16, 16, 3)
    with pytest.raises(UnreadableError, match="PlanarConfiguration"):
        open_slide(folder / "dicom_wsi_fluorescence_BPAEC")
