"""An encoder of another package whose latents tell the whole batch that they came in, and prepared pictures."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmcli.settings import PreprocessSettings
from mmcli.stages import preprocess

CODE = '''
"""A row is its instance's mean colour, then what the whole batch holds and where in it the row lies."""
import os
import time
import zlib

import numpy as np

from mmcli.encoders.base import TWO_D, VOLUME, Encoder


class Composition(Encoder):
    kinds, dim, input_size, summary = TWO_D | VOLUME, 4, (), "what its batch holds"

    @classmethod
    def load(cls, request):
        self = cls()
        self.name, self.weights_sha256, self.settings = request.name, "", {}
        return self

    def _check(self, pixels):
        assert pixels.ndim in (4, 5)

    def features(self, pixels):
        time.sleep(float(os.environ.get("COMPOSITION_SLEEP", "0")))
        whole = zlib.crc32(np.ascontiguousarray(pixels).tobytes())
        rows = np.empty((len(pixels), 4), np.float32)
        rows[:, 0] = pixels.reshape(len(pixels), -1).mean(1)
        rows[:, 1:] = np.stack([np.full(len(pixels), whole % 65521), np.full(len(pixels), whole // 65521),
                                np.arange(len(pixels))], 1)
        if os.environ.get("COMPOSITION_NAN"):
            rows[rows[:, 0] > float(os.environ["COMPOSITION_NAN"])] = np.nan
        return rows
'''


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip installed a package with the encoder "composition"."""
    folder = tmp_path_factory.mktemp("plugin")
    wheel, info = folder / "batch_plugin-1.0-py3-none-any.whl", "batch_plugin-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("batch_plugin.py", CODE)
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: batch-plugin\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/entry_points.txt", "[mmcli.encoders]\ncomposition = batch_plugin:Composition\n")
        file.writestr(f"{info}/RECORD", f"batch_plugin.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target"]
    done = subprocess.run([*command, str(folder / "site"), str(wheel)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install here: {done.stderr.strip()[-100:]}")
    return folder / "site"


@pytest.fixture
def composition(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, importable in this process."""
    monkeypatch.syspath_prepend(str(plugin))
    return plugin


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared store of 7 patients with 1 to 3 pictures of sizes of their own; the fourth has none."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    lines = ["id,us"]
    for patient in range(7):
        names = []
        for number in range(0 if patient == 3 else 1 + patient % 3):
            small = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            size = (int(rng.integers(60, 200)), int(rng.integers(60, 200)))
            names.append(f"{patient}-{number}.png")
            Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(folder / names[-1])
        lines.append(f"p{patient},{';'.join(names)}")
    (folder / "p.csv").write_text("\n".join(lines) + "\n")
    (folder / "c.yaml").write_text("patients: p.csv\nid: id\nmodalities:\n  us: {kind: image, path: us}\n")
    out = folder / "prepared.h5"
    preprocess.run(PreprocessSettings(cohort=folder / "c.yaml", out=out, quiet=True))
    return out
