"""extract-features: equal to a plain loop over the encoder, the same bits after kill -9, failures listed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import openslide
import pytest

from mmcli.cohort import read_cohort
from mmcli.encoders import load_encoder
from mmcli.errors import RequestError
from mmcli.settings import ExtractSettings
from mmcli.stages import extract
from mmcli.store import Store, spool_folder, verify

ENCODERS = {"slide": "statistics", "ct": "intensity-statistics"}


def _run(prepared: Path, out: Path, **given):
    given = {"encoder": ENCODERS, "quiet": True, "workers": 2, **given}
    return extract.run(ExtractSettings(stores=[prepared], out=out, **given))


@pytest.fixture(scope="module")
def features(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("features") / "features.h5"
    done = _run(prepared, out)
    assert done.exit_code == 3  # the slide that is damaged on purpose
    return out


def test_equal_to_a_plain_loop(made: Path, prepared: Path, features: Path) -> None:
    """Tiles read by OpenSlide itself, one by one, through the encoder one by one."""
    encoder = load_encoder("statistics")
    cohort = read_cohort(made / "cohort.yaml")
    with Store(prepared) as store, Store(features) as encoded:
        bag = store.bags["slide"]
        for i in np.flatnonzero(bag.present)[:3]:
            slide = openslide.OpenSlide(str(cohort.modalities["slide"].files[i][0].path))
            for row, (x, y, w, h) in enumerate(bag.rows("coords", i).tolist()):
                tile = np.asarray(slide.read_region((x, y), 0, (w, h)).convert("RGB"))
                expected = encoder.encode(tile[None])[0].astype(np.float16)
                np.testing.assert_allclose(
                    encoded.bags["slide"].rows("features", i)[row], expected, rtol=2e-3, atol=1e-3
                )
        volumes, crops = encoded.bags["ct"], store.bags["ct"]
        encoder = load_encoder("intensity-statistics")
        for i in np.flatnonzero(crops.present)[:3]:
            unit = ((crops.rows("pixels", i).astype(np.float32) + 32767) / 65534).astype(np.float32)
            np.testing.assert_array_equal(volumes.rows("features", i), encoder.encode(unit).astype(np.float16))


def test_what_is_carried_along(prepared: Path, features: Path) -> None:
    with Store(prepared) as store, Store(features) as encoded:
        assert encoded.patients.ids == store.patients.ids and set(encoded.tables) == set(store.tables)
        for name in ENCODERS:
            a, b = encoded.bags[name], store.bags[name]
            assert a.meta.encoder == ENCODERS[name] and a.meta.settings["prepared"] == b.meta.settings
            np.testing.assert_array_equal(a.present, b.present)
            np.testing.assert_array_equal(a.offsets, b.offsets)
            np.testing.assert_array_equal(a.arrays["coords"][:], b.arrays["coords"][:])
            assert "pixels" not in a.arrays
    assert verify(features) == []


def _digest(path: Path) -> str:
    with Store(path) as store:
        return store.content_sha256


@pytest.mark.parametrize("given", [{"workers": 1}, {"workers": 3}])
def test_workers_do_not_change_bits(prepared: Path, features: Path, tmp_path: Path, given: dict) -> None:
    _run(prepared, tmp_path / "f.h5", **given)
    assert _digest(tmp_path / "f.h5") == _digest(features)


def test_kill_9_then_the_same_command_gives_the_same_store(prepared: Path, features: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.h5"
    command = [
        sys.executable, "-m", "mmcli", "extract-features", str(prepared), "--encoder", "slide=statistics",
        "--encoder", "ct=intensity-statistics", "--out", str(out), "--quiet", "--workers", "2",
    ]  # fmt: skip
    kills = 0
    for wanted in (2, 7, 14):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        journal = spool_folder(out) / "journal.jsonl"
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if journal.exists() and journal.read_bytes().count(b"\n") >= wanted:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        process.wait()
        assert not out.exists() or process.returncode == 3
    assert kills >= 1
    assert subprocess.run(command, capture_output=True).returncode == 3
    assert _digest(out) == _digest(features)
    assert verify(out) == []
    assert not spool_folder(out).exists()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 3 and "nothing to do" in again.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_command_says_so_and_goes_on(
    prepared: Path, features: Path, tmp_path: Path, number: int, code: int
) -> None:
    out = tmp_path / "f.h5"
    command = [
        sys.executable, "-m", "mmcli", "extract-features", str(prepared), "--encoder", "slide=statistics",
        "--encoder", "ct=intensity-statistics", "--out", str(out), "--quiet",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    journal = spool_folder(out) / "journal.jsonl"
    while process.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.002)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "goes on where it was" in said and "Traceback" not in said
    assert subprocess.run(command, capture_output=True).returncode == 3
    assert _digest(out) == _digest(features)


def test_shards(prepared: Path, features: Path, tmp_path: Path) -> None:
    from mmcli.store import Stores

    for i in range(2):
        _run(prepared, tmp_path / "f.h5", shard=f"{i}/2")
    with Stores(sorted(tmp_path.glob("*.h5"))) as joined, Store(features) as whole:
        for name in ENCODERS:
            np.testing.assert_array_equal(joined.bag(name).load(), whole.bags[name].arrays["features"][:])
            np.testing.assert_array_equal(joined.bag(name).failed, whole.bags[name].failed)


def test_a_source_that_changed_or_went_is_a_failure(made: Path, prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(made, folder)
    cohort = read_cohort(folder / "cohort.yaml")
    with Store(prepared) as store:
        rows = np.flatnonzero(store.bags["slide"].present)[:2]
    gone, changed = (cohort.modalities["slide"].files[i][0].path for i in rows)
    gone.unlink()
    with changed.open("ab") as file:
        file.write(b"x")
    done = _run(prepared, tmp_path / "f.h5", root=folder, encoder={"slide": "statistics"})
    reasons = {f["patient_id"]: f["reason"] for f in done.data["failures"]}
    assert "no such file" in reasons[cohort.patients.ids[rows[0]]]
    assert "changed since preprocess" in reasons[cohort.patients.ids[rows[1]]]
    assert done.exit_code == 3 and len(reasons) == 3


def test_another_cohort_is_another_request(made: Path, prepared: Path, tmp_path: Path) -> None:
    """Labels and folds given anew are written into the store, so that a change of them is not "nothing to do"."""
    for n in (2, 3):
        text = (made / "cohort.yaml").read_text()
        (made / f"{n}.yaml").write_text(re.sub(r"cv: \{n: \d", f"cv: {{n: {n}", text))
    given = {"encoder": {"ct": "intensity-statistics"}}
    _run(prepared, tmp_path / "f.h5", cohort=made / "2.yaml", **given)
    with Store(tmp_path / "f.h5") as store:
        assert store.patients.folds["cv"].shape == (14, 2)
    with pytest.raises(RequestError, match="another request"):
        _run(prepared, tmp_path / "f.h5", cohort=made / "3.yaml", **given)


def test_random_weights_are_recorded(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--random-weights"):
        _run(prepared, tmp_path / "f.h5", encoder={"ct": "resnet3d_10"})
    _run(prepared, tmp_path / "f.h5", encoder={"ct": "resnet3d_10"}, random_weights=True, seed=3)
    with Store(tmp_path / "f.h5") as store:
        assert store.bags["ct"].meta.weights_sha256 == "random:3" and store.bags["ct"].dim == 512


def test_two_encoders_of_one_modality(prepared: Path, tmp_path: Path) -> None:
    _run(prepared, tmp_path / "f.h5", encoder={"ct": "intensity-statistics", "ct@again": "intensity-statistics"})
    with Store(tmp_path / "f.h5") as store:
        one, two = store.bags["ct"], store.bags["ct@again"]
        np.testing.assert_array_equal(one.arrays["features"][:], two.arrays["features"][:])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"encoder": {"": "statistics"}}, "write MODALITY=ENCODER"),
        ({"encoder": {"slides": "statistics"}}, "did you mean 'slide'"),
        ({"encoder": {"slide": "resnet5O"}}, "resnet5O"),
        ({"encoder": {"slide": "intensity-statistics"}}, "it reads volume, slide is a slide"),
        ({"weights": {"us": "w.pth"}}, "--weights: 'us' has no --encoder"),
        ({"weights": {"slide": "none.pth"}}, "none.pth: no such file"),
        ({"set": {"us.precision": "x"}}, "'us' has no --encoder"),
    ],
)
def test_wrong_options(prepared: Path, tmp_path: Path, given: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        _run(prepared, tmp_path / "f.h5", **given)
    assert not (tmp_path / "f.h5").exists()


def test_encoded_stores_are_not_encoded_again(features: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="encoded already; give the prepared store"):
        _run(features, tmp_path / "f.h5")
