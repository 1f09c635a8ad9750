"""Single pictures (ultrasound, dermoscopy, photographs): PNG, JPEG, TIFF and DICOM as RGB of 8 bits.

16 bits are scaled by their full range, floats and wide integers by their own; transparency lies on white; the EXIF
orientation is applied. Of a file with several frames or pages the first is taken; of a DICOM clip, where asked, the
middle one.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from pydicom.dataset import FileDataset
from pydicom.pixels import apply_color_lut, pixel_array

from mmcli.errors import UnreadableError
from mmcli.readers.contrast import clahe
from mmcli.readers.dicom import looks_like_dicom, read_header
from mmcli.readers.faults import naming, one_line
from mmcli.readers.ultrasound import Box, Sector, find_sector, regions

EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".bmp", ".gif", ".webp", ".pbm", ".pgm", ".ppm")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
STRIP_PIXELS = 4_000_000
MAX_PIXELS = 400_000_000  # 1.2 GB as RGB
SECTOR_FRAMES = 8  # of a clip, that its sector is looked for in
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses beyond twice this
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\..*")
logging.getLogger("tifffile").addHandler(logging.NullHandler())

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """A picture, or one frame of a DICOM clip: `image` uint8 (h, w, 3), frame `index` of `count`; `others` are some
    more frames and `named` the file's ultrasound regions, where a sector was asked for."""

    image: Pixels
    index: int = 0
    count: int = 1
    others: tuple[Pixels, ...] = ()
    named: tuple[Box, ...] = ()

    def sector(self) -> Sector:
        """The ultrasound sector; UnreadableError where there is none."""
        return self._sector

    @cached_property
    def _sector(self) -> Sector:
        return find_sector([self.image, *self.others], self.named)

    def seen(self, box: Box | None, settings: Mapping[str, Any]) -> Pixels:
        """What an encoder sees, as `read_image_as` says."""
        image = self.image
        if settings.get("crop") == "sector":
            image = np.where(self.sector().inside[:, :, None], image, np.uint8(0))
        if box is not None:
            x, y, width, height = box
            image = image[y : y + height, x : x + width]
        limit = settings.get("clahe")
        return clahe(image, limit) if limit else np.ascontiguousarray(image)


def read_image(path: Path | str) -> Pixels:
    """Pixels uint8 (h, w, 3) RGB. UnreadableError for damaged, truncated or empty files, pictures of more than
    400 megapixels, and DICOM objects that hold no picture or only tiles of a slide."""
    return read_clip(Path(path)).image


def read_image_as(path: Path, box: Box | None, settings: Mapping[str, Any]) -> Pixels:
    """What an encoder sees of a picture, uint8 (height, width, 3) of the box (x, y, width, height; None = all).

    `settings` are those of preprocess: `frame` ("first", "middle"), `crop` ("sector" blackens what lies outside of
    the sector within the box), `clahe` (its clip limit, None = none; over the box alone).
    """
    clip = read_clip(path, settings.get("frame", "first"), settings.get("crop") == "sector")
    return clip.seen(box, settings)


def read_clip(path: Path, frame: str = "first", sector: bool = False) -> Clip:
    """One frame of a picture file, and with `sector` what its ultrasound sector is found from."""
    with naming(path):
        return _read_dicom(path, frame, sector) if _head(path) else Clip(read_picture(path))


def read_picture_mask(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask drawn over a picture, bool (h, w): True where a pixel is not 0 (in JPEG above 127) and not transparent.

    UnreadableError where its size is not `shape` (h, w), and where no pixel is set.
    """
    with naming(path):
        mask = _read_dicom(path, "first", False).image.any(axis=2) if _head(path) else _drawn(path)
        if mask.shape != shape:
            raise UnreadableError(
                f"the mask has {mask.shape[1]} x {mask.shape[0]} pixels, its picture {shape[1]} x {shape[0]}"
            )
        if not mask.any():
            raise UnreadableError("the mask is empty: there is nothing to crop around")
    return mask


def _head(path: Path) -> bool:
    """Whether a file is DICOM; UnreadableError where there is none, or nothing in it."""
    if not path.is_file():
        raise UnreadableError("a folder, where one picture's file is expected" if path.is_dir() else "no such file")
    with path.open("rb") as file:
        head = file.read(132)
    if not head:
        raise UnreadableError("is empty (zero bytes)")
    return looks_like_dicom(head)


def _drawn(path: Path) -> NDArray[np.bool_]:
    try:
        with Image.open(path, formats=FORMATS) as picture:
            _check_size(picture.size)
            picture.load()
            least = 127 if picture.format == "JPEG" else 0
            turned = ImageOps.exif_transpose(picture)
            values = np.asarray(turned)
    except (Image.DecompressionBombError, UnidentifiedImageError):
        return np.asarray(read_picture(path).max(axis=2) > 0, dtype=bool)  # says what is wrong
    except UnreadableError:
        raise
    except Exception as error:  # Pillow's plug-ins raise errors of every kind on damaged files
        raise UnreadableError(f"cannot be decoded ({one_line(error)})") from error
    if values.ndim == 2:
        return np.asarray(values > least, dtype=bool)
    colours = values.shape[2] - (turned.mode in ("RGBA", "LA"))
    seen = np.asarray((values[:, :, :colours] > least).any(axis=2), dtype=bool)
    if colours < values.shape[2]:
        seen[values[:, :, -1] == 0] = False
    return seen


def read_picture(path: Path, formats: tuple[str, ...] = FORMATS) -> Pixels:
    """First frame of a picture file as uint8 (h, w, 3); what Pillow cannot open and is a TIFF goes to tifffile."""
    try:
        with Image.open(path, formats=formats) as picture:
            _check_size(picture.size)
            return _to_rgb(picture)
    except UnreadableError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableError(f"declares more than the limit of {MAX_PIXELS // 10**6} megapixels") from error
    except Exception as error:  # Pillow's plug-ins raise errors of every kind on damaged files
        if _is_tiff(path) and "TIFF" in formats:
            return _read_tiff(path)
        unknown = isinstance(error, UnidentifiedImageError)
        why = "damaged, or not PNG, JPEG, TIFF or DICOM" if unknown else one_line(error)
        raise UnreadableError(f"cannot be decoded ({why})") from error


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise UnreadableError(f"is of size zero ({width} x {height})")
    if width * height > MAX_PIXELS:
        raise UnreadableError(f"declares {width} x {height} pixels, more than {MAX_PIXELS // 10**6} megapixels")


def _to_rgb(picture: Image.Image) -> Pixels:
    inverted = picture.format == "TIFF" and getattr(picture, "tag_v2", {}).get(262) == 0
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)  # else a copy, whether it is turned or not
    if picture.mode == "F" or picture.mode.startswith("I"):
        values = np.asarray(picture)
        full = 65535 if picture.mode.startswith("I;16") else None
        return _grey(_to_8bit(values, full), inverted)
    if picture.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        turned = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
        assert turned is not None
        picture = turned
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return _pixels(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _pixels(picture: Image.Image) -> Pixels:
    """An RGB picture's pixels, in strips: at once Pillow would hold them three times."""
    width, height = picture.size
    out = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        out[top:bottom] = np.asarray(picture.crop((0, top, width, bottom)))
    return out


def _to_8bit(values: NDArray[Any], full: int | None) -> Pixels:
    """Values scaled to 0..255: by `full` (black at 0), or from their own minimum and maximum when it is None."""
    scaled = values.astype(np.float64)
    if not np.isfinite(scaled).all():
        raise UnreadableError("holds NaN or infinite pixels")
    low = 0.0 if full is not None else float(scaled.min())
    high = float(full) if full is not None else float(scaled.max())
    span = high - low
    return np.clip(np.rint((scaled - low) * (255.0 / span if span > 0 else 0.0)), 0, 255).astype(np.uint8)


def _grey(values: Pixels, inverted: bool = False) -> Pixels:
    return np.repeat((255 - values if inverted else values)[:, :, None], 3, axis=2)


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _read_tiff(path: Path) -> Pixels:
    """The first page of what Pillow does not know (64-bit floats, WebP or JPEG XL compression ...)."""
    try:
        with tifffile.TiffFile(path) as tiff:
            if not tiff.pages:
                raise UnreadableError("is a TIFF without a picture (its directory is damaged)")
            page = tiff.pages[0]
            _check_size((page.imagewidth, page.imagelength))
            photometric = getattr(page.photometric, "name", str(page.photometric))
            if page.samplesperpixel not in (1, 3, 4) or photometric not in ("MINISBLACK", "MINISWHITE", "RGB", "YCBCR"):
                raise UnreadableError(
                    f"is a TIFF of {page.samplesperpixel} samples a pixel ({photometric}): save it as RGB"
                )
            if page.imagewidth * page.imagelength * page.samplesperpixel * page.dtype.itemsize > 8 * MAX_PIXELS:
                raise UnreadableError("decodes to more bytes than the limit of 3.2 GB")
            # tifffile fills what a truncated file lacks with zeros
            ends = [at + count for at, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
            if max(ends, default=0) > path.stat().st_size:
                raise UnreadableError("is truncated: its pixels end after the file does")
            values = np.asarray(page.asarray())
            if page.planarconfig == 2 and values.ndim == 3:
                values = np.moveaxis(values, 0, -1)
    except UnreadableError:
        raise
    except Exception as error:  # tifffile and its codecs raise errors of every kind on damaged files
        raise UnreadableError(f"cannot be decoded ({one_line(error)})") from error
    if values.dtype != np.uint8:
        integers = {np.dtype(np.uint16): 65535, np.dtype(np.bool_): 1}
        values = _to_8bit(values, integers.get(values.dtype))
    if values.ndim == 2:
        return _grey(values, photometric == "MINISWHITE")
    if values.ndim == 3 and values.shape[2] == 4:
        alpha = values[:, :, 3:].astype(np.float64) / 255
        values = np.rint(values[:, :, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.ascontiguousarray(values)


def _read_dicom(path: Path, frame: str, sector: bool) -> Clip:
    dataset = read_header(path, pixels=True)
    try:
        if dataset is None or not any(name in dataset for name in PIXELS):
            kind = str(dataset.get("Modality", "") or "") if dataset is not None else ""
            raise UnreadableError(
                f"is a DICOM object without pixels{f' ({kind})' if kind else ''}: it holds no picture"
            )
        _check_size((int(dataset.Columns), int(dataset.Rows)))
        count = int(dataset.get("NumberOfFrames", 1) or 1)
        if dataset.get("Modality") == "SM" and (count > 1 or "TotalPixelMatrixColumns" in dataset):
            raise UnreadableError("is a slide in tiles: its modality is of kind slide")
        index = count // 2 if frame == "middle" else 0
        named = tuple(regions(dataset)) if sector else ()
        spread = np.linspace(0, count - 1, min(count, SECTOR_FRAMES)).round().astype(int).tolist()
        others = [i for i in spread if i != index] if sector and not named else []
        image, *more = (_dicom_rgb(dataset, pixel_array(dataset, index=i)) for i in (index, *others))
        return Clip(image, index, count, tuple(more), named)
    except UnreadableError:
        raise
    except Exception as error:  # each decoder plug-in has errors of its own
        raise UnreadableError(f"its pixels cannot be decoded ({one_line(error)})") from error


def _dicom_rgb(dataset: FileDataset, values: NDArray[Any]) -> Pixels:
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    stored = int(dataset.get("BitsStored", 8) or 8)
    if photometric == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)[:, :, :3]
        stored = 16 if values.dtype == np.uint16 else 8
    if values.ndim == 3:
        return np.ascontiguousarray(values) if values.dtype == np.uint8 else _to_8bit(values, 2**stored - 1)
    inverted = photometric == "MONOCHROME1"
    physical = values * float(dataset.get("RescaleSlope", 1) or 1) + float(dataset.get("RescaleIntercept", 0) or 0)
    window = _window(dataset)
    if window is not None:
        return _grey(_windowed(physical, *window), inverted)
    if values.dtype == np.uint8:
        return _grey(values * np.uint8(255) if stored == 1 else values, inverted)
    return _grey(_to_8bit(physical, None), inverted)


def _window(dataset: FileDataset) -> tuple[float, float] | None:
    pair = []
    for name in ("WindowCenter", "WindowWidth"):
        value = dataset.get(name)
        if value is None or value == "":
            return None
        pair.append(float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value))
    return (pair[0], pair[1]) if pair[1] >= 1 else None


def _windowed(values: NDArray[np.float64], centre: float, width: float) -> Pixels:
    """The linear window of DICOM PS3.3 C.11.2.1.2, to 0..255."""
    if width == 1:
        return np.where(values <= centre - 0.5, 0, 255).astype(np.uint8)
    scaled = ((values - (centre - 0.5)) / (width - 1) + 0.5) * 255
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
