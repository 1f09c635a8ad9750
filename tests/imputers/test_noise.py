"""Random numbers of a patient: SplitMix64 against its published output, uniform, independent of the others."""

from __future__ import annotations

import numpy as np
from scipy import stats

from mmcli.imputers.noise import patient_keys, uniforms


def test_splitmix64_gives_the_published_sequence():
    # The reference implementation's first outputs for the seed 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    got = uniforms(np.array([1234567], np.uint64), 0, 4)[0]
    np.testing.assert_allclose(got, np.array(expected) / 2**64, rtol=0, atol=2**-52)


def test_each_patient_has_a_stream_and_may_start_anywhere_in_it():
    keys = patient_keys(0, ["a", "b", "c"])
    whole = uniforms(keys, 0, 50)
    assert np.array_equal(uniforms(keys[[2]], 10, 5), whole[[2], 10:15])
    assert len(set(patient_keys(0, ["a", "b"]).tolist()) | set(patient_keys(1, ["a", "b"]).tolist())) == 4


def test_uniform_within_and_between_patients():
    numbers = uniforms(patient_keys(3, [f"P{i}" for i in range(300)]), 0, 300)
    assert numbers.min() > 0 and numbers.max() < 1
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(numbers[:, :-1].ravel(), numbers[:, 1:].ravel())[0, 1]) < 0.015
    assert abs(np.corrcoef(numbers[:-1].ravel(), numbers[1:].ravel())[0, 1]) < 0.015
