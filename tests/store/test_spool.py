"""The spool loses at most the patient in hand, and packs the same store however often it was interrupted."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcli.errors import DamagedError, RequestError
from mmcli.store import BagMeta, Instances, Source, Spool, Store, spool_folder, spool_request, write_store

META = BagMeta("slide", "e", "", {}, ("x", "y"))


def _bag(patient: int) -> Instances:
    rng = np.random.default_rng(patient)
    n = patient % 4
    return Instances(
        n, rng.normal(size=(n, 3)).astype(np.float16), rng.integers(0, 9, (n, 2)).astype(np.int32),
        None, np.zeros(n, np.int32), (Source(f"{patient}.svs", 1, "f"),),
    )  # fmt: skip


def _pack(spool: Spool, content, out: Path) -> str:
    return write_store(
        out, {"r": 1}, content.patients, {}, {"slide": spool.bag_data("slide", META, len(content.patients))}
    )


def test_order_and_interruptions_do_not_matter(content, tmp_path: Path) -> None:
    n = len(content.patients)
    digests = []
    for name, order in (("a", range(n)), ("b", reversed(range(n)))):
        out = tmp_path / f"{name}.h5"
        for step, patient in enumerate(order):
            with Spool(out, {"r": 1}) as spool:  # opened anew for every patient
                assert len(spool.entries) == step
                if patient == 5:
                    spool.add_failed("slide", 5, "truncated", (Source("5.svs", 0, ""),))
                elif patient == 6:
                    spool.add_absent("slide", 6)
                else:
                    spool.add("slide", patient, _bag(patient))
        with Spool(out, {"r": 1}) as spool:
            spool.check()
            digests.append(_pack(spool, content, out))
            assert [e.failed for e in spool.failures()] == ["truncated"]
            spool.discard()
        assert not spool_folder(out).exists()
        with Store(out) as store:
            bag = store.bags["slide"]
            for i in set(range(n)) - {5, 6}:
                np.testing.assert_array_equal(bag.rows("features", i), _bag(i).features)
                assert {bag.sources[j].path for j in bag.rows("source", i)} <= {f"{i}.svs"}
            assert bag.failed.tolist() == [i == 5 for i in range(n)]
            assert bag.present.tolist() == [i not in (5, 6) for i in range(n)]
    assert digests[0] == digests[1]


@settings(max_examples=30, deadline=None)
@given(cut=st.floats(0, 1), junk=st.binary(max_size=40))
def test_a_torn_tail_is_cut_off(tmp_path_factory: pytest.TempPathFactory, cut: float, junk: bytes) -> None:
    """The journal is cut anywhere, as kill -9 may leave it, and bytes lie behind the last whole line's data."""
    out = tmp_path_factory.mktemp("torn") / "a.h5"
    with Spool(out, {}) as spool:
        for patient in range(4):
            spool.add("slide", patient, _bag(patient))
    journal = spool_folder(out) / "journal.jsonl"
    whole = journal.read_bytes()
    size = int(cut * len(whole))
    os.truncate(journal, size)
    with (spool_folder(out) / "slide.features.bin").open("ab") as file:
        file.write(junk)
    with Spool(out, {}) as spool:
        assert len(spool.entries) == whole[:size].count(b"\n")
        spool.check()
        for patient in range(4):
            if ("slide", patient) not in spool:
                spool.add("slide", patient, _bag(patient))
        data = spool.bag_data("slide", META, 4)
        features = np.concatenate(list(data.arrays["features"].blocks()))
    np.testing.assert_array_equal(features, np.concatenate([_bag(i).features for i in range(4)]))


def test_lost_bytes_are_found(tmp_path: Path) -> None:
    out = tmp_path / "a.h5"
    with Spool(out, {}) as spool:
        spool.add("slide", 3, _bag(3))
    data = spool_folder(out) / "slide.features.bin"
    data.write_bytes(bytes(data.stat().st_size))
    with Spool(out, {}) as spool, pytest.raises(DamagedError, match="changed"):
        spool.check()
    os.truncate(data, 2)
    with pytest.raises(DamagedError, match="shorter than its journal"):
        Spool(out, {})


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    out = tmp_path / "a.h5"
    with Spool(out, {"r": 1}) as spool:
        with pytest.raises(RequestError, match="another process"):
            Spool(out, {"r": 1})
        assert spool_request(out) is None  # nothing is collected yet: another request may still take over
        spool.add_absent("slide", 0)
    assert spool_request(out) == {"r": 1}


def test_few_files(tmp_path: Path) -> None:
    out = tmp_path / "a.h5"
    with Spool(out, {}) as spool:
        for patient in range(300):
            spool.add("slide", patient, _bag(patient))
    assert len(list(spool_folder(out).iterdir())) < 10
