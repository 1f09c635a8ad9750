from __future__ import annotations

import hashlib

import numpy as np
import pytest

from mmcli.errors import RequestError
from mmcli.training.withhold import fractions, withheld, withhold_shares

IDS = [f"p{i}" for i in range(2000)]


def test_share_nested_and_by_patient_alone() -> None:
    half, most = withheld(IDS, "ct", 0.5, 0), withheld(IDS, "ct", 0.8, 0)
    assert abs(half.mean() - 0.5) < 0.05 and abs(most.mean() - 0.8) < 0.04
    assert (most | ~half).all()  # who is hidden at 0.5 is hidden at 0.8
    np.testing.assert_array_equal(withheld(IDS[::-1], "ct", 0.5, 0)[::-1], half)
    assert (withheld(IDS, "slide", 0.5, 0) != half).any() and (withheld(IDS, "ct", 0.5, 1) != half).any()
    assert not withheld(IDS, "ct", 0.0, 0).any() and withheld(IDS, "ct", 1.0, 0).all()


def test_the_documented_string() -> None:
    fraction = int(hashlib.sha256(b"withhold|7|ct|p3").hexdigest()[:16], 16) / 2**64
    assert fractions(["p3", "p4"], "ct", 7)[0] == fraction and fractions([], "ct", 7).shape == (0,)
    assert withheld(["p3"], "ct", fraction + 1e-9, 7).all() and not withheld(["p3"], "ct", fraction - 1e-9, 7).any()


@pytest.mark.parametrize("given, message", [({"slides": "0.5"}, "did you mean 'slide'"), ({"ct": "1.5"}, "from 0 to 1"),
                                            ({"ct": "half"}, "from 0 to 1")])  # fmt: skip
def test_wrong(given: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        withhold_shares(given, ["ct", "slide"])
