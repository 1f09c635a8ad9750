"""Confusion matrices as pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from mmcli.evaluation.figures import draw_confusion


@pytest.mark.parametrize(("classes", "width"), [(2, 1050), (5, 1050), (10, 1050), (12, 2160), (70, 2160)])
def test_numbers_and_shades(classes: int, width: int, predicted: Callable, check_picture: Callable) -> None:
    p = predicted(classes, n=40 * classes)
    if classes == 12:
        p = replace(p, y=np.repeat(p.y, 10), p=np.repeat(p.p, 10, axis=0), ids=np.repeat(p.ids, 10))
    check_picture(lambda: draw_confusion(p), width)
    figure = draw_confusion(p)
    matrix = sk.confusion_matrix(p.y, p.p.argmax(axis=1))
    shares = matrix / matrix.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), shares)
    texts = [t.get_text() for t in figure.axes[0].texts]
    if classes == 70:
        assert texts == []
    elif classes > 5:
        assert texts == [f"{m}" for m in matrix.ravel()]
    else:
        assert texts == [f"{m}\n{s:.0%}" for m, s in zip(matrix.ravel(), shares.ravel(), strict=True)]


def test_class_without_patients_and_threshold(predicted: Callable) -> None:
    p = predicted(3, n=6)
    p = replace(p, y=np.zeros(6, dtype=np.int64))
    assert draw_confusion(p).axes[0].images[0].get_array()[1:].sum() == 0
    # The decisions are those of the thresholds, not the likeliest class.
    two = replace(predicted(2), thresholds=np.full(60, 0.0))
    texts = [t.get_text() for t in draw_confusion(two).axes[0].texts]
    assert texts == ["0\n0%", "30\n100%", "0\n0%", "30\n100%"]
