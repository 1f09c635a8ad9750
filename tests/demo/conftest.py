"""A small made cohort, made once for all tests of the demo."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmcli.demo import make_cohort


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a made cohort of 24 patients, seed 1."""
    folder = tmp_path_factory.mktemp("made")
    assert make_cohort(folder, patients=24, seed=1, quiet=True) == folder / "cohort.yaml"
    return folder
