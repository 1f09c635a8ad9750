"""A package of somebody else's with methods that ask the contract for what the papers need."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest

NAMES = {"taught": "Taught", "mapped": "Mapped", "sampler": "Sampler"}


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for sys.path in which the package is installed."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copy(Path(__file__).parent / "plugin/contract_plugin.py", folder)
    info = folder / "contract_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: contract-plugin\nVersion: 1\n")
    lines = [f"{name} = contract_plugin:{kind}" for name, kind in NAMES.items()]
    (info / "entry_points.txt").write_text("\n".join(["[mmcli.methods]", *lines]) + "\n")
    return folder


@pytest.fixture
def plugin(package: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its module, the methods registered while a test runs."""
    monkeypatch.syspath_prepend(str(package))
    module = importlib.import_module("contract_plugin")
    module.SEEN.clear()
    return module
