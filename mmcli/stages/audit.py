"""audit: stores and runs looked through for leakage."""

from __future__ import annotations

import csv
import io
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import yaml

from mmcli.errors import DONE, FINDINGS, RequestError
from mmcli.evaluation.audit import CHECKS
from mmcli.evaluation.audit.report import COLUMNS, FINDING, Finding, Report, count
from mmcli.evaluation.audit.subject import AuditedRun, Subject
from mmcli.files import publish_text
from mmcli.methods import METHODS
from mmcli.progress import note
from mmcli.registry import did_you_mean
from mmcli.settings import AuditSettings
from mmcli.stages.common import open_stores
from mmcli.stages.outcome import Outcome, refuse_input
from mmcli.stages.permuted import permuted_training
from mmcli.store import Store, Stores, is_store
from mmcli.training.run import SETTINGS, missing_parts, read_run

NEEDED = ("stage", "tasks", "fold_set", "folds", "modalities", "stores", "fold_assignment", "request")


def run(settings: AuditSettings) -> Outcome:
    """Run every check; exit code 5 on findings, and with `--strict` on warnings. Nothing but `--out` is written."""
    paths, run_paths = _sorted_inputs(settings.inputs)
    if settings.permute and not run_paths:
        raise RequestError("--permute: repeats the training of runs, and no run is given")
    abouts = {path: _about(path) for path in run_paths}
    _check_out(settings)
    with ExitStack() as stack:
        opened = _Opened(stack, settings, paths, abouts)
        stores = opened.main()
        runs = [opened.run(path) for path in run_paths]
        tasks = _chosen(settings.label, list(stores.patients.labels), "--label", "label")
        fold_sets = _chosen([settings.folds] * bool(settings.folds), list(stores.patients.folds), "--folds", "fold set")
        subject = Subject(stores, tasks, fold_sets, runs, METHODS, settings.seed, settings.quiet)
        if settings.dry_run:
            return _would(settings, subject)
        found = Report()
        for name, check in CHECKS.items():
            note(f"audit: {name}", settings.quiet)
            _extend(found, check(subject))
        for one in runs if settings.permute else []:
            _extend(found, permuted_training(one, settings))
    return _outcome(settings, subject, found)


def _extend(report: Report, more: Report) -> None:
    report.findings += more.findings
    report.checked += more.checked
    report.skipped += more.skipped


def _sorted_inputs(inputs: list[Path]) -> tuple[list[Path], list[Path]]:
    """Which inputs are stores and which are runs; RequestError names what is neither."""
    stores, runs, seen = [], [], set()
    for path in inputs:
        if not path.exists():
            raise RequestError(f"{path}: there is no such feature store or run")
        if path.resolve() in seen:
            raise RequestError(f"{path}: is given twice")
        seen.add(path.resolve())
        if path.is_dir():
            runs.append(path)
        elif is_store(path) or h5py.is_hdf5(path):
            stores.append(path)
        else:
            raise RequestError(f"{path}: is neither a feature store nor a run's directory")
    return stores, runs


def _about(path: Path) -> dict[str, Any]:
    """run.json of a finished run."""
    about = read_run(path)
    if about is None:
        hint = "; give the run, one folder up" if (path.parent / "run.json").is_file() else ""
        raise RequestError(f"{path}: is neither a feature store nor a run (it has no run.json){hint}")
    if lacking := [key for key in NEEDED if key not in about]:
        raise RequestError(f"{path}: its run.json lacks {lacking[0]!r}; train the run again with this mmcli")
    if missing := missing_parts(path, about["parts"]):
        raise RequestError(
            f"{path}: the run is not finished, {len(missing)} parts are missing ({', '.join(missing[:3])}); run its "
            "command again"
        )
    return about


def _chosen(asked: list[str], known: list[str], option: str, what: str) -> list[str]:
    for name in asked:
        if name not in known:
            raise RequestError(f"{option}: unknown {what} {name!r}{did_you_mean(name, known)}")
    return list(dict.fromkeys(asked)) or known


class _Opened:
    """The stores that are given, and those that the runs were trained on: each set is opened once."""

    def __init__(
        self, stack: ExitStack, settings: AuditSettings, given: list[Path], abouts: dict[Path, dict[str, Any]]
    ) -> None:
        self.stack, self.settings, self.given, self.abouts = stack, settings, given, abouts
        self.known: dict[str, Path] = {}
        for path in given:
            with Store(path) as store:
                self.known[store.content_sha256] = path
        self._open: dict[tuple[tuple[Path, ...], Path | None], Stores] = {}

    def main(self) -> Stores:
        """The given stores as one; without any, those of the runs."""
        if self.given:
            return self._stores(self.given, self.settings.cohort, self.settings.root)
        paths: dict[str, Path] = {}
        for path, about in self.abouts.items():
            found, reason = self._trained_on(about)
            if found is None:
                raise RequestError(f"{path}: {reason}; give the store too")
            paths |= {one["content_sha256"]: p for one, p in zip(about["stores"], found, strict=True)}
        return self._stores(list(paths.values()), *self._cohort(_kept(next(iter(self.abouts)))))

    def run(self, path: Path) -> AuditedRun:
        """A run with its stores, where they are there."""
        about, kept = self.abouts[path], _kept(path)
        found, reason = self._trained_on(about)
        stores = self._stores(found, *self._cohort(kept)) if found is not None else None
        return AuditedRun(path, about, kept, stores, reason)

    def _trained_on(self, about: dict[str, Any]) -> tuple[list[Path] | None, str]:
        """A run's stores, by content among the given ones or by path; or None and why not."""
        paths = []
        for one in about["stores"]:
            path = self.known.get(one["content_sha256"], Path(one["path"]))
            if not path.is_file():
                return None, f"its store {one['path']} is not there"
            if path not in self.known.values():
                with Store(path) as store:
                    if store.content_sha256 != one["content_sha256"]:
                        return None, f"its store {path} has another content since"
            paths.append(path)
        return paths, ""

    def _cohort(self, kept: dict[str, Any]) -> tuple[Path | None, Path | None]:
        """The cohort that a run's labels come from: the given one, or its own while it is there."""
        if self.settings.cohort is not None:
            return self.settings.cohort, self.settings.root
        own = Path(kept["cohort"]) if kept.get("cohort") else None
        return (own, Path(kept["root"]) if kept.get("root") else None) if own and own.is_file() else (None, None)

    def _stores(self, paths: list[Path], cohort: Path | None, root: Path | None) -> Stores:
        key = tuple(paths), cohort
        if key not in self._open:
            wanted = SimpleNamespace(stores=paths, cohort=cohort, root=root)
            self._open[key] = self.stack.enter_context(open_stores(wanted))
        return self._open[key]


def _kept(path: Path) -> dict[str, Any]:
    """A run's settings.yaml."""
    try:
        kept = yaml.safe_load((path / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _check_out(settings: AuditSettings) -> None:
    """Only a table of findings is written over."""
    out = settings.out
    if out is None:
        return
    refuse_input(out, [*settings.inputs, *filter(None, (settings.cohort,))])
    if out.is_dir() or (out.exists() and not out.read_bytes().startswith(",".join(COLUMNS).encode())):
        raise RequestError(f"--out {out} exists and is no table of findings; give another --out")


def _would(settings: AuditSettings, subject: Subject) -> Outcome:
    permuted = sum(len(run.about["parts"]) for run in subject.runs) * settings.permute
    again = f", and train {permuted} parts with permuted labels" if permuted else ""
    return Outcome(f"would run {', '.join(CHECKS)} on {_size(subject)}{again}", {"checks": list(CHECKS)})


def _size(subject: Subject) -> str:
    stores = subject.stores
    held = [count(len(subject.ids), "patient"), count(len(subject.tasks), "label"),
            count(len(subject.fold_sets), "fold set"), count(len(stores.bags), "bag"),
            count(len(stores.tables), "table"), count(len(subject.runs), "run")]  # fmt: skip
    return ", ".join(held)


def _outcome(settings: AuditSettings, subject: Subject, found: Report) -> Outcome:
    ordered = sorted(found.findings, key=lambda f: f.severity != FINDING)
    findings = [f for f in ordered if f.severity == FINDING]
    warnings = ordered[len(findings) :]
    rows = [f.row() for f in ordered]
    if settings.out is not None:
        publish_text(settings.out, _csv(ordered))
    lines = [f"checked: {line}" for line in found.checked] + [f"not checked: {line}" for line in found.skipped]
    told = f"{count(len(findings), 'finding')}, {count(len(warnings), 'warning')}" if ordered else "nothing found"
    lines.append(f"{_size(subject)}: {told}" + (f" -> {settings.out}" if settings.out else ""))
    data = {"findings": len(findings), "warnings": len(warnings), "checked": found.checked,
            "not_checked": found.skipped, "out": str(settings.out) if settings.out else None}  # fmt: skip
    code = FINDINGS if findings or (warnings and settings.strict) else DONE
    return replace(Outcome("\n".join(lines), data, rows), exit_code=code)


def _csv(findings: list[Finding]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(f.row() for f in findings)
    return text.getvalue()
