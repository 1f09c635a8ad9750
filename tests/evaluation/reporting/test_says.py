"""The words: exact where an author pastes them, silent about what was not done, and warning where figures mislead."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmcli.evaluation.reporting import gather, missingness, says
from mmcli.evaluation.reporting.methods import cited, methods
from mmcli.evaluation.reporting.reporting_items import AUTHORS, items
from mmcli.evaluation.reporting.shown import chunks, joined, number, p_text, share
from mmcli.evaluation.reporting.summary import asked, summarise
from mmcli.evaluation.result import Result
from mmcli.metrics.brier import brier
from mmcli.store.join import Stores


def changed(result: Result, **request: object) -> Result:
    return replace(result, about={**result.about, "request": {**result.about["request"], **request}})


def paragraph(result: Result) -> str:
    return methods(result, summarise(result), asked(result))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12349, "0.123"), (-0.5, "−0.500"), (-0.0001, "0.000"), (math.nan, "–"), (math.inf, "∞"), (1234.56, "1234.6")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_small_words() -> None:
    assert number(0.05, signed=True) == "+0.050"
    assert [p_text(p) for p in (0.0004, 0.0005, 0.04999, 1.0, math.nan)] == ["<0.001", "0.001", "0.050", "1.000", "–"]
    assert share(1, 3) == "33.3 %"
    assert share(0, 0) == "–"
    assert [joined(list(w)) for w in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert chunks(list("abcdefgh"), 7) == [list("abcd"), list("efgh")]
    assert chunks([], 7) == []


def test_who_was_compared(small: Result) -> None:
    task = summarise(small).tasks[0]
    assert says.compared(task, asked(small)) == (
        "96 patients of the test split. Classes: no 52 (54.2 %), yes 44 (45.8 %, the positive class)."
    )


@pytest.mark.parametrize("classes", [("no", "yes"), ("a", "b", "c")])
def test_baseline_is_what_the_shares_as_probabilities_reach(
    make: Callable[..., Result], classes: tuple[str, ...]
) -> None:
    result = make(["a"], {"t": classes}, n=70)
    y = result.predictions[0].y
    shares = np.bincount(y) / len(y)
    found = brier(y, np.tile(shares, (70, 1)), np.ones((1, 70)))[0]
    assert f"a Brier score of {number(float(found))}." in says.baselines(summarise(result).tasks[0])


def test_one_decision_for_everyone_is_a_warning(make: Callable[..., Result]) -> None:
    result = make(["teacher"], {"relapse": ("no", "yes")})
    metrics = result.metrics.set_index("metric")
    metrics.loc["auc", "value"] = 0.985
    metrics.loc["sensitivity", "value"], metrics.loc["specificity", "value"] = 1.0, 0.0
    result = replace(result, metrics=metrics.reset_index())
    summary = summarise(result)
    (said,) = says.warnings(result, summary.tasks[0])
    assert said.startswith("teacher gives every patient the same decision, “yes”, although its AUC is 0.985")
    metrics.loc["specificity", "value"] = 0.01
    assert not says.warnings(replace(result, metrics=metrics.reset_index()), summary.tasks[0])


def test_a_class_that_is_never_decided(make: Callable[..., Result]) -> None:
    result = make(["teacher"], {"stage": ("I", "II", "III")})
    classes = result.classes.copy()
    for metric, value in (("sensitivity", 0.0), ("specificity", 1.0)):
        classes.loc[(classes["class"] == "II") & (classes["metric"] == metric), "value"] = value
    result = replace(result, classes=classes)
    summary = summarise(result)
    assert says.warnings(result, summary.tasks[0])[0].startswith("teacher decides “II” for no patient")


def test_undefined_resamples_and_fallbacks_are_named(small: Result) -> None:
    result = changed(small, interval="bca")
    metrics = result.metrics.assign(interval="bca")
    metrics.loc[0, "interval"], metrics.loc[0, "undefined"] = "percentile", 7
    said = says.undefined(metrics, asked(result))
    assert "1 figure had" in said
    assert "up to 7 of 2000, for AUC of teacher" in said
    assert says.fallbacks(metrics, asked(result)).startswith(
        "BCa intervals were asked for and are not defined for AUC of teacher: these are percentile intervals."
    )
    assert says.undefined(small.metrics, asked(small)) == says.fallbacks(small.metrics, asked(small)) == ""


def test_the_paragraph_is_exact(small: Result) -> None:
    said = paragraph(small)
    for words in (
        "For relapse, 96 patients of the test split were included (no 52, yes 44).",
        "Each model was trained 10 times (folds and seeds)",
        "Patients were assigned to the class with the highest predicted probability.",
        "95 % confidence intervals are percentile intervals of 2000 bootstrap resamples of patients, drawn with "
        "replacement (seed 3); all models and metrics shared the resamples.",
        "two-sided bootstrap p values, dual to the intervals of the paired differences, DeLong's test of paired AUCs, "
        "McNemar's exact test, McNemar's test with continuity correction and a t test over the folds",
        "over the family of all pairs and tasks, for each metric and test apart",
    ):
        assert words in said
    assert "Wilcoxon" not in said
    assert "Rubin" not in said
    references = cited(small, asked(small))
    assert [r.split(":")[0] for r in references] == [
        "Bootstrap", "DeLong", "Fast DeLong", "Wilson", "McNemar", "Corrected t", "Holm", "Benjamini-Hochberg",
        "Conformal sets", "TRIPOD+AI",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"interval": "bca"}, "are bias-corrected and accelerated (BCa) intervals of"),
        ({"stratify": True}, "resamples of patients within each class, drawn with"),
        ({"cluster": "site"}, "resamples of whole clusters (site), drawn with"),
        ({"threshold": "0.3"}, "from a predicted probability of 0.3 on"),
        ({"threshold": "youden"}, "threshold with the highest Youden index, found in each part on its validation"),
        ({"threshold": "sensitivity=0.9"}, "the threshold for sensitivity of at least 0.9"),
        ({"reference": "student"}, "Models were compared with student, on the patients"),
    ],
)
def test_the_paragraph_follows_the_request(small: Result, request_: dict[str, object], words: str) -> None:
    assert words in paragraph(changed(small, **request_))


def test_withholding_and_subgroups_are_described(make: Callable[..., Result]) -> None:
    result = make(["a"], {"t": ("no", "yes")}, by={"sex": ["f", "m"]}, withheld=True)
    assert "hiding markers from fixed shares of the patients, chosen completely at random (5 seeds;" in paragraph(
        result
    )
    assert "Subgroups of sex were described with intervals and not tested." in paragraph(result)


def test_nothing_is_claimed_that_was_not_done(make: Callable[..., Result]) -> None:
    result = make(["a"], {"t": ("no", "yes")}, bootstrap=False, conformal=False)
    said = paragraph(result)
    for words in ("bootstrap", "conformal", "Holm", "hiding", "Subgroups"):
        assert words not in said
    assert "95 % confidence intervals are of the AUC by DeLong's method and of proportions by Wilson's method." in said


def known(result: Result) -> dict[str, list[str]]:
    return {topic: lines for _, topic, lines in items(result, summarise(result), asked(result))}


def test_items_come_from_the_records(small: Result) -> None:
    missing = {
        "ct": {"kind": "volume", "patients": 96, "present": 90, "failed": 1},
        "markers": {"kind": "table", "patients": 96, "present": 48, "columns": 2, "cells": 96, "observed": 72},
    }
    for told in small.about["inputs"].values():
        told["missingness"] = missing
    found = known(small)
    assert found["Missing data"][:2] == [
        "ct (volume): present for 90 of 96 patients (93.8 %), could not be read for 1",
        "markers (table): present for 48 of 96 patients (50.0 %); 25.0 % of the cells of those patients are not "
        "observed (2 columns)",
    ]
    assert "filled by mice, fitted on each fold's training patients" in found["Missing data"][2]
    assert found["Machine and time"] == [
        "All runs: 10 min in all for 10 parts; at most 0.4 GiB of memory; platform Linux-x86_64; threads 2"
    ]
    assert found["Software"][1] == "All runs: mmcli 0.2.0, python 3.11.7, torch 2.13.0, numpy 2.4.6"
    assert "after 20 epochs without a lower one" in found["Tuning"][0]
    assert found["Model and settings"] == [
        "All runs: teacher, method attention (width 32, lr 0.001, class_weights yes, patience 20)"
    ]


def test_events_of_each_split_are_counted(small: Result) -> None:
    y = small.predictions[0].y
    lines = known(small)["Participants and events of each split"]
    assert len(lines) == 5
    for fold, line in enumerate(lines):
        role = np.where(np.arange(96) % 5 == fold, "test",
                        np.where(np.arange(96) % 5 == (fold + 1) % 5, "validation", "train"))  # fmt: skip
        each = [f"{r} {(role == r).sum()} (no {((role == r) & (y == 0)).sum()}, yes {((role == r) & (y == 1)).sum()})"
                for r in ("train", "validation", "test")]  # fmt: skip
        assert line == f"relapse, fold {fold}: {'; '.join(each)}"


def test_a_foreign_table_is_not_described(small: Result) -> None:
    about = {**small.about, "inputs": {"teacher": {"table": "their.csv"}, "student": {}}}
    found = known(replace(small, about=about))
    assert found["Source of the data, as mmcli read it"] == [
        "teacher: a table of predictions (their.csv); how they were made is for the authors to say",
        "student: a table of predictions; how they were made is for the authors to say",
    ]
    assert not {"Tuning", "Model and settings", "Machine and time", "Class imbalance"} & set(found)


def test_figures_of_other_splits_are_called_so(small: Result) -> None:
    assert "not those of new patients" in known(changed(small, split="train"))["Training and evaluation"][0]


def test_authors_items_are_never_answered(small: Result) -> None:
    assert not {topic for _, topic in AUTHORS} & set(known(small))


def test_gathering_reads_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "cv-0-seed-0").mkdir()
    (tmp_path / "run.json").write_text('{"method": "kd"}')
    (tmp_path / "cv-0-seed-0" / "provenance.json").write_text('{"wall_s": 1.5}')
    (tmp_path / "cv-0-seed-0" / "part.json").write_text("{damaged")
    found = gather(tmp_path, ["cv-0-seed-0", "cv-1-seed-0"])
    assert found == {
        "run": {"method": "kd"}, "parts": {"cv-0-seed-0": {"wall_s": 1.5}, "cv-1-seed-0": {}}, "head": {},
    }  # fmt: skip


def test_imputations_are_said(small: Result) -> None:
    first, second = small.predictions
    draws = np.stack([first.p] * 5)
    result = replace(small, predictions=[replace(first, draws=draws), second])
    words = "teacher predicted from 5 imputations. Figures are means over the imputations, of which each bootstrap"
    assert words in paragraph(result)
    assert any(r.startswith("MI boot: Schomaker") for r in cited(result, asked(result)))
    assert "imputations" not in paragraph(small)


def test_patients_with_several_rows(small: Result) -> None:
    patients = np.array([f"P{i // 2}" for i in range(96)], dtype=object)
    result = replace(small, predictions=[replace(p, patients=patients) for p in small.predictions])
    summary = summarise(result)
    assert says.compared(summary.tasks[0], asked(result)).startswith("48 patients (96 rows) of the test split.")
    assert "each row (a patient may have several) once" in says.how_to_read(summary, asked(result), result)[0].replace(
        "takes each", "each"
    )
    assert "48 patients with 96 rows of the test split were included" in paragraph(result)


def test_classes_that_were_not_read_are_not_counted_as_none(small: Result) -> None:
    roles = {f"P{i:04d}": "3" for i in range(96)} | {f"T{i}": "1" for i in range(200)}
    run = {**small.about["inputs"]["teacher"]["run"], "fold_assignment": roles, "folds": [0]}
    about = {**small.about, "inputs": {"teacher": {"run": run}, "student": {"run": run}}}
    (line,) = known(replace(small, about=about))["Participants and events of each split"]
    assert line == (
        "relapse, fold 0: train 200 (their classes were not read here); validation 0 (no 0, yes 0); "
        "test 96 (no 52, yes 44)"
    )


def test_missingness_counts_cells_of_those_who_have_the_table(
    tmp_path: Path, write_made_store: Callable[..., Path]
) -> None:
    nan = math.nan
    store = write_made_store(
        tmp_path / "s.h5", {"t": [0, 1, 0]}, {"slide": [np.ones((2, 3)), None, np.ones((1, 3))]},
        {"markers": np.array([[1, nan], [1, 2], [nan, nan]])}, roles=False,
    )  # fmt: skip
    with Stores([store]) as stores:
        assert missingness(stores, ["p0000", "p0001", "unknown"]) == {
            "slide": {"kind": "slide", "patients": 2, "present": 1, "failed": 0},
            "markers": {
                "kind": "table", "patients": 2, "present": 2, "failed": 0, "columns": 2, "cells": 4, "observed": 3,
            },
        }  # fmt: skip


def test_different_patients_are_said(small: Result) -> None:
    first, second = small.predictions
    fewer = second.subset(np.arange(96) < 50)
    result = replace(small, predictions=[first, fewer])
    assert "the runs have different patients" in says.how_to_read(summarise(result), asked(result), result)[-1]
    result = replace(small, predictions=[first, second, replace(fewer, variant="S+I", main=False)])
    assert (
        "a variant answers for the patients who have" in says.how_to_read(summarise(result), asked(result), result)[-1]
    )
    assert len(says.how_to_read(summarise(small), asked(small), small)) == 2
