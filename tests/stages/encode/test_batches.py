"""Batches over patients: every instance once, in order, in a place that the store and the shard alone decide."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcli.stages.encode import batches as module
from mmcli.stages.encode.batches import Batch, Span, batch_size, batches


def test_three_patients_by_hand() -> None:
    found = list(batches([0, 2, 3], np.array([5, 9, 1, 4]), 4))
    assert found == [
        Batch((Span(0, 0, 4, 0),), 4, 4),
        Batch((Span(0, 4, 5, 0), Span(2, 0, 1, 1), Span(3, 0, 2, 2)), 4, 4),
        Batch((Span(3, 2, 4, 0),), 2, 4),  # the last one is as large as the others
    ]
    assert list(batches([2], np.array([5, 9, 1, 4]), 4)) == [Batch((Span(2, 0, 1, 0),), 1, 1)]
    assert list(batches([], np.array([5]), 4)) == []
    assert list(batches([0], np.array([0]), 4)) == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 17), st.data())
def test_every_instance_once_and_in_order(counts: list[int], size: int, data: st.DataObject) -> None:
    patients = data.draw(st.lists(st.sampled_from(range(len(counts))), unique=True).map(sorted))
    expected = [(p, i) for p in patients for i in range(counts[p])]
    found = list(batches(patients, np.array(counts), size))
    laid = [(s.patient, i) for b in found for s in b.spans for i in range(s.start, s.stop)]
    assert laid == expected
    for number, batch in enumerate(found):
        inside = [(s.patient, i) for s in batch.spans for i in range(s.start, s.stop)]
        assert inside == expected[number * size : (number + 1) * size]
        slots = [slot for s in batch.spans for slot in range(s.slots.start, s.slots.stop)]
        assert slots == list(range(batch.used)) and batch.used <= batch.size
        assert batch.size == (size if len(found) > 1 else min(size, len(expected)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(1, 30), max_size=9), min_size=1, max_size=6), st.integers(1, 6))
def test_images_of_their_own_sizes_keep_a_batch_small(sizes: list[list[int]], size: int) -> None:
    weights = [np.array(s, np.int64) << 20 for s in sizes]
    counts = np.array([len(s) for s in sizes])
    found = list(batches(range(len(sizes)), counts, size, lambda patient: weights[patient]))
    laid = [(s.patient, i) for b in found for s in b.spans for i in range(s.start, s.stop)]
    assert laid == [(p, i) for p in range(len(sizes)) for i in range(counts[p])]
    for batch in found:
        own = sum(int(weights[s.patient][s.start : s.stop].sum()) for s in batch.spans)
        assert own == batch.nbytes <= module.IMAGE_BYTES or batch.used == 1
        assert batch.used <= size
    # no batch ends early: the next instance would have been one too many, or too heavy
    for one, two in itertools.pairwise(found):
        following = int(weights[two.spans[0].patient][two.spans[0].start])
        assert one.used == size or one.nbytes + following > module.IMAGE_BYTES


@pytest.mark.parametrize(
    ("wanted", "nbytes", "expected"),
    [(32, 0, 32), (32, 4 * 48 * 64 * 64, 21), (4, 4 * 48 * 64 * 64, 4), (32, 4 * 24 * 224 * 224, 3), (32, 1 << 30, 1)],
)
def test_fewer_volumes_than_pictures(wanted: int, nbytes: int, expected: int) -> None:
    assert batch_size(wanted, nbytes) == expected
