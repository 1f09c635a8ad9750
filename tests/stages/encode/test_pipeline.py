"""Batches across patients: the same composition after any interruption, failures that stay with their patient."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmcli.encoders.network import NetworkEncoder
from mmcli.encoders.timm_shim import import_timm
from mmcli.errors import UnreadableError
from mmcli.readers.slide import Slide
from mmcli.settings import ExtractSettings
from mmcli.stages import extract
from mmcli.stages.encode import pipeline
from mmcli.stages.pixels import Pixels
from mmcli.store import Store, Stores, spool_folder, verify


def encode(prepared: Path, out: Path, encoders: dict[str, str], **given: Any) -> Any:
    given = {"quiet": True, "workers": 2, **given}
    return extract.run(ExtractSettings(stores=[prepared], out=out, encoder=encoders, **given))


def digest(path: Path) -> str:
    with Store(path) as store:
        return store.content_sha256


def rows_of(path: Path, name: str) -> dict[str, np.ndarray[Any, Any]]:
    with Store(path) as store:
        bag = store.bags[name]
        return {store.patients.ids[i]: bag.rows("features", i) for i in np.flatnonzero(bag.present).tolist()}


def test_batches_cross_patients_and_are_the_ones_that_were_planned(
    prepared: Path, composition: Path, tmp_path: Path
) -> None:
    encode(prepared, tmp_path / "f.h5", {"slide": "composition"}, batch=8, dtype="float32")
    with Store(tmp_path / "f.h5") as store:
        bag = store.bags["slide"]
        features = bag.arrays["features"][:]
    count = len(features)
    assert count > 24 and count % 8  # so that the last one has empty slots
    assert features[:, 3].tolist() == [i % 8 for i in range(count)]
    for start in range(0, count, 8):  # one batch, one checksum
        assert len(np.unique(features[start : start + 8, 1:3], axis=0)) == 1
    borders = bag.offsets[1:-1][np.diff(bag.offsets)[1:] > 0]
    assert any(border % 8 for border in borders)  # patients share batches


def in_a_child(call: Callable[[], Any]) -> int:
    """The id of a forked process that makes the call: as good as a command of its own, without its start-up."""
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            call()
            code = 0
        finally:
            os._exit(code)
    return child


@pytest.mark.parametrize("seed", range(4))
def test_kill_9_at_random_moments(
    prepared: Path, composition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The latents hold a checksum of the whole batch: a batch that is computed again must be the same in all slots."""
    monkeypatch.setenv("COMPOSITION_SLEEP", "0.01")
    out, rng, kills = tmp_path / "f.h5", random.Random(seed), 0
    encoders = {"slide": "composition", "slide@again": "composition"}
    given = {"batch": 7, "dtype": "float32"}
    for wanted in sorted(rng.sample(range(1, 26), 3)):
        child = in_a_child(lambda: encode(prepared, out, encoders, **given))
        journal, deadline = spool_folder(out) / "journal.jsonl", time.monotonic() + 60
        ended = 0
        while not ended and time.monotonic() < deadline:
            if journal.exists() and journal.read_bytes().count(b"\n") >= wanted:
                time.sleep(rng.random() * 0.03)
                break
            time.sleep(0.001)
            ended, _ = os.waitpid(child, os.WNOHANG)
        if not ended:
            os.kill(child, signal.SIGKILL)
            kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert kills
    assert encode(prepared, out, encoders, **given).exit_code == 3
    assert encode(prepared, tmp_path / "whole.h5", encoders, **given).exit_code == 3
    assert digest(out) == digest(tmp_path / "whole.h5")
    assert verify(out) == []


def test_resumed_at_every_patient(prepared: Path, composition: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """An interruption after each line of the journal in turn, in one process."""
    given = {"batch": 5, "dtype": "float32", "workers": 1}
    encode(prepared, tmp_path / "whole.h5", {"slide": "composition"}, **given)
    real, out = pipeline._Run._log, tmp_path / "f.h5"

    def interrupted(self: Any, key: Any) -> None:
        real(self, key)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline._Run, "_log", interrupted)
    interruptions = 0
    while not out.exists():
        try:
            encode(prepared, out, {"slide": "composition"}, **given)
        except KeyboardInterrupt:
            interruptions += 1
    with Store(out) as store:
        assert interruptions == int(store.bags["slide"].present.sum())
    assert digest(out) == digest(tmp_path / "whole.h5")


def test_pixels_that_fail_within_a_slide(prepared: Path, composition: Path, tmp_path: Path, monkeypatch: Any) -> None:
    whole = encode(prepared, tmp_path / "whole.h5", {"slide": "composition"}, batch=6, dtype="float32")
    with Store(prepared) as store:
        bag = store.bags["slide"]
        patient = int(np.flatnonzero(bag.present)[2])
        coords = bag.rows("coords", patient)
        name = Path(bag.sources[int(bag.rows("source", patient)[0])].path).name
        ident, middle = store.patients.ids[patient], tuple(coords[len(coords) // 2, :2].tolist())
    real = Slide.read

    def read(self: Slide, x: float, y: float, *rest: Any) -> Any:
        if self.path.name == name and (x, y) == middle:
            raise UnreadableError(f"{name}: damaged pixels at level 0")
        return real(self, x, y, *rest)

    monkeypatch.setattr(Slide, "read", read)
    encoders = {"slide": "composition", "slide@again": "composition"}
    done = encode(prepared, tmp_path / "f.h5", encoders, batch=6, dtype="float32")
    reasons = {(f["patient_id"], f["modality"]): f["reason"] for f in done.data["failures"]}
    assert reasons[ident, "slide"] == reasons[ident, "slide@again"] == f"{name}: damaged pixels at level 0"
    assert done.data["failed"] == 2 * whole.data["failed"] + 2
    before, after = rows_of(tmp_path / "whole.h5", "slide"), rows_of(tmp_path / "f.h5", "slide")
    assert set(before) - set(after) == {ident}
    for other, rows in after.items():
        np.testing.assert_array_equal(rows[:, 0], before[other][:, 0])  # the instance's own mean colour
    # the same again, interrupted at every third patient: empty slots stay empty
    real_log, out, logged = pipeline._Run._log, tmp_path / "g.h5", itertools.count(1)

    def interrupted(self: Any, key: Any) -> None:
        real_log(self, key)
        if next(logged) % 3 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(pipeline._Run, "_log", interrupted)
    while not out.exists():
        try:
            encode(prepared, out, encoders, batch=6, dtype="float32")
        except KeyboardInterrupt:
            continue
    assert digest(out) == digest(tmp_path / "f.h5")


def test_nan_of_one_instance_is_its_patients_alone(
    prepared: Path, composition: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    encode(prepared, tmp_path / "f.h5", {"slide": "composition"}, batch=6, dtype="float32")
    means = {p: rows[:, 0].max() for p, rows in rows_of(tmp_path / "f.h5", "slide").items()}
    first, second = sorted(means.values())[-2:]
    monkeypatch.setenv("COMPOSITION_NAN", str((first + second) / 2))
    done = encode(prepared, tmp_path / "g.h5", {"slide": "composition"}, batch=6, dtype="float32")
    brightest = max(means, key=lambda p: means[p])
    reasons = {f["patient_id"]: f["reason"] for f in done.data["failures"]}
    assert "encoder composition gave NaN or infinity in the latent of" in reasons[brightest]
    assert set(means) - set(rows_of(tmp_path / "g.h5", "slide")) == {brightest}


def test_encoders_of_one_modality_share_each_read(prepared: Path, tmp_path: Path, monkeypatch: Any) -> None:
    real, reads = Slide.read, Counter[tuple[str, float, float]]()

    def read(self: Slide, x: float, y: float, *rest: Any) -> Any:
        reads[self.path.name, x, y] += 1
        return real(self, x, y, *rest)

    monkeypatch.setattr(Slide, "read", read)
    encoders = {"slide": "statistics", "slide@tiny": "resnet10t", "slide@again": "statistics"}
    encode(prepared, tmp_path / "f.h5", encoders, random_weights=True, batch=16, shard="3/4")
    assert set(reads.values()) == {1}
    part = tmp_path / "f.shard-3-of-4.h5"
    with Store(part) as store:
        assert sum(reads.values()) == len(store.bags["slide"].arrays["features"])
        assert [store.bags[n].dim for n in encoders] == [64, 512, 64]
    encode(prepared, tmp_path / "g.h5", {"slide": "statistics"}, batch=7, shard="3/8")
    one, two = rows_of(part, "slide"), rows_of(tmp_path / "g.shard-3-of-8.h5", "slide")
    both = set(one) & set(two)
    assert both
    assert all((one[p] == two[p]).all() for p in both)


def test_pictures_equal_a_plain_loop_over_timm(pictures: Path, tmp_path: Path) -> None:
    """Whatever the batch, the workers and the shard: timm's own model and Pillow, one picture at a time."""
    timm = import_timm()
    torch.manual_seed(4)
    model = timm.create_model("resnet10t", pretrained=False, num_classes=0).eval()
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config | {"crop_pct": 1.0})
    size = config["input_size"][1:]
    plain = {}
    with Store(pictures) as store, torch.inference_mode():
        bag = store.bags["us"]
        for i in np.flatnonzero(bag.present).tolist():
            files = [pictures.parent / bag.sources[s].path for s in bag.rows("source", i).tolist()]
            squares = [Image.open(f).resize(size, Image.Resampling.BICUBIC) for f in files]
            plain[store.patients.ids[i]] = torch.cat([model(transform(s)[None]) for s in squares]).numpy()
    assert len(plain) == 6
    for number, given in enumerate(
        [{"batch": 1}, {"batch": 4, "workers": 1}, {"batch": 64}, {"batch": 5, "workers": 3}]
    ):
        out = tmp_path / f"{number}.h5"
        encode(pictures, out, {"us": "resnet10t"}, random_weights=True, seed=4, dtype="float32", **given)
        for patient, rows in rows_of(out, "us").items():
            np.testing.assert_allclose(rows, plain[patient], rtol=1e-4, atol=1e-5)
    for i in range(3):
        given = {"random_weights": True, "seed": 4, "dtype": "float32", "batch": 4, "shard": f"{i}/3"}
        encode(pictures, tmp_path / "s.h5", {"us": "resnet10t"}, **given)
    with Stores(sorted(tmp_path.glob("s.shard*.h5"))) as joined:
        for i, patient in enumerate(joined.patients.ids):
            rows = joined.bag("us").rows("features", i)
            np.testing.assert_allclose(rows, plain.get(patient, np.empty((0, 512))), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_are_the_threads_that_read_and_those_that_compute(
    pictures: Path, tmp_path: Path, monkeypatch: Any, workers: int
) -> None:
    real, readers, computing = Pixels._picture, set(), set()

    def picture(self: Pixels, where: Any, row: int) -> Any:
        readers.add(threading.get_ident())
        time.sleep(0.01)
        return real(self, where, row)

    forward = NetworkEncoder.forward

    def watched(self: NetworkEncoder, batch: torch.Tensor) -> torch.Tensor:
        computing.add((threading.get_ident(), torch.get_num_threads()))
        return forward(self, batch)

    monkeypatch.setattr(Pixels, "_picture", picture)
    monkeypatch.setattr(NetworkEncoder, "forward", watched)
    before = torch.get_num_threads()
    try:
        given = {"random_weights": True, "batch": 2, "workers": workers}
        encode(pictures, tmp_path / "f.h5", {"us": "resnet10t"}, **given)
    finally:
        torch.set_num_threads(before)
    assert len(readers) == workers and threading.get_ident() not in readers
    assert computing == {(threading.get_ident(), workers)}


def test_pictures_of_their_own_sizes_as_they_are(pictures: Path, tmp_path: Path) -> None:
    """Beside a network that has them resized, the statistics see each picture whole."""
    from mmcli.encoders import load_encoder

    encode(pictures, tmp_path / "f.h5", {"us": "statistics", "us@net": "resnet10t"}, random_weights=True, batch=4)
    encoder, found = load_encoder("statistics"), rows_of(tmp_path / "f.h5", "us")
    with Store(pictures) as store:
        bag = store.bags["us"]
        for i in np.flatnonzero(bag.present).tolist():
            files = [pictures.parent / bag.sources[s].path for s in bag.rows("source", i).tolist()]
            expected = [encoder.encode(np.asarray(Image.open(f))[None])[0].astype(np.float16) for f in files]
            np.testing.assert_array_equal(found[store.patients.ids[i]], expected)


def test_sigterm_finishes_the_patient_in_hand(
    prepared: Path, composition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the command's exit code is then, tests/stages/test_extract.py asks of a process of its own."""
    monkeypatch.setenv("COMPOSITION_SLEEP", "0.02")
    out, given = tmp_path / "f.h5", {"batch": 1, "dtype": "float32", "workers": 1}
    child = in_a_child(lambda: encode(prepared, out, {"slide": "composition"}, **given))
    journal = spool_folder(out) / "journal.jsonl"

    def finished() -> int:
        return journal.read_text().count('"present":true') if journal.exists() else 0

    deadline = time.monotonic() + 60
    while not finished() and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(0.05)  # the next patient is in hand
    before = finished()
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
    assert finished() == before + 1
    assert not out.exists()
    monkeypatch.setenv("COMPOSITION_SLEEP", "0")
    assert encode(prepared, out, {"slide": "composition"}, **given).exit_code == 3
    encode(prepared, tmp_path / "whole.h5", {"slide": "composition"}, **given)
    assert digest(out) == digest(tmp_path / "whole.h5")
