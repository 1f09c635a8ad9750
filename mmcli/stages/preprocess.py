"""`mmcli preprocess`: raw files to what an encoder reads without thinking (tile coordinates, crops, clean tables)."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import numpy as np

from mmcli.cohort import BagSpec, Cohort, TableSpec, read_cohort
from mmcli.errors import RequestError
from mmcli.fields import flag
from mmcli.files import fingerprint
from mmcli.progress import note
from mmcli.readers.malloc import keep_freed_memory
from mmcli.registry import did_you_mean
from mmcli.settings import PreprocessSettings
from mmcli.stages import radiomics
from mmcli.stages.outcome import Outcome
from mmcli.stages.pictures import Pictures
from mmcli.stages.prepare import KINDS, Given, kind_of
from mmcli.stages.prepare.base import check_modalities, whose
from mmcli.stages.prepare.patients import work_through
from mmcli.stages.spooled import Shard, closing, finished, modality_rows, spool, why_failed
from mmcli.store import BagMeta, Instances, Table, write_store


def run(settings: PreprocessSettings) -> Outcome:
    """Read a cohort and write its prepared store; a file that cannot be read is its patient's failure, listed."""
    shard = Shard(settings.shard, settings.quiet)
    out = shard.path(settings.out)
    cohort = read_cohort(settings.cohort, settings.root, paths="ignore")
    for warning in cohort.warnings:
        note(warning, settings.quiet)
    wanted = settings.modalities or list(cohort.modalities)
    for name in wanted:
        if name not in cohort.modalities:
            raise RequestError(f"--modalities: unknown modality {name!r}{did_you_mean(name, list(cohort.modalities))}")
    bags = [m for n, m in cohort.modalities.items() if n in wanted and isinstance(m, BagSpec)]
    options = {bag.name: kind_of(bag.kind).options(Given(settings, bag.name)) for bag in bags}
    _check_names(settings, bags)
    described = radiomics.radiomics_options(settings, cohort, wanted) if settings.radiomics else {}
    request = {**settings.request(), "shard": str(shard), "command": "preprocess", "inputs": _inputs(cohort)}
    done = finished(out, request, settings, cohort.files)
    if done:
        return done
    tables = {n: _table(m) for n, m in cohort.modalities.items() if n in wanted and isinstance(m, TableSpec)}
    ids = cohort.patients.ids
    if settings.dry_run:
        files = sum(len(f) for bag in bags for f in bag.files)
        return Outcome(f"would read {files} files of {len(ids)} patients and {len(tables)} tables, and write {out}")
    keep_freed_memory()
    pictures = Pictures(out, ids) if settings.pictures else None
    with spool(out, request, settings) as opened:
        if pictures and not opened.entries:
            pictures.clear()
        for bag in bags:
            attempt = partial(_attempt, bag, options[bag.name], pictures)
            work_through(bag.name, bag, attempt, opened, shard, settings)
            if bag.name in described:
                radiomics.compute(bag, described[bag.name], opened, shard, settings)
        made = {n: radiomics.table(n, chosen, opened, len(ids)) for n, chosen in described.items()}
        tables |= {n + radiomics.SUFFIX: table for n, table in made.items() if table is not None}
        data = {
            bag.name: opened.bag_data(
                bag.name, BagMeta(bag.kind, settings=options[bag.name], coords=kind_of(bag.kind).COORDS), len(ids)
            )
            for bag in bags
        }
        root = str(cohort.root.resolve())
        write_store(
            out, request, cohort.patients, tables, data, root=root, shard=str(shard), compression=settings.compression
        )
        rows = modality_rows(opened, data) + [_table_row(n, t) for n, t in tables.items()]
        return closing(out, opened, ids, settings, rows, shard.of(len(ids)))


def _inputs(cohort: Cohort) -> str:
    """One fingerprint of the cohort's YAML and all its tables."""
    return hashlib.sha256("".join(fingerprint(f) for f in cohort.files).encode()).hexdigest()


def _table(spec: TableSpec) -> Table:
    from mmcli.readers.table import read_table

    return read_table(spec)


def _table_row(name: str, table: Table) -> dict[str, Any]:
    present = int(table.present.sum())
    cells = table.observed[table.present]
    return {
        "modality": name, "present": present, "absent": len(table.present) - present, "failed": 0,
        "columns": len(table.columns), "observed": f"{cells.mean():.1%}" if cells.size else "",
    }  # fmt: skip


# Options about masks, and the value with which they are so ("" = any).
MASKED = {"radiomics": "", "lesions": "", "outside": "blank", "mask_label": "", "image_crop": "mask"}


def _check_names(settings: PreprocessSettings, bags: list[BagSpec]) -> None:
    """RequestError where an option names a modality that is not there, or would do nothing at all."""
    for kind in KINDS:
        known = [bag.name for bag in bags if bag.kind == kind]
        for name in kind_of(kind).OPTIONS:
            check_modalities(settings, name, kind, known)
            if not known and _given(settings, name):
                raise RequestError(f"{flag(name)}: there is no {kind} modality {whose(settings)}; leave it out")
    for name, needed in (("frames_drop", "frames"), ("radiomics_spacing", "radiomics")):
        if _given(settings, name) and not getattr(settings, needed):
            raise RequestError(f"{flag(name)} is about {flag(needed)}, which is not given")
    for name, value in MASKED.items():
        about_kind = "image" if name in kind_of("image").OPTIONS else "volume"
        masks = {b.name: any(f.mask for files in b.files for f in files) for b in bags if b.kind == about_kind}
        for modality, text in getattr(settings, name).items():
            about = [modality] if modality else list(masks)
            if about and text == (value or text) and not any(masks.get(m, True) for m in about):
                raise RequestError(
                    f"{flag(name)}: no patient has a mask of {', '.join(about)}; name its column as mask: in the cohort"
                )


def _given(settings: PreprocessSettings, name: str) -> bool:
    """Whether an option says anything else than its default."""
    return bool(getattr(settings, name) != type(settings).model_fields[name].default)


def _attempt(bag: BagSpec, options: dict[str, Any], pictures: Pictures | None, patient: int) -> Instances | str | None:
    """A patient's instances, None where the patient lacks the modality, or the reason why a file cannot be read."""
    files = bag.files[patient]
    if not files:
        return None
    try:
        parts = [kind_of(bag.kind).prepare(file, options, pictures is not None) for file in files]
        if pictures:
            pictures.keep(bag.name, patient, [part.picture for part in parts])
    except Exception as error:
        return why_failed(error, files[0].shown)
    counts = [len(part.coords) for part in parts]
    if not sum(counts):  # read, and nothing of what was asked for is there: no second lesion
        return None
    pixels = [part.pixels for part in parts if part.pixels is not None]
    return Instances(
        sum(counts),
        coords=np.concatenate([part.coords for part in parts]),
        pixels=np.concatenate(pixels) if pixels else None,
        source=np.repeat(np.arange(len(parts), dtype=np.int32), counts),
        sources=tuple(part.source for part in parts),
    )
