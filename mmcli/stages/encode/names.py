"""What the options of `extract-features` name: prepared modalities, their encoders, weights, and maps."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from mmcli.encoders import load_encoder
from mmcli.encoders.base import TWO_D, VOLUME, Encoder, Maps, Size
from mmcli.errors import RequestError
from mmcli.files import sha256_file
from mmcli.registry import did_you_mean
from mmcli.settings import ExtractSettings
from mmcli.stages.machine import choose_device, cores
from mmcli.stages.pixels import Stacked
from mmcli.store import JoinedBag, Stores

_NAME = re.compile(r"[^@/]+(@[A-Za-z0-9][A-Za-z0-9_.+-]*)?")
_STAGE = re.compile(r"([^:\s]+?)(?::(\d+(?:x\d+){1,2}))?")


def prepared(stores: Stores, name: str) -> JoinedBag:
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


def check_names(settings: ExtractSettings) -> None:
    """RequestError where --encoder, --weights, --maps or --set name something that is not there."""
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
    if "" in settings.maps:
        raise RequestError(f"--maps: write MODALITY=STAGES, for example --maps {known[0]}={settings.maps['']}")
    for option, given in (("--weights", settings.weights), ("--maps", settings.maps)):
        for modality in given:
            if modality not in known:
                raise RequestError(f"{option}: {modality!r} has no --encoder{did_you_mean(modality, known)}")
    for option in settings.set:
        modality, dot, _ = option.partition(".")
        if dot and modality not in known:
            raise RequestError(f"--set: {modality!r} has no --encoder{did_you_mean(modality, known)}")


def weights_digest(name: str, path: Path) -> str:
    """SHA-256 of a weights file, or of each file of a folder."""
    if path.is_dir():
        return "".join(sha256_file(p) for p in sorted(path.iterdir()) if p.is_file())
    if not path.is_file():
        raise RequestError(f"--weights {name}={path}: no such file")
    return sha256_file(path)


def load(name: str, bag: JoinedBag, settings: ExtractSettings) -> Encoder:
    """The encoder of a modality, ready; RequestError where it does not read this kind."""
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
    reads = f"--encoder {name}={encoder.name}: it reads {' and '.join(sorted(encoder.kinds))}, {name} is a"
    if _as_sequences(bag, encoder):
        if not bag.meta.settings.get("sequence"):
            family = name.split("@")[0]
            raise RequestError(
                f"{reads} slide of single tiles; for tiles in sequences: mmcli preprocess --sequence {family}=24"
            )
    elif bag.meta.kind not in encoder.kinds:
        raise RequestError(f"{reads} {bag.meta.kind}")
    elif encoder.channels != 1 and encoder.kinds & VOLUME:
        raise RequestError(
            f"--set {name}.channels={encoder.channels}: {name} is a {bag.meta.kind} of one channel; leave it out"
        )
    return encoder


def _as_sequences(bag: JoinedBag, encoder: Encoder) -> bool:
    return bag.meta.kind == "slide" and "slide" not in encoder.kinds and bool(encoder.kinds & VOLUME)


def stacked_of(bag: JoinedBag, encoder: Encoder) -> Stacked | None:
    """How an encoder of volumes sees a slide's tiles; None where instances are what they are."""
    if not _as_sequences(bag, encoder):
        return None
    return Stacked(int(bag.meta.settings["sequence"]), encoder.channels)


def maps_of(name: str, encoder: Encoder, settings: ExtractSettings, shape: tuple[int, ...]) -> Maps:
    """`layer1:12x56x56,layer2` as {"layer1": (12, 56, 56), "layer2": None}; HxW is (1, H, W).

    An empty instance (of `shape`, () = each its own) goes through the encoder, so that what it cannot give is told
    before the first patient.
    """
    found: dict[str, Size | None] = {}
    for part in settings.maps.get(name, "").split(","):
        if not part.strip():
            continue
        match = _STAGE.fullmatch(part.strip())
        sides = [int(side) for side in match[2].split("x")] if match and match[2] else []
        if not match or 0 in sides:
            raise RequestError(
                f"--maps {name}: {part.strip()!r} is not STAGE, STAGE:HxW or STAGE:TxHxW (for example layer1:12x56x56)"
            )
        if match[1] in found:
            raise RequestError(f"--maps {name}: the stage {match[1]!r} is given twice")
        found[match[1]] = (sides[0], sides[1], sides[2]) if len(sides) == 3 else (1, *sides) if sides else None  # type: ignore[assignment]
    encoder.check_stages(list(found))
    item = (*encoder.input_size, 3) if len(encoder.input_size) == 2 else shape
    if found and item:
        encoder.start(np.zeros((1, *item), np.uint8 if encoder.kinds & TWO_D else np.float32), found)()
    return found
