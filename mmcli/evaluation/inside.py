"""Pictures of what a run makes of its patients: its latents, and where it looks on a slide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmcli.errors import RequestError, UnreadableError
from mmcli.evaluation.figures import draw_attention
from mmcli.evaluation.figures.embedding import draw_embedding
from mmcli.evaluation.pictures import Album
from mmcli.evaluation.repredict import AttentionOf, Repredictor
from mmcli.evaluation.sources import Run
from mmcli.readers.slide import open_slide
from mmcli.training.latents import LATENTS, read_latents

LEVEL_0 = ["x", "y", "width", "height"]
THUMBNAIL_PX = 1024


def draw_latents(album: Album, runs: Sequence[Run], tasks: Sequence[str], split: str, seed: int) -> list[str]:
    """t-SNE and PCA of the first finished part of each run that kept its latents, coloured by the classes of a task.

    One part, as the latents of two trainings do not lie in one space. Returns notes on runs without latents;
    RequestError where none has any.
    """
    kept = with_latents(runs)
    notes = [f"{run.name}: kept no latents (--keep-latents)." for run in runs if run not in kept]
    for run in kept:
        found = read_latents(run.path / run.parts[0])
        if not found.latents:
            notes.append(f"{run.name}: its method has no latents to keep.")
            continue
        for task in tasks:
            label = found.labels[task]
            # A patient with nothing to go by is a point that all such patients share.
            something = np.any(list(found.present.values()), axis=0)
            rows = np.flatnonzero((np.array(found.split) == split) & (label.values >= 0) & something)
            if len(rows) < 3:
                notes.append(f"{run.name}: {run.parts[0]} has too few {split} patients for a picture of its latents.")
                continue
            for how in ("t-SNE", "PCA"):
                canvas = draw_embedding(
                    {name: z[rows] for name, z in found.latents.items()}, label.values[rows], label.classes,
                    f"{run.name}, {run.parts[0]}", how, seed,
                )  # fmt: skip
                album.add(f"latents-{task}-{run.name}-{how}", canvas, f"{how} of the latents of {run.name}", task)
    return notes


def with_latents(runs: Sequence[Run]) -> list[Run]:
    """The runs that kept their latents; RequestError where none did."""
    kept = [run for run in runs if (run.path / run.parts[0] / LATENTS).is_file()]
    if not kept:
        raise RequestError("--latents: no run has latents; train it with --keep-latents")
    return kept


def draw_attention_maps(album: Album, run: Run, again: Repredictor, patients: Sequence[str], most: int) -> list[str]:
    """Attention over the thumbnails of the first `most` of `patients` who have a slide that the run looks at, mean over
    the parts that test them. Returns notes on what could not be drawn."""
    notes: list[str] = []
    drawn = 0
    for modality in again.attended():
        there = {again.ids[i] for i in np.flatnonzero(again.present(modality))}
        wanted = [patient for patient in patients if patient in there][: most - drawn]
        for patient, found in again.attention(wanted, modality).items() if wanted else ():
            if found.columns[:4] == LEVEL_0 and found.coords is not None:
                notes += _draw_slides(album, run, patient, modality, found)
                drawn += 1
    if not drawn:
        notes.append(f"{run.name}: has no attention over the slides of these patients.")
    return notes


def _draw_slides(album: Album, run: Run, patient: str, modality: str, found: AttentionOf) -> list[str]:
    notes: list[str] = []
    assert found.coords is not None
    for number, source in enumerate(found.sources):
        own = found.source == number
        path = Path(source.path) if Path(source.path).is_absolute() else found.root / source.path
        try:
            with open_slide(path, source.mpp or None) as slide:
                thumbnail, dimensions = slide.thumbnail(THUMBNAIL_PX), slide.dimensions
        except (UnreadableError, OSError) as error:
            notes.append(f"{run.name}: no attention map of {patient}: {path}: {error}.")
            continue
        weights = found.weights[own]
        title = f"{run.name}: {patient}, {modality}"
        canvas = draw_attention(thumbnail, found.coords[own, :4], dimensions, weights, title)
        album.add(f"attention-{run.name}-{patient}-{modality}-{number}", canvas, f"Attention of {title}")
    return notes
