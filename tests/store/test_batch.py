"""Batches that are standardised on their way are the plain formula's, and nobody's memory is written to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmcli.store import BagData, BagMeta, Label, Patients, Stores, write_store
from mmcli.store import batch as batches
from mmcli.store.batch import SMALL, Latents, StandardisedRows
from mmcli.store.hdf5 import Rows


def made_latents(path: Path, counts: NDArray[np.int64], dtype: type) -> Latents:
    """Bags of random instances of 512 numbers; who has none lacks the modality."""
    rng, n = np.random.default_rng(0), len(counts)
    features = rng.standard_normal((int(counts.sum()), 512)).astype(dtype)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    bag = BagData(
        BagMeta("image", "e", "", {}), counts > 0, np.zeros(n, bool), offsets, {"features": Rows.of(features)}
    )
    roles = np.ones((n, 1), np.int8)
    patients = Patients([f"p{i}" for i in range(n)], None, {"y": Label(np.arange(n) % 2, ["a", "b"])}, {"cv": roles})
    write_store(path, {"made": 1}, patients, {}, {"x": bag})
    with Stores([path]) as stores:
        return Latents(stores.bag("x"))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("most", [6, 700])
def test_standardised_is_the_formula(tmp_path: Path, dtype: type, most: int) -> None:
    counts = np.random.default_rng(1).integers(most // 2, most, 9)
    counts[[2, 5]] = 0
    latents = made_latents(tmp_path / "s.h5", counts, dtype)
    mean, scale = torch.randn(512), torch.rand(512)
    shown = np.arange(9) != 7
    assert (most == 700) == (counts[shown].sum() / (shown & (counts > 0)).sum() * 512 >= SMALL)
    for rows in (np.array([3, 7, 2, 0, 8]), np.array([2, 7]), np.array([8, 8, 1])):
        found, plain = latents.standardised(rows, shown, mean, scale), latents.pack(rows, shown)
        assert isinstance(found.rows, StandardisedRows) and found.rows.shape == plain.features.shape
        torch.testing.assert_close(found.features, (plain.features.float() - mean) * scale)
        assert found.rows is found.features
        assert found.features.dtype == torch.float32
        assert torch.equal(found.offsets, plain.offsets) and torch.equal(found.present, plain.present)


def test_a_batch_that_is_held_stays_as_it_is(tmp_path: Path) -> None:
    latents = made_latents(tmp_path / "s.h5", np.full(8, 300), np.float32)
    mean, scale = torch.zeros(512), torch.ones(512)

    def batch(*rows: int) -> torch.Tensor:
        return latents.standardised(np.array(rows), None, mean, scale).features

    held = [batch(i) for i in range(5)]
    part = held[3][10:20]
    places = {x.data_ptr() for x in held}
    assert len(places) == 5
    del held[:2]
    again = [batch(6, 7), batch(5)]
    assert len({x.data_ptr() for x in [*held, *again]}) == 5
    for x, i in zip(held, (2, 3, 4), strict=True):
        assert torch.equal(x, latents.pack(np.array([i])).features)
    del held
    batch(0), batch(1)
    assert torch.equal(part, latents.pack(np.array([3])).features[10:20])


def test_memory_is_used_again(tmp_path: Path) -> None:
    latents = made_latents(tmp_path / "s.h5", np.full(8, 300), np.float32)
    mean, scale = torch.zeros(512), torch.ones(512)
    places = set()
    for i in range(8):
        x = latents.standardised(np.array([i]), None, mean, scale).features
        places.add(x.data_ptr())
    assert len(places) == 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=8),
    st.lists(st.integers(0, 7), min_size=1, max_size=10),
    st.integers(1, 200),
    st.sampled_from([1, 8, 1 << 20]),
    st.sampled_from([1, 8, 1 << 20]),
    st.sampled_from([torch.float16, torch.float32]),
    st.sampled_from([torch.bfloat16, torch.float32]),
)
def test_pieces_are_the_rows_in_order(
    counts: list[int], chosen: list[int], numbers: int, small: int, cached: int, stored: torch.dtype, dtype: torch.dtype
) -> None:
    """Bags in any order, some twice, some empty; pieces smaller and larger than bags; gathered or not."""
    ends = np.cumsum([0, *counts])
    source = torch.randn(int(ends[-1]), 4).to(stored)
    rows = np.array(chosen) % len(counts)
    offsets = np.cumsum([0, *np.array(counts)[rows]])
    mean, scale = torch.randn(4), torch.rand(4)
    lazy = StandardisedRows(source, ends[rows], offsets, mean, scale, batches.Room())
    plain = torch.cat([source[ends[i] : ends[i + 1]] for i in rows]).float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "SMALL", small)
        patch.setattr(batches, "CACHED", cached)
        pieces = [(where, piece.clone()) for where, piece in lazy.pieces(numbers, dtype)]
        whole = lazy.tensor()
    torch.testing.assert_close(whole, (plain - mean) * scale, rtol=1e-5, atol=1e-6)
    found = torch.cat([piece for _, piece in pieces]) if pieces else torch.empty(0, 4, dtype=dtype)
    assert torch.equal(found, whole.to(dtype)) and found.dtype == dtype
    for where, piece in pieces:
        assert torch.equal(piece, whole[where].to(dtype)) and len(piece) <= max(numbers // 4, 1)
