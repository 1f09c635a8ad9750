"""A slide's own tiles against OpenSlide's pixels, tifffile's, and damage that must not pass in silence."""

from __future__ import annotations

import multiprocessing
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from mmcli.demo.slides import draw_slide, write_slide
from mmcli.errors import UnreadableError
from mmcli.readers import slide as slide_module
from mmcli.readers.resample import on_white
from mmcli.readers.slide import OpenSlideSlide, open_slide
from mmcli.readers.tiff_tiles import _jpeg_decoder, open_tiles
from mmcli.readers.tile_cache import CACHE, TileCache

SIZE = (500, 380)  # no multiple of a tile's side
KINDS = {
    "JPEG RGB": {"photometric": "rgb", "compression": "jpeg"},
    "JPEG YCbCr 4:4:4": {"photometric": "ycbcr", "compression": "jpeg", "subsampling": (1, 1)},
    "JPEG YCbCr 4:2:0": {"photometric": "ycbcr", "compression": "jpeg", "subsampling": (2, 2)},
    "deflate": {"photometric": "rgb", "compression": "zlib"},
    "deflate, differences": {"photometric": "rgb", "compression": "zlib", "predictor": True},
    "LZW": {"photometric": "rgb", "compression": "lzw"},
    "LZW, differences": {"photometric": "rgb", "compression": "lzw", "predictor": True},
    "plain": {"photometric": "rgb"},
}


def texture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Coloured smooth noise, in which a wrong colour transform or upsampling shows."""
    rough = np.random.default_rng(seed).normal(128, 220, (height, width, 3))
    return np.clip(ndimage.gaussian_filter(rough, (1.5, 1.5, 0)), 0, 255).astype(np.uint8)


def write_tiled(path: Path, pixels: NDArray[np.uint8], levels: int = 2, side: int = 64, **kind: object) -> Path:
    """A pyramid of every other pixel; levels are as wide as whole halves leave."""
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            tiff.write(pixels[:: 2**level, :: 2**level], tile=(side, side), subfiletype=int(level > 0), **kind)
    return path


def with_tables(path: Path, pixels: NDArray[np.uint8], ycbcr: bool) -> Path:
    """One level of JPEG tiles that share their tables, as scanners write them: built marker by marker."""
    space, photometric = ("YCBCR", 6) if ycbcr else ("RGB", 2)
    height, width = pixels.shape[:2]
    tiles, tables = [], b""
    for y in range(0, height, 64):
        for x in range(0, width, 64):
            tile = np.full((64, 64, 3), 255, np.uint8)
            part = pixels[y : y + 64, x : x + 64]
            tile[: part.shape[0], : part.shape[1]] = part
            raw = imagecodecs.jpeg8_encode(tile, level=90, colorspace="RGB", outcolorspace=space, optimize=False)
            at, own, shared = 2, b"", b""
            while raw[at + 1] != 0xDA:
                end = at + 2 + int.from_bytes(raw[at + 2 : at + 4], "big")
                if raw[at + 1] in (0xDB, 0xC4):
                    shared += raw[at:end]
                elif raw[at + 1] not in (0xE0, 0xEE):  # no marker tells the colours
                    own += raw[at:end]
                at = end
            tiles.append(b"\xff\xd8" + own + raw[at:])
            assert tables in (b"", b"\xff\xd8" + shared + b"\xff\xd9")
            tables = b"\xff\xd8" + shared + b"\xff\xd9"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            iter(tiles), shape=(height, width, 3), dtype=np.uint8, tile=(64, 64), photometric=photometric,
            compression="jpeg", jpegtables=tables, **({"subsampling": (1, 1)} if ycbcr else {}),
        )  # fmt: skip
    return path


def of_openslide(path: Path, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
    with openslide.OpenSlide(path) as own:
        scale = round(own.level_downsamples[level])
        return on_white(np.asarray(own.read_region((x * scale, y * scale), level, (width, height))))


REGIONS = st.tuples(st.floats(-0.1, 1.05), st.floats(-0.1, 1.05), st.integers(1, 300), st.integers(1, 300))


def check_regions(slide: OpenSlideSlide, level: int, x: float, y: float, width: int, height: int) -> None:
    tiles = slide.own_tiles(level)
    assert tiles is not None, slide.path.name
    left, top = int(x * slide.levels[level][0]), int(y * slide.levels[level][1])
    expected = of_openslide(slide.path, level, left, top, width, height)
    np.testing.assert_array_equal(tiles.region(level, left, top, width, height), expected)


@pytest.fixture(scope="module")
def pyramids(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[OpenSlideSlide]]:
    folder = tmp_path_factory.mktemp("pyramids")
    pixels = texture(*SIZE)
    paths = [write_tiled(folder / f"{name}.tif", pixels, **kind) for name, kind in KINDS.items()]
    paths += [with_tables(folder / f"tables-{ycbcr}.tif", pixels, ycbcr) for ycbcr in (False, True)]
    write_slide(folder / "demo.tif", draw_slide(np.random.default_rng(0), 0.3))
    slides = [open_slide(path) for path in [*paths, folder / "demo.tif"]]
    yield slides  # type: ignore[misc]
    for slide in slides:
        slide.close()


@settings(max_examples=25, deadline=None)
@given(REGIONS)
def test_every_kind_of_tile_has_openslides_pixels(pyramids: list[OpenSlideSlide], region: tuple) -> None:
    assert len(pyramids) == 11
    for slide in pyramids:
        for level in range(len(slide.levels)):
            check_regions(slide, level, *region)


def test_lossless_tiles_are_the_pixels_that_were_written(pyramids: list[OpenSlideSlide]) -> None:
    pixels = texture(*SIZE)
    for slide in pyramids[3:8]:
        np.testing.assert_array_equal(slide.read(0, 0, *SIZE, SIZE), pixels)
        np.testing.assert_array_equal(slide.read(0, 0, *SIZE, (250, 190)), pixels[::2, ::2])


@pytest.fixture(scope="module")
def real(data: Path) -> Iterator[list[OpenSlideSlide]]:
    names = ("CMU-1-Small-Region.svs", "CropBreastSlide.tiff", "openslide_python_fixtures/small.svs")
    slides = [open_slide(data / "images/slides" / name) for name in names]
    yield slides  # type: ignore[misc]
    for slide in slides:
        slide.close()


@settings(max_examples=20, deadline=None)
@given(REGIONS)
def test_real_slides_have_openslides_pixels(real: list[OpenSlideSlide], region: tuple) -> None:
    for slide in real:
        check_regions(slide, 0, *region)


def test_levels_that_openslide_interpolates_are_the_files_own_pixels(data: Path) -> None:
    path = data / "images/slides/CropBreastSlide.tiff"
    with open_slide(path) as slide, tifffile.TiffFile(path) as tiff:
        assert isinstance(slide, OpenSlideSlide) and len(slide.levels) == 6
        for level, (width, height) in enumerate(slide.levels):
            tiles = slide.own_tiles(level)
            assert tiles is not None
            np.testing.assert_array_equal(tiles.region(level, 0, 0, width, height), tiff.pages[level].asarray())


def test_what_is_left_to_openslide(data: Path, tmp_path: Path) -> None:
    awkward = data / "images/awkward/pillow"
    for name in ("tiff_tiled_cmyk_jpeg.tif", "tiff_16bit_RGB.tiff", "tiff_tiled_planar_lzw.tiff"):
        with open_slide(awkward / name) as slide:
            assert isinstance(slide, OpenSlideSlide) and slide.own_tiles(0) is None, name
            expected = of_openslide(awkward / name, 0, 0, 0, 60, 40)
            np.testing.assert_array_equal(slide.read(0, 0, 60, 40, (60, 40)), expected)
    with open_slide(data / "images/slides/highdicom/sm_image.dcm") as slide:
        assert isinstance(slide, OpenSlideSlide) and slide.own_tiles(0) is None
    tifffile.imwrite(tmp_path / "strips.tif", texture(300, 300), photometric="rgb", rowsperstrip=64)
    assert open_tiles(tmp_path / "strips.tif", [(300, 300)]) is None
    path = write_tiled(tmp_path / "s.tif", texture(300, 300), 1, photometric="rgb", compression="zlib")
    assert open_tiles(path, [(301, 300)]) is None and open_tiles(path, [(300, 300), (7, 7)]).levels[1] is None


def test_tiles_that_differ_from_openslides_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiled(tmp_path / "s.tif", texture(*SIZE), **KINDS["JPEG YCbCr 4:2:0"])

    def guessing(found: object, sizes: object) -> object:
        tiles = open_tiles(found, sizes)  # type: ignore[arg-type]
        for level in tiles.levels:  # type: ignore[union-attr]
            object.__setattr__(level, "decode", _jpeg_decoder(b"", ycbcr=False))
        return tiles

    monkeypatch.setattr(slide_module, "open_tiles", guessing)
    with open_slide(path) as slide:
        assert isinstance(slide, OpenSlideSlide)
        assert slide.own_tiles(0) is None and slide.own_tiles(1) is None
        np.testing.assert_array_equal(slide.read(9, 9, 99, 99, (99, 99)), of_openslide(path, 0, 9, 9, 99, 99))


# ---- damage


def damaged(path: Path, level: int, tile: int, change: str) -> Path:
    """The file with one tile's bytes changed; returns a new path."""
    raw = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[level]
        at, count = page.dataoffsets[tile], page.databytecounts[tile]
    if change == "zeros":
        raw[at + count // 2 : at + count] = bytes(count - count // 2)
    elif change == "random":
        raw[at + count // 2 : at + count] = np.random.default_rng(1).bytes(count - count // 2)
    else:
        raw[at : at + 4] = b"\x00\x01\x02\x03"
    out = path.with_name(f"{path.stem}-{change}.tif")
    out.write_bytes(bytes(raw))
    return out


@pytest.mark.parametrize("kind", ["JPEG RGB", "JPEG YCbCr 4:2:0", "deflate", "LZW, differences"])
@pytest.mark.parametrize("change", ["zeros", "random", "start"])
def test_a_damaged_tile_is_named_and_the_others_are_read(tmp_path: Path, kind: str, change: str) -> None:
    whole = write_tiled(tmp_path / "s.tif", texture(1000, 700), **KINDS[kind])
    tile = 5 * 16 + 9  # column 9, row 5 of level 0
    with open_slide(damaged(whole, 0, tile, change)) as slide, open_slide(whole) as good:
        with pytest.raises(UnreadableError, match=rf"s-{change}\.tif: damaged pixels at level 0") as error:
            slide.read(9 * 64 + 5, 5 * 64 + 5, 40, 40, (40, 40))
        assert "\n" not in str(error.value)
        if isinstance(slide, OpenSlideSlide) and slide.own_tiles(0) is not None:
            assert "tile 9,5" in str(error.value)
            np.testing.assert_array_equal(slide.read(0, 0, 200, 64, (200, 64)), good.read(0, 0, 200, 64, (200, 64)))
        with pytest.raises(UnreadableError, match="damaged pixels"):
            for y in range(0, 700, 64):
                slide.read(0, y, 1000, 64, (1000, 64))


def test_a_file_that_ends_early_and_a_tile_of_no_bytes(tmp_path: Path) -> None:
    whole = write_tiled(tmp_path / "s.tif", texture(640, 640), 1, photometric="rgb", compression="jpeg")
    with tifffile.TiffFile(whole) as tiff:
        page = tiff.pages[0]
        last, offsets = page.dataoffsets[-1], page.tags["TileByteCounts"]
        at, width = offsets.valueoffset + 40 * offsets.valuebytecount // 100, offsets.valuebytecount // 100
    assert whole.stat().st_size > last  # the directory stands first, the tiles behind it
    (tmp_path / "cut.tif").write_bytes(whole.read_bytes()[: last - 10])
    with pytest.raises(UnreadableError, match=r"^cut\.tif: "), open_slide(tmp_path / "cut.tif") as slide:
        slide.thumbnail(64)
    tiles = open_tiles(tmp_path / "cut.tif", [(640, 640)])
    assert tiles is not None and tiles.region(0, 0, 0, 64, 64).shape == (64, 64, 3)
    with pytest.raises(UnreadableError, match=r"tile 8,9 \(the file ends before the tile does\)"):
        tiles.region(0, 8 * 64, 9 * 64, 64, 64)
    raw = bytearray(whole.read_bytes())
    raw[at : at + width] = bytes(width)
    (tmp_path / "hole.tif").write_bytes(bytes(raw))
    with open_slide(tmp_path / "hole.tif") as slide:
        assert isinstance(slide, OpenSlideSlide) and slide.own_tiles(0) is None


def test_a_tile_that_says_it_is_larger_than_its_place(tmp_path: Path) -> None:
    big = imagecodecs.jpeg8_encode(np.zeros((4096, 4096, 3), np.uint8))
    decode = _jpeg_decoder(b"", ycbcr=True)
    for height, width in ((64, 64), (8192, 4096)):
        with pytest.raises(ValueError, match=r"buffer is too small|a picture of 4096 x 4096"):
            decode(big, height, width)
    for raw in (b"", b"\xff\xd8", b"\xff\xd8\xff\xe0", big[:40], zlib.compress(b"0")):
        with pytest.raises(ValueError):
            decode(raw, 64, 64)


# ---- the cache, threads, processes


def test_the_cache_keeps_within_its_bytes_and_makes_a_tile_once() -> None:
    cache = TileCache(limit=1000)
    made: list[int] = []
    gate = threading.Event()

    def make(key: int) -> NDArray[np.uint8]:
        gate.wait(5)
        made.append(key)
        return np.full(100, key, np.uint8)

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(cache.get, ("a", 1), lambda: make(1)) for _ in range(8)]
        gate.set()
        assert all((f.result() == 1).all() for f in asked) and made == [1]
    for key in range(2, 14):
        cache.get(("b", key), lambda key=key: make(key))
        cache.get(("a", 1), lambda: make(1))  # used again and again: it stays
    assert cache.bytes == 1000 and made.count(1) == 1
    cache.get(("b", 2), lambda: make(2))
    assert made.count(2) == 2  # it had gone
    with pytest.raises(ValueError, match="read-only"):
        cache.get(("a", 1), lambda: make(1))[:] = 0
    cache.drop("b")
    assert cache.bytes == 100
    with cache._lock:  # as when a slide is collected while a tile is put in
        cache.drop("a")
    assert cache.bytes == 100
    cache.get(("b", 1), lambda: make(3))
    assert cache.bytes == 100
    cache.get(("c", 0), lambda: np.zeros(999, np.uint8))
    assert cache.bytes == 100  # too large a part of the whole to keep
    with pytest.raises(KeyError):
        cache.get(("c", 1), lambda: {}["no"])
    assert (cache.get(("c", 1), lambda: make(7)) == 7).all()


def _read_in_child(slide: OpenSlideSlide, queue: multiprocessing.Queue) -> None:
    queue.put(slide.read(30, 30, 200, 200, (200, 200)))


def test_threads_and_forked_processes(tmp_path: Path) -> None:
    path = write_tiled(tmp_path / "s.tif", texture(700, 600), **KINDS["JPEG YCbCr 4:2:0"])
    with openslide.OpenSlide(path) as own:
        whole = on_white(np.asarray(own.read_region((0, 0), 0, (700, 600))))
    with open_slide(path) as slide:
        corners = [(x, y) for y in range(0, 500, 45) for x in range(0, 600, 45)]
        with ThreadPoolExecutor(6) as pool:
            tiles = list(pool.map(lambda c: slide.read(*c, 100, 100, (100, 100)), corners))
            children = []
            context = multiprocessing.get_context("fork")
            for _ in range(3):  # forked while threads read
                busy = [pool.submit(slide.read, *c, 100, 100, (100, 100)) for c in corners]
                CACHE.drop(-1)
                queue = context.Queue()
                child = context.Process(target=_read_in_child, args=(slide, queue))
                child.start()
                np.testing.assert_array_equal(queue.get(timeout=20), whole[30:230, 30:230])
                children.append(child)
                [b.result() for b in busy]
        for (x, y), tile in zip(corners, tiles, strict=True):
            np.testing.assert_array_equal(tile, whole[y : y + 100, x : x + 100])
        for child in children:
            child.join(20)
            assert child.exitcode == 0
        np.testing.assert_array_equal(slide.read(0, 0, 9, 9, (9, 9)), whole[:9, :9])
        before = CACHE.bytes
    assert CACHE.bytes < before  # a closed slide keeps nothing
    with pytest.raises(ValueError, match="closed"):
        slide.read(0, 0, 9, 9, (9, 9))
