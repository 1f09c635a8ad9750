"""Requests that a user gets wrong: each is one line on stderr and its exit code, and nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from mmcli import cli
from mmcli.demo import make_cohort
from mmcli.settings import PreprocessSettings
from mmcli.stages import preprocess

Refused = Callable[..., str]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made cohort (one slide of it is damaged) with its prepared store p.h5, and stores that are no use."""
    folder = tmp_path_factory.mktemp("bad")
    make_cohort(folder, 12, seed=0, quiet=True)
    preprocess.run(PreprocessSettings(cohort=folder / "cohort.yaml", out=folder / "p.h5", quiet=True))
    shutil.copy(folder / "p.h5", folder / "schema2.h5")
    with h5py.File(folder / "schema2.h5", "r+") as file:
        file.attrs["mmcli_schema"] = 2
    with h5py.File(folder / "foreign.h5", "w") as file:
        file["x"] = [1.0]
    whole = (folder / "p.h5").read_bytes()
    (folder / "cut.h5").write_bytes(whole[: len(whole) // 3])
    (folder / "flipped.h5").write_bytes(whole[:-200_000] + bytes([whole[-200_000] ^ 1]) + whole[-199_999:])
    (folder / "nothing.h5").touch()
    (folder / "thesis.txt").write_text("three years of work\n")
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("keep\n")
    (folder / "maskless.yaml").write_text((folder / "cohort.yaml").read_text().replace(", mask: ct_mask", ""))
    others = (folder / "patients.csv").read_text().replace("\nP", "\nQ")
    (folder / "others.csv").write_text(others)
    (folder / "others.yaml").write_text((folder / "cohort.yaml").read_text().replace("patients.csv", "others.csv"))
    request = PreprocessSettings(
        cohort=folder / "others.yaml", out=folder / "others.h5", modalities="clinical", quiet=True
    )
    preprocess.run(request)
    return folder


@pytest.fixture
def work(once: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder, as the current one."""
    monkeypatch.chdir(once)
    return once


@pytest.fixture
def say(work: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`say("impute p.h5 --table t ...")`: exit code, stdout and stderr of a command line, run in this process."""

    def run(line: str, *more: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli._guarded([*line.split(), *more])
        told = capsys.readouterr()
        assert "Traceback" not in told.err, told.err
        return code, told.out, told.err

    return run


@pytest.fixture
def refused(work: Path, say: Callable[..., tuple[int, str, str]]) -> Refused:
    """`refused(line, message, code)`: the command says one line with `message`, and no file is changed or added."""

    def run(line: str, message: str, code: int = 2) -> str:
        before = _files(work)
        got, out, err = say(f"{line} --quiet" if "--out" in line and not line.startswith(("store", "coh")) else line)
        assert (got, out) == (code, ""), f"{line}: {got} {out} {err}"
        assert len(err.splitlines()) == 1 and err.startswith("mmcli: "), err
        assert message in err, err
        assert _files(work) == before, f"{line} left something behind"
        return err

    return run


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture(scope="session")
def once_trained(tmp_path_factory: pytest.TempPathFactory, write_made_store: Callable[..., Path]) -> Path:
    """Small made stores s.h5 (whole), one.h5 (one class), thin.h5 (a fold whose training patients lack a class),
    nan.h5 (a feature that is no number), bare.h5 (no label, no fold), other.h5 (other labels); runs `teacher` and
    `unfinished`; what is not mmcli's: mine/, another tool's run.json, thesis.txt."""
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    y = np.arange(30) % 2
    slides = [rng.normal(size=(2, 4)) + y[i] for i in range(30)]
    bags = {"slide": slides, "ct": [rng.normal(size=(1, 3)) + y[i] for i in range(30)]}
    write_made_store(folder / "s.h5", {"y": y}, bags)
    write_made_store(folder / "one.h5", {"y": np.ones(30)}, bags)
    roles = np.where(y == 1, 1, 3).astype(np.int8)
    write_made_store(folder / "thin.h5", {"y": y}, bags, roles=roles)
    write_made_store(folder / "nan.h5", {"y": y}, bags | {"slide": [slides[0] * np.nan, *slides[1:]]})
    write_made_store(folder / "bare.h5", {}, bags, roles=False)
    write_made_store(folder / "other.h5", {"y": 1 - y}, bags, prefix="q")
    shutil.copy(folder / "s.h5", folder / "schema2.h5")
    with h5py.File(folder / "schema2.h5", "r+") as file:
        file.attrs["mmcli_schema"] = 2
    (folder / "thesis.txt").write_text("three years of work\n")
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("keep\n")
    (folder / "foreign").mkdir()
    (folder / "foreign" / "run.json").write_text('{"another": "tool"}\n')
    quick = ["--set", "epochs=2", "--set", "width=4", "--quiet"]
    store = str(folder / "s.h5")
    assert cli._guarded(["train-teacher", store, "--out", str(folder / "teacher"), *quick]) == 0
    assert cli._guarded(["train-teacher", store, "--out", str(folder / "unfinished"), "--only-folds", "0", *quick]) == 0
    return folder


@pytest.fixture
def wrong(once_trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """`wrong(line, message, code)` in that folder: one line with `message`, no file changed or added."""
    monkeypatch.chdir(once_trained)

    def run(line: str, message: str, code: int = 2) -> str:
        before = _files(once_trained)
        capsys.readouterr()
        got = cli._guarded([*line.split(), "--quiet"])
        told = capsys.readouterr()
        assert (got, told.out) == (code, ""), f"{line}: {got} {told}"
        assert len(told.err.splitlines()) == 1 and told.err.startswith("mmcli: "), told.err
        assert message in told.err, told.err
        assert _files(once_trained) == before, f"{line} left something behind"
        return told.err

    return run
