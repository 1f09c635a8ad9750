"""Made stores as the audit sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmcli.evaluation.audit.subject import Subject
from mmcli.methods import METHODS
from mmcli.store import Stores

Look = Callable[..., Subject]


@pytest.fixture
def look(tmp_path: Path, write_made_store: Callable[..., Path]) -> Iterator[Look]:
    """`look(labels, bags=..., tables=..., group=[...])`: a made store, opened, without runs."""
    with ExitStack() as stack:
        numbers = iter(range(10_000))

        def made(labels: dict[str, Any], group: list[str] | None = None, **more: Any) -> Subject:
            path = write_made_store(tmp_path / f"{next(numbers)}.h5", labels, **more)
            stores = stack.enter_context(Stores([path]))
            stores.patients = replace(stores.patients, group=group)
            return Subject(stores, list(stores.patients.labels), list(stores.patients.folds), [], METHODS, quiet=True)

        yield made
