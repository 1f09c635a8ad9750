"""A small made cohort and its prepared store, shared by the tests of the stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmcli.demo import make_cohort
from mmcli.settings import PreprocessSettings
from mmcli.stages import preprocess


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a made cohort of 14 patients."""
    folder = tmp_path_factory.mktemp("made")
    make_cohort(folder, 14, seed=0, quiet=True)
    return folder


@pytest.fixture(scope="session")
def prepared(made: Path) -> Path:
    """Its prepared store."""
    out = made / "prepared.h5"
    preprocess.run(PreprocessSettings(cohort=made / "cohort.yaml", out=out, quiet=True))
    return out
