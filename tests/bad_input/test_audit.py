"""Wrong requests to audit: one line, the exit code, nothing lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

CASES: list[tuple[str, str, int]] = [
    ("", "is missing", 2),
    ("none", "none: there is no such feature store or run", 2),
    ("s.h5 none", "none: there is no such feature store or run", 2),
    ("s.h5 s.h5", "s.h5: is given twice", 2),
    ("thesis.txt", "thesis.txt: is neither a feature store nor a run", 2),
    ("mine", "mine: is neither a feature store nor a run (it has no run.json)", 2),
    ("foreign", "its run.json is not one of mmcli", 2),
    ("schema2.h5", "a feature store of schema 2", 4),
    ("s.h5 teacher/cv-0-seed-0", "give the run, one folder up", 2),
    ("s.h5 unfinished", "the run is not finished, 4 parts are missing", 2),
    ("s.h5 --label z", "--label: unknown label 'z'", 2),
    ("s.h5 --folds cvv", "--folds: unknown fold set 'cvv'; did you mean 'cv'?", 2),
    ("s.h5 other.h5", "none of its patients is among those that are wanted", 2),
    ("nan.h5 --cohort none.yaml", "none.yaml", 2),
    ("s.h5 --permute -1", "--permute", 2),
    ("s.h5 --out thesis.txt --force", "is no table of findings", 2),
    ("s.h5 --out mine", "is no table of findings", 2),
    ("s.h5 --out s.h5", "is, or holds, the input s.h5", 2),
]


@pytest.mark.parametrize(("line", "message", "code"), CASES, ids=[line for line, *_ in CASES])
def test_audit(wrong: Callable[..., str], line: str, message: str, code: int) -> None:
    wrong(f"audit {line}", message, code)


def test_a_run_whose_store_is_gone(
    once_trained: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    run = shutil.copytree(once_trained / "teacher", tmp_path / "teacher")
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace(str(once_trained / "s.h5"), str(tmp_path / "gone.h5")))
    code, out, err = say(f"audit {run} --quiet")
    assert (code, out) == (2, "") and "gone.h5 is not there; give the store too" in err
    code, out, err = say(f"audit {run} {once_trained / 's.h5'} --quiet")  # found by its content
    assert code == 0 and "scalers: 2 modalities of 5 parts" in out
    code, out, err = say(f"audit {run} {once_trained / 'one.h5'} --quiet")
    assert code in (0, 5) and "not checked: scalers" in out


@pytest.mark.parametrize("name", ["part.json", "scalers.safetensors", "history.csv", "predictions-y.parquet"])
def test_a_damaged_part(
    once_trained: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]], name: str
) -> None:
    run = shutil.copytree(once_trained / "teacher", tmp_path / "teacher")
    (run / "cv-2-seed-0" / name).write_bytes(b"\x00x")
    code, out, err = say(f"audit {once_trained / 's.h5'} {run} --quiet")
    assert (code, out) == (4, "") and name in err and len(err.splitlines()) == 1


def test_permutations_of_no_run(once_trained: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = say(f"audit {once_trained / 's.h5'} --permute 3")
    assert (code, out) == (2, "") and "--permute: repeats the training of runs, and no run is given" in err


@pytest.mark.parametrize("store", ["bare.h5", "one.h5", "thin.h5", "nan.h5"])
def test_a_store_that_cannot_be_trained_on_can_be_audited(
    once_trained: Path, say: Callable[..., tuple[int, str, str]], store: str
) -> None:
    code, out, err = say(f"audit {once_trained / store} --quiet")
    assert (code, err) == (0, "") and "nothing found" in out
