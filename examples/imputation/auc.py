"""The AUC of classifiers trained after each imputer: `python auc.py --data TABLES --seeds 0-4`.

The splits and hidden cells are those of run.py. On the training part, filled by an imputer that saw nothing else, a
logistic regression (standardised, L2 with C = 1) and scikit-learn's HistGradientBoosting (its defaults) learn the
table's label; `raw` is the boosting on the holes themselves. What each split gives is appended to `--out` (a CSV), and
a split that is there already is not run again; then the tables of RESULTS.md are printed from that file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from protocol import WAYS, Hidden, hide
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score
from tables import TABLES, RealTable
from threadpoolctl import threadpool_limits

from mmcli.evaluation.imputation.downstream import after_imputation, on_raw_holes
from mmcli.imputers import make_imputer

METHODS = "mean,regression,knn,mice,missforest,copula,blend"
RAW = "raw"


def main() -> None:
    """Run what is missing, print what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the five tables' folders")
    parser.add_argument("--seeds", default="0-4", help="first and last seed")
    parser.add_argument("--methods", default=METHODS, help="imputers, with commas; the last one is compared to others")
    parser.add_argument("--tables", default=",".join(TABLES), help="tables, with commas")
    parser.add_argument("--out", type=Path, default=Path("auc.csv"), help="CSV that results are added to")
    given = parser.parse_args()
    first, last = (int(x) for x in given.seeds.split("-"))
    methods = given.methods.split(",")
    tables = {name: TABLES[name](given.data) for name in given.tables.split(",")}
    for seed in range(first, last + 1):
        for name, table in tables.items():
            for way in WAYS:
                run_split(table, name, way, seed, methods, given.out)
    frame = pd.read_csv(given.out)
    frame = frame[frame.seed.between(first, last) & frame.table.isin(list(tables))]
    print(report(frame, methods))


def run_split(table: RealTable, name: str, way: str, seed: int, methods: list[str], out: Path) -> None:
    """Append the rows of the methods that `out` lacks for this split."""
    done = set()
    if out.exists():
        known = pd.read_csv(out)
        done = set(known[(known.way == way) & (known.table == name) & (known.seed == seed)].method)
    split = hide(table, way, seed)
    for method in [m for m in [RAW, *methods] if m not in done]:
        with threadpool_limits(1):
            reached = aucs(split, table, method, seed)
        row = {"way": way, "table": name, "seed": seed, "method": method} | reached
        pd.DataFrame([row]).to_csv(out, mode="a", header=not out.exists(), index=False, float_format="%.6g")


def aucs(split: Hidden, table: RealTable, method: str, seed: int) -> dict[str, float]:
    """AUC on the test part of the logistic regression ("logistic", NaN for `raw`) and of boosting ("boosting")."""
    train, test, columns, y = split.train, split.test, table.columns, split.train_label
    if method != RAW:
        imputer = make_imputer(method).fit(train, columns, seed=seed)
        train, test = (
            imputer.transform(cells, [f"{part}-{i}" for i in range(len(cells))])[0]
            for part, cells in (("train", train), ("test", test))
        )
    linear = None if method == RAW else after_imputation(train, y, test, columns, 2)
    trees = on_raw_holes(train, y, test, columns, 2, seed)
    return {
        name: np.nan if p is None else float(roc_auc_score(split.test_label, p[:, 1]))
        for name, p in (("logistic", linear), ("boosting", trees))
    }


def report(frame: pd.DataFrame, methods: list[str]) -> str:
    """Markdown: the mean AUC after each method, and paired differences with their intervals."""
    own, lines = methods[-1], []
    for way, meaning in [*WAYS.items(), ("both", "in either way")]:
        here = frame if way == "both" else frame[frame.way == way]
        wide = {
            model: here.pivot_table(index=["way", "table", "seed"], columns="method", values=model)
            for model in ("logistic", "boosting")
        }
        pairs = len(wide["boosting"])
        lines += [
            f"\n### Cells hidden {meaning}, {pairs} pairs",
            f"| method | logistic regression | {own} minus it | boosting after it | minus boosting on raw holes |",
            "|---" * 5 + "|",
            f"| {RAW} | | | {wide['boosting'][RAW].mean():.3f} | |",
        ]
        for method in methods:
            linear, trees = wide["logistic"], wide["boosting"]
            less = "" if method == own else difference(linear[own] - linear[method])
            after = difference(trees[method] - trees[RAW])
            lines.append(f"| {method} | {linear[method].mean():.3f} | {less} | {trees[method].mean():.3f} | {after} |")
    return "\n".join(lines)


def difference(pairs: pd.Series) -> str:
    """Mean and 95 % interval (Student's t over pairs, as if they were independent)."""
    pairs = pairs.dropna()
    half = student.ppf(0.975, len(pairs) - 1) * pairs.std() / np.sqrt(len(pairs)) if len(pairs) > 1 else np.nan
    return f"{pairs.mean():+.3f} ({pairs.mean() - half:+.3f} to {pairs.mean() + half:+.3f})"


if __name__ == "__main__":
    main()
