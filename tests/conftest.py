"""Fixtures that any test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data (tables/, images/, volumes/); tests that need it are skipped without it."""
    folder = os.environ.get("MMCLI_TEST_DATA")
    if not folder:
        pytest.skip("MMCLI_TEST_DATA is not set: no real data here")
    return Path(folder)
