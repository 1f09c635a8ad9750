"""`mmcli extract-features`: encoders over prepared pixels, once; latents into a feature store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmcli.encoders.base import Encoder
from mmcli.errors import RequestError
from mmcli.readers.malloc import keep_freed_memory
from mmcli.settings import ExtractSettings
from mmcli.stages.common import open_stores, patients_digest
from mmcli.stages.encode.names import check_names, load, maps_of, prepared, stacked_of, weights_digest
from mmcli.stages.encode.pipeline import Pass
from mmcli.stages.encode.reuse import take_over
from mmcli.stages.encode.stopping import Stop
from mmcli.stages.machine import cores
from mmcli.stages.outcome import Outcome
from mmcli.stages.pixels import Pixels, Stacked
from mmcli.stages.spooled import Shard, closing, finished, modality_rows, spool
from mmcli.store import BagMeta, JoinedBag, Store, write_store


def run(settings: ExtractSettings) -> Outcome:
    """Encode every prepared instance; a patient whose files cannot be read any more is listed as failed.

    Encoders of one modality (`slide`, `slide@uni`) share each read of its pixels.
    """
    shard = Shard(settings.shard, settings.quiet)
    out = shard.path(settings.out)
    with open_stores(settings) as stores:
        check_names(settings)
        bags = {name: prepared(stores, name) for name in settings.encoder}
        weights = {name: Path(path) for name, path in settings.weights.items()}
        request = {
            **settings.request(), "shard": str(shard), "command": "extract-features", "inputs": stores.fingerprints,
            "weights": {name: weights_digest(name, path) for name, path in weights.items()},
        }  # fmt: skip
        if settings.cohort is not None:
            request["patients"] = patients_digest(stores.patients)
        older = [settings.reuse] if settings.reuse else []
        done = finished(out, request, settings, [*settings.stores, *older])
        if done:
            return done
        if settings.root is not None and not settings.root.is_dir():
            raise RequestError(f"--root: {settings.root} is no folder")
        for path in older:
            Store(path).close()
        root = (settings.root or Path(stores.files[0].root)).resolve()
        # All before the first patient: a wrong name or file is told now, not after hours.
        loaded = {name: load(name, bag, settings) for name, bag in bags.items()}
        passes = _passes(bags, loaded, root, settings)
        if settings.dry_run:
            instances = sum(int(work.pixels.counts.sum()) * len(work.encoders) for work in passes)
            return Outcome(f"would encode {instances} instances of {len(stores.patients)} patients and write {out}")
        keep_freed_memory(large=True)
        ids = stores.patients.ids
        metas = {name: _meta(work, name) for work in passes for name in work.encoders}
        reused: dict[str, int] = {}
        with spool(out, request, settings) as opened, Stop() as stop:
            for work in passes:
                for path in older:
                    with Store(path) as store:
                        own = {name: metas[name] for name in work.encoders}
                        reused |= take_over(store, ids, work, own, opened, shard)
                work.run(opened, shard, stop)
            if stop.asked:
                stop.leave()
            data = {name: opened.bag_data(name, metas[name], len(ids)) for name in settings.encoder}
            write_store(out, request, stores.patients, stores.tables, data,
                        root=str(root), shard=str(shard), compression=settings.compression)  # fmt: skip
            rows = modality_rows(opened, data)
            for row in rows:
                row["encoder"] = metas[row["modality"]].encoder
            outcome = closing(out, opened, ids, settings, rows, shard.of(len(ids)))
    if older:
        outcome.message += f"; taken over from {older[0]}: " + ", ".join(f"{n} of {m}" for m, n in reused.items())
        outcome.data["reused"] = reused
    return outcome


def _passes(
    bags: Mapping[str, JoinedBag], loaded: Mapping[str, Encoder], root: Path, settings: ExtractSettings
) -> list[Pass]:
    """One pass over the pixels of each prepared modality, in the order in which they are first named; sequences of
    its tiles are a pass of their own."""
    families: dict[tuple[str, Stacked | None], list[str]] = {}
    for name, bag in bags.items():
        families.setdefault((name.split("@")[0], stacked_of(bag, loaded[name])), []).append(name)
    passes = []
    for (family, stacked), names in families.items():
        pixels = Pixels(bags[names[0]], root, cores(settings.workers) + 1, stacked)
        maps = {n: maps_of(n, loaded[n], settings, pixels.shape) for n in names}
        passes.append(Pass(family, bags[names[0]], {n: loaded[n] for n in names}, maps, pixels, settings))
    return passes


def _meta(work: Pass, name: str) -> BagMeta:
    encoder, bag = work.encoders[name], work.bag
    made: dict[str, Any] = {"prepared": bag.meta.settings, "encoder": encoder.settings, "batch": work.size}
    if work.pixels.stacked:
        stacked = work.pixels.stacked
        made["sequence"] = {"length": stacked.length, "pixels": "luminance" if stacked.channels == 1 else "rgb"}
    if work.maps[name]:
        made["maps"] = {stage: list(size) if size else None for stage, size in work.maps[name].items()}
    return BagMeta(bag.meta.kind, encoder.name, encoder.weights_sha256, made, list(bag.meta.coords))
