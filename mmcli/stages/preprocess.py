"""`mmcli preprocess`: raw files to what an encoder reads without thinking (tile coordinates, crops, clean tables)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcli.cohort import BagSpec, Cohort, TableSpec, read_cohort
from mmcli.cohort.model import FileSpec
from mmcli.errors import RequestError, UnreadableError
from mmcli.files import fingerprint
from mmcli.progress import note, track
from mmcli.registry import did_you_mean
from mmcli.settings import PreprocessSettings
from mmcli.stages.machine import cores
from mmcli.stages.outcome import Outcome
from mmcli.stages.pixels import quantise
from mmcli.stages.spooled import Shard, closing, finished, modality_rows, read_ahead, spool
from mmcli.store import BagMeta, Instances, Source, Spool, Table, write_store

COORDS = {"slide": ("x", "y", "width", "height"), "image": ("x", "y", "width", "height"), "volume": ("z", "y", "x")}
LARGEST = 1e9  # of any number that an option takes
MOST_VOXELS = 1 << 28


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
    options = {bag.name: _options(settings, bag) for bag in bags}
    _check_names(settings, bags)
    request = {**settings.request(), "shard": str(shard), "command": "preprocess", "inputs": _inputs(cohort)}
    done = finished(out, request, settings, cohort.files)
    if done:
        return done
    tables = {n: _table(m) for n, m in cohort.modalities.items() if n in wanted and isinstance(m, TableSpec)}
    ids = cohort.patients.ids
    if settings.dry_run:
        files = sum(len(f) for bag in bags for f in bag.files)
        return Outcome(f"would read {files} files of {len(ids)} patients and {len(tables)} tables, and write {out}")
    with spool(out, request, settings) as opened:
        for bag in bags:
            _prepare(bag, options[bag.name], opened, shard, cores(settings.workers), settings.quiet)
        data = {
            bag.name: opened.bag_data(
                bag.name, BagMeta(bag.kind, settings=options[bag.name], coords=COORDS[bag.kind]), len(ids)
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


def _check_names(settings: PreprocessSettings, bags: list[BagSpec]) -> None:
    kinds = {"mpp": "slide", "target_mpp": "slide", "tile_px": "slide", "min_tissue": "slide",
             "spacing": "volume", "crop": "volume", "window": "volume"}  # fmt: skip
    for name, kind in kinds.items():
        known = [bag.name for bag in bags if bag.kind == kind]
        for modality in getattr(settings, name):
            if modality and modality not in known:
                option = "--" + name.replace("_", "-")
                raise RequestError(
                    f"{option}: {modality!r} is no {kind} modality of the cohort{did_you_mean(modality, known)}"
                )


def _options(settings: PreprocessSettings, bag: BagSpec) -> dict[str, Any]:
    """The settings that hold for one modality, as numbers; they are kept in the store beside its data."""

    def given(name: str) -> str:
        values: dict[str, str] = {**type(settings).model_fields[name].default, **getattr(settings, name)}
        return values.get(bag.name, values.get("", ""))

    def numbers(name: str, count: int, kind: Callable[[str], Any] = float) -> list[Any]:
        try:
            values = [kind(v) for v in given(name).split(",")]
            if len(values) != count or not all(-LARGEST <= v <= LARGEST for v in values):
                raise ValueError
        except ValueError:
            what = "a number" if count == 1 else f"{count} numbers with commas"
            whole = "whole " if kind is int else ""
            raise RequestError(
                f"--{name.replace('_', '-')}: expected {what.replace('number', whole + 'number')}, not {given(name)!r}"
            ) from None
        return values

    if bag.kind == "slide":
        native = given("target_mpp") == "native"
        options = {
            "target_mpp": None if native else numbers("target_mpp", 1)[0],
            "tile_px": numbers("tile_px", 1, int)[0],
            "min_tissue": numbers("min_tissue", 1)[0],
            "mpp": numbers("mpp", 1)[0] if given("mpp") else None,
        }
        if (
            options["tile_px"] < 1
            or not 0 <= options["min_tissue"] <= 1
            or any(options[m] is not None and options[m] <= 0 for m in ("mpp", "target_mpp"))
        ):
            raise RequestError("--mpp, --target-mpp and --tile-px must be above 0, --min-tissue between 0 and 1")
        return options
    if bag.kind == "volume":
        options = {"spacing": numbers("spacing", 3), "crop": numbers("crop", 3, int), "window": numbers("window", 2)}
        if min(*options["spacing"], *options["crop"]) <= 0 or options["window"][0] >= options["window"][1]:
            raise RequestError("--spacing and --crop must be above 0, and --window LOW,HIGH must rise")
        if math.prod(options["crop"]) > MOST_VOXELS:
            raise RequestError(f"--crop: {given('crop')} is more than {MOST_VOXELS} voxels, which no encoder reads")
        return options
    return {}


def _prepare(bag: BagSpec, options: dict[str, Any], opened: Spool, shard: Shard, workers: int, quiet: bool) -> None:
    """Work through one modality's patients; readers run in threads (OpenSlide and SimpleITK release the GIL)."""
    todo = [i for i in range(len(bag.files)) if i in shard and (bag.name, i) not in opened]
    ahead = read_ahead(lambda patient: _attempt(bag, options, patient), todo, workers)
    for patient, result in track(ahead, len(todo), bag.name, quiet):
        if isinstance(result, str):
            sources = tuple(_plain_source(f) for f in bag.files[patient])
            opened.add_failed(bag.name, patient, result, sources)
        elif result is None:
            opened.add_absent(bag.name, patient)
        else:
            opened.add(bag.name, patient, result)


def _attempt(bag: BagSpec, options: dict[str, Any], patient: int) -> Instances | str | None:
    """A patient's instances, None where the patient lacks the modality, or the reason why a file cannot be read."""
    files = bag.files[patient]
    if not files:
        return None
    try:
        parts = [PREPARE[bag.kind](file, options) for file in files]
    except UnreadableError as error:
        return str(error)
    except (OSError, MemoryError) as error:
        return f"{files[0].shown}: {' '.join(str(error).split()) or type(error).__name__}"
    except Exception as error:  # a library's surprise at one file never ends a run over a thousand
        return f"{files[0].shown}: {type(error).__name__}: {' '.join(str(error).split())[:200]} (report this to mmcli)"
    counts = [len(coords) for _, coords, _ in parts]
    pixels = [p for *_, p in parts if p is not None]
    return Instances(
        sum(counts),
        coords=np.concatenate([coords for _, coords, _ in parts]),
        pixels=np.concatenate(pixels) if pixels else None,
        source=np.repeat(np.arange(len(parts), dtype=np.int32), counts),
        sources=tuple(source for source, *_ in parts),
    )


def _plain_source(file: FileSpec) -> Source:
    size = file.path.stat().st_size if file.path.is_file() else 0
    return Source(file.shown, size, "")


def _source(file: FileSpec, **known: Any) -> Source:
    path = file.path
    size = path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.iterdir() if p.is_file())
    return Source(file.shown, size, fingerprint(path), **known)


Prepared = tuple[Source, NDArray[np.int32], NDArray[Any] | None]


def _exists(file: FileSpec) -> None:
    if not file.path.exists():
        raise UnreadableError(f"{file.shown}: no such file under the cohort's root")


def _slide(file: FileSpec, options: dict[str, Any]) -> Prepared:
    from mmcli.readers.slide import open_slide
    from mmcli.readers.tiling import tile_grid

    _exists(file)
    mpp, origin = (options["mpp"], "--mpp") if options["mpp"] else (file.mpp, "cohort")
    with open_slide(file.path, mpp, origin) as slide:
        coords = tile_grid(slide, options["target_mpp"], options["tile_px"], options["min_tissue"])
        source = _source(file, mpp=slide.mpp or 0.0, mpp_source=slide.mpp_source)
    if not len(coords):
        raise UnreadableError(
            f"{file.shown}: no tile of {options['tile_px']} px has {options['min_tissue']:.0%} tissue"
        )
    return source, coords.astype(np.int32), None


def _volume(file: FileSpec, options: dict[str, Any]) -> Prepared:
    from mmcli.readers.volume import crop_volume, read_mask, read_volume

    _exists(file)
    volume = read_volume(file.path)
    mask = read_mask(file.mask, volume) if file.mask else None
    crop = crop_volume(volume, mask, tuple(options["spacing"]), tuple(options["crop"]))
    source = _source(file, spacing=tuple(float(s) for s in volume.spacing))
    return source, np.zeros((1, 3), np.int32), quantise(crop, options["window"])[None]


def _image(file: FileSpec, options: dict[str, Any]) -> Prepared:
    from mmcli.readers.image import read_image

    _exists(file)
    height, width, _ = read_image(file.path).shape
    return _source(file), np.array([[0, 0, width, height]], np.int32), None


PREPARE: dict[str, Callable[[FileSpec, dict[str, Any]], Prepared]] = {
    "slide": _slide,
    "volume": _volume,
    "image": _image,
}
