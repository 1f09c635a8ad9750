"""Wrong requests to predict: one line, the exit code, nothing lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

CASES: list[tuple[str, str, int]] = [
    ("none s.h5 --out p.csv", "none: neither a run nor a part of one", 2),
    ("foreign s.h5 --out p.csv", "its run.json is not one of mmcli", 2),
    ("unfinished s.h5 --out p.csv", "the run is not finished, 4 parts are missing", 2),
    ("teacher none.h5 --out p.csv", "none.h5: no such feature store", 2),
    ("teacher schema2.h5 --out p.csv", "schema", 4),
    ("teacher nan.h5 --out p.csv", "patient p0000: no finite prediction", 4),
    ("teacher s.h5 --out s.h5 --force", "is, or holds, the input s.h5", 2),
    ("teacher s.h5 --out teacher --force", "is, or holds, the input teacher", 2),
    ("teacher s.h5 --out thesis.txt --force", "was not made by predict", 2),
    ("teacher s.h5 --out mine --force", "was not made by predict", 2),
    ("teacher s.h5 --out thesis.txt/p.csv", "cannot be written", 2),
]


@pytest.mark.parametrize(("line", "message", "code"), CASES, ids=[line for line, *_ in CASES])
def test_predict(wrong: Callable[..., str], line: str, message: str, code: int) -> None:
    wrong(f"predict {line}", message, code)
