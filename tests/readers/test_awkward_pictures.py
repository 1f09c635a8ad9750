"""Every picture of the awkward, ultrasound and dermoscopy folders through read_image: a value that another library
also gives, or one clear line; each within a bound of time, all within a bound of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow and pydicom on damaged tags
Array = NDArray[Any]
SECONDS, KILOBYTES = 8.0, 1_200_000  # of processor time a file; of memory for all of them
CHILD = """
import json, signal, sys, time
from pathlib import Path
import numpy as np
from mmcli.errors import UnreadableError
from mmcli.readers.image import read_image
root, out, told = Path(sys.argv[1]), Path(sys.argv[2]), {}
for number, path in enumerate(sorted(p for d in sys.argv[3:] for p in (root / d).rglob("*") if p.is_file())):
    signal.alarm(60)
    started = time.process_time()
    try:
        picture = read_image(path)
        what, shape = f"{number}.npy", [*picture.shape, str(picture.dtype)]
        np.save(out / what, picture[:: max(1, len(picture) // 1500)])
    except UnreadableError as error:
        what, shape = str(error), []
    told[str(path.relative_to(root))] = [what, time.process_time() - started, shape]
# not getrusage: its peak is inherited from the process that started this one
told[""] = next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith("VmHWM"))
print(json.dumps(told))
"""


def pillow(path: Path) -> Array:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def on_white(path: Path) -> Array:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGBA")).astype(float)
    share = pixels[:, :, 3:] / 255
    return pixels[:, :, :3] * share + 255 * (1 - share)


def turned(path: Path) -> Array:
    """Orientation 6: a quarter turn clockwise."""
    return np.rot90(pillow(path), -1)


def upside_down(path: Path) -> Array:
    return pillow(path)[::-1, ::-1]


def tiff(scale: float = 1) -> Callable[[Path], Array]:
    """The first page by tifffile; `scale` to 8 bits, colours last."""

    def read(path: Path) -> Array:
        values = tifffile.imread(path, key=0)
        values = np.moveaxis(values, 0, -1) if values.ndim == 3 and values.shape[0] == 3 else values
        return three(values.astype(float) * scale)

    return read


def stretched(path: Path) -> Array:
    values = tifffile.imread(path).astype(float)
    return three((values - values.min()) / np.ptp(values) * 255)


def white_is_zero(path: Path) -> Array:
    return 255 - tiff(255)(path)


def coloured(path: Path) -> Array:
    with tifffile.TiffFile(path) as file:
        table = np.asarray(file.pages[0].colormap)
        return table[:, np.asarray(file.pages[0].asarray()).astype(int)].transpose(1, 2, 0) / 257


def dicom(path: Path) -> Array:
    """The first frame; grey in its window or from its minimum to its maximum."""
    dataset = pydicom.dcmread(path)
    values = dataset.pixel_array.astype(float)
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        values = values[0]
    if values.ndim == 3 or values.dtype == np.uint8:
        return three(values)
    values = values * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
    low, high = values.min(), values.max()
    if "WindowWidth" in dataset:
        centre, width = float(dataset.WindowCenter), float(dataset.WindowWidth)
        low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    return three(np.clip((values - low) / (high - low), 0, 1) * 255)


def palette(path: Path) -> Array:
    dataset = pydicom.dcmread(path)
    return pydicom.pixels.apply_color_lut(dataset.pixel_array[0], dataset)[:, :, :3] / 257


def three(values: Array) -> Array:
    return np.repeat(values[:, :, None], 3, axis=2) if values.ndim == 2 else values[:, :, :3]


AWKWARD: dict[str, str | Callable[[Path], Array]] = {
    "awkward/highdicom/sm_image_grayscale.dcm": "is a slide in tiles",
    "awkward/highdicom/sm_image_jpegls.dcm": "is a slide in tiles",
    "awkward/histolab/broken.svs": "damaged, or not PNG, JPEG, TIFF or DICOM",
    "awkward/image-tiff/BigTIFF.tif": tiff(), "awkward/image-tiff/cmyk-4c-8b.tiff": "save it as RGB",
    "awkward/image-tiff/gradient-1c-64b-float.tiff": stretched,
    "awkward/image-tiff/miniswhite-1c-1b.tiff": white_is_zero,
    "awkward/image-tiff/palette-1c-8b.tiff": coloured, "awkward/image-tiff/planar-rgb-u8.tif": tiff(),
    "awkward/image-tiff/quad-tile.jpg.tiff": tiff(), "awkward/large_image/grey10kx5k.tif": tiff(),
    "awkward/large_image/test_RGB_16.png": pillow, "awkward/large_image/zero_gi.tif": "is of size zero",
    "awkward/libvips/1bit.tif": tiff(255), "awkward/libvips/invalid_multiframe.gif": on_white,
    "awkward/libvips/ojpeg-tile.tif": pillow, "awkward/libvips/rotation_6.jpg": turned,
    "awkward/libvips/truncated.gif": "truncated", "awkward/libvips/truncated.jpg": "truncated",
    "awkward/made_here/empty.dcm": "is empty", "awkward/made_here/empty.png": "is empty",
    "awkward/made_here/empty.svs": "is empty", "awkward/openslide-python/unreadable.svs": "Bogus marker length",
    "awkward/pillow/10ct_32bit_128.tiff": stretched, "awkward/pillow/16bit.cropped.tif": tiff(1 / 257),
    "awkward/pillow/blend_op_over.png": on_white, "awkward/pillow/broken.png": "damaged, or not",
    "awkward/pillow/crash-2020-10-test.tif": "is truncated: its pixels end after the file does",
    "awkward/pillow/decompression_bomb.gif": "more than the limit of 400 megapixels",
    "awkward/pillow/decompression_bomb_extents.gif": pillow, "awkward/pillow/dispose_bgnd.gif": on_white,
    "awkward/pillow/exif_imagemagick_orientation.png": upside_down,
    # its tag of 1-bit fax pages: tifffile knows black and white, Pillow the orientation
    "awkward/pillow/g4_orientation_6.tif": lambda path: np.rot90(white_is_zero(path), -1),
    "awkward/pillow/hdf5.h5": "damaged, or not", "awkward/pillow/hopper.Lab.tif": lambda path: hopper(path),
    "awkward/pillow/hopper_1bit.pbm": pillow, "awkward/pillow/hopper_bad_exif.jpg": pillow,
    "awkward/pillow/hopper_bigtiff.tif": tiff(), "awkward/pillow/hopper_float_dpi_2.tif": tiff(),
    "awkward/pillow/hopper_float_dpi_3.tif": tiff(), "awkward/pillow/hopper_float_dpi_None.tif": tiff(),
    "awkward/pillow/hopper_orientation_6.jpg": lambda path: hopper(path), "awkward/pillow/hopper_webp.tif": tiff(),
    "awkward/pillow/iss634.webp": on_white, "awkward/pillow/multipage.tiff": coloured,
    "awkward/pillow/multipage_single_frame_loop.tiff": coloured,
    "awkward/pillow/oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif": "corrupted IFD",
    "awkward/pillow/p_trns_single.png": on_white, "awkward/pillow/palette_negative.png": pillow,
    "awkward/pillow/pil_sample_cmyk.jpg": pillow, "awkward/pillow/png_decompression_dos.png": "too large",
    "awkward/pillow/seek_too_large.tif": "without a picture", "awkward/pillow/tiff_16bit_RGB.tiff": tiff(1 / 257),
    "awkward/pillow/tiff_strip_planar_raw_with_overviews.tif": tiff(),
    "awkward/pillow/tiff_tiled_cmyk_jpeg.tif": pillow, "awkward/pillow/tiff_tiled_planar_lzw.tiff": tiff(),
    "awkward/pillow/tiff_wrong_bits_per_sample.tiff": on_white, "awkward/pillow/total-pages-zero.tif": white_is_zero,
    "awkward/pillow/truncated_image.png": "truncated", "awkward/pillow/truncated_jpeg.jpg": "truncated",
    "awkward/pillow/unknown_compression_method.png": "damaged, or not",
    "awkward/pillow/zero_width.gif": "damaged, or not",
    "awkward/pydicom/CT_small.dcm": dicom, "awkward/pydicom/JPEG-lossy.dcm": "its pixels cannot be decoded",
    "awkward/pydicom/JPEG2000.dcm": dicom, "awkward/pydicom/JPEGLSNearLossless_16.dcm": dicom,
    "awkward/pydicom/MR_truncated.dcm": "less than expected", "awkward/pydicom/SC_rgb_rle.dcm": dicom,
    "awkward/pydicom/no_meta.dcm": "damaged, or not", "awkward/pydicom/reportsi.dcm": "without pixels (SR)",
    "awkward/pydicom/rtplan.dcm": "without pixels (RTPLAN)", "awkward/pydicom/waveform_ecg.dcm": "without pixels (ECG)",
    "ultrasound/dicom/OBXXXX1A_rle_2frame.dcm": palette, "ultrasound/dicom/US-RGB-8-epicard": dicom,
    "ultrasound/dicom/US1_J2KR.dcm": dicom, "ultrasound/dicom/color-pl.dcm": dicom,
    "ultrasound/dicom/examples_ybr_color.dcm": dicom, "ultrasound/itkpocus/sonoque_anechoic-3mm-3mm.dcm": dicom,
    "ultrasound/itkpocus/sonosite-anon-eye1-video.mp4": "damaged, or not PNG, JPEG, TIFF or DICOM",
    "dermoscopy/isic_2017/ISIC-2017_Training_Part3_GroundTruth.csv": "damaged, or not",
}  # fmt: skip


def hopper(path: Path) -> Array:
    """The same portrait, stored plainly beside it."""
    return tiff()(path.with_name("hopper_bigtiff.tif"))


LOSSY = {"hopper.Lab.tif": 8, "hopper_orientation_6.jpg": 8, "ojpeg-tile.tif": 1, "quad-tile.jpg.tiff": 1.5,
         "tiff_16bit_RGB.tiff": 1, "test_RGB_16.png": 1}  # fmt: skip


@pytest.fixture(scope="module")
def told(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("pictures")
    command = [sys.executable, "-c", CHILD, str(data / "images"), str(out), "awkward", "ultrasound", "dermoscopy"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return out, json.loads(ran.stdout)


def test_every_file_is_read_rightly_or_refused_in_one_line(data: Path, told: tuple[Path, dict[str, Any]]) -> None:
    folder, answers = told
    peak = answers.pop("")
    assert peak < KILOBYTES
    assert set(AWKWARD) <= set(answers)
    for name, (what, seconds, shape) in answers.items():
        path = data / "images" / name
        plain = path.suffix in (".png", ".jpg") and not name.startswith("awkward")
        expected = AWKWARD.get(name, pillow if plain else None)
        assert expected is not None, f"{name}: not in the table"
        assert seconds < SECONDS, name
        if isinstance(expected, str):
            assert expected in what and what.startswith(path.name) and "\n" not in what and len(what) < 300, (
                name,
                what,
            )
            continue
        assert what.endswith(".npy"), (name, what)
        other = expected(path)
        assert shape == [*other.shape, "uint8"], (name, shape, other.shape)
        some = other[:: max(1, len(other) // 1500)]
        worst = np.abs(np.load(folder / what).astype(float) - some).mean()
        assert worst < LOSSY.get(path.name, 0.51), (name, worst)  # half a grey level is rounding


def test_the_videos_and_tables_beside_the_pictures_are_no_pictures(told: tuple[Path, dict[str, Any]]) -> None:
    _, answers = told
    refused = {name for name, answer in answers.items() if name and not answer[0].endswith(".npy")}
    assert {Path(n).suffix for n in refused if not n.startswith("awkward")} == {".mp4", ".csv"}
    assert len(answers) - len(refused) > 150
