"""Wrong requests to train-teacher: one line, the exit code, nothing lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

CASES: list[tuple[str, str, int]] = [
    ("none.h5 --out o", "none.h5: no such feature store", 2),
    ("thesis.txt --out o", "thesis.txt: not a feature store", 4),
    ("schema2.h5 --out o", "schema", 4),
    ("s.h5 s.h5 --out o", "is in two of the stores", 2),
    ("bare.h5 --out o", "--cohort with folds", 2),
    ("one.h5 --out o", "all labelled patients are 'yes'", 2),
    ("thin.h5 --out o", "has no training patient of class 'no'", 2),
    ("nan.h5 --out o", "the features of patient p0000 are not all finite", 4),
    ("s.h5 --label z --out o", "unknown label 'z'", 2),
    ("s.h5 --folds z --out o", "unknown fold set 'z'", 2),
    ("s.h5 --modalities slid --out o", "did you mean 'slide'?", 2),
    ("s.h5 --method kd --out o", "is a method of distill", 2),
    ("s.h5 --method atention --out o", "did you mean 'attention'?", 2),
    ("s.h5 --imputer mice --out o", "there is no table among the modalities", 2),
    ("s.h5 --seeds , --out o", "--seeds: is empty", 2),
    ("s.h5 --seeds 0-99999999 --out o", "more than 10000 numbers", 2),
    ("s.h5 --only-folds 5 --out o", "there is no fold 5", 2),
    ("s.h5 --only-seeds 1 --out o", "1 is not one of --seeds 0", 2),
    ("s.h5 --withhold slide=2 --out o", "a number from 0 to 1", 2),
    ("s.h5 --withhold slide=nan --out o", "a number from 0 to 1", 2),
    ("s.h5 --withhold slide=1 --out o", "no training patient has the modality slide", 2),
    ("s.h5 --set lr=inf --out o", "finite number", 2),
    ("s.h5 --set epochs=0 --out o", "greater than or equal to 1", 2),
    ("s.h5 --set lrr=1 --out o", "did you mean 'lr'?", 2),
    ("s.h5 --workers -1 --out o", "--workers", 2),
    ("s.h5 --memory much --out o", "--memory", 2),
    ("s.h5 --out teacher", "holds the answer to another request (set.epochs", 2),
    ("s.h5 --out thesis.txt --force", "thesis.txt exists and is no run", 2),
    ("s.h5 --out mine --force", "mine exists and is no run", 2),
    ("s.h5 --out foreign --force", "its run.json is not one of mmcli", 2),
    ("s.h5 --out s.h5 --force", "is, or holds, the input s.h5", 2),
    ("s.h5 --out . --force", "is, or holds, the input s.h5", 2),
]


@pytest.mark.parametrize(("line", "message", "code"), CASES, ids=[line for line, *_ in CASES])
def test_teacher(wrong: Callable[..., str], line: str, message: str, code: int) -> None:
    wrong(f"train-teacher {line}", message, code)
