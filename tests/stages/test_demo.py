"""The demo runs all commands on a made cohort; the example script holds the same lines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmcli.settings import DemoSettings
from mmcli.stages import demo
from mmcli.store import verify

EXAMPLES = Path(__file__).parents[2] / "examples"
RUNS = ["teacher", "student", "guide", "slide-only", "ct-only", "markers-only"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("demo") / "d"
    command = [sys.executable, "-m", "mmcli", "demo", "--out", str(out), "--patients", "20"]
    return out, subprocess.run(command, capture_output=True, text=True)


def test_it_types_every_line_and_ends_with_the_table(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, process = done
    assert process.returncode == 0, process.stdout + process.stderr
    typed = re.findall(r"^\$ (mmcli .*)$", process.stdout, re.MULTILINE)
    assert typed == demo._lines() and any("--encoder slide=efficientnet-lite0 " in line for line in typed)
    stages = {line.split()[1] for line in typed}
    assert {"preprocess", "extract-features", "impute", "train-teacher", "distill", "train-guide", "evaluate"} <= stages
    table = process.stdout[process.stdout.rindex("$ mmcli evaluate") :]
    for run in RUNS:
        assert re.search(rf"^{run}\b.*\d\.\d+", table, re.MULTILINE), table
    assert "made by mmcli: no person" in process.stdout
    assert (out / "report" / "report.html").is_file() and "report.html" in process.stdout
    assert "Traceback" not in process.stderr


def test_its_stores_are_whole(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = done
    stores = sorted(out.glob("*.h5"))
    assert [s.name for s in stores] == ["features.h5", "imputed.h5", "prepared.h5"]
    assert [verify(s) for s in stores] == [[], [], []]


def test_the_second_time_nothing_is_done(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = done
    assert "nothing to do" in demo.run(DemoSettings(out=out, patients=20)).message


def test_the_script_is_the_same_and_does_nothing_twice(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """examples/pipeline.sh over the finished demo: every command parses, finds its output and leaves it as it is."""
    out, _ = done
    lines = [line for line in (EXAMPLES / "pipeline.sh").read_text().splitlines() if line.startswith("mmcli ")]
    assert lines == demo.PIPELINE.strip().splitlines()
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    process = subprocess.run(
        ["bash", str(EXAMPLES / "pipeline.sh"), str(out)], capture_output=True, text=True, env=environment
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.count("nothing to do") == len([x for x in lines if "--out" in x])
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    process = subprocess.run(
        [sys.executable, "-m", "mmcli", "demo", "--out", str(tmp_path)], capture_output=True, text=True
    )
    assert process.returncode == 2 and "holds no demo" in process.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_without_the_package_of_weights_it_says_so_and_uses_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    note, *lines = demo._lines()
    assert note == demo.NO_WEIGHTS and note.startswith("#")
    assert any("--encoder slide=statistics" in line for line in lines)
    assert not any("efficientnet" in line for line in lines)
