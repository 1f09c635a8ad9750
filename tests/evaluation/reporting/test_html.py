"""The page: whole, closed in itself, escaped, and every figure in it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmcli.evaluation.reporting import Picture
from mmcli.evaluation.reporting.html import render
from mmcli.evaluation.reporting.shown import limits, number, records
from mmcli.evaluation.result import Result

HOSTILE = "<script>alert(1)</script> & \"co\" 'x' 100%_$"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """All tags with their attributes, the text, and whether every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(w for w in self.words if w).replace("\xa0", " ")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag]


@pytest.fixture(scope="module")
def html(large: Result) -> str:
    return render(large, [Picture(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "ROC", "AUC .9", "stage")])


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_nothing_is_fetched_and_nothing_runs(html: str, page: Page) -> None:
    assert not [t for t, _ in page.tags if t in ("script", "link", "iframe", "object", "embed", "form", "base")]
    assert all((a["src"] or "").startswith("data:image/svg+xml;base64,") for a in page.all("img"))
    assert not [k for _, a in page.tags for k in a if k.startswith("on")]
    without = re.sub(r"base64,[A-Za-z0-9+/=]*", "", html)
    assert not re.search(r"https?:|@import|url\(|//[a-z]", without)
    targets = {a["id"] for _, a in page.tags if "id" in a}
    links = [str(a["href"]) for a in page.all("a")]
    assert links
    assert {link.removeprefix("#") for link in links} <= targets


def test_people_who_cannot_see_it_can_read_it(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert all(a.get("scope") in ("col", "row", "rowgroup") for a in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) > 20
    assert [a["alt"] for a in page.all("img")] == ["AUC .9"]
    regions = [a for a in page.all("div") if (a.get("class") or "").startswith("wide")]
    assert len(regions) == len(page.all("table"))
    assert all(a["tabindex"] == "0" and a["role"] == "region" and a["aria-label"] for a in regions)
    levels = [int(t[1]) for t, _ in page.tags if re.fullmatch(r"h\d", t)]
    assert levels[0] == 1
    assert max(np.diff(levels)) <= 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(scheme: str) -> None:
    """At least 4.5 to 1 (WCAG 2.2, AA) for each ink on each paper that it is put on."""
    from mmcli.evaluation.reporting.style import CSS

    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    colours: dict[str, str] = {}
    for block in blocks[: 1 if scheme == "light" else 2]:
        colours |= dict(re.findall(r"--(\w+): (#\w+)", block))

    def luminance(name: str) -> float:
        digits = colours[name][1:]
        digits = "".join(d * 2 for d in digits) if len(digits) == 3 else digits
        c = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        return float(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])

    for ink, paper in [("ink", "paper"), ("soft", "paper"), ("link", "paper"), ("ink", "box"), ("warn", "warnbox")]:
        a, b = sorted([luminance(ink), luminance(paper)])
        assert (b + 0.05) / (a + 0.05) >= 4.5, (ink, paper)


def test_names_from_outside_are_escaped_everywhere(make: Callable[..., Result]) -> None:
    result = make([HOSTILE, "student"], {HOSTILE: ("no", HOSTILE)}, by={HOSTILE: [HOSTILE, "b"]}, withheld=True)
    result.notes.append(HOSTILE)
    hostile = result.withheld.assign(modality=HOSTILE)
    html = render(replace(result, withheld=hostile), [Picture(b"<svg/>", HOSTILE, HOSTILE, HOSTILE)])
    assert "<script" not in html
    page = Page(html)
    assert page.all("img")[0]["alt"] == HOSTILE
    assert page.words.count(HOSTILE) > 10


def test_every_figure_stands_in_it(large: Result, page: Page) -> None:
    text = page.text
    for r in records(large.metrics):
        assert f"{number(r['value'])} {limits(r)}" in text
        assert f"{number(r['mean'])} ± {number(r['sd'])}" in text
        if r["analytic"]:
            assert f"[{number(r['analytic_low'])}, {number(r['analytic_high'])}]" in text
    for r in records(large.classes):
        assert f"{number(r['value'])} {limits(r)}" in text
    for frame in (large.subgroups, large.withheld):
        for r in records(frame):
            if r["metric"] in ("auc", "balanced_accuracy", "brier"):
                assert f"{number(r['value'])} {limits(r)}" in text
    assert "−0.046 [−0.090, +0.010] 0.012 0.046 0.035" in text
    assert "−0.050 [−0.100, +0.020] p 0.012, Holm 0.046" in text
    assert "+0.046 p <0.001, Holm 1.000" in text
    assert "0.885 [0.810, 0.940] 1.234 0.700 0.013" in text


def test_first_table_has_ranking_decisions_and_calibration(small: Result, page: Page) -> None:
    first = Page(render(small)).text.split("To compare with")[0]
    for words in ("AUC", "Balanced accuracy", "Sensitivity", "Specificity", "Brier score"):
        assert re.search(rf"{words} (higher|lower) is better", first)
    assert "1 is best" in first  # calibration slope
    assert "are those of yes" in first
    several = page.text.split("To compare with")[0]
    assert re.search(r"AUC higher is better Balanced accuracy higher is better Accuracy .* Brier score lower", several)


def test_the_worst_are_named(large: Result, page: Page) -> None:
    text = page.text
    for by, words in (("sex", "worst by sex"), ("modalities", "worst by modalities")):
        row = next(r for r in records(large.subgroups, by=by, task="stage", run="guide", metric="auc") if r["worst"])
        shown = " + ".join(row["subgroup"].split(",")) if row["subgroup"] else "no modality"
        assert f"guide, {words}: AUC {number(row['value'])} {limits(row)} in {shown} (n = {row['n']})" in text
    shown_metrics = {
        "stage": ("auc", "balanced_accuracy", "accuracy", "f1_macro", "brier", "ece"),
        "relapse": ("auc", "balanced_accuracy", "sensitivity", "specificity", "brier", "calibration_slope"),
    }
    worst = sum(r["worst"] and r["metric"] in shown_metrics[r["task"]] for r in records(large.subgroups))
    assert len([a for a in page.all("td") if a.get("class") == "worst"]) == worst


def test_only_what_there_is(make: Callable[..., Result]) -> None:
    bare = make(["only"], {"relapse": ("no", "yes")}, conformal=False, parts=1, bootstrap=False)
    text = Page(render(bare)).text
    for words in ("Comparisons", "Subgroups", "Missing modalities", "Conformal", "Over folds and seeds", "By class"):
        assert words not in text.replace("TRIPOD", "")
    assert "Evaluation of only" in text
    nothing = replace(bare, metrics=bare.metrics.assign(analytic="", analytic_low=math.nan, analytic_high=math.nan))
    assert "There are no intervals" in Page(render(nothing)).text


def test_what_is_undefined_is_a_dash(small: Result) -> None:
    metrics = small.metrics.assign(value=math.nan, low=math.nan, high=math.nan, mean=math.nan, sd=math.nan, parts=0)
    metrics = metrics.assign(analytic="", analytic_low=math.nan, analytic_high=math.nan)
    page = Page(render(replace(small, metrics=metrics)))
    assert "nan" not in re.sub(r"\w*[a-z]nan\w*|nan[a-z]\w*", "", page.text.lower())
    assert page.words.count("–") >= 12


def test_the_same_bytes_again(small: Result) -> None:
    assert render(small) == render(small)


def test_empty_tables(small: Result) -> None:
    frames = {n: getattr(small, n).iloc[:0] for n in ("metrics", "classes", "comparisons", "conformal")}
    Page(render(replace(small, **frames)))
    assert isinstance(frames["metrics"], pd.DataFrame)


def test_page_is_written_with_its_pictures(small: Result, page_of: Callable[..., Path]) -> None:
    page = Page(page_of(small).read_text(encoding="utf-8"))
    assert len(page.all("img")) == 3
