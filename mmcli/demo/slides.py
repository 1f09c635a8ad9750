"""Made tissue: drawn as two stains by the law of Beer and Lambert, written as a pyramidal tiled TIFF."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]
WIDTH, HEIGHT = 1152, 1024
MPP = 0.5
TILE = 256
LEVELS = 3
# Optical density in red, green and blue, near those of Ruifrok & Johnston 2001, both stains a little redder.
HAEMATOXYLIN = np.array([0.57, 0.74, 0.32], np.float32)
EOSIN = np.array([0.07, 0.80, 0.36], np.float32)
_TEXTURE = 1024
_SHAPES = 32
_RADII = np.arange(4.0, 13.0, 0.75)


def draw_slide(rng: np.random.Generator, factor: float, site: int = 0) -> NDArray[np.uint8]:
    """Draw a section as uint8 (1024, 1152, 3) RGB at 0.5 µm per pixel.

    `factor` (standard normal) makes nuclei denser, larger, darker and more clustered; each of the four also varies by
    itself. `site` shifts the staining a little, as one laboratory's differs from the next's.
    """
    density, size, darkness, nests = factor * np.array([0.95, 0.9, 0.8, 0.8]) + rng.normal(0, [0.25, 0.4, 0.5, 0.5])
    laboratory = np.random.default_rng([7, site])
    stain_h, stain_e = laboratory.normal(1, 0.04, 2) * rng.normal(1, 0.03, 2)

    tissue = _outline(rng)
    nest = _smooth(rng, 26)
    haematoxylin = 0.05 + 0.10 * np.clip(nest, 0, 1.5)
    eosin = (0.42 + 0.10 * _fibres(rng) + 0.10 * _smooth(rng, 8) - 0.10 * np.clip(nest, 0, 1)) * tissue
    haematoxylin *= tissue
    nuclei = _nuclei(rng, tissue, nest, density, size, nests)
    haematoxylin += np.float32(0.92 * np.exp(0.16 * darkness)) * nuclei
    eosin *= 1 - 0.35 * np.minimum(nuclei, 1)

    light = np.empty((HEIGHT, WIDTH, 3), np.float32)
    paper = (243.0, 241.0, 244.0)
    for channel in range(3):
        od = haematoxylin * (stain_h * HAEMATOXYLIN[channel]) + np.maximum(eosin, 0) * (stain_e * EOSIN[channel])
        light[..., channel] = paper[channel] * np.exp(-1.35 * od)
    light += _grain()[..., None]
    return np.clip(light, 0, 255).astype(np.uint8)


def write_slide(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write uint8 (h, w, 3) as a tiled, JPEG-compressed TIFF of three levels that OpenSlide reads with its MPP."""
    per_cm = 1e4 / MPP
    with tifffile.TiffWriter(path) as tif:
        for level in range(LEVELS):
            tif.write(
                pixels,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 80},
                subfiletype=1 if level else 0,
                resolution=(per_cm / 2**level, per_cm / 2**level),
                resolutionunit="CENTIMETER",
                description="made by mmcli demo: no patient" if level == 0 else None,
                software="mmcli demo",
                metadata=None,
            )
            pixels = _halve(pixels)


def damage(path: Path) -> None:
    """Cut a file short, as a broken transfer does."""
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size * 2 // 5)


def _halve(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (h, w, 3) -> (h/2, w/2, 3): the rounded mean of each 2 x 2 pixels."""
    wide = pixels.astype(np.uint16)
    total = wide[0::2, 0::2] + wide[1::2, 0::2] + wide[0::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def _smooth(rng: np.random.Generator, scale: int) -> Array:
    """(HEIGHT, WIDTH) noise of unit variance whose spots are about `scale` pixels wide."""
    step = max(scale // 4, 2)
    coarse = rng.standard_normal((HEIGHT // step + 3, WIDTH // step + 3), dtype=np.float32)
    coarse = ndimage.gaussian_filter(coarse, scale / step)
    return _enlarge(coarse / coarse.std(), step)


def _enlarge(coarse: Array, step: int) -> Array:
    """Linear interpolation of a coarse grid of one point every `step` pixels, to (HEIGHT, WIDTH)."""
    for axis, length in enumerate((HEIGHT, WIDTH)):
        place = np.arange(length, dtype=np.float32) / np.float32(step)
        low = place.astype(np.intp)
        weight = (place - low).reshape((-1, 1) if axis == 0 else (1, -1))
        coarse = coarse.take(low, axis) * (1 - weight) + coarse.take(low + 1, axis) * weight
    return coarse


def _outline(rng: np.random.Generator) -> Array:
    """(HEIGHT, WIDTH) in [0, 1]: an irregular piece of tissue with a few gaps, its edge two pixels soft."""
    y, x = np.mgrid[: HEIGHT // 8 + 3, : WIDTH // 8 + 3].astype(np.float32) * 8
    centre = (HEIGHT / 2 + rng.normal(0, 25), WIDTH / 2 + rng.normal(0, 25))
    radius = (HEIGHT * rng.uniform(0.46, 0.54), WIDTH * rng.uniform(0.46, 0.54))
    distance = np.hypot((y - centre[0]) / radius[0], (x - centre[1]) / radius[1])
    wobble, gaps = (
        ndimage.gaussian_filter(rng.standard_normal(y.shape, dtype=np.float32), sigma) for sigma in (9.0, 3.0)
    )
    field = 1 - distance + 0.16 * wobble / wobble.std()
    holes = 2.5 - gaps / gaps.std()
    depth = _enlarge(np.minimum(field * 60, holes * 12).astype(np.float32), 8)
    ragged = depth + 1.5 * _smooth(rng, 4)
    return np.clip(ragged / 2 + 0.5, 0, 1)


@lru_cache(maxsize=1)
def _texture() -> Array:
    """(1024, 1024) periodic noise of unit variance, from which fibres are drawn out."""
    noise = np.random.default_rng(11).standard_normal((_TEXTURE, _TEXTURE), dtype=np.float32)
    fine = ndimage.gaussian_filter(noise, 1.6, mode="wrap")
    broad = ndimage.gaussian_filter(noise[::-1], 5.0, mode="wrap")
    return np.asarray(0.7 * fine / fine.std() + 0.7 * broad / broad.std(), np.float32)


@lru_cache(maxsize=1)
def _grain() -> Array:
    return np.random.default_rng(12).normal(0, 1.2, (HEIGHT, WIDTH)).astype(np.float32)


def _fibres(rng: np.random.Generator) -> Array:
    """(HEIGHT, WIDTH) stroma: noise stretched sixfold along lines that wind with a slow field."""
    angle = rng.uniform(0, np.pi)
    y = np.arange(HEIGHT, dtype=np.float32)[:, None]
    x = np.arange(WIDTH, dtype=np.float32)[None, :]
    along = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    across = np.float32(np.cos(angle)) * y - np.float32(np.sin(angle)) * x + 28 * _smooth(rng, 60)
    start = rng.integers(0, _TEXTURE, 2)
    row = (across + 4096 + start[0]).astype(np.int32) % _TEXTURE
    column = (along / 6 + 4096 + start[1]).astype(np.int32) % _TEXTURE
    return np.asarray(_texture()[row, column], np.float32)


@lru_cache(maxsize=1)
def _nucleus_shapes() -> list[Array]:
    """For each of the radii, (32, s, s) nuclei: bent ellipses with a dark rim and clumps of chromatin, 0..1.3."""
    rng = np.random.default_rng(13)
    shapes = []
    for radius in _RADII:
        half = int(np.ceil(radius * 1.6)) + 1
        y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
        bank = np.empty((_SHAPES, 2 * half + 1, 2 * half + 1), np.float32)
        for i in range(_SHAPES):
            turn, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.55)
            u = (np.cos(turn) * x + np.sin(turn) * y) / stretch**0.5
            v = (np.cos(turn) * y - np.sin(turn) * x) * stretch**0.5
            theta = np.arctan2(v, u)
            bend = sum(rng.normal(0, 0.07) * np.cos(k * theta + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4))
            inside = radius * (1 + bend) - np.hypot(u, v)
            clumps = ndimage.gaussian_filter(rng.standard_normal(x.shape), 1.3)
            rim = 0.22 * np.exp(-np.square((inside - 1.2) / 1.2))
            bank[i] = np.clip(inside / 2 + 0.5, 0, 1) * (0.80 + 0.14 * clumps / clumps.std() + rim)
        shapes.append(np.clip(bank, 0, 1.3))
    return shapes


def _nuclei(rng: np.random.Generator, tissue: Array, nest: Array, density: float, size: float, nests: float) -> Array:
    """(HEIGHT, WIDTH) nuclear stain 0..1.3: a jittered grid of places, kept with a chance that follows the nests."""
    step = 15
    rows, columns = np.mgrid[step : HEIGHT - step : step, step : WIDTH - step : step]
    y = (rows + rng.uniform(-6, 6, rows.shape)).astype(np.intp).ravel()
    x = (columns + rng.uniform(-6, 6, rows.shape)).astype(np.intp).ravel()
    gather = 0.75 + 0.30 * nests
    chance = np.clip(0.27 * np.exp(0.33 * density) * np.exp(gather * nest[y, x] - gather**2 / 2), 0, 0.95)
    kept = (rng.random(len(y)) < chance) & (tissue[y, x] > 0.9)
    y, x = y[kept], x[kept]
    radius = 6.4 * np.exp(0.14 * size) * np.exp(rng.normal(0, 0.17, len(y))) * (1 + 0.08 * np.clip(nest[y, x], -1, 1))
    radius = np.where(rng.random(len(y)) < 0.12, rng.uniform(4.0, 4.8, len(y)), radius)
    kind = np.abs(radius[:, None] - _RADII).argmin(axis=1)
    shape = rng.integers(0, _SHAPES, len(y))
    strength = rng.normal(1, 0.12, len(y)).clip(0.6, 1.3).astype(np.float32)

    margin = int(np.ceil(_RADII[-1] * 1.6)) + 1
    canvas = np.zeros((HEIGHT + 2 * margin, WIDTH + 2 * margin), np.float32)
    for k, bank in enumerate(_nucleus_shapes()):
        here = np.flatnonzero(kind == k)
        half = bank.shape[1] // 2
        near = np.arange(-half, half + 1)
        corner = (y[here] + margin) * canvas.shape[1] + x[here] + margin
        window = (near[:, None] * canvas.shape[1] + near).ravel()
        stamp = bank[shape[here]].reshape(len(here), window.size) * strength[here, None]
        np.maximum.at(canvas.reshape(-1), (corner[:, None] + window).ravel(), stamp.ravel())
    return canvas[margin:-margin, margin:-margin]
