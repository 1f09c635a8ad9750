"""The ultrasound sector: drawn screens where it is known, real screens where a person saw it, DICOM's own regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from mmcli.errors import UnreadableError
from mmcli.readers.image import read_clip, read_image, read_image_as
from mmcli.readers.ultrasound import find_sector, regions

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def screen(shape: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A screen of 640 x 480 with speckle in a fan or rectangle, text, a colour bar, a flat header; and the truth."""
    mask = Image.new("1", (640, 480))
    draw = ImageDraw.Draw(mask)
    if shape == "fan":
        draw.pieslice((70, -240, 570, 440), 50, 130, fill=1)
    else:
        draw.rectangle((150, 60, 489, 429), fill=1)
    inside = np.array(mask)
    noise = np.random.default_rng(0).rayleigh(40, (480, 640)).clip(10, 255).astype(np.uint8)
    pixels = np.where(inside[:, :, None], noise[:, :, None], 0).astype(np.uint8).repeat(3, 2)
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 639, 24), fill=(40, 70, 130))
    for i in range(8):
        draw.text((4, 30 + 14 * i), f"Gain {i} 12.5 cm", fill="white")
        draw.text((560, 300 + 14 * i), "MI 0.8 TIS", fill="white")
    draw.rectangle((600, 60, 612, 160), fill=(250, 180, 20))
    draw.ellipse((290, 200, 350, 260), fill="black")  # a cyst gives no echo
    return np.array(image), inside


@pytest.mark.parametrize("shape", ["fan", "rectangle"])
def test_a_drawn_sector_is_found_to_a_few_pixels(shape: str) -> None:
    image, truth = screen(shape)
    found = find_sector([image])
    assert (found.inside & truth).sum() / (found.inside | truth).sum() > 0.95
    rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
    x, y, width, height = found.box
    expected = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert np.abs(np.subtract((x, y, x + width, y + height), expected)).max() <= 12
    assert not found.inside[:25].any() and found.inside[230, 320]  # the header is out, the cyst in


def test_a_clip_is_looked_at_as_a_whole_and_black_has_no_sector() -> None:
    image, truth = screen("rectangle")
    top, bottom = image.copy(), image.copy()
    top[245:430, 150:490], bottom[60:245, 150:490] = 0, 0
    both, one = find_sector([top, bottom]), find_sector([top])
    assert both.inside[truth].mean() > 0.97 and one.inside[truth].mean() < 0.6
    only_text = np.where(truth[:, :, None], np.uint8(0), image)
    for empty in (np.zeros((50, 60, 3), np.uint8), np.full((50, 60, 3), 200, np.uint8), only_text):
        with pytest.raises(UnreadableError, match="no ultrasound sector is found"):
            find_sector([empty])


def dataset(*boxes: tuple[int, ...], kind: int = 1) -> Dataset:
    made, items = Dataset(), []
    made.Columns, made.Rows = 640, 480
    for box in boxes:
        item = Dataset()
        item.RegionSpatialFormat, item.RegionDataType = 1, kind
        for name, value in zip(("MinX0", "MinY0", "MaxX1", "MaxY1"), box, strict=True):
            setattr(item, f"RegionLocation{name}", value)
        items.append(item)
    made.SequenceOfUltrasoundRegions = items
    return made


def test_regions_of_dicom() -> None:
    assert regions(dataset((100, 50, 499, 399))) == [(100, 50, 400, 350)]
    assert regions(dataset((100, 50, 640, 480))) == [(100, 50, 540, 430)]  # some machines count past the last pixel
    assert regions(dataset((100, 50, 499, 399), (120, 60, 200, 90), kind=2)) == [(100, 50, 400, 350), (120, 60, 81, 31)]
    assert regions(dataset((100, 50, 700, 399))) == []  # resized after the scan
    assert regions(dataset((0, 0, 640, 480))) == [] and regions(dataset((9, 9, 99, 99), kind=4)) == []
    assert regions(Dataset()) == []


REAL = {  # what a person sees: (x, y, width, height) of the scan, each side to within so many pixels
    "dicom/US-RGB-8-epicard": ((85, 57, 470, 358), 12), "dicom/US1_J2KR.dcm": ((0, 105, 640, 233), 12),
    "dicom/OBXXXX1A_rle_2frame.dcm": ((120, 60, 680, 459), 1),  # as the file says
    "dicom/color-pl.dcm": ((0, 0, 256, 120), 1), "itkpocus/sonosite-anon-eye1.jpg": ((386, 41, 338, 605), 12),
    "itkpocus/interson-image.jpg": ((387, 61, 527, 790), 12),
    "itkpocus/clarius_axial-lateral-resolution-2020.png": ((340, 158, 598, 642), 12),
    "itkpocus/butterfly_axial-lateral-resolution-2020.png": ((595, 10, 733, 1065), 20),
}  # fmt: skip


def test_real_screens(data: Path) -> None:
    folder = data / "images/ultrasound"
    for name, (box, within) in REAL.items():
        clip = read_clip(folder / name, sector=True)
        x, y, width, height = clip.sector().box
        ours, seen = (x, y, x + width, y + height), (box[0], box[1], box[0] + box[2], box[1] + box[3])
        assert np.abs(np.subtract(ours, seen)).max() <= within, (name, ours, seen)
    for path in sorted((folder / "busi_256").rglob("*.png")):  # cut out before: nothing is lost
        assert read_clip(path, sector=True).sector().box == (0, 0, 256, 256), path.name


def test_a_region_of_resized_pixels_is_not_believed(data: Path) -> None:
    """Its region ends at x = 595 of 320 columns; the scan lies at about 85..230, in all 30 frames."""
    path = data / "images/ultrasound/dicom/examples_ybr_color.dcm"
    clip = read_clip(path, "middle", sector=True)
    assert (clip.index, clip.count, clip.named, len(clip.others)) == (15, 30, (), 8)
    x, y, width, height = clip.sector().box
    assert 60 < x < 100 and 215 < x + width < 260 and y < 30 and 195 < y + height < 225
    assert not np.array_equal(clip.image, read_image(path))


def test_what_the_encoder_sees_has_no_text_beside_the_fan(data: Path) -> None:
    path = data / "images/ultrasound/dicom/US-RGB-8-epicard"
    clip = read_clip(path, sector=True)
    seen = read_image_as(path, clip.sector().box, {"crop": "sector", "frame": "first", "clahe": None})
    whole = read_image_as(path, clip.sector().box, {"crop": "none"})
    outside = (seen == 0).all(axis=2) & (whole > 100).any(axis=2)
    assert seen.shape == whole.shape and outside.sum() > 300  # letters and the end of the colour bar
    assert (seen[60:200, 200:260] == whole[60:200, 200:260]).all()


@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99), share=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_any_picture_has_a_sector_within_it_or_a_reason(height: int, width: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    picture = (rng.integers(0, 256, (height, width, 3)) * (rng.random((height, width, 1)) < share)).astype(np.uint8)
    try:
        found = find_sector([picture])
    except UnreadableError:
        return
    x, y, w, h = found.box
    assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= width and y + h <= height
    rows, columns = np.nonzero(found.inside)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (y, y + h, x, x + w)
