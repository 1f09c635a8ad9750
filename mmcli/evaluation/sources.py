"""Where predictions come from: run directories, and plain tables that other tools wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmcli.errors import DamagedError, RequestError
from mmcli.evaluation.attributes import Attributes, of_frame
from mmcli.evaluation.checks import check_draws, check_frame
from mmcli.evaluation.predictions import Predictions, pool
from mmcli.files import fingerprint
from mmcli.frames import read_frame
from mmcli.registry import did_you_mean

# A run's probabilities are stored in full; a table may have been rounded to two digits.
RUN_TOLERANCE, TABLE_TOLERANCE = 1e-4, 2e-2
TABLE_TASK = "label"
NAMES = ("split", "variant", "fold", "seed", "row")  # columns that a table may have, as text
SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".xlsx", ".gz")


@dataclass(frozen=True)
class Run:
    """A trained run: its directory, its name in the comparison, its tasks' classes, and its parts."""

    path: Path
    name: str
    classes: dict[str, tuple[str, ...]]
    ordinal: dict[str, bool]
    variants: tuple[str, ...]
    parts: tuple[str, ...]
    missing: tuple[str, ...]
    about: dict[str, Any]

    def files(self, tasks: Sequence[str]) -> list[Path]:
        """The files that are read for these tasks."""
        return [self.path / part / f"predictions-{task}.parquet" for task in tasks for part in self.parts]

    def predictions(self, task: str, split: str) -> list[Predictions]:
        """One `Predictions` a variant, the main one first."""
        return self.pooled({part: self._frame(part, task) for part in self.parts}, task, split)

    def pooled(self, frames: Mapping[str, pd.DataFrame], task: str, split: str) -> list[Predictions]:
        """The same of each part's rows, which may have been predicted anew."""
        frames = {part: _with_columns(_text_columns(frame)) for part, frame in frames.items()}
        present = [v for frame in frames.values() for v in frame["variant"].unique()]
        order = [v for v in self.variants if v in present]
        names = list(dict.fromkeys([*order, *present]))
        found = []
        for variant in names:
            chosen = [(part, self.path / part, f[f["variant"] == variant]) for part, f in frames.items()]
            shown = variant if len(names) > 1 else ""
            pooled = pool(self.name, shown, task, self.classes[task], chosen, split, DamagedError)
            found.append(
                replace(pooled, main=variant == names[0], ordinal=self.ordinal[task], missing_parts=self.missing)
            )
        return found

    def _frame(self, part: str, task: str) -> pd.DataFrame:
        file = self.path / part / f"predictions-{task}.parquet"
        again = f"remove {file.parent} and run the training command again"
        try:
            frame = pd.read_parquet(file)
        except FileNotFoundError:
            raise DamagedError(f"{file}: is missing in a finished part; {again}") from None
        except (OSError, ValueError) as error:
            raise DamagedError(f"{file}: cannot be read ({' '.join(str(error).split())[:200]}); {again}") from None
        frame = _with_columns(_text_columns(frame))
        try:
            check_frame(frame, self.classes[task], file, DamagedError, RUN_TOLERANCE, by=("variant", "draw"))
        except (TypeError, ValueError) as error:
            raise DamagedError(f"{file}: a probability is no number ({error}); {again}") from None
        return frame


@dataclass(frozen=True)
class PredictionTable:
    """A table with a row a patient: patient_id, label, p_<class> ..., and where it has them split, variant, fold, seed,
    and a name of the `row` where a patient has several."""

    path: Path
    name: str
    frame: pd.DataFrame

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in the order of their columns; the last is the positive one of two."""
        return tuple(c.removeprefix("p_") for c in self.frame.columns if c.startswith("p_"))

    def attributes(self) -> Attributes:
        """The columns that say something of the patients."""
        own = [c for c in self.frame.columns if c.startswith("p_")]
        return of_frame(self.frame, str(self.path), leave=[*own, "label", "draw", "modalities", *NAMES])

    def predictions(self, task: str, split: str, classes: Sequence[str] | None) -> list[Predictions]:
        """As `Run.predictions`; `classes` fixes the order where what it is compared with has the same classes."""
        same = classes is not None and set(classes) == set(self.classes)
        order = tuple(classes) if same and classes is not None else self.classes
        frame = self.frame if "split" in self.frame else self.frame.assign(split=split)
        if not (frame["split"] == split).any():
            there = ", ".join(map(repr, sorted(set(frame["split"])))) or "there is no row at all"
            raise RequestError(
                f"{self.path}: no row has the split {split!r} ({there}); another --split, or drop the column"
            )
        variants = list(frame["variant"].unique()) if "variant" in frame else [""]
        found = []
        for variant in variants:
            rows = frame[frame["variant"] == variant] if "variant" in frame else frame
            shown = variant if len(variants) > 1 else ""
            pooled = pool(self.name, shown, task, order, self._parts(rows), split, RequestError)
            found.append(replace(pooled, main=variant == variants[0], ordinal=False))
        return found

    def _parts(self, rows: pd.DataFrame) -> list[tuple[str, Path, pd.DataFrame]]:
        """The rows of each fold and seed, where the table names them. Without folds, the seeds are of one fold."""
        by = [c for c in ("fold", "seed") if c in rows]
        if not by:
            return [("table", self.path, rows)]
        first = "" if "fold" in by else "table-"
        named = [(zip(by, values, strict=True), part) for values, part in rows.groupby(by, sort=False)]
        return [(first + "-".join(f"{c}-{v}" for c, v in keys), self.path, part) for keys, part in named]


def load(paths: Sequence[Path], tasks: Sequence[str], split: str, partial: bool) -> tuple[list[Predictions], Inputs]:
    """Read everything that is compared, checked, in the order given; and say which files were read.

    Without `tasks`, all those that the runs share. Raises RequestError for what the user can mend and DamagedError
    for a file of a run that cannot be as we wrote it.
    """
    names = unique_names(paths)
    sources = [open_source(path, name, partial) for path, name in zip(paths, names, strict=True)]
    runs = [s for s in sources if isinstance(s, Run)]
    chosen = _choose_tasks(runs, tasks, sources)
    found: list[Predictions] = []
    files: dict[str, dict[str, str]] = {}
    for source in sources:
        if isinstance(source, Run):
            for task in chosen:
                found += source.predictions(task, split)
            read = {f.relative_to(source.path).as_posix(): f for f in source.files(chosen)}
            files[source.name] = {name: fingerprint(file) for name, file in read.items()}
        else:
            classes = runs[0].classes[chosen[0]] if runs else found[0].classes if found else None
            found += source.predictions(chosen[0], split, classes)
            files[source.name] = {source.path.name: fingerprint(source.path)}
    for p in found:
        if not len(p.ids):
            raise RequestError(
                f"{p.title}: no patient of the split {split!r} has a label for {p.task!r}; nothing can be evaluated"
            )
    about = {s.name: s.about if isinstance(s, Run) else {"table": s.path.name} for s in sources}
    return found, Inputs(tuple(names), tuple(chosen), files, about, tuple(sources))


@dataclass(frozen=True)
class Inputs:
    """What was read: the runs' names in order, the tasks, each run's files with their fingerprints, its run.json."""

    names: tuple[str, ...]
    tasks: tuple[str, ...]
    files: dict[str, dict[str, str]]
    about: dict[str, dict[str, Any]]
    sources: tuple[Run | PredictionTable, ...] = ()


def open_source(path: Path, name: str, partial: bool = False) -> Run | PredictionTable:
    """Open a run's directory or a table of predictions."""
    if path.is_dir():
        return _open_run(path, name, partial)
    if not path.exists():
        raise RequestError(f"{path}: there is no such run or table")
    if path.suffix.lower() not in SUFFIXES:
        raise RequestError(f"{path}: is neither a run's directory nor a table ({', '.join(SUFFIXES)})")
    return _open_table(path, name)


def _open_run(path: Path, name: str, partial: bool) -> Run:
    file = path / "run.json"
    if not file.is_file():
        hint = "; give the run, one folder up" if (path.parent / "run.json").is_file() else ""
        raise RequestError(f"{path}: is not a run (it has no run.json){hint}")
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        classes = {task: tuple(map(str, t["classes"])) for task, t in about["tasks"].items()}
        ordinal = {task: bool(t.get("ordinal")) for task, t in about["tasks"].items()}
        parts, variants = tuple(map(str, about["parts"])), tuple(map(str, about.get("variants") or ()))
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DamagedError(f"{file}: damaged ({problem}); train the run again") from None
    missing = tuple(part for part in parts if not (path / part).is_dir())
    finished = tuple(part for part in parts if part not in missing)
    if not finished:
        raise RequestError(f"{path}: none of the run's {len(parts)} parts is finished; train it first")
    if missing and not partial:
        first = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise RequestError(
            f"{path}: {len(missing)} of {len(parts)} parts are missing ({first}); finish the training, or evaluate "
            "what is there with --partial"
        )
    return Run(path, name, classes, ordinal, variants, finished, missing, about)


def _open_table(path: Path, name: str) -> PredictionTable:
    return as_table(read_frame(path), path, name)


def as_table(given: pd.DataFrame, path: Path, name: str) -> PredictionTable:
    """A table of predictions, checked; `path` is what an error calls it."""
    frame = _text_columns(given.set_axis([str(c) for c in given.columns], axis=1))
    columns = [c for c in frame.columns if c.startswith("p_")]
    if len(columns) < 2:
        raise RequestError(f"{path}: has {len(columns)} columns p_<class>; at least two are needed, one a class")
    for column in [*columns, *(["draw"] if "draw" in frame else [])]:
        frame[column] = _numbers(frame[column], column, path)
    table = PredictionTable(path, name, frame)
    by = (*NAMES, "draw")
    check_frame(frame, table.classes, path, RequestError, TABLE_TOLERANCE, by)
    if "draw" in frame:
        check_draws(frame, path, by)
    if "draw" in frame and not (frame["draw"].isna() | (frame["draw"] < 0)).any():
        others = ["patient_id", "label", *(c for c in NAMES if c in frame)]
        means = frame.groupby(others, sort=False)[columns].mean().reset_index().assign(draw=-1)
        return PredictionTable(path, name, pd.concat([frame, means], ignore_index=True))
    return PredictionTable(path, name, frame.fillna({"draw": -1}) if "draw" in frame else frame)


def _numbers(column: pd.Series, name: str, path: Path) -> pd.Series:
    text = column.astype(str).str.strip()
    numbers = pd.to_numeric(column.replace("", "nan"), errors="coerce").astype(np.float64)
    strange = numbers.isna() & ~text.str.lower().isin(["", "nan", "none"])
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        raise RequestError(f"{path}: row {row + 1}, column {name}: {text.iloc[row]!r} is not a number")
    return numbers


def _with_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """A part's rows with the columns that all have, in place."""
    for column in ("split", "variant"):
        if column not in frame:
            frame[column] = "test" if column == "split" else ""
    return frame


def _text_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with the columns that name something as text; none is the empty text."""
    frame = frame.reset_index(drop=True)
    for column in ("patient_id", "label", "modalities", *NAMES):
        if column in frame:
            # Whole numbers beside a missing one are floats in a DataFrame: 1.0 is the class "1".
            values = frame[column].convert_dtypes() if pd.api.types.is_float_dtype(frame[column]) else frame[column]
            frame[column] = values.astype(object).where(values.notna(), "").map(str)
    return frame


def _choose_tasks(runs: list[Run], asked: Sequence[str], sources: Sequence[Run | PredictionTable]) -> list[str]:
    if not runs:
        tasks = list(asked) or [TABLE_TASK]
    else:
        for run in runs:
            for task in asked:
                if task not in run.classes:
                    raise RequestError(f"--label: {run.path} has no task {task!r}{did_you_mean(task, [*run.classes])}")
        shared = [t for t in runs[0].classes if all(t in r.classes for r in runs)]
        tasks = list(asked) or shared
        if not tasks:
            each = "; ".join(f"{r.name}: {', '.join(r.classes)}" for r in runs)
            raise RequestError(f"the runs share no task ({each}); evaluate them apart")
    if len(tasks) > 1 and len(runs) < len(sources):
        raise RequestError(
            f"a table of predictions has one task, and {len(tasks)} are compared ({', '.join(tasks)}): choose one "
            "with --label"
        )
    return tasks


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A name for each path: its last piece (a table's without the suffix), with its parents' where two are the same."""
    resolved = [p.resolve() for p in paths]
    for path in resolved:
        if resolved.count(path) > 1:
            raise RequestError(f"{path}: is given twice")
    full = [[*p.parts[1:-1], p.name if p.is_dir() else p.name.split(".")[0] or p.name] for p in resolved]
    names = []
    for i, pieces in enumerate(full):
        depth = 1
        while depth < len(pieces) and any(pieces[-depth:] == o[-depth:] for j, o in enumerate(full) if j != i):
            depth += 1
        names.append("/".join(pieces[-depth:]))
    if len(set(names)) < len(names):
        names = ["/".join(p.parts[1:]) for p in resolved]
    return names
