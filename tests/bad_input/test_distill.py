"""Wrong requests to distill: one line, the exit code, nothing lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

CASES: list[tuple[str, str, int]] = [
    ("s.h5 --teacher none --modalities ct --out o", "--teacher none: no run there", 2),
    ("s.h5 --teacher foreign --modalities ct --out o", "its run.json is not one of mmcli", 2),
    ("s.h5 --teacher teacher/cv-0-seed-0 --modalities ct --out o", "no run there", 2),
    ("s.h5 --teacher unfinished --modalities ct --out o", "the run is not finished, 4 parts are missing", 2),
    ("other.h5 --teacher teacher --modalities ct --out o", "patient q0000 is not in its run", 2),
    ("s.h5 --teacher teacher --modalities ct --seeds 3 --out o", "it has no seed 3", 2),
    ("s.h5 --teacher teacher --modalities ctt --out o", "did you mean 'ct'?", 2),
    ("s.h5 --teacher teacher --modalities , --out o", "--modalities: is empty", 2),
    ("s.h5 --teacher teacher --out o", "--modalities is missing", 2),
    ("s.h5 --teacher teacher --modalities ct --method attention --out o", "is a method of train-teacher", 2),
    ("s.h5 --teacher teacher --modalities ct --set alpha=2 --out o", "less than or equal to 1", 2),
    ("s.h5 --teacher teacher --modalities ct --out teacher --force", "is, or holds, the input teacher", 2),
]


@pytest.mark.parametrize(("line", "message", "code"), CASES, ids=[line for line, *_ in CASES])
def test_distill(wrong: Callable[..., str], line: str, message: str, code: int) -> None:
    wrong(f"distill {line}", message, code)
