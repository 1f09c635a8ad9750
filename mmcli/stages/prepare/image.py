"""Images (ultrasound, dermoscopy, photographs) to the rectangle that an encoder sees."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mmcli.cohort.model import FileSpec
from mmcli.errors import RequestError, UnreadableError
from mmcli.files import canonical_json
from mmcli.readers.image import Clip, read_clip, read_picture_mask
from mmcli.readers.ultrasound import Box
from mmcli.stages.prepare.base import Given, Prepared, check_exists, source_of

OPTIONS: tuple[str, ...] = ("image_crop", "image_margin", "image_frame", "clahe")
COORDS = ("x", "y", "width", "height")
CROPS = ("none", "sector", "mask")
FRAMES = ("first", "middle")
MOST_CLIP = 256  # a grey level has at most all pixels of a tile
SIDE = 600  # of each half of the picture for a person
GREEN = (0, 255, 0)


def options(given: Given) -> dict[str, Any]:
    """crop, margin (only around a mask), frame, and clahe: the clip limit or None. Extraction reads them again."""
    crop = given.choice("image_crop", CROPS)
    margin = given.number("image_margin")
    limit = given.number("clahe") if given.text("clahe") else None
    if margin < 0:
        raise RequestError("--image-margin must be 0 or more; 0.1 is a tenth of the mask's sides")
    if limit is not None and not 0 < limit <= MOST_CLIP:
        raise RequestError(f"--clahe must be above 0 and at most {MOST_CLIP}; 2 to 4 are usual")
    return {"crop": crop, "margin": margin if crop == "mask" else 0.0, "frame": given.choice("image_frame", FRAMES),
            "clahe": limit}  # fmt: skip


def prepare(file: FileSpec, options: dict[str, Any], draw: bool = True) -> Prepared:
    """The image, its sector or the surroundings of its mask as one instance: coords int32 (1, 4)."""
    check_exists(file)
    clip = read_clip(file.path, options["frame"], options["crop"] == "sector")
    box = _box(file, clip, options)
    about = canonical_json({"frame": clip.index, "frames": clip.count}) if clip.count > 1 else ""
    picture = _picture(clip, box, options) if draw else None
    return Prepared(source_of(file, about=about), np.array([box], np.int32), picture=picture)


def _box(file: FileSpec, clip: Clip, options: dict[str, Any]) -> Box:
    height, width, _ = clip.image.shape
    if options["crop"] == "none":
        return 0, 0, width, height
    if options["crop"] == "sector":
        return clip.sector().box
    if file.mask is None:
        raise UnreadableError(f"{file.shown}: has no mask to crop around; name its column as mask: in the cohort")
    if not file.mask.exists():
        raise UnreadableError(f"{file.mask.name}: no such file under the cohort's root (the mask of {file.shown})")
    return around(read_picture_mask(file.mask, (height, width)), options["margin"])


def around(mask: NDArray[np.bool_], margin: float) -> Box:
    """The box of a mask (h, w) and, on each side, `margin` of its height or width, as far as the picture goes."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    (top, bottom), (left, right) = (
        (max(0, first - add), min(length, last + 1 + add))
        for first, last, length in (
            (int(i[0]), int(i[-1]), n) for i, n in zip((rows, columns), mask.shape, strict=True)
        )
        for add in (math.ceil(margin * (last + 1 - first)),)
    )
    return left, top, right - left, bottom - top


def _picture(clip: Clip, box: Box, options: dict[str, Any]) -> NDArray[np.uint8]:
    """The image with the box drawn and, where it differs, what an encoder sees beside it."""
    whole = Image.fromarray(clip.image)
    scale = min(1.0, SIDE / max(whole.size))
    whole = whole.resize((max(1, round(whole.width * scale)), max(1, round(whole.height * scale))))
    if options["crop"] == "none" and options["clahe"] is None:
        return np.array(whole)
    x, y, width, height = (side * scale for side in box)
    drawn = (x, y, max(x, x + width - 1), max(y, y + height - 1))
    ImageDraw.Draw(whole).rectangle(drawn, outline=GREEN, width=2)
    seen = Image.fromarray(clip.seen(box, options))
    seen.thumbnail((SIDE, SIDE))
    both = Image.new("RGB", (whole.width + seen.width, max(whole.height, seen.height)))
    both.paste(whole, (0, 0))
    both.paste(seen, (whole.width, 0))
    return np.array(both)
