from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmcli.errors import DamagedError
from mmcli.training.run import missing_parts, part_folder, read_run, write_once

HOLDS = """
import sys, time
from pathlib import Path
from mmcli.training.run import part_folder
with part_folder(Path(sys.argv[1]), "cv-0-seed-0") as folder:
    print("mine" if folder else "not mine", flush=True)
    sys.stdin.readline()
    (folder / "weights").write_text("theirs")
"""


def test_a_part_appears_when_it_is_complete_and_one_process_makes_it(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdin=-1, stdout=-1, text=True)
    assert other.stdin and other.stdout and other.stdout.readline() == "mine\n"
    with part_folder(tmp_path, "cv-0-seed-0") as folder:
        assert folder is None
    assert missing_parts(tmp_path, ["cv-0-seed-0", "cv-1-seed-0"]) == ["cv-0-seed-0", "cv-1-seed-0"]
    other.communicate("go\n")
    assert other.returncode == 0
    assert missing_parts(tmp_path, ["cv-0-seed-0", "cv-1-seed-0"]) == ["cv-1-seed-0"]
    assert [p.name for p in (tmp_path / "cv-0-seed-0").iterdir()] == ["weights"]
    with part_folder(tmp_path, "cv-0-seed-0") as folder:  # finished by now
        assert folder is None
    assert [p.name for p in tmp_path.iterdir()] == ["cv-0-seed-0"]


def test_an_error_leaves_the_unfinished_part_for_the_next_time(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), part_folder(tmp_path, "p") as folder:
        assert folder is not None
        (folder / "checkpoint.safetensors").write_text("half")
        raise KeyboardInterrupt
    assert missing_parts(tmp_path, ["p"]) == ["p"]
    with part_folder(tmp_path, "p") as folder:
        assert folder is not None and (folder / "checkpoint.safetensors").read_text() == "half"
        (folder / "weights").write_text("whole")
    assert [p.name for p in (tmp_path / "p").iterdir()] == ["weights"]


def test_whoever_comes_first_writes(tmp_path: Path) -> None:
    path = tmp_path / "run" / "run.json"
    write_once(path, json.dumps({"request": 1, "parts": []}))
    write_once(path, json.dumps({"request": 2, "parts": []}))
    assert read_run(tmp_path / "run") == {"request": 1, "parts": []} and read_run(tmp_path) is None
    assert [p.name for p in path.parent.iterdir()] == ["run.json"]
    path.write_text("{")
    with pytest.raises(DamagedError, match="train the run again"):
        read_run(tmp_path / "run")
