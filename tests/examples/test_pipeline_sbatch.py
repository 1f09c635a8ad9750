"""The Slurm example: its lines parse, and where a Slurm answers it runs to the report."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmcli import cli
from mmcli.demo import make_cohort

SCRIPT = Path(__file__).parents[2] / "examples" / "pipeline.sbatch"


def _lines() -> list[list[str]]:
    text = SCRIPT.read_text().replace("\\\n", " ")
    found = re.findall(r"(?:^ *|\) )(mmcli (?!.*sbatch).*?)(?: ;;)?$", text, re.MULTILINE)
    return [
        shlex.split(line.replace("$SLIDE_ENCODER", "statistics").replace("$SLURM_ARRAY_TASK_ID", "0")) for line in found
    ]


def test_every_line_parses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPT)]).returncode == 0
    calls: list = []
    monkeypatch.setattr(cli, "_run_stage", lambda module, settings: calls.append(settings.command))
    assert [cli._guarded(line[1:]) for line in _lines()] == [0] * 7
    assert calls == ["preprocess", "extract-features", "impute", "train-teacher", "distill", "train-guide", "evaluate"]


def _slurm_answers() -> bool:
    try:
        return subprocess.run(["sinfo"], capture_output=True, timeout=20).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


@pytest.mark.skipif(not _slurm_answers(), reason="no Slurm answers here")
def test_it_runs_on_a_real_slurm(tmp_path: Path) -> None:
    make_cohort(tmp_path, 40, seed=0, quiet=True)  # fewer have three folds, and the script names five
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SLIDE_ENCODER": "statistics"}
    subprocess.run(["sbatch", str(SCRIPT), str(tmp_path)], env=environment, cwd=tmp_path, check=True)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (tmp_path / "report" / "report.html").exists():
        assert "(DependencyNeverSatisfied)" not in subprocess.run(["squeue"], capture_output=True, text=True).stdout
        time.sleep(1)
    logs = "\n".join(p.read_text() for p in sorted(tmp_path.glob("*.log")))
    assert (tmp_path / "report" / "report.html").exists(), logs
    assert sorted(p.name for p in tmp_path.glob("features*.h5")) == [f"features.shard-{i}-of-2.h5" for i in (0, 1)]
    assert len(list((tmp_path / "runs" / "teacher").glob("cv-*"))) == len(
        list((tmp_path / "runs" / "student").glob("cv-*"))
    )
