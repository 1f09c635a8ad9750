"""`store` and the catalogues with wrong requests and damaged stores."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

LINES = {
    "store info none.h5": ("none.h5: no such feature store", 2),
    "store info schema2.h5": ("a feature store of schema 2", 4),
    "store info mine": ("mine: no such feature store", 2),
    "store verify p.h5 none.h5": ("none.h5: no such feature store", 2),
    "store pack none.h5 --out x.h5": ("none.h5: no such feature store", 2),
    "store pack flipped.h5 --out x.h5": ("flipped.h5: damaged (", 4),
    "store pack p.h5 p.h5 --out x.h5": ("is in two of the stores", 2),
    "store pack p.h5 others.h5 --out x.h5": ("is it a store of another cohort?", 2),
    "store pack p.h5 --out p.h5 --force": ("--out p.h5 is one of the files that are read", 2),
    "store pack p.h5 --out mine --force": ("--out mine is a folder", 2),
    "store pack p.h5 --out thesis.txt --force": ("not even --force replaces it", 2),
    "store pack p.h5": ("Missing option '--out'", 2),
    "store export p.h5 --modality slide --out x.npz": ("slide has no features in these stores", 2),
    "store export p.h5 --modality slid --out x.npz": ("did you mean 'slide'?", 2),
    "store export p.h5 --modality slide --layout zarr --out x": ("unknown layout 'zarr'", 2),
    "store export p.h5 --modality clinical --out x.npz": ("clinical is a table; layouts hold features", 2),
    "store export p.h5 --modality slide --out x.npz --name-by file": ("--name-by: input should be", 2),
    "store export p.h5 --modality slide --layout stamp --out p.h5 --force": ("is, or holds, the input p.h5", 2),
    "store export p.h5 --modality slide --layout stamp --out . --force": ("is, or holds, the input p.h5", 2),
    "store export none.h5 --modality slide --layout clam --out x": ("none.h5: no such feature store", 2),
    "store export p.h5 --modality slide --layout trident": ("out", 2),
    "store import none --layout npz --modality a --cohort cohort.yaml --out x.h5": ("none: no such file or folder", 2),
    "store import mine --layout npz --modality a --cohort cohort.yaml --out x.h5": ("mine: no .npz file there", 2),
    "store import mine --layout npz --modality markers --cohort cohort.yaml --out x.h5": ("'markers' is a table of", 2),
    "store import mine --layout trident --modality ct --cohort cohort.yaml --out x.h5": ("ct of the cohort is of", 2),
    "store import patients.csv --layout npz --modality a --cohort cohort.yaml --out x.h5": ("no zip of arrays", 2),
    "store import mine --layout npz --modality a/b --cohort cohort.yaml --out x.h5": ("cannot be a name", 2),
    "store import mine --layout npz --modality a --cohort none.yaml --out x.h5": ("none.yaml: no such file", 2),
    "store import mine --layout npz --modality a --cohort cohort.yaml --out mine/x.h5": ("lies in the folder", 2),
    "store import thesis.txt --layout npz --modality a --cohort cohort.yaml --out thesis.txt --force": (
        "is one of the files that are read", 2,
    ),
    "store import thesis.txt --layout npz --modality a --cohort cohort.yaml --out x.h5": ("not an npz file", 2),
    "methods nope": ("unknown method 'nope'", 2),
    "imputers mise": ("did you mean 'mice'?", 2),
    "encoders resnt50": ("unknown encoder 'resnt50'; did you mean", 2),
}  # fmt: skip
IMPORTS = {
    "mine --layout clam": "no h5_files/*.h5 and no pt_files",
    "mine --layout trident": "no features_<encoder>/*.h5",
    "mine --layout stamp": "mine: no .h5 file there",
    "mine --layout stanp": "did you mean 'stamp'?",
    "mine --layout npz --mpp 0": "is µm per pixel",
    "mine --layout npz --mpp nan": "is µm per pixel",
    "mine --layout npz --unit mm": "--unit: input should be",
    "p.h5 --layout trident": "nothing in it belongs to a patient",
    "nothing.h5 --layout clam": "nothing in it belongs to a patient",
    "thesis.txt --layout stamp": "nothing in it belongs to a patient",
}
LINES |= {f"store import {x} --modality a --cohort cohort.yaml --out x.h5": (told, 2) for x, told in IMPORTS.items()}


@pytest.mark.parametrize(("line", "expected"), LINES.items(), ids=LINES)
def test_refused(line: str, expected: tuple[str, int], refused: Callable[..., str]) -> None:
    refused(line, *expected)


def test_verify_tells_of_every_store(say: Callable) -> None:
    code, out, err = say("store verify p.h5 flipped.h5 cut.h5 schema2.h5 foreign.h5 nothing.h5 --json")
    assert (code, err) == (4, "")
    states = [row["state"] for row in json.loads(out)["rows"]]
    assert states[0] == "whole"
    assert all(state.startswith("damaged: ") for state in states[1:])
    assert "pixels differs from its checksum" in states[1]


def test_export_writes_nothing_by_halves(work: Path, tmp_path: Path, say: Callable) -> None:
    assert say(f"extract-features p.h5 --encoder ct=intensity-statistics --out {tmp_path}/f.h5 --quiet")[0] == 0
    out = tmp_path / "stamp"
    for layout in ("stamp", "trident"):
        code, _, err = say(f"store export {tmp_path}/f.h5 --modality ct --layout {layout} --out {out}")
        assert code == 2 and f"--layout {layout}: has tiles of slides, and ct is of kind volume" in err
    for layout, name in (("npz", "thesis.txt"), ("npz", "mine"), ("clam", "thesis.txt"), ("clam", "mine")):
        for force in ("", "--force"):
            code, _, err = say(f"store export {tmp_path}/f.h5 --modality ct --layout {layout} --out {name} {force}")
            assert code == 2 and f"--out {name} exists and is no" in err
    assert (work / "thesis.txt").read_text() == "three years of work\n"
    assert [p.name for p in tmp_path.iterdir()] == ["f.h5"]


def test_a_patients_id_never_leaves_the_folder(tmp_path: Path, say: Callable, write_made_store: Callable) -> None:
    bag = [np.ones((2, 3))] * 10
    store = write_made_store(tmp_path / "f.h5", {"y": [0, 1] * 5}, {"slide": bag}, prefix="../p")
    code, _, err = say(f"store export {store} --modality slide --layout stamp --out {tmp_path}/a/b")
    assert code == 2 and "patient '../p0000' cannot be a file's name" in err
    assert [p.name for p in tmp_path.iterdir()] == ["f.h5"]


def test_a_limit_that_is_reached_while_hdf5_writes_is_told(tmp_path: Path, write_made_store: Callable) -> None:
    store = write_made_store(tmp_path / "f.h5", {"y": [0, 1] * 5}, {"slide": [np.ones((40, 64))] * 10})
    size = store.stat().st_size * 2 // 3

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    line = [sys.executable, "-m", "mmcli", "store", "pack", str(store), "--out", str(tmp_path / "x.h5")]
    done = subprocess.run(line, capture_output=True, text=True, preexec_fn=limit)
    # h5py may say of its own before what it could not close; it used to crash at exit after our line (-11)
    assert done.returncode == 2 and "x.h5: cannot be written (" in done.stderr.splitlines()[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["f.h5"]
