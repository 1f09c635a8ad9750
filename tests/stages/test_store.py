"""store info, verify and pack through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_info_and_verify_by_command_line(prepared: Path, tmp_path: Path) -> None:
    def mmcli(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "mmcli", "store", *arguments], capture_output=True, text=True)

    info = mmcli("info", str(prepared), "--json")
    parts = {row["holds"]: row["count"] for row in json.loads(info.stdout)["rows"]}
    assert parts["patients"] == 14 and parts["folds cv"] in (3, 5) and parts["table markers"] <= 14
    assert mmcli("verify", str(prepared)).returncode == 0
    damaged = tmp_path / "damaged.h5"
    raw = bytearray(prepared.read_bytes())
    raw[len(raw) // 2] ^= 4
    damaged.write_bytes(raw)
    done = mmcli("verify", str(prepared), str(damaged))
    assert done.returncode == 4 and "whole" in done.stdout and "damaged" in done.stdout
    assert mmcli("pack", str(prepared), "--out", str(tmp_path / "p.h5")).returncode == 0
    assert "nothing to do" in mmcli("pack", str(prepared), "--out", str(tmp_path / "p.h5")).stdout
