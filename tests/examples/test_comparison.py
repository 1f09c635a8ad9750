"""examples/comparison: on rosmap with one method, its table is what its runs say, and a second run trains nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

FOLDER = Path(__file__).parents[2] / "examples" / "comparison"


TWICE = """
import pathlib, runpy, sys
runpy.run_path("run.py", run_name="__main__")
pathlib.Path(sys.argv[4], "between").touch()
print("AGAIN")
runpy.run_path("run.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def printed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The work folder, and what the script prints at first and when it is called again (in one process, as the
    imports take longer than the rest)."""
    work = tmp_path_factory.mktemp("comparison")
    given = ["--data", str(data / "tables"), "--work", str(work), "--cohorts", "rosmap", "--rows", "late;mrna alone"]
    done = subprocess.run([sys.executable, "-c", TWICE, *given], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split("AGAIN\n")
    return work, first, second


def test_the_table_is_what_the_runs_predict(printed: tuple[Path, str, str]) -> None:
    work, text, _ = printed
    files = sorted((work / "runs/rosmap/published-late").glob("*/predictions-ad.parquet"))
    assert len(files) == 5  # five draws of who validates
    frames = [pd.read_parquet(f).set_index("patient_id") for f in files]
    tests = [set(f.index[f["split"] == "test"]) for f in frames]
    assert all(len(t) == 106 and t == tests[0] for t in tests)
    assert len({frozenset(f.index[f["split"] == "validation"]) for f in frames}) == 5
    p = pd.concat([f.loc[f["split"] == "test", "p_yes"] for f in frames]).groupby(level=0).mean()
    y = frames[0].loc[p.index, "label"] == "yes"
    row = re.search(r"^\| late \| ([\d.]+) ± 0.000 \| ([\d.]+) ± 0.000", text, re.M)
    assert row is not None, text
    assert float(row[1]) == pytest.approx(roc_auc_score(y, p), abs=6e-4)
    assert float(row[2]) == pytest.approx(accuracy_score(y, p > 0.5), abs=6e-4)
    assert float(row[1]) > 0.88
    other = re.search(r"^\| mrna alone \| ([\d.]+) .* \| ([-+][\d.]+) \[([-+][\d.]+), ([-+][\d.]+)\]", text, re.M)
    assert other is not None, text
    minus, low, high = (float(other[i]) for i in (2, 3, 4))
    assert minus == pytest.approx(float(other[1]) - float(row[1]), abs=2e-3)
    assert low < minus < high and minus - low == pytest.approx(high - minus, abs=2e-3)
    assert "| late |" in text.split("withheld at test")[1] and "mrna alone" not in text.split("withheld at test")[1]


def test_a_second_run_trains_nothing(printed: tuple[Path, str, str]) -> None:
    work, first, second = printed
    files = list(work.glob("runs/**/*.parquet"))
    between = (work / "between").stat().st_mtime_ns
    assert len(files) == 10 and all(f.stat().st_mtime_ns <= between for f in files)
    assert second.strip() == first[first.index("## rosmap") :].strip()
