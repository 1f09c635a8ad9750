"""`mmcli cohort init` and `mmcli cohort check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmcli.cohort import BagSpec, Cohort, TableSpec, examine_cohort
from mmcli.cohort.init import guess, relative, render
from mmcli.cohort.schema import load_yaml
from mmcli.errors import DONE, FINDINGS, RequestError
from mmcli.files import publish_text
from mmcli.stages.outcome import Outcome
from mmcli.store.parts import ROLES


def init(table: Path, out: Path | None = None, force: bool = False) -> Outcome:
    """Write the YAML of a cohort that is guessed from `table`, default cohort.yaml beside it.

    A file that exists is never replaced without `force`. What is wrong with the result, if anything (files that
    the table names and that do not exist), is among the data as `findings`.
    """
    table = Path(table)
    out = Path(out) if out is not None else table.parent / "cohort.yaml"
    if out.exists() and not force:
        raise RequestError(f"{out}: exists already; give another --out, or --force to replace it")
    if out.exists():
        _check_replaceable(out, table)
    found = guess(table)
    publish_text(out, render(found, relative(table, out.parent)))
    _, findings = examine_cohort(out)
    rows = [
        {"what": "id", "guess": found.id},
        {"what": "group", "guess": found.group or ""},
        {"what": "labels", "guess": ", ".join(found.labels)},
        *(
            {"what": f"modality {key}", "guess": f"{entry['kind']}: {entry['path']}"}
            for key, entry in found.bags.items()
        ),
        {"what": "modality clinical", "guess": f"table: {len(found.clinical)} columns"},
        {"what": "left out", "guess": ", ".join(found.left_out)},
    ]
    found_wrong = f" ({len(findings.problems)} to correct)" if findings.problems else ""
    message = f"{out}: written{found_wrong}; correct it, then run: mmcli cohort check {out}"
    return Outcome(message, {"out": str(out), "findings": findings.problems}, [r for r in rows if r["guess"]])


def _check_replaceable(out: Path, table: Path) -> None:
    """Refuse, --force or not, to write over the table itself or over what is no cohort's YAML."""
    if table.exists() and out.samefile(table):
        raise RequestError(f"--out {out} is the table that is read; give another --out")
    try:
        known = load_yaml(out)
    except RequestError:
        known = None
    if not isinstance(known, dict) or "patients" not in known:
        raise RequestError(
            f"--out {out} exists and is no cohort's YAML, so that not even --force replaces it; give another --out"
        )


def check(cohort: Path, root: Path | None = None) -> Outcome:
    """Everything that is wrong with a cohort: problems end with exit code 5, warnings alone do not.

    Data: `findings` (a list of {level: problem|warning, finding}), and of a cohort without problems a `summary`.
    """
    read, found = examine_cohort(Path(cohort), root)
    findings = [{"level": "problem", "finding": line} for line in found.problems]
    findings += [{"level": "warning", "finding": line} for line in found.warnings]
    if read is None:
        counted = f"{len(found.problems)} problem{'s' if len(found.problems) != 1 else ''}"
        lines = "\n".join(f"{row['level']}: {row['finding']}" for row in findings)
        return Outcome(f"{lines}\n{cohort}: {counted}", {"findings": findings}, [], FINDINGS)
    rows = summary(read)
    lines = "".join(f"warning: {line}\n" for line in found.warnings)
    message = f"{lines}{cohort}: nothing wrong" + (f", {len(found.warnings)} warnings" if found.warnings else "")
    return Outcome(message, {"findings": findings, "summary": rows}, rows, DONE)


def summary(cohort: Cohort) -> list[dict[str, Any]]:
    """What a cohort holds, a row for each label, fold set and modality."""
    patients = cohort.patients
    rows = [{"kind": "patients", "name": cohort.id_column, "patients": len(patients), "what": ""}]
    if patients.group is not None:
        rows[0]["what"] = f"{len(set(patients.group))} groups"
    for name, label in patients.labels.items():
        counts = np.bincount(label.values[label.values >= 0], minlength=len(label.classes))
        what = ", ".join(f"{c}: {count}" for c, count in zip(label.classes, counts, strict=True))
        rows.append({"kind": "label", "name": name, "patients": int(counts.sum()), "what": what})
    for name, roles in patients.folds.items():
        means = {word: (roles == role).sum(axis=0).mean() for word, role in ROLES.items()}
        what = f"{roles.shape[1]} folds of " + " / ".join(f"{mean:.0f} {word}" for word, mean in means.items())
        rows.append({"kind": "folds", "name": name, "patients": int((roles > 0).any(axis=1).sum()), "what": what})
    for name, spec in cohort.modalities.items():
        rows.append({"kind": "modality", "name": name, **_modality(spec)})
    return rows


def _modality(spec: BagSpec | TableSpec) -> dict[str, Any]:
    if isinstance(spec, BagSpec):
        files = sum(len(mine) for mine in spec.files)
        return {"patients": sum(bool(mine) for mine in spec.files), "what": f"{spec.kind}, {files} files"}
    holes = 1 - spec.typed.observed[spec.present].mean() if spec.present.any() else 1.0
    kinds = {kind: spec.typed.kinds.count(kind) for kind in ("numeric", "ordinal", "categorical")}
    what = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
    return {"patients": int(spec.present.sum()), "what": f"table, {what} columns, {holes:.1%} holes"}
