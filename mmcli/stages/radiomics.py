"""`mmcli preprocess --radiomics`: named features of a volume's mask, as a table beside the volumes.

A table, not an encoder's latents: each number has a name and a meaning, so that the columns can be imputed, limited,
explained and left out one by one, as those of any other table.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np

from mmcli.cohort import BagSpec, Cohort
from mmcli.errors import RequestError, UnreadableError
from mmcli.files import canonical_json
from mmcli.readers.radiomics import UNITS, check_installed, radiomics
from mmcli.readers.volume import read_mask, read_volume
from mmcli.settings import PreprocessSettings
from mmcli.stages.prepare.base import Given, check_exists, check_modalities, source_of
from mmcli.stages.prepare.patients import work_through
from mmcli.stages.spooled import Shard, why_failed
from mmcli.store import BagMeta, Instances, Spool, Table

SUFFIX = "_radiomics"


def radiomics_options(settings: PreprocessSettings, cohort: Cohort, wanted: list[str]) -> dict[str, dict[str, Any]]:
    """For each volume modality that --radiomics names: bin_width, spacing (mm, None = the volume's own), mask_label.

    RequestError where a name or number is wrong, the table's name is taken, or the extra is not installed.
    """
    volumes = [n for n in wanted if isinstance(b := cohort.modalities[n], BagSpec) and b.kind == "volume"]
    for name in ("radiomics", "radiomics_spacing"):
        check_modalities(settings, name, "volume", volumes)
    asked = volumes if "" in settings.radiomics else list(settings.radiomics)
    if settings.radiomics and not asked:
        raise RequestError("--radiomics: the cohort has no volume modality")
    found = {}
    for modality in asked:
        given = Given(settings, modality)
        width = given.number("radiomics")
        spacing = None if given.text("radiomics_spacing") == "native" else given.number("radiomics_spacing")
        if width <= 0 or (spacing is not None and spacing <= 0):
            raise RequestError("--radiomics (the bin width) and --radiomics-spacing must be above 0")
        if modality + SUFFIX in cohort.modalities:
            raise RequestError(f"--radiomics: the cohort has a modality {modality + SUFFIX!r} already; rename it")
        found[modality] = {"bin_width": width, "spacing": spacing, "mask_label": given.text("mask_label") or None}
    if found:
        check_installed()
    return found


def compute(bag: BagSpec, options: dict[str, Any], opened: Spool, shard: Shard, settings: PreprocessSettings) -> None:
    """Each patient's features into the spool; a patient without the volume or its mask lacks them, one whose files
    cannot be read or whose mask cannot be described is listed as failed."""
    work_through(bag.name + SUFFIX, bag, partial(_attempt, bag, options), opened, shard, settings)


def _attempt(bag: BagSpec, options: dict[str, Any], patient: int) -> Instances | str | None:
    files = [file for file in bag.files[patient] if file.mask is not None]
    if not files:
        return None
    file = files[0]
    try:
        if len(files) > 1:
            raise UnreadableError(f"{len(files)} volumes with a mask: radiomics describes one; keep one path a patient")
        check_exists(file)
        assert file.mask is not None
        volume = read_volume(file.path)
        mask = read_mask(file.mask, volume, file.mask_label or options["mask_label"])
        values = radiomics(volume, mask, options["bin_width"], options["spacing"])
        about = canonical_json(list(values))
        source = source_of(file, spacing=tuple(float(s) for s in volume.spacing), about=about)
    except UnreadableError as error:
        text = str(error)
        return text if text.startswith((file.shown, file.path.name)) or "mask" in text[:40] else f"{file.shown}: {text}"
    except Exception as error:
        return why_failed(error, file.shown)
    row = np.array([list(values.values())], dtype=np.float64)
    return Instances(1, features=row, source=np.zeros(1, np.int32), sources=(source,))


def table(modality: str, options: dict[str, Any], opened: Spool, patients: int) -> Table | None:
    """The spooled features as a table over all patients; None where nobody has them."""
    data = opened.bag_data(modality + SUFFIX, BagMeta("volume"), patients)
    if not data.present.any():
        return None
    columns: list[str] = json.loads(data.sources[0].about)
    values = np.full((patients, len(columns)), np.nan)
    values[data.present] = np.concatenate(list(data.arrays["features"].blocks()))
    spacing = "native voxels" if options["spacing"] is None else f"voxels of {options['spacing']:g} mm"
    made = f"MIRP {check_installed()} of {modality}, bins of {options['bin_width']:g}, {spacing}"
    return Table(
        columns, ["numeric"] * len(columns), {}, data.present, values, ~np.isnan(values),
        {name: unit for name, unit in UNITS.items() if name in columns}, {name: {"made": made} for name in columns},
    )  # fmt: skip
