"""What became of a slide, for a person to check: its thumbnail with the tissue's outline and the tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from mmcli.readers.resample import resize
from mmcli.readers.slide import Slide

PICTURE_PX = 1100
HEAD, FOOT = 20, 30  # pixels above and below the slide, for what is written there
RED, GREEN, BLUE, INK = (220, 30, 30), (0, 140, 60), (40, 70, 220), (40, 40, 40)
NICE = (1, 2, 5)


def draw_picture(
    slide: Slide,
    name: str,
    thumbnail: NDArray[np.uint8],
    mask: NDArray[np.bool_] | None,
    tiles: NDArray[np.int32],
    options: dict[str, Any],
) -> NDArray[np.uint8]:
    """Picture uint8 (h, w, 3): tissue is outlined in red, tiles (N, 4) in green, every other sequence in blue; below is
    a scale bar where the MPP is known."""
    wanted = min(PICTURE_PX, 2 * max(thumbnail.shape[:2]), max(slide.dimensions))
    height, width = (max(1, round(length * wanted / max(thumbnail.shape[:2]))) for length in thumbnail.shape[:2])
    shown = resize(thumbnail, (0, 0, thumbnail.shape[1], thumbnail.shape[0]), (width, height)).copy()
    if mask is not None:
        small = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
        shown[small & ~ndimage.binary_erosion(small, border_value=1)] = RED
    scale = slide.dimensions[0] / width
    picture = Image.new("RGB", (max(width, 420), height + HEAD + FOOT), "white")
    picture.paste(Image.fromarray(shown), (0, HEAD))
    draw = ImageDraw.Draw(picture)
    length = options.get("sequence", 0)
    for number, (x, y, w, h) in enumerate((tiles / scale).tolist()):
        colour = BLUE if length and number // length % 2 else GREEN
        draw.rectangle((x, HEAD + y, x + w, HEAD + y + h), outline=colour)
    draw.text((4, 4), _ascii(f"{name}  {slide.dimensions[0]} x {slide.dimensions[1]} px"), fill=INK)
    draw.text((4, HEAD + height + 2), _ascii(_said(slide, mask, tiles, options)), fill=INK)
    if slide.mpp:
        micrometres = _nice(slide.mpp * scale * width / 5)
        right = 4 + micrometres / slide.mpp / scale
        draw.line((4, HEAD + height + 23, right, HEAD + height + 23), fill=INK, width=3)
        draw.text(
            (right + 6, HEAD + height + 16),
            f"{micrometres / 1000:g} mm" if micrometres >= 1000 else f"{micrometres:g} um",
            fill=INK,
        )
    return np.array(picture)


def _said(slide: Slide, mask: NDArray[np.bool_] | None, tiles: NDArray[np.int32], options: dict[str, Any]) -> str:
    """Tiles, tissue and MPP in a line."""
    target = "level 0" if options["target_mpp"] is None else f"{options['target_mpp']:g} um per pixel"
    said = f"{len(tiles)} tiles of {options['tile_px']} px at {target}"
    if options.get("sequence"):
        said += f" in {len(tiles) // options['sequence']} sequences"
    said += f", {mask.mean():.1%} tissue" if mask is not None else ", no tissue looked for"
    return said + (f", MPP {slide.mpp:.4g} ({slide.mpp_source})" if slide.mpp else ", MPP unknown")


def _nice(most: float) -> float:
    """The largest of 1, 2, 5, 10, 20, ... that is not above `most`."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(power * n for n in NICE if power * n <= most * (1 + 1e-9)))


def _ascii(text: str) -> str:
    """Pillow's own font has Latin letters only."""
    return text.encode("latin-1", "replace").decode("latin-1")
