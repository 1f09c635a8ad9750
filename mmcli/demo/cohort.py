"""Make the demo's cohort: slides, CT volumes with masks, a clinical table with holes, and its cohort.yaml."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pandas as pd

from mmcli.demo.slides import damage, draw_slide, write_slide
from mmcli.demo.tables import CLINICAL, GRADES, MARKERS, PERFORMANCE, STAGES, Drawn, draw_patients
from mmcli.demo.volumes import ORIENTATIONS, draw_volume, write_volume
from mmcli.errors import RequestError
from mmcli.files import publish_text
from mmcli.progress import track

MADE = "These patients are made by `mmcli demo`: no person, no tissue and no scan stands behind any of them."
_SLIDE, _CT = 1, 2


def make_cohort(folder: Path, patients: int = 96, seed: int = 0, quiet: bool = False) -> Path:
    """Make a cohort of `patients` made patients in `folder` and return the path of its cohort.yaml.

    The same `patients` and `seed` give the same pixels and tables. cohort.yaml appears last, so that where it stands
    all that it names is there; an earlier made cohort in the folder is replaced. About 15 % of the patients lack a
    slide, 10 % a CT, 8 % the markers, and one patient's slide is cut short on purpose (README.txt names whose).

    Raises RequestError for fewer than 12 patients, and where the folder holds a cohort that mmcli did not make.
    """
    drawn = draw_patients(patients, seed)
    cohort = folder / "cohort.yaml"
    _clear(folder, cohort)
    # Threads, not processes: NumPy, SciPy and the codecs let go of the interpreter, and nothing is forked or spawned
    # under a caller who has torch running.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        jobs = [pool.submit(_make_files, folder, drawn, seed, i) for i in range(patients)]
        try:
            for job in track(as_completed(jobs), len(jobs), "making patients", quiet):
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    publish_text(folder / "patients.csv", drawn.table.to_csv(index=False, lineterminator="\n"))
    publish_text(folder / "truth.csv", drawn.truth.to_csv(index=False, lineterminator="\n", float_format="%.6f"))
    publish_text(folder / "README.txt", "\n".join(_readme(drawn, seed)) + "\n")
    publish_text(cohort, "\n".join(_yaml(patients)) + "\n")
    return cohort


def _clear(folder: Path, cohort: Path) -> None:
    """Take an older made cohort's YAML away before its files change; refuse to write over anyone else's."""
    if cohort.exists():
        if MADE not in cohort.read_text(encoding="utf-8", errors="replace"):
            raise RequestError(f"{cohort}: is not a made cohort and is not written over; give another folder")
        cohort.unlink()
    elif (folder / "patients.csv").exists() and not (folder / "truth.csv").exists():
        raise RequestError(f"{folder / 'patients.csv'}: is not of a made cohort; give another folder")
    try:
        for name in ("slides", "ct"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for old in (folder / name).glob("P*"):
                old.unlink()
    except OSError as error:
        raise RequestError(f"{folder}: cannot be written ({error.strerror}); give another folder") from error


def _make_files(folder: Path, drawn: Drawn, seed: int, i: int) -> None:
    """Write patient i's slide, volume and mask, as far as the table names them."""
    row, truth = drawn.table.iloc[i], drawn.truth.iloc[i]
    try:
        if row["slide_path"]:
            rng = np.random.default_rng([seed, _SLIDE, i])
            pixels = draw_slide(rng, float(truth["z_slide"]), int(row["site"].removeprefix("site-")))
            write_slide(folder / row["slide_path"], pixels)
            if row["patient_id"] == drawn.damaged:
                damage(folder / row["slide_path"])
        if row["ct_path"]:
            rng = np.random.default_rng([seed, _CT, i])
            hu, lesion = draw_volume(rng, float(truth["z_ct"]), float(truth["z_slide"]))
            axes = ORIENTATIONS[i % len(ORIENTATIONS)]
            mask_axes = axes if i % 5 else "RAS"
            write_volume(folder / row["ct_path"], folder / row["ct_mask"], hu, lesion, axes, mask_axes)
    except OSError as error:
        raise RequestError(f"{folder}: cannot be written ({error.strerror or error}); make room") from error


def _yaml(patients: int) -> Iterator[str]:
    quoted = ", ".join(f'"{grade}"' for grade in PERFORMANCE)
    yield f"# {MADE}"
    yield "# README.txt beside this file says how. No model trained on them is good for anything but a demonstration."
    yield "patients: patients.csv"
    yield "id: patient_id"
    yield "# The column `site` is not taken as the group: with a dozen patients a site, grouped folds could not keep"
    yield "# both classes in balance. In a real cohort of several hospitals say `group: site`."
    yield "labels:"
    yield '  relapse: ["no", "yes"]'
    yield f"  stage: [{', '.join(STAGES)}]"
    yield "folds:"
    yield f"  cv: {{n: {5 if patients >= 40 else 3}, repeats: 1, stratify: relapse, validation: 0.2, seed: 0}}"
    yield "modalities:"
    yield "  slide: {kind: slide, path: slide_path}"
    yield "  ct: {kind: volume, path: ct_path, mask: ct_mask}"
    yield f"  markers: {{kind: table, columns: [{', '.join(MARKERS)}], ordinal: {{grade: [{', '.join(GRADES)}]}}}}"
    yield f"  clinical: {{kind: table, columns: [{', '.join(CLINICAL)}], ordinal: {{performance: [{quoted}]}}}}"


def _readme(drawn: Drawn, seed: int) -> Iterator[str]:
    table = drawn.table
    markers = table[list(MARKERS)]
    yield MADE
    yield "Do not use them for anything but trying mmcli out."
    yield ""
    yield f"Patients: {len(table)}, drawn with seed {seed}; {_count(table['relapse'] == 'yes')} relapse."
    yield f"Lacking a slide: {_count(table['slide_path'] == '')}; lacking a CT: {_count(table['ct_path'] == '')};"
    yield f"lacking all markers: {_count((markers == '').all(axis=1))}."
    yield f"Damaged on purpose: the slide of {drawn.damaged} is cut short, as a broken transfer leaves a file."
    yield ""
    yield "cohort.yaml   what mmcli reads first: labels, folds, modalities"
    yield "patients.csv  a row a patient; an empty cell is a hole"
    yield "slides/       pyramidal tiled TIFF, 0.5 µm per pixel, drawn with two stains"
    yield "ct/           NIfTI in Hounsfield units, 3 x 3 x 4 mm, and the lesion's mask; stored in several orientations"
    yield "truth.csv     the hidden factors from which each patient was drawn; no modality, and no model may read it"
    yield ""
    yield "How a relapse comes about: each patient has four hidden factors. One is seen in the tissue (nuclei denser,"
    yield "larger, darker, more clustered) and faintly in the texture of the CT lesion; one in the lesion's size and"
    yield "density alone; one in the markers and the grade; a weak one in age and performance status. The 40 % of the"
    yield "patients with the highest weighted sum relapse. So each modality knows a part, and none knows all."


def _count(which: pd.Series[bool]) -> int:
    return int(which.sum())
