"""`extract-features` with wrong requests, stores that are no use, and sources that changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mmcli.settings import ExtractSettings
from mmcli.stages.spooled import spool
from mmcli.store import Store, spool_folder

CT = "--encoder ct=intensity-statistics"
LINES = {
    f"none.h5 {CT} --out x.h5": ("none.h5: no such feature store", 2),
    f"schema2.h5 {CT} --out x.h5": ("schema2.h5: a feature store of schema 2; this mmcli reads schema 1", 4),
    f"foreign.h5 {CT} --out x.h5": ("foreign.h5: an HDF5 file, but no feature store", 4),
    f"cut.h5 {CT} --out x.h5": ("cut.h5: not a feature store, or truncated", 4),
    f"nothing.h5 {CT} --out x.h5": ("nothing.h5: not a feature store, or truncated", 4),
    f"cohort.yaml {CT} --out x.h5": ("cohort.yaml: not a feature store", 4),
    f"p.h5 others.h5 {CT} --out x.h5": ("others.h5: none of its patients is among those that are wanted", 2),
    f"p.h5 p.h5 {CT} --out x.h5": ("is in two of the stores", 2),
    f"p.h5 {CT} --out p.h5": ("--out p.h5 is one of the files that are read", 2),
    f"p.h5 {CT} --out p.h5 --force": ("--out p.h5 is one of the files that are read", 2),
    f"p.h5 {CT} --out mine --force": ("--out mine is a folder", 2),
    f"p.h5 {CT} --out thesis.txt --force": ("not even --force replaces it", 2),
    f"p.h5 {CT} --out x.h5 --cohort none.yaml": ("none.yaml: no such file", 2),
    f"p.h5 {CT} --out x.h5 --cohort others.yaml": ("others.yaml: none of its patients is in the stores", 2),
    f"p.h5 {CT} --out x.h5 --root none": ("--root: none is no folder", 2),
    "p.h5 --encoder ctt=intensity-statistics --out x.h5": ("did you mean 'ct'?", 2),
    "p.h5 --encoder markers=statistics --out x.h5": ("the stores have no modality 'markers'", 2),
    "p.h5 --encoder resnet50 --out x.h5": ("--encoder: write MODALITY=ENCODER", 2),
    "p.h5 --encoder ct= --out x.h5": ("'ct=' has no value", 2),
    "p.h5 --encoder ct@a/b=intensity-statistics --out x.h5": ("'ct@a/b' cannot be a modality's name", 2),
    "p.h5 --encoder ct@=intensity-statistics --out x.h5": ("'ct@' cannot be a modality's name", 2),
    "p.h5 --encoder ct=resnt --out x.h5": ("unknown encoder 'resnt'", 2),
    "p.h5 --encoder ct=resnt --out x.h5 --dry-run": ("unknown encoder 'resnt'", 2),
    "p.h5 --encoder ct=statistics --out x.h5": ("it reads image and slide, ct is a volume", 2),
    f"p.h5 {CT} --encoder slide=resnt --out x.h5": ("unknown encoder 'resnt'", 2),
    f"p.h5 {CT} --out x.h5 --set nope=1": ("has no option 'nope'", 2),
    f"p.h5 {CT} --out x.h5 --set 5": ("--set: '5' has no name; write NAME=VALUE", 2),
    f"p.h5 {CT} --out x.h5 --set slide.nope=1": ("--set: 'slide' has no --encoder", 2),
    f"p.h5 {CT} --out x.h5 --weights slide=p.h5": ("--weights: 'slide' has no --encoder", 2),
    f"p.h5 {CT} --out x.h5 --weights p.h5": ("--weights: write MODALITY=FILE", 2),
    f"p.h5 {CT} --out x.h5 --batch 0": ("--batch: input should be greater than or equal to 1", 2),
    f"p.h5 {CT} --out x.h5 --dtype float64": ("--dtype: input should be 'float16' or 'float32'", 2),
    f"p.h5 {CT} --out x.h5 --maps slide=layer1": ("--maps: 'slide' has no --encoder", 2),
    f"p.h5 {CT} --out x.h5 --maps layer1": ("--maps: write MODALITY=STAGES, for example --maps ct=layer1", 2),
    f"p.h5 {CT} --out x.h5 --maps ct=layer1": ("has no stage 'layer1' (it gives no maps)", 2),
    f"p.h5 {CT} --out x.h5 --maps ct=layer1:big": ("'layer1:big' is not STAGE, STAGE:HxW or STAGE:TxHxW", 2),
    f"p.h5 {CT} --out x.h5 --reuse none.h5": ("none.h5: no such feature store", 2),
    f"p.h5 {CT} --out x.h5 --reuse thesis.txt": ("thesis.txt: not a feature store", 4),
    f"p.h5 {CT} --out x.h5 --reuse cut.h5": ("cut.h5: not a feature store, or truncated", 4),
    "p.h5 --encoder ct=resnet3d_10 --out x.h5": ("has no weights", 2),
    "p.h5 --encoder ct=resnet3d_10 --out x.h5 --weights ct=none.pt": ("--weights ct=none.pt: no such file", 2),
    "p.h5 --encoder ct=resnet3d_10 --out x.h5 --weights ct=p.h5": ("neither safetensors nor a state dict", 2),
    "p.h5 --encoder ct=resnet3d_10 --out x.h5 --weights ct=nothing.h5": ("the file is empty", 2),
    "p.h5 --encoder ct=resnet3d_10 --out x.h5 --weights ct=mine": ("one weights file is needed in the folder", 2),
}


@pytest.mark.parametrize(("line", "expected"), LINES.items(), ids=LINES)
def test_refused(line: str, expected: tuple[str, int], refused: Callable[..., str]) -> None:
    refused(f"extract-features {line}", *expected)


def test_a_gpu_that_is_not_there(refused: Callable[..., str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    line = "extract-features p.h5 --encoder ct=resnet3d_10 --random-weights --device cuda --out x.h5"
    refused(line, "--device cuda: torch sees no GPU here")


def test_sources_that_changed_moved_or_went(work: Path, tmp_path: Path, say: Callable) -> None:
    shutil.copytree(work / "slides", tmp_path / "slides")
    with (tmp_path / "slides/P005.tif").open("ab") as file:
        file.write(b"x")
    (tmp_path / "slides/P004.tif").unlink()
    line = f"extract-features p.h5 --encoder slide=statistics --out {tmp_path}/x.h5 --quiet"
    code, out, err = say(f"{line} --root {tmp_path}")
    assert (code, err) == (3, "")
    listed = (tmp_path / "x.h5.failures.csv").read_text()
    assert "P005.tif: changed since preprocess; run `mmcli preprocess` again" in listed
    assert "P004.tif: no such file; --root tells where" in listed
    assert "P002,slide,,could not be read by preprocess" in listed
    assert "3 failed" in out
    code, out, _ = say(f"{line} --retry-failed")  # where they are whole
    assert code == 3 and "1 failed" in out
    undisturbed = line.replace("x.h5", "y.h5")
    assert say(undisturbed)[0] == 3
    with Store(tmp_path / "x.h5") as one, Store(tmp_path / "y.h5") as two:
        assert one.content_sha256 == two.content_sha256
        assert one.root == str(work.resolve())


def test_a_second_process_is_kept_out_and_its_force_drops_nothing(tmp_path: Path, say: Callable) -> None:
    out = tmp_path / "x.h5"
    settings = ExtractSettings(stores=["p.h5"], encoder={"ct": "intensity-statistics"}, out=out, quiet=True)
    with spool(out, {"made": "elsewhere"}, settings) as opened:
        opened.add_absent("ct", 0)
        for force in ("", " --force"):
            code, _, err = say(f"extract-features p.h5 {CT} --out {out} --quiet{force}")
            assert code == 2
            assert ("another process is making" if force else "holds the answer to another request") in err
        assert (spool_folder(out) / "journal.jsonl").stat().st_size
    assert say(f"extract-features p.h5 {CT} --out {out} --quiet --force")[0] == 0
    assert not spool_folder(out).exists()


def test_what_a_killed_process_left_is_removed(tmp_path: Path, say: Callable) -> None:
    stale = tmp_path / ".x.h5.12345.partial"
    stale.write_bytes(b"half a store")
    other = tmp_path / ".xyz.h5.12345.partial"
    other.write_bytes(b"of another store")
    assert say(f"extract-features p.h5 {CT} --out {tmp_path}/x.h5 --quiet")[0] == 0
    assert not stale.exists() and other.exists()


def test_slurm_variables(monkeypatch: pytest.MonkeyPatch, say: Callable, refused: Callable[..., str]) -> None:
    line = f"extract-features p.h5 {CT} --out x.h5 --dry-run"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "3")
    code, _, err = say(line)
    assert code == 0 and err == (
        "a Slurm array is seen but not used: give --shard slurm to do one part of the patients a task\n"
    )
    refused(f"{line} --shard slurm", "part 5 of 3 does not exist")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_STEP", "2")
    assert "x.shard-2-of-3.h5" in say(f"{line} --shard slurm --quiet")[1]
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "five")
    refused(f"{line} --shard slurm", "do not hold numbers")
