"""Every imputer on five real tables with cells hidden in two ways: `python run.py --data TABLES --seeds 0-4`.

What each split gives is appended to `--out` (a CSV), and a split that is there already is not run again; then the
tables of RESULTS.md are printed from that file.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from protocol import WAYS, hide, score
from tables import TABLES, RealTable
from threadpoolctl import threadpool_limits

from mmcli.imputers import IMPUTERS, make_imputer

ANSWERS = ("mean", "median", "draw")
KEYS = ["way", "table", "seed", "method", "answer"]


def main() -> None:
    """Run what is missing, print what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the five tables' folders")
    parser.add_argument("--seeds", default="0-4", help="first and last seed (0-4: the reported ones; tune from 100 on)")
    parser.add_argument("--methods", default=",".join(IMPUTERS.names()), help="imputers, with commas")
    parser.add_argument("--tables", default=",".join(TABLES), help="tables, with commas")
    parser.add_argument("--out", type=Path, default=Path("results.csv"), help="CSV that results are added to")
    given = parser.parse_args()
    first, last = (int(x) for x in given.seeds.split("-"))
    methods = list(dict.fromkeys(["mean", *given.methods.split(",")]))
    tables = {name: TABLES[name](given.data) for name in given.tables.split(",")}
    for seed in range(first, last + 1):
        for name, table in tables.items():
            for way in WAYS:
                run_split(table, name, way, seed, methods, given.out)
    frame = pd.read_csv(given.out)
    chosen = frame.seed.between(first, last) & frame.method.isin(methods) & frame.table.isin(list(tables))
    print(report(frame[chosen], methods, list(tables)))


def run_split(table: RealTable, name: str, way: str, seed: int, methods: list[str], out: Path) -> None:
    """Append the rows of the methods that `out` lacks for this split."""
    known = pd.read_csv(out) if out.exists() else pd.DataFrame(columns=KEYS)
    done = set(known[(known.way == way) & (known.table == name) & (known.seed == seed)].method)
    split = hide(table, way, seed)
    ids = [f"{name}-{i}" for i in split.test_rows]
    for method in [m for m in methods if m not in done]:
        started = time.process_time()
        with threadpool_limits(1):
            imputer = make_imputer(method).fit(split.train, table.columns, seed=seed, draws=1)
            filled = {answer: imputer.transform(split.test, ids, answer=answer)[0] for answer in ANSWERS}
        seconds = time.process_time() - started
        rows = [{"way": way, "table": name, "seed": seed, "method": method, "answer": answer, "seconds": seconds}
                | score(split, list(table.columns.kinds), cells) for answer, cells in filled.items()]  # fmt: skip
        pd.DataFrame(rows).to_csv(out, mode="a", header=not out.exists(), index=False, float_format="%.6g")


def report(frame: pd.DataFrame, methods: list[str], tables: list[str]) -> str:
    """Markdown: a line a method, all figures relative to `mean` with answer "mean"; then RMSE by table."""
    means = frame.groupby(["way", "table", "method", "answer"])[["rmse", "mae", "w1", "balanced", "seconds"]].mean()
    lines = []
    head = "method | RMSE (mean) | MAE (median) | W1 (draw) | W1 (mean) | balanced accuracy | CPU s, hancock"
    for way, meaning in WAYS.items():
        lines += [f"\n### Hidden {meaning} ({way})", f"| {head} |", "|---" * 7 + "|"]
        for method in methods:
            ratios = pd.DataFrame([ratio(means, way, table, method) for table in tables])
            cells = [f"{ratios[c].mean():.3f}" for c in ("rmse", "mae", "w1_draw", "w1")]
            cells += [f"{ratios.balanced.mean():+.3f}", f"{ratios.seconds.max():.1f}"]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    lines += [
        "\n### RMSE by table (a / b)",
        "| method | " + " | ".join(tables) + " |",
        "|---" * (len(tables) + 1) + "|",
    ]
    for method in methods:
        cells = [" / ".join(f"{ratio(means, way, table, method)['rmse']:.2f}" for way in WAYS) for table in tables]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio(means: pd.DataFrame, way: str, table: str, method: str) -> dict[str, float]:
    """A method's figures on one table, over those of `mean`; balanced accuracy as a difference."""
    base = means.loc[(way, table, "mean", "mean")]
    mean, median, draw = (means.loc[(way, table, method, answer)] for answer in ANSWERS)
    return {
        "rmse": mean.rmse / base.rmse, "mae": median.mae / base.mae, "w1": mean.w1 / base.w1,
        "w1_draw": draw.w1 / base.w1, "seconds": mean.seconds,
        "balanced": mean.balanced - base.balanced if not np.isnan(base.balanced) else np.nan,
    }  # fmt: skip


if __name__ == "__main__":
    main()
