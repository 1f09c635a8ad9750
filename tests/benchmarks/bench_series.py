"""Time and peak memory of reading a DICOM series of 512 x 512 x 300 voxels, beside SimpleITK's own reader.

    python tests/benchmarks/bench_series.py [--slices 300]

Each reader runs in a process of its own, after the files were read once (a warm page cache on both sides). mmcli reads
every header for itself, checks that the slices are an even stack, and looks at every voxel for NaN.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

READERS = {
    "mmcli": "from mmcli.readers.volume import read_volume\nread = lambda p: read_volume(p).array",
    "mmcli, and a mask of its lesions": """
import numpy as np
from mmcli.readers.lesions import lesions
from mmcli.readers.volume import read_volume
def read(p):
    array = read_volume(p).array
    lesions(array > 700)
    return array""",
    "SimpleITK": """
import SimpleITK as sitk
def read(p):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(p))
    return sitk.GetArrayFromImage(reader.Execute())""",
}
CHILD = """
import json, sys, time
from mmcli.training.memory import peak_memory
{reader}
before = peak_memory() // 1024
start = time.perf_counter()
array = read(sys.argv[1])
seconds = time.perf_counter() - start
peak = peak_memory() // 1024 - before
print(json.dumps([seconds, peak / 1024, array.nbytes / 2**20, float(array[::7].mean(dtype=float))]))
"""


def write(folder: Path, slices: int, side: int) -> None:
    """Slices of noise around a bright ball, 0.8 x 0.8 x 1 mm."""
    random, series = np.random.default_rng(0), generate_uid()
    y, x = np.mgrid[:side, :side] - side / 2
    noise = random.integers(900, 1100, (side, side))
    for k in range(slices):
        d = Dataset()
        d.file_meta = FileMetaDataset()
        d.file_meta.MediaStorageSOPClassUID, d.file_meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
        d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID = generate_uid()
        d.SOPClassUID, d.SeriesInstanceUID, d.Modality = CTImageStorage, series, "CT"
        d.Rows = d.Columns = side
        d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 1
        d.PixelSpacing, d.ImageOrientationPatient = [0.8, 0.8], [1, 0, 0, 0, 1, 0]
        d.ImagePositionPatient, d.InstanceNumber = [-200, -200, float(k)], k + 1
        d.RescaleSlope, d.RescaleIntercept = 1, -1024
        ball = (x**2 + y**2 + (k - slices / 2) ** 2 < (slices / 4) ** 2) * 1000
        d.PixelData = (np.roll(noise, k) + ball).astype("<i2").tobytes()
        d.save_as(folder / f"{k:04}.dcm", enforce_file_format=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--side", type=int, default=512)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), given.slices, given.side)
        print(f"{given.side} x {given.side} x {given.slices} voxels, int16 in {given.slices} files")
        for name, reader in READERS.items():
            for _ in range(2):  # the second time counts
                run = subprocess.run(
                    [sys.executable, "-c", CHILD.format(reader=reader), folder],
                    capture_output=True,
                    text=True,
                    check=True,
                )
            seconds, peak, size, mean = json.loads(run.stdout)
            print(f"{name:34} {seconds:6.2f} s  peak {peak:6.0f} MiB above the start, of an array of {size:.0f} MiB, "
                  f"mean {mean:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
