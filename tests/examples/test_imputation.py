"""examples/imputation: its scripts run on a real table, go on where they stopped, and print what RESULTS.md keeps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parents[2] / "examples" / "imputation"


def script(name: str, data: Path, out: Path, *given: str) -> str:
    line = [sys.executable, str(FOLDER / name), "--data", str(data / "tables"), "--seeds", "100-100", "--out", str(out),
            "--tables", "hepatitis", *given]  # fmt: skip
    done = subprocess.run(line, cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_imputers_are_compared_and_a_second_run_adds_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.csv"
    first = script("run.py", data, out, "--methods", "median,copula")
    assert "| copula |" in first
    frame = pd.read_csv(out)
    assert set(frame["method"]) == {"mean", "median", "copula"}
    assert set(frame["way"]) == {"a", "b"}
    rmse = frame[frame["answer"] == "mean"].groupby("method")["rmse"].mean()
    assert rmse["copula"] < rmse["median"]
    before = out.read_bytes()
    assert script("run.py", data, out, "--methods", "median,copula") == first
    assert out.read_bytes() == before


def test_auc_after_imputation(data: Path, tmp_path: Path) -> None:
    printed = script("auc.py", data, tmp_path / "auc.csv", "--methods", "mean,knn")
    assert "knn" in printed
    frame = pd.read_csv(tmp_path / "auc.csv")
    assert frame["boosting"].between(0.5, 1).all()
    assert frame.loc[frame["method"] != "raw", "logistic"].between(0.5, 1).all()
