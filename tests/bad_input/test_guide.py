"""Wrong requests to train-guide: one line, the exit code, nothing lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

CASES: list[tuple[str, str, int]] = [
    ("s.h5 --superior slide --inferior slide --out o", "are both 'slide'", 2),
    ("s.h5 --superior slid --inferior ct --out o", "--superior: unknown modality 'slid'", 2),
    ("s.h5 --superior slide --inferior mri --out o", "--inferior: unknown modality 'mri'", 2),
    ("s.h5 --superior slide --out o", "--inferior is missing", 2),
    ("s.h5 --superior slide --inferior ct --method kd --out o", "is a method of distill", 2),
    ("s.h5 --superior slide --inferior ct --set guide_lr=nan --out o", "--set guide_lr=nan", 2),
    ("s.h5 --superior slide --inferior ct --out teacher", "holds the answer to another request", 2),
    ("one.h5 --superior slide --inferior ct --out o", "a classifier needs two classes", 2),
]


@pytest.mark.parametrize(("line", "message", "code"), CASES, ids=[line for line, *_ in CASES])
def test_guide(wrong: Callable[..., str], line: str, message: str, code: int) -> None:
    wrong(f"train-guide {line}", message, code)
