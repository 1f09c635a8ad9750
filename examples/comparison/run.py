"""All methods on the real cohorts: `python run.py --data TABLES --work WORK [--cohorts rosmap,miniacc] [--rows late]`.

Each row is a run of `mmcli train-teacher` under WORK/runs; a run that is there is not trained again, so that an
interrupted script goes on where it stopped and a second one only prints. A cohort's tables are printed (and written to
WORK/COHORT.md) when its runs are done.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import protocol
import report
from cohorts import prepare

from mmcli.settings import TeacherSettings
from mmcli.stages import teacher

TABLES: dict[str, Callable[[], list[protocol.Table]]] = {
    "rosmap": protocol.rosmap, "miniacc": protocol.miniacc, "musk1": protocol.musk, "musk2": protocol.musk,
    "hancock": protocol.hancock,
}  # fmt: skip


def main() -> None:
    """Train what is missing, print what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the cohorts' folders")
    parser.add_argument("--work", type=Path, required=True, help="folder for cohorts, stores, runs and tables")
    parser.add_argument("--cohorts", default=",".join(TABLES), help="cohorts, with commas")
    parser.add_argument("--tables", default="", help="only these tables: names, or how they begin (cv, in)")
    parser.add_argument("--rows", default="", help="only rows of these labels, with semicolons (late is always there)")
    parser.add_argument("--print", action="store_true", help="train nothing, print the runs that are there")
    given = parser.parse_args()
    only = {name for name in given.rows.split(";") if name}
    for cohort in given.cohorts.split(","):
        stores = prepare(cohort, given.data, given.work / "cohorts")
        wanted = [name for name in given.tables.split(",") if name]
        tables = [t for t in TABLES[cohort]() if not wanted or chosen(t.name, wanted)]
        runs: list[report.Runs] = []
        for table in tables:
            rows = [row for row in table.rows if not only or row.label in {"late", *only}]
            folders = {row.label: folder(given.work, cohort, table, row) for row in rows}
            for row in rows:
                if not given.print:
                    train(table, row, stores, folders[row.label])
            done = {label: path for label, path in folders.items() if complete(path)}
            runs.append(report.Runs(table, done, stores if table.bags else stores[:1], seconds(done)))
        text = report.page(cohort, runs)
        (given.work / f"{cohort}.md").write_text(text)
        print(text, flush=True)


def chosen(name: str, wanted: list[str]) -> bool:
    """Whether a table is one of those that are wanted."""
    return any(name == own or name.startswith(f"{own}-") for own in wanted)


def folder(work: Path, cohort: str, table: protocol.Table, row: protocol.Row) -> Path:
    """A run's directory. Rows with the same settings on the same folds have the same name."""
    options = "-".join(f"{name}-{value}" for name, value in row.options.items())
    seeds = [f"seeds-{','.join(map(str, row.seeds))}"] if row.seeds else []
    names = "-".join([table.name, row.method, *row.only, *([options] if options else []), *seeds])
    return work / "runs" / cohort / names.replace(",", "-").replace("/", "-")


def train(table: protocol.Table, row: protocol.Row, stores: list[Path], out: Path) -> None:
    """`mmcli train-teacher STORES --label .. --folds .. --seeds .. --method .. --set .. --modalities .. --out ..`"""
    started = time.process_time()
    trained = not complete(out)
    seeds = [0] if row.seedless else list(row.seeds or table.seeds)
    teacher.run(
        TeacherSettings(
            stores=stores if table.bags else stores[:1], out=out, label=[table.task], folds=table.folds, seeds=seeds,
            method=row.method, set=row.options, modalities=list(row.only or table.modalities), quiet=True,
        )
    )  # fmt: skip
    if trained:
        spent = time.process_time() - started
        (out / "cpu-seconds.txt").write_text(f"{spent:.1f}\n")
        print(f"{out.name}: {spent:.0f} s of CPU", flush=True)


def complete(out: Path) -> bool:
    """Whether a run has all its parts."""
    file = out / "run.json"
    return file.exists() and all((out / part / "part.json").exists() for part in json.loads(file.read_text())["parts"])


def seconds(runs: dict[str, Path]) -> dict[str, float]:
    """CPU seconds of the training of each run."""
    files = {label: path / "cpu-seconds.txt" for label, path in runs.items()}
    return {label: float(file.read_text()) for label, file in files.items() if file.exists()}


if __name__ == "__main__":
    main()
