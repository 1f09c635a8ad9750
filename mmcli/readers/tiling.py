"""Where the tissue of a brightfield slide lies, and the grid of tiles over it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmcli.errors import UnreadableError
from mmcli.readers.slide import Slide

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

# Saturations of 0..255. The floor is above what blank glass and JPEG noise have, the ceiling keeps Otsu from
# splitting a picture that is tissue all over into pale and dark tissue.
SATURATION_FLOOR, SATURATION_CEILING = 18, 30
DARK = 25  # a median luminance below this is no bright field
PEN_SATURATION = 90
SPECK, HOLE = 2e-4, 2e-3  # shares of the picture's area
THUMBNAIL_PX, TILE_THUMBNAIL_PX = (512, 4096), 8


def tissue_mask(thumbnail: Pixels) -> Mask:
    """Tissue of a brightfield picture uint8 (h, w, 3) as bool (h, w).

    HSV saturation against Otsu's threshold (Otsu 1979, doi:10.1109/TSMC.1979.4310076) held within a floor and a
    ceiling; pen strokes left out, specks dropped, small holes filled. A blank picture has no tissue. A dark
    background (fluorescence) raises UnreadableError.
    """
    rgb = thumbnail.astype(np.int32)
    luminance = (299 * rgb[:, :, 0] + 587 * rgb[:, :, 1] + 114 * rgb[:, :, 2]) // 1000
    if float(np.median(luminance)) < DARK:
        raise UnreadableError(
            "dark background: not a brightfield slide, its tissue cannot be found by colour "
            "(--min-tissue 0 looks for none and takes every tile)"
        )
    highest, lowest = rgb.max(axis=2), rgb.min(axis=2)
    saturation = (255 * (highest - lowest)) // np.maximum(highest, 1)
    saturation = ndimage.uniform_filter(saturation.astype(np.float32), 3, mode="nearest")
    ink = _pen(rgb, saturation)
    seen = saturation[~ink]
    if not seen.size:
        return np.zeros(luminance.shape, dtype=np.bool_)
    threshold = min(max(otsu(np.clip(seen, 0, 255).astype(np.uint8)), SATURATION_FLOOR), SATURATION_CEILING)
    mask = (saturation > threshold) & ~ink & (highest > 30)
    area = mask.size
    mask = _drop_small(ndimage.binary_opening(mask, iterations=1) if min(mask.shape) > 32 else mask, SPECK * area)
    holes = ~mask
    kept = _drop_small(holes, HOLE * area)
    filled: Mask = mask | (holes & ~kept & ~ink)
    return filled


def otsu(values: NDArray[np.uint8]) -> int:
    """Otsu's threshold t of 8-bit values: the one that makes the variance between {<= t} and {> t} largest."""
    counts = np.bincount(values.ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * np.arange(256))
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return int(np.argmax(np.nan_to_num(between)))


def _pen(rgb: NDArray[np.int32], saturation: NDArray[np.float32]) -> Mask:
    """Strongly coloured pixels of a hue that stained tissue does not have (green, blue and red ink), and their paler
    surroundings of the same hue. Ink over tissue, and black ink, may stay."""
    red, green, blue = rgb[:, :, 0], rgb[:, :, 1], rgb[:, :, 2]
    cold = (green > red + 15) & (np.maximum(green, blue) > red + 30) & (saturation > PEN_SATURATION)
    # eosin is far bluer than green and DAB greener than blue; red ink lies between them
    warm = (blue >= green - 20) & (blue - green < 0.25 * (red - green))
    ink: Mask = ndimage.binary_opening(cold | (warm & (saturation > 165) & (red > 130)))
    ink = _drop_small(ink, 5e-3 * ink.size)
    if not ink.any():
        return ink
    pale = (saturation > 8) & ((green > red) | (blue - green < 0.3 * (red - green)))
    spread: Mask = ndimage.binary_dilation(ink, iterations=max(2, max(ink.shape) // 20), mask=pale)
    grown: Mask = ndimage.binary_dilation(spread, iterations=2)
    return grown


def _drop_small(mask: Mask, smallest: float) -> Mask:
    """`mask` without its connected parts of fewer than `smallest` pixels."""
    parts, count = ndimage.label(mask)
    if not count:
        return mask
    large = np.bincount(parts.ravel(), minlength=count + 1) >= max(1.0, smallest)
    large[0] = False
    kept: Mask = large[parts]
    return kept


def tile_grid(
    slide: Slide,
    target_mpp: float | None,
    tile_px: int = 224,
    min_tissue: float = 0.5,
    overlap_px: int = 0,
    tissue: Mask | None = None,
) -> NDArray[np.int32]:
    """Tiles int32 (N, 4): x, y, width, height in level-0 pixels, row by row, all wholly inside the slide.

    A tile shows `tile_px` pixels a side at `target_mpp` µm per pixel (None: the slide's own pixels), overlapping its
    neighbour by `overlap_px` of them, and at least `min_tissue` of its area is tissue (0 takes every tile and looks for
    no tissue). `tissue` bool (h, w) over the whole slide is used instead of `tissue_mask`. N = 0 without tissue.
    Raises UnreadableError where the MPP is unknown, or coarser than twice the target.
    """
    return graded_tiles(slide, target_mpp, tile_px, min_tissue, overlap_px, tissue)[0]


def graded_tiles(
    slide: Slide,
    target_mpp: float | None,
    tile_px: int,
    min_tissue: float,
    overlap_px: int = 0,
    tissue: Mask | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """`tile_grid`, and each tile's share (N,) of tissue, 1 where none is looked for."""
    if tile_px < 1 or not 0 <= overlap_px < tile_px:
        raise ValueError(f"a tile of {tile_px} px cannot overlap its neighbour by {overlap_px} px")
    ratio = _ratio(slide, target_mpp)
    side = max(1, round(tile_px * ratio))
    stride = (tile_px - overlap_px) * ratio
    width, height = slide.dimensions
    columns = _starts(width, side, stride)
    rows = _starts(height, side, stride)
    if not len(rows) or not len(columns):
        return np.empty((0, 4), dtype=np.int32), np.empty(0)
    grid = np.empty((len(rows), len(columns), 4), dtype=np.int32)
    grid[..., 0], grid[..., 1], grid[..., 2:] = columns[None, :], rows[:, None], side
    if min_tissue <= 0:
        return grid.reshape(-1, 4), np.ones(grid.size // 4)
    if tissue is None:
        tissue = slide_tissue(slide, target_mpp, tile_px)[1]
    share = tissue_share(tissue, (width, height), columns, rows, side)
    kept = share >= min_tissue - 1e-9
    return np.ascontiguousarray(grid[kept]), share[kept]


def slide_tissue(slide: Slide, target_mpp: float | None, tile_px: int) -> tuple[Pixels, Mask]:
    """A thumbnail fine enough for tiles of this size, and its `tissue_mask`."""
    side = max(1, round(tile_px * _ratio(slide, target_mpp)))
    wanted = round(max(slide.dimensions) / side * TILE_THUMBNAIL_PX)
    thumbnail = slide.thumbnail(min(max(wanted, THUMBNAIL_PX[0]), THUMBNAIL_PX[1]))
    try:
        return thumbnail, tissue_mask(thumbnail)
    except UnreadableError as error:
        raise UnreadableError(f"{slide.path.name}: {error}") from error


def in_sequences(tiles: NDArray[np.int32], share: NDArray[np.float64], length: int) -> NDArray[np.int32]:
    """Tiles (N, 4) in their order, without those of the least `share` (N,) of tissue until `length` divides N: rows
    0 to length - 1 are the first sequence, and so on."""
    count = len(tiles) // length * length
    fullest = np.argsort(-share, kind="stable")[:count]
    return tiles[np.sort(fullest)]


def _ratio(slide: Slide, target_mpp: float | None) -> float:
    """Level-0 pixels per pixel at the target MPP."""
    if target_mpp is None:
        return 1.0
    if slide.mpp is None:
        raise UnreadableError(
            f"{slide.path.name}: its µm per pixel are unknown: give them by the cohort's mpp column or --mpp"
        )
    if target_mpp / slide.mpp < 0.5:
        raise UnreadableError(
            f"{slide.path.name}: {slide.mpp:.4g} µm per pixel is too coarse for tiles at {target_mpp:.4g} µm"
        )
    return target_mpp / slide.mpp


def _starts(length: int, side: int, stride: float) -> NDArray[np.int64]:
    count = int((length - side) / stride + 1e-9) + 1 if length >= side else 0
    starts = np.rint(np.arange(count) * stride).astype(np.int64)
    inside: NDArray[np.int64] = starts[starts + side <= length]
    return inside


def tissue_share(
    tissue: Mask, dimensions: tuple[int, int], columns: NDArray[np.int64], rows: NDArray[np.int64], side: int
) -> NDArray[np.float64]:
    """(rows, columns): the exact share of each square tile's area that `tissue` (h, w), laid over the slide, covers."""
    h, w = tissue.shape
    table = np.zeros((h + 1, w + 1))
    table[1:, 1:] = tissue.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)

    def lines(starts: NDArray[np.int64], length: int, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
        return starts * (count / length), (starts + side) * (count / length)

    left, right = lines(columns, dimensions[0], w)
    top, bottom = lines(rows, dimensions[1], h)

    def at(ys: NDArray[np.float64], xs: NDArray[np.float64]) -> NDArray[np.float64]:
        # the summed-area table is bilinear within a pixel, so that a part of a pixel counts as its part
        y, x = np.meshgrid(ys, xs, indexing="ij")
        values: NDArray[np.float64] = ndimage.map_coordinates(table, [y, x], order=1, mode="nearest")
        return values

    covered = at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left)
    share: NDArray[np.float64] = covered / (side * w / dimensions[0]) / (side * h / dimensions[1])
    return share
