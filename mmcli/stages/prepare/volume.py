"""Volumes (CT, MR, PET) to crops or sequences of slices, kept in the store."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcli.cohort.model import FileSpec
from mmcli.errors import RequestError, UnreadableError
from mmcli.fields import flag
from mmcli.files import canonical_json
from mmcli.readers.lesions import Lesion, crop_frames, crop_lesion, lesions, sequences, whole
from mmcli.readers.volume import Volume, crop_volume, read_mask, read_volume
from mmcli.stages.pixels import quantise
from mmcli.stages.prepare.base import Given, Prepared, check_exists, source_of
from mmcli.stages.prepare.volume_picture import Seen, draw_picture

OPTIONS = ("spacing", "crop", "window", "expect", "mask_label", "lesions", "outside", "frames", "frames_drop")
COORDS = ("x", "y", "z", "mm3", "first", "last")
EXPECTED = ("CT", "MR", "PT", "NM", "US", "XA", "OT")
MOST_VOXELS = 1 << 28
MOST_LESIONS = 1000
SAMPLE = 2_000_000  # voxels that percentiles are taken of, evenly spread
HARDLY = 0.02  # of the default window's width: what spans less was never in HU


def options(given: Given) -> dict[str, Any]:
    """spacing (x, y, z) in mm, crop (z, y, x) in voxels, window (low, high) and whether in "%"; the others where they
    are asked for: expect, mask_label, lesions (first, last), outside, frames (n, h, w), frames_drop (head, feet)."""
    options: dict[str, Any] = {"spacing": given.numbers("spacing", 3), "crop": given.numbers("crop", 3, int)}
    text = given.text("window")
    percent = all(part.strip().endswith("%") for part in text.split(","))
    options["window"] = _numbers("window", text.replace("%", "") if percent else text, 2)
    if min(*options["spacing"], *options["crop"]) <= 0 or options["window"][0] >= options["window"][1]:
        raise RequestError("--spacing and --crop must be above 0, and --window LOW,HIGH must rise")
    if percent and not 0 <= options["window"][0] < options["window"][1] <= 100:
        raise RequestError(f"--window: {text}: percentiles lie between 0% and 100%")
    options |= {"percent": percent} if percent else {}
    default = type(given.settings).model_fields["window"].default[""]
    options |= {"hu": True} if text == default and given.modality not in given.settings.window else {}
    options |= {"mask_label": given.text("mask_label")} if given.text("mask_label") else {}
    if given.text("expect"):
        options["expect"] = given.text("expect").upper()
        if options["expect"] not in EXPECTED:
            raise RequestError(f"--expect: {given.text('expect')!r} is none of DICOM's codes of volumes: "
                               f"{', '.join(EXPECTED)} (PT is PET)")  # fmt: skip
    if given.text("lesions"):
        options["lesions"] = _ranks(given.text("lesions"))
    if given.choice("outside", ("keep", "blank")) == "blank":
        options["outside"] = "blank"
    if given.text("frames"):
        if "lesions" in options or "outside" in options:
            raise RequestError("--frames takes whole slices: leave out --lesions and --outside")
        for name in ("crop", "spacing"):
            if given.modality in getattr(given.settings, name):
                raise RequestError(f"{flag(name)} {given.modality}=...: --frames takes whole slices at their own "
                                   "spacing; leave it out")  # fmt: skip
        options["frames"] = given.numbers("frames", 3, int)
        options["frames_drop"] = given.numbers("frames_drop", 2)
        if min(options["frames"]) < 1 or min(options["frames_drop"]) < 0 or sum(options["frames_drop"]) >= 1:
            raise RequestError("--frames must be above 0, and --frames-drop two shares that leave something")
        del options["crop"], options["spacing"]
    shape = "frames" if "frames" in options else "crop"
    if math.prod(options[shape]) > MOST_VOXELS:
        raise RequestError(
            f"{flag(shape)}: {given.text(shape)} is more than {MOST_VOXELS} voxels, which no encoder reads"
        )
    return options


def _numbers(name: str, text: str, count: int) -> list[float]:
    try:
        values = [float(v) for v in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not all(abs(v) <= 1e9 for v in values):
        raise RequestError(f"{flag(name)}: expected {count} numbers with commas, or percentiles 1%,99%, not {text!r}")
    return values


def _ranks(text: str) -> list[int]:
    """ "3" to [1, 3], "2-2" to [2, 2]: the ranks by size of the lesions that are taken."""
    match = re.fullmatch(r"(?:(\d{1,4})-)?(\d{1,4})", text.strip())
    ranks = [int(match[1] or 1), int(match[2])] if match else [0, 0]
    if not 1 <= ranks[0] <= ranks[1] <= MOST_LESIONS:
        raise RequestError(f"--lesions: expected a number such as 3, or ranks such as 2-2, not {text!r}")
    return ranks


@dataclass(frozen=True)
class _Instance:
    """Where an instance lies: its middle (z, y, x) as an index of the volume, the mask's voxels, the first and last
    slice that it is about, and how it is cut out."""

    centre: tuple[float, float, float]
    voxels: int
    first: int
    last: int
    cut: Callable[[], NDArray[np.float32]]


def prepare(file: FileSpec, options: dict[str, Any], draw: bool = True) -> Prepared:
    """Crops around the mask, its lesions or the volume's centre, or sequences of slices: pixels int16 (N, d, h, w), and
    coords float32 (N, 6): the middle in RAS mm, the mask's volume in it in mm3 (0 without a mask), and the first and
    last slice that the lesion or sequence covers, counted from the feet."""
    check_exists(file)
    volume = read_volume(file.path)
    _check_modality(file, volume, options)
    window = _window(file, volume, options)
    label = file.mask_label or options.get("mask_label")
    if file.mask is None and (label or "lesions" in options or "outside" in options):
        raise UnreadableError(f"{file.shown}: has no mask, which --mask-label, --lesions and --outside are about")
    mask = read_mask(file.mask, volume, label) if file.mask else None
    instances = _sequences(volume, mask, options) if "frames" in options else _crops(volume, mask, options, window[0])
    size = tuple(options["frames"] if "frames" in options else options["crop"])
    pixels = np.empty((len(instances), *size), np.int16)
    coords = np.empty((len(instances), len(COORDS)), np.float32)
    for i, one in enumerate(instances):
        block = one.cut()
        _check_block(file, block, window, options)
        pixels[i] = quantise(block, window)
        middle = volume.affine[:3, :3] @ one.centre[::-1] + volume.affine[:3, 3]
        coords[i] = [*middle, one.voxels * math.prod(volume.spacing), one.first, one.last]
    about = {"modality": volume.modality, "window": window} | ({"mask": label} if label else {})
    source = source_of(file, spacing=tuple(float(s) for s in volume.spacing), about=canonical_json(about))
    picture = draw_picture(volume, mask, window, _seen(volume, instances, options)) if draw else None
    return Prepared(source, coords, pixels, picture)


def _crops(volume: Volume, mask: NDArray[np.bool_] | None, options: dict[str, Any], low: float) -> list[_Instance]:
    spacing, size = tuple(options["spacing"]), tuple(options["crop"])
    blank = low if "outside" in options else None
    if mask is None:
        z, y, x = ((n - 1) / 2 for n in volume.array.shape)
        last = len(volume.array) - 1
        return [_Instance((z, y, x), 0, 0, last, lambda: crop_volume(volume, None, spacing, size))]
    first, last = options.get("lesions", (1, 1))
    chosen = lesions(mask)[first - 1 : last] if "lesions" in options else [whole(mask)]

    def instance(one: Lesion) -> _Instance:
        return _Instance(one.centre, one.voxels(), one.corner[0], one.last[0],
                         lambda: crop_lesion(volume, one, spacing, size, blank))  # fmt: skip

    return [instance(one) for one in chosen]


def _sequences(volume: Volume, mask: NDArray[np.bool_] | None, options: dict[str, Any]) -> list[_Instance]:
    count, height, width = options["frames"]
    depth, rows, columns = volume.array.shape
    head, feet = options["frames_drop"]

    def instance(first: int, last: int) -> _Instance:
        centre = ((first + last) / 2, (rows - 1) / 2, (columns - 1) / 2)
        voxels = 0 if mask is None else int(np.count_nonzero(mask[first : last + 1]))
        return _Instance(centre, voxels, first, last, lambda: crop_frames(volume, first, last, (height, width)))

    return [instance(first, last) for first, last in sequences(depth, count, (head, feet))]


def _check_modality(file: FileSpec, volume: Volume, options: dict[str, Any]) -> None:
    """A DICOM volume says what it is; other files do not, and are taken at the cohort's word."""
    known, expected = volume.modality, options.get("expect")
    if expected and known and known != expected:
        raise UnreadableError(f"{file.shown}: is {known}, where --expect asks for {expected}")
    if "hu" in options and known not in (None, "CT"):
        raise UnreadableError(
            f"{file.shown}: is {known}, and the default --window is for CT in HU: give --window MODALITY=LOW,HIGH, or "
            "percentiles 1%,99%"
        )


def _window(file: FileSpec, volume: Volume, options: dict[str, Any]) -> list[float]:
    low, high = options["window"]
    least, most = volume.lowest, float(volume.array.max())
    if "percent" in options:
        every = max(1, round((volume.array.size / SAMPLE) ** (1 / 3)))
        low, high = (float(v) for v in np.percentile(volume.array[::every, ::every, ::every], [low, high]))
        if low >= high:
            raise UnreadableError(
                f"{file.shown}: its percentiles {options['window']} are both {low:.4g}: a flat volume"
            )
    elif most <= low or least >= high or ("hu" in options and most - least < HARDLY * (high - low)):
        raise UnreadableError(
            f"{file.shown}: its values {least:.4g} to {most:.4g} hardly use the window {low:.4g} to {high:.4g}: give "
            "--window MODALITY=LOW,HIGH"
        )
    return [low, high]


def _check_block(file: FileSpec, block: NDArray[np.float32], window: list[float], options: dict[str, Any]) -> None:
    if "hu" in options and np.count_nonzero(block >= window[1]) > block.size / 2:
        raise UnreadableError(
            f"{file.shown}: more than half of its crop lies above {window[1]:.4g}, which is no CT in HU: give --window "
            "MODALITY=LOW,HIGH"
        )


def _seen(volume: Volume, instances: list[_Instance], options: dict[str, Any]) -> list[Seen]:
    """The instances as boxes of the volume's own voxels, for the picture."""
    seen = []
    for one in instances:
        if "frames" in options:
            sizes = (one.last - one.first + 1, *volume.array.shape[1:])
        else:
            steps = zip(options["crop"], options["spacing"][::-1], volume.spacing[::-1], strict=True)
            sizes = tuple(n * target / own for n, target, own in steps)
        seen.append(Seen(one.centre, sizes, one.voxels * math.prod(volume.spacing) / 1000))
    return seen
