"""What became of a volume, for a person to check: three slices through each crop, with the mask and the crop's box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mmcli.readers.volume import Volume

PANEL = 380  # of each of the three slices, in pixels
MOST_ROWS = 3
MARGIN = 22
GREEN, RED, GREY = (0, 255, 0), (255, 64, 64), (170, 170, 170)
# (axis that is cut, axis down, axis across), and what lies left, right, up and down: a radiologist's way of looking
VIEWS = ((0, 1, 2, "RLAP"), (1, 0, 2, "RLSI"), (2, 0, 1, "APSI"))


@dataclass(frozen=True)
class Seen:
    """A box that an encoder sees: its middle and size (z, y, x) in voxels of the volume, and the mask's cm3 in it."""

    centre: tuple[float, float, float]
    size: tuple[float, ...]
    volume: float


def draw_picture(
    volume: Volume, mask: NDArray[np.bool_] | None, window: list[float], seen: list[Seen]
) -> NDArray[np.uint8] | None:
    """Picture uint8 (h, w, 3): a row of an axial, a coronal and a sagittal slice through the middle of each of the
    first boxes, in true proportions and the store's window; the mask's outline is red, the box green."""
    rows = []
    for number, one in enumerate(seen[:MOST_ROWS], start=1):
        panels = [_panel(volume, mask, window, one, view) for view in VIEWS]
        row = Image.new("RGB", (sum(p.width for p in panels), max(p.height for p in panels) + MARGIN))
        left = 0
        for panel in panels:
            row.paste(panel, (left, MARGIN))
            left += panel.width
        said = f"{number} of {len(seen)}" + (f", mask {one.volume:.2f} cm3" if mask is not None else ", no mask")
        said += f", window {window[0]:.4g} to {window[1]:.4g}"
        ImageDraw.Draw(row).text((4, 4), said, fill=GREY)
        rows.append(row)
    if not rows:
        return None
    picture = Image.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)))
    top = 0
    for row in rows:
        picture.paste(row, (0, top))
        top += row.height
    return np.array(picture)


def _panel(
    volume: Volume, mask: NDArray[np.bool_] | None, window: list[float], one: Seen, view: tuple[int, int, int, str]
) -> Image.Image:
    cut, down, across, sides = view
    at = min(max(round(one.centre[cut]), 0), volume.array.shape[cut] - 1)
    steps = volume.spacing[::-1]
    extent = [volume.array.shape[axis] * steps[axis] for axis in (down, across)]
    scale = (PANEL - 2 * MARGIN) / max(extent)
    height, width = (max(1, round(length * scale)) for length in extent)
    plane = np.take(volume.array, at, axis=cut)
    grey = (np.clip((plane - window[0]) / (window[1] - window[0]), 0, 1) * 255).astype(np.uint8)
    # rows run down from the head or the front; columns to the patient's left, or to the back
    turned = slice(None, None, -1)
    shown = Image.fromarray(np.ascontiguousarray(grey[turned, turned])).resize((width, height)).convert("RGB")
    if mask is not None:
        inside = np.ascontiguousarray(np.take(mask, at, axis=cut)[turned, turned])
        pixels = np.array(shown)
        pixels[_outline(np.array(Image.fromarray(inside).resize((width, height), Image.Resampling.NEAREST)))] = RED
        shown = Image.fromarray(pixels)
    panel = Image.new("RGB", (PANEL, PANEL))
    left, top = (PANEL - width) // 2, (PANEL - height) // 2
    panel.paste(shown, (left, top))
    draw = ImageDraw.Draw(panel)
    box = []
    for axis, start, length in ((across, left, width), (down, top, height)):
        count = volume.array.shape[axis]
        ends = [count - 0.5 - (one.centre[axis] + sign * one.size[axis] / 2) for sign in (1, -1)]
        box.append([start + min(max(end / count, -0.02), 1.02) * length for end in ends])
    draw.rectangle((box[0][0], box[1][0], box[0][1], box[1][1]), outline=GREEN)
    middle = PANEL // 2
    places = ((left - 12, middle), (left + width + 5, middle), (middle, top - 14), (middle, top + height + 3))
    for letter, place in zip(sides, places, strict=True):
        draw.text(place, letter, fill=GREY)
    return panel


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask's own pixels that touch one outside it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
