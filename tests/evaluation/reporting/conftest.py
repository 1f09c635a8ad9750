"""Made-up results: what an evaluation of two runs of two classes, or of six runs of five classes, would find."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmcli.evaluation.predictions import NO_LABELS, PartPredictions, Predictions
from mmcli.evaluation.result import CLASSES, COMPARISONS, CONFORMAL, METRICS, SUBGROUPS, WITHHELD, Result

BINARY = [
    "auc", "average_precision", "accuracy", "accuracy_ovr", "balanced_accuracy", "sensitivity", "specificity",
    "precision", "npv", "f1", "f1_macro", "f1_micro", "f1_weighted", "mcc", "kappa", "brier", "log_loss", "ece",
    "calibration_slope", "calibration_intercept", "sensitivity_at_90_specificity", "aurc",
]  # fmt: skip
SEVERAL = [
    "auc", "auc_ovo", "auc_weighted", "auc_micro", "average_precision", "accuracy", "accuracy_ovr",
    "balanced_accuracy", "sensitivity_macro", "specificity_macro", "precision_macro", "f1_macro", "f1_micro",
    "f1_weighted", "f1_of_macro", "mcc", "kappa", "brier", "log_loss", "ece", "aurc",
]  # fmt: skip
BY_CLASS = ("auc", "sensitivity", "specificity", "precision", "f1")
HOSTILE = "<script>alert(1)</script> & \"co\" 'x' 100%_$"


def prediction(run: str, task: str, classes: tuple[str, ...], n: int, seed: int = 0, **other: Any) -> Predictions:
    y = np.random.default_rng(5).integers(len(classes), size=n)
    p = np.random.default_rng(seed).dirichlet(np.ones(len(classes)), size=n)
    ids = np.array([f"P{i:04d}" for i in range(n)], dtype=object)
    parts = tuple(
        PartPredictions(f"cv-{k}-seed-{s}", f"cv-{k}", rows, y[rows], p[rows], NO_LABELS, np.empty((0, len(classes))))
        for k in range(5)
        for s in range(2)
        for rows in [np.arange(k, n, 5)]
    )
    return Predictions(run, other.pop("variant", ""), task, classes, ids, y, p, ids, parts, **other)


def provenance(folds: int = 5, seeds: int = 2, n: int = 96, **other: Any) -> dict[str, Any]:
    """As `gather` reads it from a run that mmcli trained."""
    roles = ["".join("3" if i % folds == k else "2" if i % folds == (k + 1) % folds else "1" for k in range(folds))
             for i in range(n)]  # fmt: skip
    parts = [f"cv-{k}-seed-{s}" for k in range(folds) for s in range(seeds)]
    run = {
        "mmcli_version": "0.2.0", "stage": "train-teacher", "method": "attention",
        "method_settings": {"width": 32, "lr": 0.001, "class_weights": True, "patience": 20},
        "fold_set": "cv", "folds": list(range(folds)), "seeds": list(range(seeds)), "parts": parts,
        "modalities": ["ct", "markers"], "roles": {}, "variants": [""],
        "stores": [{"path": "/data/features.h5", "content_sha256": "6f875634f34f8930e44c1b2fa2d3"}],
        "fold_assignment": {f"P{i:04d}": r for i, r in enumerate(roles)},
        "request": {"imputer": "mice", "withhold": {}}, **other,
    }  # fmt: skip
    head = {
        "bags": {"ct": {"kind": "volume", "encoder": "resnet3d_18", "weights_sha256": "ab" * 32, "dim": 512}},
        "tables": {"markers": {"columns": ["afp", "ca125"]}},
    }
    part = {"mmcli": "0.2.0", "python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6", "platform": "Linux-x86_64",
            "threads": 2, "wall_s": 61.5, "peak_memory_bytes": 475885568}  # fmt: skip
    return {"run": run, "head": head, "parts": {p: dict(part) for p in parts},
            "files": {f"{p}/predictions.parquet": f"{i:016x}" for i, p in enumerate(parts)}}  # fmt: skip


def figure(generator: np.random.Generator, **who: Any) -> dict[str, Any]:
    value = float(generator.uniform(0.55, 0.95))
    width = float(generator.uniform(0.02, 0.1))
    return {
        **who,
        "value": value,
        "low": value - width,
        "high": value + width,
        "interval": "percentile",
        "undefined": 0,
    }


def frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns)


def make(
    names: list[str], tasks: dict[str, tuple[str, ...]], n: int = 96, by: dict[str, list[str]] | None = None,
    withheld: bool = False, conformal: bool = True, bootstrap: bool = True, parts: int = 10, n_metrics: int = 99,
    variants: tuple[str, ...] = ("",),
) -> Result:  # fmt: skip
    g = np.random.default_rng(0)
    metrics, classes, comparisons, subgroups, sets, hidden, predictions = [], [], [], [], [], [], []
    for task, names_of in tasks.items():
        kinds = (BINARY if len(names_of) == 2 else SEVERAL)[:n_metrics]
        who = [{"run": r, "variant": v, "task": task} for r in names for v in variants]
        for i, w in enumerate(who):
            predictions.append(prediction(w["run"], task, names_of, n, i, variant=w["variant"]))
            for m in kinds:
                row = figure(g, **w, metric=m, n=n)
                formula = "delong" if m == "auc" else "wilson" if m in ("accuracy", "sensitivity") else ""
                row |= {"analytic": formula, "analytic_low": row["value"] - 0.05 if formula else math.nan,
                        "analytic_high": row["value"] + 0.05 if formula else math.nan,
                        "mean": row["value"] - 0.01, "sd": 0.034, "parts": parts}  # fmt: skip
                metrics.append(row)
            if len(names_of) > 2:
                classes += [figure(g, **w, **{"class": c}, metric=m, n=n) for c in names_of for m in BY_CLASS]
            for column, values in (by or {}).items():
                for m in kinds:
                    own = [figure(g, **w, by=column, subgroup=v, metric=m, n=n // len(values)) for v in values]
                    low = min(own, key=lambda r: r["value"])
                    subgroups += [{**r, "worst": r is low} for r in own]
            if conformal:
                for column, v in [("", ""), *[(c, v) for c, values in (by or {}).items() for v in values]]:
                    sets.append(
                        {
                            **w,
                            "by": column,
                            "subgroup": v,
                            "n": n,
                            "level": 0.9,
                            "coverage": 0.8854,
                            "low": 0.81,
                            "high": 0.94,
                            "size": 1.2345,
                            "single": 0.7,
                            "empty": 0.0125,
                        }
                    )
            if withheld:
                for share, m in itertools.product((0.0, 0.5, 1.0), kinds):
                    row = figure(g, run=w["run"], task=task, modality="markers", share=share, metric=m, n=n)
                    hidden.append({**row, "sd_seeds": 0.012, "seeds": 5})
        for a, b in itertools.combinations(who, 2):
            other = f"{b['run']} · {b['variant']}" if b["variant"] else b["run"]
            pair = {**a, "other": other, "n": n}
            p = {"p": 0.0123, "p_holm": 0.0456, "p_bh": 0.0345}
            for m in kinds:
                d = {"value": -0.0456, "low": -0.09, "high": 0.01, "interval": "percentile", "statistic": math.nan}
                comparisons.append({**pair, "metric": m, "test": "bootstrap", **d, **p})
                t = {"value": -0.05, "low": -0.1, "high": 0.02, "interval": "", "statistic": -2.345}
                comparisons.append({**pair, "metric": m, "test": "corrected_t", **t, **p})
            for test, m in (("delong", "auc"), ("mcnemar_exact", "accuracy"), ("mcnemar", "accuracy")):
                d = {"value": 0.0456, "low": math.nan, "high": math.nan, "interval": "", "statistic": 1.987}
                comparisons.append({**pair, "metric": m, "test": test, **d, "p": 0.00001, "p_holm": 1.0, "p_bh": 0.5})
    request: dict[str, Any] = {
        "seed": 3, "split": "test", "threshold": "argmax", "coverage": 0.9, "by": list(by or {}),
        "bootstrap_ci": bootstrap, "reference": None, "withhold": {}, "label": list(tasks),
    }  # fmt: skip
    if bootstrap:
        request |= {"resamples": 2000, "confidence": 0.95, "interval": "percentile", "stratify": False, "cluster": ""}
    inputs = {name: provenance(n=n) for name in names}
    found = Result(
        frame(metrics, METRICS), frame(classes, CLASSES), frame(comparisons, COMPARISONS), frame(subgroups, SUBGROUPS),
        frame(sets, CONFORMAL), frame(hidden, WITHHELD), predictions, [], {"request": request, "inputs": inputs},
    )  # fmt: skip
    return found if bootstrap else _without_bootstrap(found)


def _without_bootstrap(found: Result) -> Result:
    nothing = {"low": math.nan, "high": math.nan, "interval": None, "undefined": math.nan}
    changed = {name: getattr(found, name).assign(**nothing) for name in ("metrics", "classes", "subgroups", "withheld")}
    comparisons = found.comparisons[found.comparisons["test"] != "bootstrap"]
    return replace(found, **changed, comparisons=comparisons)


@pytest.fixture(name="make")
def make_fixture() -> Callable[..., Result]:
    """The function that makes a result."""
    return make


@pytest.fixture
def small() -> Result:
    """Two runs, two classes."""
    return make(["teacher", "student"], {"relapse": ("no", "yes")})


@pytest.fixture(scope="session")
def large() -> Result:
    """Six runs, five ordered-looking classes and a second task of two, subgroups, patterns, withheld modalities."""
    names = ["teacher", "student", "guide", "ct-only", "markers-only", "a-run-with-a-rather-long-name-seed-ablation"]
    by = {"sex": ["female", "male"], "site": ["A", "B", "C"], "modalities": ["ct", "ct,markers", "markers", ""]}
    return make(names, {"stage": ("I", "II", "III", "IV", "V"), "relapse": ("no", "yes")}, 620, by, withheld=True)


def svg(words: str = "figure") -> bytes:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 350 300"><rect width="350" height="300" fill="#fff"/>'
        f'<path d="M40 260 L120 100 L310 40" stroke="#0072B2" fill="none"/><text x="50" y="290">{words}</text></svg>'
    ).encode()


@pytest.fixture
def page_of(tmp_path: Path) -> Callable[..., Path]:
    """Writes a result's report and gives its page."""
    from mmcli.evaluation.reporting import Picture, write_report

    def write(result: Result) -> Path:
        tasks = dict.fromkeys(p.task for p in result.predictions)
        pictures = [
            Picture(svg(f"{t} {k}"), f"ROC curves of {t} {k}", f"AUC of {t}", t) for t in tasks for k in range(3)
        ]
        write_report(tmp_path, result, pictures)
        return tmp_path / "report.html"

    return write
