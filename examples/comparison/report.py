"""The tables of a cohort as Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from protocol import OMICS, Table
from scoring import by_seed, difference, fold_aucs, interval, paired, read, single

from mmcli.evaluation.delong import Difference
from mmcli.evaluation.folds import CorrectedT

REFERENCES = ("late", "forest", "attention", "mdfn")  # where they are in the table


@dataclass(frozen=True)
class Runs:
    """A table's finished runs, by the rows' labels."""

    table: Table
    folders: dict[str, Path]
    stores: list[Path]
    seconds: dict[str, float]


def page(cohort: str, runs: list[Runs]) -> str:
    """All tables of a cohort."""
    parts = [f"## {cohort}"]
    if cohort == "rosmap":
        parts += [published(r) for r in runs] + [withheld(r) for r in runs]
    else:
        parts += [cross_validation(r, runs) for r in runs if r.table.folds.startswith("cv") and r.folders]
    if cohort == "hancock":
        parts += [three_splits([r for r in runs if r.table.name.endswith(f"-{which}")
                                and not r.table.folds.startswith("cv")], which)
                  for which in ("with", "without")]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def cross_validation(runs: Runs, others: list[Runs]) -> str:
    """A line a row: the mean AUC of the folds with the seeds together and of single parts, the paired differences from
    the reference rows (seeds together), and with tissue that from the same row on the tables alone."""
    read_ = {label: read(path, runs.table.task) for label, path in runs.folders.items()}
    references = [name for name in REFERENCES if name in read_]
    twin = runs.table.name.replace("tissue", "cv") if runs.table.bags else ""
    without = {
        label: path for r in others if r.table.name == twin != runs.table.name for label, path in r.folders.items()
    }
    more = ["minus itself without tissue [95 %]"] if without else []
    head = [
        "method",
        "AUC, mean of folds ± sd",
        "single parts",
        *(f"minus {name} [95 %]" for name in references),
        *more,
        "CPU s",
    ]
    lines = [f"### {runs.table.title}", *_head(head)]
    for label, p in read_.items():
        values = np.array(list(fold_aucs(p).values()))
        cells = [label, f"{values.mean():.3f} ± {values.std(ddof=1):.3f}", f"{single(p):.3f}"]
        cells += ["" if name == label else _minus(difference(p, read_[name])) for name in references]
        if more:
            cells.append(_minus(difference(p, read(without[label], runs.table.task), True)) if label in without else "")
        lines.append(_line([*cells, _seconds(runs, label)]))
    return "\n".join(lines)


def three_splits(runs: list[Runs], which: str) -> str:
    """The six tasks of hancock side by side: each cell the AUC of the five validation draws' mean prediction."""
    labels = [label for label in runs[0].folders if all(label in r.folders for r in runs)] if runs else []
    if not labels:
        return ""
    names = [r.table.title for r in runs]
    lines = [
        f"### Published splits, {which} primarily_metastasis: AUC of the mean of five validation draws",
        *_head(["method", *names, "mean of six", "mean of single parts", "least minus forest"]),
    ]
    found = {label: [read(r.folders[label], r.table.task) for r in runs] for label in labels}
    pooled = {label: np.array([interval(p)[0] for p in ps]) for label, ps in found.items()}
    for label, ps in found.items():
        alone = np.mean([single(p) for p in ps])
        behind = (
            "" if "forest" not in pooled or label == "forest" else f"{(pooled[label] - pooled['forest']).min():+.3f}"
        )
        lines.append(_line([label, *(f"{v:.3f}" for v in pooled[label]), f"{pooled[label].mean():.3f}",
                            f"{alone:.3f}", behind]))  # fmt: skip
    best = max(found, key=lambda label: float(pooled[label].mean()))
    shown = [interval(p) for p in found[best]]
    lines.append(_line([f"95 % of {best}", *(f"[{low:.3f}, {high:.3f}]" for _, low, high in shown), "", "", ""]))
    return "\n".join(lines)


def published(runs: Runs) -> str:
    """rosmap: figures by seed, the AUC of single parts, and paired differences of all seeds together."""
    task = runs.table.task
    references = {name: read(runs.folders[name], task) for name in ("late", "mdfn") if name in runs.folders}
    head = ["method", "AUC", "accuracy", "F1", "AUC of single parts", "95 % of all seeds together",
            *(f"together minus {name} [95 %]" for name in references), "CPU s"]  # fmt: skip
    lines = [
        f"### {runs.table.title}: mean of the seeds ± sd, each seed the mean of five validation draws",
        *_head(head),
    ]
    for label, path in runs.folders.items():
        found, p = by_seed(path, task, runs.stores), read(path, task)
        cells = [f"{mean:.3f} ± {sd:.3f}" for mean, sd in (found.auc, found.accuracy, found.f1)]
        _, low, high = interval(p)
        cells += [f"{single(p):.3f}", f"[{low:.3f}, {high:.3f}]"]
        cells += ["" if name == label else _minus(paired(p, q)) for name, q in references.items()]
        lines.append(_line([label, *cells, _seconds(runs, label)]))
    return "\n".join(lines)


def withheld(runs: Runs) -> str:
    """rosmap: each view withheld from all test patients, the trained parts the same."""
    lines = ["### One view withheld at test, the same trained models: AUC / accuracy, mean of the seeds",
             *_head(["method", "all three", *(f"without {name}" for name in OMICS)])]  # fmt: skip
    for label, path in runs.folders.items():
        if label.endswith(" alone"):
            continue
        found = [by_seed(path, runs.table.task, runs.stores, hidden) for hidden in ("", *OMICS)]
        lines.append(_line([label, *(f"{f.auc[0]:.3f} / {f.accuracy[0]:.3f}" for f in found)]))
    return "\n".join(lines)


def _minus(t: CorrectedT | Difference) -> str:
    value = t.mean if isinstance(t, CorrectedT) else t.value
    sure = " *" if t.low > 0 or t.high < 0 else ""
    return f"{value:+.3f} [{t.low:+.3f}, {t.high:+.3f}]{sure}"


def _seconds(runs: Runs, label: str) -> str:
    return f"{runs.seconds[label]:.0f}" if label in runs.seconds else ""


def _head(names: list[str]) -> list[str]:
    return [_line(names), "|" + "---|" * len(names)]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
