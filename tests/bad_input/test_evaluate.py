"""Wrong requests to evaluate: one line, the exit code, nothing lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

CASES: list[tuple[str, str, int]] = [
    ("none --out o", "none: there is no such run or table", 2),
    ("foreign --out o", "damaged", 4),
    ("mine --out o", "is not a run", 2),
    ("thesis.txt --out o", "thesis.txt", 2),
    ("unfinished --out o", "4 of 5 parts are missing", 2),
    ("teacher teacher --out o", "is given twice", 2),
    ("teacher --label z --out o", "no task 'z'", 2),
    ("teacher --resamples 0 --out o", "--resamples: at least 1", 2),
    ("teacher --confidence 95 --out o", "95 percent is 0.95", 2),
    ("teacher --split all --out o", "--split", 2),
    ("teacher --reference none --out o", "none: there is no such run", 2),
    ("teacher --out teacher --force", "is, or holds, the input teacher", 2),
    ("teacher --out . --force", "is, or holds, the input teacher", 2),
    ("teacher --out mine --force", "holds no report", 2),
    ("teacher --out thesis.txt --force", "holds no report", 2),
    ("teacher --out teacher/report", "lies inside the run teacher", 2),
    ("teacher --latents --out o --dry-run", "--latents: no run has latents", 2),
    ("teacher --coverage 90 --out o --dry-run", "90 percent is 0.9", 2),
    ("teacher --threshold yuden --out o --dry-run", "did you mean 'youden'", 2),
    ("teacher --withhold ct --out o", "write MODALITY=SHARE,SHARE, for example --withhold ct=0,0.5,1", 2),
]


@pytest.mark.parametrize(("line", "message", "code"), CASES, ids=[line for line, *_ in CASES])
def test_evaluate(wrong: Callable[..., str], line: str, message: str, code: int) -> None:
    wrong(f"evaluate {line}", message, code)
