"""`--reuse OLD.h5`: latents of patients whose files, coordinates and encoder are the same are taken over."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from mmcli.progress import note
from mmcli.stages.encode.pipeline import Pass, sources_of
from mmcli.stages.encode.reading import digests_of
from mmcli.stages.outcome import difference
from mmcli.stages.spooled import Shard
from mmcli.store import BagMeta, Instances, Spool, Store
from mmcli.store.read import Bag


def take_over(
    old: Store, ids: list[str], work: Pass, metas: dict[str, BagMeta], opened: Spool, shard: Shard
) -> dict[str, int]:
    """Copy what an older store holds already into the spool; how many patients each modality got.

    A modality is the same where its kind, encoder, weights and all settings are, whatever it is called after the @; a
    patient (by id) where the files' fingerprints, the coordinates and, where the store keeps them, the pixels are.
    """
    rows = {patient: i for i, patient in enumerate(old.patients.ids)}
    quiet, there = work.settings.quiet, work.bag.present & ~work.bag.failed
    counts = dict.fromkeys(metas, 0)
    for name, meta in metas.items():
        bag, why = _same(old, name, meta, work.settings.dtype)
        if bag is None:
            note(f"--reuse: {name} is encoded anew: {why}", quiet)
            continue
        todo = [i for i in np.flatnonzero(there).tolist() if i in shard and (name, i) not in opened]
        for patient in todo:
            row = rows.get(ids[patient], -1)
            found = _taken(bag, row, work, patient) if row >= 0 else None
            if found is not None:
                opened.add(name, patient, found)
                counts[name] += 1
        note(f"--reuse: {name}: {counts[name]} of {len(todo)} patients taken over from {old.path}", quiet)
    return counts


def _same(old: Store, name: str, meta: BagMeta, dtype: str) -> tuple[Bag | None, str]:
    """The older store's modality that was made in the same way, or why there is none."""
    family = name.split("@")[0]
    candidates = [bag for n, bag in old.bags.items() if n.split("@")[0] == family and bag.dim]
    if not candidates:
        return None, f"{old.path} has no features of {family}"
    differences = [
        difference(_facts(bag.meta, str(bag.arrays["features"].dtype)), _facts(meta, dtype)) for bag in candidates
    ]
    if "nothing differs" in differences:
        return candidates[differences.index("nothing differs")], ""
    own = next((i for i, bag in enumerate(candidates) if bag.meta.encoder == meta.encoder), None)
    if own is None:
        return None, f"{old.path} has another encoder ({', '.join(bag.meta.encoder for bag in candidates)})"
    return None, f"{old.path} has other settings ({differences[own]})"


def _facts(meta: BagMeta, dtype: str) -> dict[str, Any]:
    facts = {k: v for k, v in asdict(meta).items() if k != "settings"}
    return {**facts, "coords": list(meta.coords), "dtype": dtype, **meta.settings}


def _taken(bag: Bag, row: int, work: Pass, patient: int) -> Instances | None:
    """The older store's bag of a patient with the sources that it has now; None where something else was encoded."""
    if not bag.present[row] or bag.failed[row] or "source" not in bag.arrays:
        return None
    sources, local = sources_of(work.pixels, patient)
    coords = work.pixels.rows("coords", patient)
    used, old_local = np.unique(bag.rows("source", row), return_inverse=True)
    if [bag.sources[i].fingerprint for i in used.tolist()] != [source.fingerprint for source in sources]:
        return None
    if not (np.array_equal(old_local, local) and np.array_equal(bag.rows("coords", row), coords, equal_nan=True)):
        return None
    arrays = {name: bag.rows(name, row) for name in bag.arrays if name not in ("coords", "source")}
    if work.pixels.stored:
        kept = work.pixels.kept(patient, 0, len(coords))
        known = arrays.get("pixels_sha256")
        if known is None or not np.array_equal(known, digests_of(kept)):
            return None
    arrays |= {"coords": coords, "source": local}
    return Instances.of(len(coords), arrays, sources)
