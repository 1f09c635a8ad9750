"""`mmcli extract-features`: encoders over prepared pixels, once; latents into a feature store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcli.encoders import load_encoder
from mmcli.encoders.base import Encoder
from mmcli.errors import RequestError, UnreadableError
from mmcli.files import sha256_file
from mmcli.progress import track
from mmcli.registry import did_you_mean
from mmcli.settings import ExtractSettings
from mmcli.stages.common import open_stores, patients_digest
from mmcli.stages.machine import choose_device, cores
from mmcli.stages.outcome import Outcome
from mmcli.stages.pixels import Pixels
from mmcli.stages.spooled import Shard, closing, finished, modality_rows, read_ahead, spool
from mmcli.store import BagMeta, Instances, JoinedBag, Source, Spool, Stores, write_store

_NAME = re.compile(r"[^@/]+(@[A-Za-z0-9][A-Za-z0-9_.+-]*)?")


def run(settings: ExtractSettings) -> Outcome:
    """Encode every prepared instance; a patient whose files cannot be read any more is listed as failed."""
    shard = Shard(settings.shard, settings.quiet)
    out = shard.path(settings.out)
    with open_stores(settings) as stores:
        _check_names(settings)
        bags = {name: _prepared(stores, name) for name in settings.encoder}
        weights = {name: Path(path) for name, path in settings.weights.items()}
        request = {
            **settings.request(), "shard": str(shard), "command": "extract-features", "inputs": stores.fingerprints,
            "weights": {name: _weights_digest(name, path) for name, path in weights.items()},
        }  # fmt: skip
        if settings.cohort is not None:
            request["patients"] = patients_digest(stores.patients)
        done = finished(out, request, settings, settings.stores)
        if done:
            return done
        if settings.root is not None and not settings.root.is_dir():
            raise RequestError(f"--root: {settings.root} is no folder")
        root = (settings.root or Path(stores.files[0].root)).resolve()
        # All before the first patient: a wrong name or file is told now, not after hours.
        loaded = {name: _load(name, bag, settings) for name, bag in bags.items()}
        if settings.dry_run:
            instances = sum(int(bag.offsets[-1]) for bag in bags.values())
            return Outcome(f"would encode {instances} instances of {len(stores.patients)} patients and write {out}")
        with spool(out, request, settings) as opened:
            metas = {}
            for name, bag in bags.items():
                encoder = loaded[name]
                made = {"prepared": bag.meta.settings, "encoder": encoder.settings, "batch": settings.batch}
                metas[name] = BagMeta(bag.meta.kind, encoder.name, encoder.weights_sha256, made, bag.meta.coords)
                _encode(name, bag, encoder, Pixels(bag, root), opened, shard, settings)
            data = {name: opened.bag_data(name, meta, len(stores.patients)) for name, meta in metas.items()}
            write_store(out, request, stores.patients, stores.tables, data,
                        root=str(root), shard=str(shard), compression=settings.compression)  # fmt: skip
            rows = modality_rows(opened, data)
            for row in rows:
                row["encoder"] = metas[row["modality"]].encoder
            return closing(out, opened, stores.patients.ids, settings, rows, shard.of(len(stores.patients)))


def _prepared(stores: Stores, name: str) -> JoinedBag:
    """The prepared modality that an encoder's name means (`slide@uni` is a second encoder of `slide`)."""
    modality = name.split("@")[0]
    if modality not in stores.bags:
        raise RequestError(
            f"--encoder: the stores have no modality {modality!r}{did_you_mean(modality, list(stores.bags))}"
        )
    bag = stores.bags[modality]
    if bag.dim:
        encoded = next(f.path for f in stores.files if modality in f.bags and f.bags[modality].dim)
        raise RequestError(f"--encoder: {modality} in {encoded} is encoded already; give the prepared store alone")
    return bag


def _check_names(settings: ExtractSettings) -> None:
    known = list(settings.encoder)
    if "" in known:
        raise RequestError("--encoder: write MODALITY=ENCODER, for example --encoder slide=efficientnet-lite0")
    for name in known:
        if not _NAME.fullmatch(name):
            raise RequestError(
                f"--encoder: {name!r} cannot be a modality's name; write MODALITY=ENCODER or MODALITY@NAME=ENCODER, "
                "the name of letters, digits and _ . + -"
            )
    if "" in settings.weights:
        raise RequestError(f"--weights: write MODALITY=FILE, for example --weights {known[0]}={settings.weights['']}")
    for modality in settings.weights:
        if modality not in known:
            raise RequestError(f"--weights: {modality!r} has no --encoder{did_you_mean(modality, known)}")
    for option in settings.set:
        modality, dot, _ = option.partition(".")
        if dot and modality not in known:
            raise RequestError(f"--set: {modality!r} has no --encoder{did_you_mean(modality, known)}")


def _weights_digest(name: str, path: Path) -> str:
    if path.is_dir():
        return "".join(sha256_file(p) for p in sorted(path.iterdir()) if p.is_file())
    if not path.is_file():
        raise RequestError(f"--weights {name}={path}: no such file")
    return sha256_file(path)


def _load(name: str, bag: JoinedBag, settings: ExtractSettings) -> Encoder:
    options = {k: v for k, v in settings.set.items() if "." not in k}
    options |= {k.partition(".")[2]: v for k, v in settings.set.items() if k.startswith(name + ".")}
    encoder = load_encoder(
        settings.encoder[name],
        weights=Path(settings.weights[name]) if name in settings.weights else None,
        random_weights=settings.random_weights,
        seed=settings.seed,
        options=options,
        device=str(choose_device(settings.device)),
        threads=cores(settings.workers),
    )
    if bag.meta.kind not in encoder.kinds:
        raise RequestError(
            f"--encoder {name}={encoder.name}: it reads {' and '.join(sorted(encoder.kinds))}, "
            f"{name} is a {bag.meta.kind}"
        )
    return encoder


Batch = tuple[int, int, int]


def _encode(
    name: str, bag: JoinedBag, encoder: Encoder, pixels: Pixels, opened: Spool, shard: Shard, settings: ExtractSettings
) -> None:
    """One modality. Batches never cross a patient's border, so that a patient's latents have the same bits whoever
    else is encoded, before or after an interruption, in whichever shard."""
    todo = []
    for patient in range(len(bag.present)):
        if patient not in shard or (name, patient) in opened:
            continue
        if bag.failed[patient]:
            opened.add_failed(name, patient, "could not be read by preprocess (see its failures.csv)")
        elif not bag.present[patient]:
            opened.add_absent(name, patient)
        else:
            todo.append(patient)
    counts = np.diff(bag.offsets)
    size = 1 if bag.meta.kind == "image" else settings.batch
    batches = [(p, s, min(s + size, int(counts[p]))) for p in todo for s in range(0, int(counts[p]), size)]
    dtype = np.dtype(settings.dtype)
    collected: list[NDArray[Any]] = []
    failed: str | None = None
    for (patient, start, stop), read in track(
        read_ahead(lambda batch: _pixels(pixels, batch), batches, cores(settings.workers)),
        len(batches),
        name,
        settings.quiet,
    ):
        if start == 0:
            collected, failed = [], None
        if failed is None:
            try:
                if isinstance(read, UnreadableError):
                    raise read
                collected.append(_narrowed(encoder.encode(read), dtype, encoder))
            except UnreadableError as error:
                failed = str(error)
        if stop == counts[patient]:
            sources, local = _sources(bag, patient)
            if failed is not None:
                opened.add_failed(name, patient, failed, sources)
            else:
                opened.add(name, patient, Instances(int(stop), np.concatenate(collected), bag.rows("coords", patient),
                                                    None, local, sources))  # fmt: skip
    pixels.close()


def _narrowed(latents: NDArray[np.float32], dtype: np.dtype[Any], encoder: Encoder) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        narrow = latents.astype(dtype)
    if not np.isfinite(narrow).all():
        raise UnreadableError(
            f"{encoder.name}: a latent of {np.abs(latents).max():g} is beyond {dtype}; use --dtype float32"
        )
    return narrow


def _sources(bag: JoinedBag, patient: int) -> tuple[tuple[Source, ...], NDArray[np.int32]]:
    used, local = np.unique(bag.rows("source", patient), return_inverse=True)
    piece = bag.pieces[bag.where[patient, 0]]
    return tuple(piece.sources[i] for i in used.tolist()), local.astype(np.int32)


def _pixels(pixels: Pixels, batch: Batch) -> Any:
    """A batch's pixels, or why they cannot be read."""
    try:
        return pixels.batch(*batch)
    except UnreadableError as error:
        return error
    except (OSError, MemoryError) as error:
        return UnreadableError(" ".join(str(error).split()) or type(error).__name__)
