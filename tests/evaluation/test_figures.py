"""Pictures: drawn for any names and any number of classes, and the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmcli.evaluation.figures import as_svg, draw_confusion, draw_roc, file_names, save
from mmcli.evaluation.predictions import Predictions


def made(classes: int, title: str = "run") -> Predictions:
    y = np.arange(30) % classes
    p = np.random.default_rng(0).dirichlet(np.ones(classes), size=30)
    names = tuple(f"class ${k}" for k in range(classes))
    return Predictions(title, "", "t", names, np.array([str(i) for i in range(30)], dtype=object), y, p)


@pytest.mark.parametrize("classes", [2, 5, 12])
def test_size_and_sameness(classes: int, tmp_path: Path) -> None:
    for name, draw in {
        "roc": lambda: draw_roc([(made(classes), "0.5")]),
        "c": lambda: draw_confusion(made(classes)),
    }.items():
        png, pdf = save(draw(), tmp_path / f"{name}.v1")
        assert (png.name, pdf.name) == (f"{name}.v1.png", f"{name}.v1.pdf")
        with Image.open(png) as image:
            assert image.width == 1050
        assert pdf.read_bytes().startswith(b"%PDF")
        assert as_svg(draw()) == as_svg(draw())


def test_names_are_never_mathematics_or_markup() -> None:
    svg = as_svg(draw_roc([(made(2, "cost $x_1 & <b>" + "n" * 90), "0.5 $")] * 9))
    assert b"<svg" in svg


def test_run_without_a_class_has_no_curve_and_is_in_the_legend() -> None:
    p = made(2)
    one = Predictions("one class", "", "t", p.classes, p.ids, np.zeros(30, dtype=int), p.p)
    assert b"<svg" in as_svg(draw_roc([(one, "–")]))


def test_file_names_are_safe_and_different() -> None:
    assert file_names(["roc-a/b c", "roc-a b/c", "ROC-a-b-c", "../.."]) == [
        "roc-a-b-c",
        "roc-a-b-c-2",
        "ROC-a-b-c-3",
        "run",
    ]
