"""`preprocess` with wrong requests, bad files among good ones, and outputs that are not its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

LINES = {
    "none.yaml --out x.h5": "none.yaml: no such file",
    "p.h5 --out x.h5": "p.h5: not UTF-8 text",
    "cohort.yaml": "--out is missing",
    "cohort.yaml --out mine": "--out mine is a folder; name a file",
    "cohort.yaml --out mine --force": "--out mine is a folder; name a file",
    "cohort.yaml --out thesis.txt": "is no feature store",
    "cohort.yaml --out thesis.txt --force": "not even --force replaces it",
    "cohort.yaml --out cohort.yaml --force": "is one of the files that are read",
    "cohort.yaml --out patients.csv --force": "is one of the files that are read",
    "cohort.yaml --out slides/P002.tif --force": "not even --force replaces it",
    "cohort.yaml --out thesis.txt/x.h5": "thesis.txt: cannot be written to",
    "cohort.yaml --out p.h5 --tile-px 64": 'holds the answer to another request (tile_px: "224" there, "64" now)',
    "cohort.yaml --out x.h5 --root none": "--root: none is no folder",
    "cohort.yaml --out x.h5 --modalities ct,slid": "did you mean 'slide'?",
    "cohort.yaml --out x.h5 --tile-px 0": "--tile-px must be above 0",
    "cohort.yaml --out x.h5 --tile-px 1.5": "--tile-px: expected a whole number, not '1.5'",
    "cohort.yaml --out x.h5 --tile-px 99999999999999999999999": "--tile-px: expected a whole number",
    "cohort.yaml --out x.h5 --tile-px ct=5": "--tile-px: 'ct' is no slide modality",
    "cohort.yaml --out x.h5 --mpp nan": "--mpp: expected a number, not 'nan'",
    "cohort.yaml --out x.h5 --target-mpp -1": "--target-mpp and --tile-px must be above 0",
    "cohort.yaml --out x.h5 --min-tissue 2": "--min-tissue between 0 and 1",
    "cohort.yaml --out x.h5 --spacing 1,2": "--spacing: expected 3 numbers with commas, not '1,2'",
    "cohort.yaml --out x.h5 --crop 100000,100000,100000": "--crop: 100000,100000,100000 is more than",
    "cohort.yaml --out x.h5 --window 5,-5": "--window LOW,HIGH must rise",
    "cohort.yaml --out x.h5 --clahe 2": "--clahe: there is no image modality of the cohort; leave it out",
    "cohort.yaml --out x.h5 --modalities slide --lesions ct=2": "--lesions: 'ct' is no volume modality among --modalit",
    "cohort.yaml --out x.h5 --frames-drop ct=0.1,0.1": "--frames-drop is about --frames, which is not given",
    "cohort.yaml --out x.h5 --radiomics-spacing 2": "--radiomics-spacing is about --radiomics, which is not given",
    "cohort.yaml --out x.h5 --frames ct=24,64,64 --crop ct=8,8,8": "--crop ct=...: --frames takes whole slices",
    "cohort.yaml --out x.h5 --expect ct=PET": "--expect: 'PET' is none of DICOM's codes of volumes: CT, MR, PT",
    "maskless.yaml --out x.h5 --radiomics 25": "--radiomics: no patient has a mask of ct; name its column as mask:",
    "maskless.yaml --out x.h5 --outside ct=blank": "--outside: no patient has a mask of ct",
    "cohort.yaml --out /proc/none/x.h5": "/proc/none: cannot be written to",
    "cohort.yaml --out x.h5 --workers -1": "--workers: input should be greater than or equal to 0",
    "cohort.yaml --out x.h5 --seed -1": "--seed: input should be greater than or equal to 0",
    "cohort.yaml --out x.h5 --memory lots": "--memory: no size; write for example 8G",
    "cohort.yaml --out x.h5 --allow-failures some": "--allow-failures: give a number or 'any'",
    "cohort.yaml --out x.h5 --compression zip": "--compression: input should be 'none', 'gzip' or 'lzf'",
    "cohort.yaml --out x.h5 --shard 4/4": "--shard: part 4 of 4 does not exist",
    "cohort.yaml --out x.h5 --shard 1": "--shard: '1' is not I/N",
    "cohort.yaml --out x.h5 --shard slurm": "--shard slurm: SLURM_ARRAY_TASK_ID",
}


@pytest.mark.parametrize(("line", "message"), LINES.items(), ids=LINES)
def test_refused(line: str, message: str, refused: Callable[..., str]) -> None:
    refused(f"preprocess {line}", message)


@pytest.mark.parametrize(
    ("yaml", "message"),
    {
        "out: x.h5\nout: y.h5\n": "'out' stands twice",
        "out: x.h5\ntarget-mpp: 1\ntarget_mpp: 2\n": "'target_mpp' stands twice",
        "preprocess: [1]\n": "the block 'preprocess' must hold `option: value` lines",
        "preprocess: {sed: 1}\n": "did you mean 'seed'?",
        "out: {a: 1}\n": "--out: expected a path",
        "out: x.h5\nseed: 1.5\n": "--seed: input should be a valid integer",
        "!!python/object/apply:os.system ['touch hacked']\n": "not YAML",
        "": "expected `option: value` lines",
    }.items(),
)
def test_settings_files(yaml: str, message: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "s.yaml").write_text(yaml)
    refused(f"preprocess cohort.yaml --settings {tmp_path}/s.yaml", message)


def test_a_settings_file_takes_plain_yaml(tmp_path: Path, say: Callable) -> None:
    (tmp_path / "s.yaml").write_text(
        f"out: {tmp_path}/x.h5\nmodalities: [ct]\ncrop: [8, 16, 16]\nspacing: {{ct: [4, 4, 4]}}\nroot:\nquiet: yes\n"
    )
    code, _, err = say(f"preprocess cohort.yaml -c {tmp_path}/s.yaml")
    assert (code, err) == (0, "")
    from mmcli.store import Store

    with Store(tmp_path / "x.h5") as store:
        assert store.bags["ct"].arrays["pixels"].shape[1:] == (8, 16, 16)
        assert store.bags["ct"].meta.settings["spacing"] == [4, 4, 4]


def test_bad_files_among_good_ones(work: Path, tmp_path: Path, say: Callable) -> None:
    for name in ("slides", "ct"):
        shutil.copytree(work / name, tmp_path / name)
    (tmp_path / "slides/P005.tif").unlink()
    (tmp_path / "slides/P006.tif").write_bytes(b"")
    (tmp_path / "ct/P002.nii.gz").write_bytes(b"no gzip")
    line = f"preprocess cohort.yaml --root {tmp_path} --out {tmp_path}/x.h5 --quiet"
    code, out, err = say(line)
    assert (code, err) == (3, "")
    listed = (tmp_path / "x.h5.failures.csv").read_text()
    assert all(f"{patient},{modality}," in listed for patient, modality in
               (("P002", "slide"), ("P005", "slide"), ("P006", "slide"), ("P002", "ct")))  # fmt: skip
    assert "4 failed, listed in" in out
    assert say(line)[0] == 3
    assert say(f"{line} --allow-failures 4")[0] == 0
    assert say(f"{line} --allow-failures 3")[0] == 3
    shutil.copy(work / "slides/P005.tif", tmp_path / "slides/P005.tif")
    code, out, _ = say(f"{line} --retry-failed --allow-failures any")
    assert code == 0 and "3 failed" in out


def test_one_fault_of_a_library_is_one_patients_failure(
    work: Path, tmp_path: Path, say: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmcli.stages.prepare import volume

    whole = volume.prepare

    def reader(file, options, draw):
        if "P004" in file.shown:
            raise OverflowError("a library's surprise")
        return whole(file, options, draw)

    monkeypatch.setattr(volume, "prepare", reader)
    code, _, _ = say(f"preprocess cohort.yaml --modalities ct --out {tmp_path}/x.h5 --quiet")
    assert code == 3
    assert "P004,ct,ct/P004.nii.gz,ct/P004.nii.gz: OverflowError" in (tmp_path / "x.h5.failures.csv").read_text()


def test_no_picture_of_another_request_stays(tmp_path: Path, say: Callable) -> None:
    line = f"preprocess cohort.yaml --out {tmp_path}/x.h5 --quiet --allow-failures any --modalities"
    assert say(f"{line} slide,ct")[0] == 0
    (tmp_path / "x.pictures/slide/notes.txt").write_text("mine")
    assert say(f"{line} ct --force")[0] == 0
    assert sorted(p.name for p in (tmp_path / "x.pictures/slide").iterdir()) == ["notes.txt"]
    assert list((tmp_path / "x.pictures/ct").glob("*.jpg"))


def test_an_expected_modality_in_small_letters_is_the_same(tmp_path: Path, say: Callable) -> None:
    line = f"preprocess cohort.yaml --modalities ct --out {tmp_path}/x.h5 --quiet --expect"
    assert say(f"{line} ct=ct")[0] == 0
    from mmcli.store import Store

    with Store(tmp_path / "x.h5") as store:
        assert store.bags["ct"].meta.settings["expect"] == "CT"


def test_force_keeps_the_old_store_until_the_new_one_is_complete(work: Path, tmp_path: Path, say: Callable) -> None:
    out = tmp_path / "x.h5"
    assert say(f"preprocess cohort.yaml --modalities clinical --out {out} --quiet")[0] == 0
    old = out.read_bytes()
    assert say(f"preprocess cohort.yaml --modalities nothing --out {out} --quiet --force")[0] == 2
    assert out.read_bytes() == old
    assert say(f"preprocess cohort.yaml --modalities markers --out {out} --quiet --force")[0] == 0
    assert out.read_bytes() != old
    out.write_bytes(old[:3000])
    assert say(f"preprocess cohort.yaml --modalities clinical --out {out} --quiet")[0] == 4
    assert say(f"preprocess cohort.yaml --modalities clinical --out {out} --quiet --force")[0] == 0


def test_a_shard_tells_its_own_patients(tmp_path: Path, say: Callable) -> None:
    _, out, _ = say(f"preprocess cohort.yaml --modalities ct --shard 0/5 --out {tmp_path}/x.h5 --quiet")
    assert "x.shard-0-of-5.h5: 3 of 12 patients" in out
