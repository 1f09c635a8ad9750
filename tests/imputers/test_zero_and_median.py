"""`zero` and `median` by hand."""

from __future__ import annotations

import numpy as np

from mmcli.imputers import make_imputer
from mmcli.imputers.imputer import Columns

NAN = np.nan
COLUMNS = Columns(["a", "g", "s"], ["numeric", "ordinal", "categorical"], {"g": ["1", "2", "3"], "s": ["x", "y"]})
VALUES = np.array([[5, 1, 1], [6, 2, 1], [13, 2, 1], [NAN, NAN, NAN]])


def test_zero_is_zero_outside_the_range_too_and_the_nearest_code():
    for answer in ("mean", "median", "draw"):
        filled = make_imputer("zero").fit(VALUES, COLUMNS, draws=1).transform(VALUES, list("abcd"), answer=answer)
        assert filled[0, 3].tolist() == [0, 1, 1]
        assert np.array_equal(filled[0, :3], VALUES[:3])


def test_median_is_the_median_whatever_point_is_asked():
    for answer in ("mean", "median"):
        filled = make_imputer("median").fit(VALUES, COLUMNS).transform(VALUES, list("abcd"), answer=answer)
        assert filled[0, 3].tolist() == [6, 2, 1]
    mean, median = (make_imputer(n).fit(VALUES, COLUMNS, draws=3) for n in ("mean", "median"))
    one, other = (i.transform(VALUES, list("abcd"), draws=3, answer="draw") for i in (mean, median))
    assert np.array_equal(one, other)
