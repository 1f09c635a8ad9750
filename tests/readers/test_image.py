"""Single pictures: hand-worked pixels and real files; every awkward file is in test_awkward_pictures.py."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

from mmcli.errors import UnreadableError
from mmcli.readers.image import read_image

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow and pydicom on damaged tags


def write_dicom(path: Path, pixels: NDArray, **attributes: object) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = UltrasoundImageStorage, generate_uid(), "US"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.PixelData = pixels.tobytes()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def rgb() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.ppm"])
def test_lossless_formats_come_back_exactly(tmp_path: Path, rgb: NDArray[np.uint8], name: str) -> None:
    Image.fromarray(rgb).save(tmp_path / name)
    got = read_image(tmp_path / name)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, rgb)


def test_modes_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 257, 65535, 32768]], np.uint16)).save(path)
    assert read_image(path)[0, :, 0].tolist() == [0, 1, 255, 128]
    Image.fromarray(np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], np.uint8)).save(path)
    # a fifth of the colour, four fifths of white
    assert read_image(path)[0].tolist() == [[200, 100, 0], [255, 255, 255], [244, 224, 204]]
    Image.fromarray(np.array([[True, False]])).save(path)
    assert read_image(path)[0].tolist() == [[255] * 3, [0] * 3]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(path)
    assert read_image(path)[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    palette.save(path, transparency=1)
    assert read_image(path)[0].tolist() == [[10, 20, 30], [255, 255, 255]]
    tifffile.imwrite(tmp_path / "a.tif", np.array([[-1.0, 0.0, 3.0]]))
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 64, 255]
    tifffile.imwrite(tmp_path / "w.tif", np.array([[0, 65535]], np.uint16), photometric="miniswhite")
    assert read_image(tmp_path / "w.tif")[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, rgb: NDArray[np.uint8], orientation: int) -> None:
    turned = {
        1: rgb, 2: rgb[:, ::-1], 3: rgb[::-1, ::-1], 4: rgb[::-1], 5: rgb.transpose(1, 0, 2),
        6: np.rot90(rgb, -1), 7: rgb[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(rgb, 1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), turned)


def test_dicom_windows_inversion_and_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    ramp = np.array([[0, 100, 200, 300]], np.int16)
    assert read_image(write_dicom(path, ramp))[0, :, 0].tolist() == [0, 85, 170, 255]
    # PS3.3 C.11.2.1.2 with centre 150.5 and width 201: ((x - 150) / 200 + .5) * 255, x rescaled from the stored values
    windowed = write_dicom(
        path, ramp - 1000, RescaleIntercept=1000, RescaleSlope=1, WindowCenter=150.5, WindowWidth=201
    )
    assert read_image(windowed)[0, :, 0].tolist() == [0, 64, 191, 255]
    inverted = write_dicom(path, ramp, PhotometricInterpretation="MONOCHROME1")
    assert read_image(inverted)[0, :, 0].tolist() == [255, 170, 85, 0]
    frames = np.array([[[1, 2]], [[3, 4]]], np.uint8)
    assert read_image(write_dicom(path, frames))[0, :, 1].tolist() == [1, 2]
    pixels = np.array([[[5, 6, 7], [8, 9, 10]]], np.uint8)
    colour = write_dicom(path, pixels[:, :, 0], SamplesPerPixel=3, PhotometricInterpretation="RGB",
                         PlanarConfiguration=0, PixelData=pixels.tobytes())  # fmt: skip
    np.testing.assert_array_equal(read_image(colour), pixels)


def test_bombs_and_broken_files_of_our_own(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "whole.png")
    cut = (tmp_path / "whole.png").read_bytes()[:-30]
    for name, raw, words in [
        ("bomb.png", bomb, "400 megapixels"),
        ("cut.png", cut, "cannot be decoded"),
        ("empty.jpg", b"", "zero bytes"),
        ("text.jpg", b"hello", "damaged, or not"),
        ("script.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "damaged, or not"),
    ]:
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(UnreadableError, match=words):
            read_image(tmp_path / name)
    with pytest.raises(UnreadableError, match="no such file"):
        read_image(tmp_path / "none.png")
    huge = write_dicom(tmp_path / "huge.dcm", np.zeros((2, 2), np.uint8), Rows=60_000, Columns=60_000)
    with pytest.raises(UnreadableError, match="400 megapixels"):
        read_image(huge)


def test_ultrasound_in_dicom(data: Path) -> None:
    folder = data / "images/ultrasound"
    for name, shape in [
        ("dicom/US-RGB-8-epicard", (480, 640)), ("dicom/US1_J2KR.dcm", (480, 640)), ("dicom/color-pl.dcm", (120, 256)),
        ("dicom/OBXXXX1A_rle_2frame.dcm", (600, 800)), ("dicom/examples_ybr_color.dcm", (240, 320)),
        ("itkpocus/sonoque_anechoic-3mm-3mm.dcm", (1455, 2083)),
    ]:  # fmt: skip
        assert read_image(folder / name).shape == (*shape, 3), name
    # a phantom in grey: a YBR stream taken for RGB would be green
    phantom = read_image(folder / "itkpocus/sonoque_anechoic-3mm-3mm.dcm").reshape(-1, 3).mean(axis=0)
    assert np.ptp(phantom) < 1
    # two B-mode frames in palette colour; the first is taken, and its background is black
    palette = read_image(folder / "dicom/OBXXXX1A_rle_2frame.dcm")
    assert np.median(palette) <= 2 and palette.max() > 200


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="a folder, where one picture's file is expected"):
        read_image(tmp_path)


def test_a_large_picture_is_held_hardly_more_than_twice(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (50, 6000, 3), np.uint8).repeat(100, axis=0)
    Image.fromarray(pixels).save(tmp_path / "large.png", compress_level=1)
    code = (
        "import sys; from pathlib import Path; from mmcli.readers.image import read_picture\n"
        "from mmcli.training.memory import peak_memory as most; before = most()\n"
        "got = read_picture(Path(sys.argv[1])); print((most() - before) / got.nbytes, *got[-1, -1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "large.png")], capture_output=True, text=True)
    share, last = done.stdout.split(maxsplit=1)
    assert last.strip() == " ".join(map(str, pixels[-1, -1]))
    assert float(share) < 3  # Pillow's own 4 bytes a pixel, and ours
