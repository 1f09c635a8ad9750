"""What extraction meets outside: slides that are cut off after preprocess, and disks that are full."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcli import cli
from mmcli.cohort import read_cohort
from mmcli.settings import ExtractSettings
from mmcli.stages import extract
from mmcli.stages.pixels import Pixels
from mmcli.store import Store, spool_folder, verify

ENCODERS = {"slide": "statistics"}
CLONE_NEWNS = 0x20000  # of Linux's sched.h: mounts of a process's own


def encode(prepared: Path, out: Path, **given: Any) -> Any:
    given = {"encoder": ENCODERS, "quiet": True, "workers": 2, "batch": 8, **given}
    return extract.run(ExtractSettings(stores=[prepared], out=out, **given))


def content(path: Path) -> str:
    with Store(path) as store:
        return store.content_sha256


@pytest.fixture(scope="module")
def whole(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "f.h5"
    encode(prepared, out)
    return out


def moved(made: Path, prepared: Path, folder: Path, number: int) -> tuple[Path, str, str]:
    """A copy of the cohort, and there the path of one slide, as it is shown, and its patient."""
    shutil.copytree(made, folder)
    cohort = read_cohort(folder / "cohort.yaml")
    with Store(prepared) as store:
        patient = int(np.flatnonzero(store.bags["slide"].present)[number])
    file = cohort.modalities["slide"].files[patient][0]
    return file.path, file.path.name, cohort.patients.ids[patient]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_slide_cut_off_after_preprocess(
    made: Path, prepared: Path, whole: Path, tmp_path: Path, share: float
) -> None:
    path, _, ident = moved(made, prepared, tmp_path / "moved", 1)
    complete = path.read_bytes()
    path.write_bytes(complete[: int(share * len(complete))])
    done = encode(prepared, tmp_path / "f.h5", root=tmp_path / "moved")
    reasons = {f["patient_id"]: f["reason"] for f in done.data["failures"]}
    assert done.exit_code == 3 and len(reasons) == 2
    assert reasons[ident] == f"{path}: changed since preprocess; run `mmcli preprocess` again"
    path.write_bytes(complete)  # fetched again: only this patient is encoded, and nothing differs
    os.utime(path, ns=(made_time := (made / path.relative_to(tmp_path / "moved")).stat().st_mtime_ns, made_time))
    done = encode(prepared, tmp_path / "f.h5", root=tmp_path / "moved", retry_failed=True)
    assert {f["patient_id"] for f in done.data["failures"]} == set(reasons) - {ident}
    with Store(tmp_path / "f.h5") as one, Store(whole) as two:
        np.testing.assert_array_equal(one.bags["slide"].arrays["features"][:], two.bags["slide"].arrays["features"][:])


def test_a_slide_cut_off_while_it_is_read(
    made: Path, prepared: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its fingerprint was checked: the tiles that are gone are a failure of their patient, never white ones."""
    path, name, ident = moved(made, prepared, tmp_path / "moved", 1)
    real, reads = Pixels._picture, 0

    def picture(self: Pixels, where: Any, row: int) -> Any:
        nonlocal reads
        source = where.sources[where.numbers[row]]
        if source.path.endswith(name):
            reads += 1
            if reads == 2:
                os.truncate(path, path.stat().st_size // 4)
        return real(self, where, row)

    monkeypatch.setattr(Pixels, "_picture", picture)
    done = encode(prepared, tmp_path / "f.h5", root=tmp_path / "moved", workers=1)
    reasons = {f["patient_id"]: f["reason"] for f in done.data["failures"]}
    assert len(reasons) == 2 and name in reasons[ident] and "\n" not in reasons[ident]
    assert "report this" not in reasons[ident]
    with Store(tmp_path / "f.h5") as one, Store(whole) as two:
        for i, other in enumerate(one.patients.ids):
            if other != ident:
                np.testing.assert_array_equal(
                    one.bags["slide"].rows("features", i), two.bags["slide"].rows("features", i)
                )


def arguments(prepared: Path, out: Path) -> list[str]:
    encoders = [part for n, e in ENCODERS.items() for part in ("--encoder", f"{n}={e}")]
    given = ["--out", str(out), "--batch", "8", "--workers", "2", "--quiet"]
    return ["extract-features", str(prepared), *encoders, *given]


def command(given: list[str], told: Path) -> int:
    """What `mmcli ...` ends with; its standard error goes into a file."""
    file = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 2)
    sys.stderr = os.fdopen(file, "w")
    try:
        return cli._guarded(given)
    finally:
        sys.stderr.flush()


def in_a_child(call: Callable[[], int]) -> int:
    """The exit code of a forked process that makes the call: as good as a command of its own, without its start-up."""
    child = os.fork()
    if not child:
        code = 99
        try:
            code = call()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_no_more_can_be_written(prepared: Path, whole: Path, tmp_path: Path) -> None:
    """A limit of a file's size ends writing in the middle of the spool: one line, then it goes on where it was."""
    out, told = tmp_path / "f.h5", tmp_path / "told"
    with Store(whole) as store:
        features = store.bags["slide"].arrays["features"]
        limit = int(np.prod(features.shape)) * features.dtype.itemsize // 2

    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return command(arguments(prepared, out), told)

    assert in_a_child(limited) == 2
    (line,) = told.read_text().splitlines()
    assert "cannot be written (" in line and "make room, then the same command goes on where it was" in line
    assert not out.exists()
    journal = (spool_folder(out) / "journal.jsonl").read_text()
    assert 0 < journal.count('"present":true') < len(whole_patients(whole))
    assert encode(prepared, out).exit_code == 3
    assert content(out) == content(whole) and verify(out) == []
    assert not spool_folder(out).exists()


def whole_patients(store: Path) -> list[int]:
    with Store(store) as opened:
        return np.flatnonzero(opened.bags["slide"].present).tolist()


@pytest.mark.parametrize("kilobytes", [16, 40, 64, 100])
def test_a_full_disk(prepared: Path, whole: Path, tmp_path: Path, kilobytes: int) -> None:
    """A file system that is full somewhere between the lock and the last byte of the store, and is then enlarged."""
    disk, told = tmp_path / "disk", tmp_path / "told"
    disk.mkdir()

    def mount(*given: str) -> bool:
        return not subprocess.run(["mount", *given], capture_output=True).returncode

    def limited() -> int:
        private = ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0 and mount("--make-rprivate", "/")
        if not private or not mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(disk)):
            return 77
        code = command(arguments(prepared, disk / "f.h5"), told)
        mount("-o", "remount,size=64m", str(disk))
        if command(arguments(prepared, disk / "f.h5"), tmp_path / "again") != 3:
            return 78
        shutil.copy(disk / "f.h5", tmp_path / "f.h5")  # out of this process's own view of the files
        return code

    code = in_a_child(limited)
    if code == 77:
        pytest.skip("no file system may be mounted here")
    assert code == 2, (tmp_path / "again").read_text()
    (line,) = told.read_text().splitlines()
    assert "make room" in line and ("no space left on device" in line.lower() or "needs about" in line)
    assert content(tmp_path / "f.h5") == content(whole) and verify(tmp_path / "f.h5") == []
