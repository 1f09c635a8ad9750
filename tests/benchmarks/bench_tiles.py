"""Tiles a second: mmcli's slide reader against one OpenSlide `read_region` a tile with Pillow, as users write it.

The same tiles in the same order, row by row: of 256 px at native resolution; of 256 px at half of it, for which the
user reads 512 px and resizes; and of 224 px at 1.7 times the native MPP. Every pass opens the slide anew with nothing
decoded yet. The user's script and mmcli, set up as its commands are, run in a process each; their passes are
interleaved, so that a busy machine hits all alike, and medians are compared: of the clock, and of the processor's
time, which says more where others use the machine. mmcli's comparison of a slide with OpenSlide, once a slide, is timed
apart. Run it with:
MMCLI_TEST_DATA=... python tests/benchmarks/bench_tiles.py [SLIDE ...] [--passes N] [--seconds LIMIT]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import openslide
import tifffile

from mmcli.readers.malloc import keep_freed_memory
from mmcli.readers.slide import OpenSlideSlide, open_slide
from mmcli.readers.tile_cache import CACHE

Tiles = list[tuple[int, int]]
Took = tuple[float, float]  # seconds of the clock, and of the processor
CASES = (("native", 1.0, 256), ("half", 2.0, 256), ("1.7 x MPP", 1.7, 224))
REAL = ("slides/CMU-1-Small-Region.svs", "slides/CropBreastSlide.tiff")


def grid(size: tuple[int, int], side: int) -> Tiles:
    """Corners of all tiles of `side` level-0 pixels, row by row."""
    return [(x, y) for y in range(0, size[1] - side + 1, side) for x in range(0, size[0] - side + 1, side)]


def user(path: Path, tiles: Tiles, side: int, out: int, threads: int) -> Took:
    """What a script takes: `read_region`, RGB, resize."""
    with openslide.OpenSlide(path) as slide:

        def read(at: tuple[int, int]) -> np.ndarray:
            tile = slide.read_region(at, 0, (side, side)).convert("RGB")
            return np.asarray(tile if side == out else tile.resize((out, out)))

        return timed(read, tiles, threads)


def own(path: Path, tiles: Tiles, side: float, out: int, threads: int) -> Took:
    """What mmcli takes, the slide compared before, nothing decoded yet."""
    with open_slide(path) as slide:
        slide.read(0, 0, side, side, (out, out))
        CACHE.reset()
        return timed(lambda at: slide.read(*at, side, side, (out, out)), tiles, threads)


def timed(read: Callable[[tuple[int, int]], np.ndarray], tiles: Tiles, threads: int) -> Took:
    start, cpu = time.perf_counter(), time.process_time()
    if threads == 1:
        for at in tiles:
            read(at)
    else:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(read, tiles):
                pass
    return time.perf_counter() - start, time.process_time() - cpu


def unequal(path: Path, tiles: Tiles, side: int) -> int:
    """Values that differ from OpenSlide's, over all native tiles."""
    with open_slide(path) as slide, openslide.OpenSlide(path) as theirs:

        def pair(at: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
            expected = np.asarray(theirs.read_region(at, 0, (side, side)))[..., :3]
            return slide.read(*at, side, side, (side, side)), expected

        return sum(int(np.not_equal(*pair(at)).sum()) for at in tiles)


def write_pyramid(path: Path, source: Path) -> Path:
    """A slide's pixels as a pyramid with a level at half and at a quarter, YCbCr 4:2:0, tiles of 256 px."""
    with openslide.OpenSlide(source) as slide:
        pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]
    height, width = (length // 8 * 8 for length in pixels.shape[:2])
    pixels = pixels[:height, :width]
    with tifffile.TiffWriter(path) as tiff:
        for level in range(3):
            tiff.write(pixels, tile=(256, 256), photometric="ycbcr", subsampling=(2, 2), compression="jpeg",
                       compressionargs={"level": 80}, subfiletype=int(level > 0))  # fmt: skip
            pairs = pixels.reshape(pixels.shape[0] // 2, 2, pixels.shape[1] // 2, 2, 3)
            pixels = np.rint(pairs.mean(axis=(1, 3))).astype(np.uint8)
    return path


def bench(path: Path, passes: int, seconds: float, theirs: Executor, ours: Executor) -> None:
    """Print a table for one slide."""
    start = time.perf_counter()
    with open_slide(path) as slide:
        opened = time.perf_counter() - start
        direct = isinstance(slide, OpenSlideSlide) and slide.own_tiles(0) is not None
        size, levels = slide.dimensions, len(slide.levels)
    compared = time.perf_counter() - start - opened
    print(f"\n{path.name}: {size[0]} x {size[1]} px, {levels} levels, {'own tiles' if direct else 'OpenSlide'}; "
          f"opened in {opened * 1e3:.0f} ms, compared with OpenSlide in {compared * 1e3:.0f} ms")  # fmt: skip
    native = grid(size, 256)
    print(f"native: {unequal(path, native, 256)} of {len(native) * 256 * 256 * 3} values differ from OpenSlide's")
    print(f"{'':12}{'user':>10}{'user x2':>10}{'mmcli':>10}{'mmcli x2':>10}  ratio: x1    x2   processor time")
    for name, ratio, out in CASES:
        side = out * ratio
        tiles = grid(size, int(np.ceil(side)))
        whole = round(side)
        runs = {
            "user": (theirs, user, whole, 1), "mmcli": (ours, own, side, 1),
            "mmcli x2": (ours, own, side, 2), "user x2": (theirs, user, whole, 2),
        }  # fmt: skip
        took: dict[str, list[Took]] = {run: [] for run in runs}
        until = time.perf_counter() + seconds
        for number in range(passes):
            for run, (process, read, length, threads) in runs.items():
                took[run].append(process.submit(read, path, tiles, length, out, threads).result())
            if number >= 2 and time.perf_counter() > until:
                break
        clock = {run: statistics.median(t for t, _ in times) for run, times in took.items()}
        processor = {run: statistics.median(t for _, t in times) for run, times in took.items()}
        rates = "".join(f"{len(tiles) / clock[run]:10.0f}" for run in ("user", "user x2", "mmcli", "mmcli x2"))
        ratios = [clock["user"] / clock[run] for run in ("mmcli", "mmcli x2")]
        print(
            f"{name:12}{rates}   {ratios[0]:5.1f}{ratios[1]:6.1f}   {processor['user'] / processor['mmcli']:5.1f}"
            f"   ({len(took['user'])} passes of {len(tiles)} tiles)"
        )


def main() -> None:
    """Bench the slides that are named, or the real ones and a pyramid made of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", nargs="*", type=Path)
    parser.add_argument("--passes", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=20.0, help="no new pass of a case after this long")
    given = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}; tiles a second")
    with tempfile.TemporaryDirectory() as folder:
        slides = given.slides
        if not slides:
            root = Path(os.environ["MMCLI_TEST_DATA"]) / "images"
            slides = [root / name for name in REAL]
            slides.append(write_pyramid(Path(folder) / "pyramid of the first.tif", slides[0]))
        spawn = get_context("spawn")
        with (
            ProcessPoolExecutor(1, spawn) as theirs,
            ProcessPoolExecutor(1, spawn, initializer=keep_freed_memory) as ours,
        ):
            for path in slides:
                bench(path, given.passes, given.seconds, theirs, ours)


if __name__ == "__main__":
    main()
