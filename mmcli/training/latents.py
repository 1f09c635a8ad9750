"""A part's latents.h5 (`--keep-latents`): what the method made of every patient, for pictures and for other programs.

/patients, /split              text (n,): every patient with a role in the part's fold
/labels/<task>                 int64 (n,), -1 = no label; attribute classes (JSON list)
/present/<modality>            bool (n,): what the method saw of a patient
/latents/<name>                float32 (n, width); the group's attribute order (JSON list) has the names as the method
                               gives them, such as the steps of a diffusion
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from mmcli.errors import DamagedError, RequestError
from mmcli.files import reason
from mmcli.store.hdf5 import json_attribute, read_text, write_array, write_attributes, write_text
from mmcli.store.parts import ROLES, Label
from mmcli.training.data import PartData
from mmcli.training.method import Method
from mmcli.training.seeds import derive

LATENTS = "latents.h5"


@dataclass(frozen=True)
class KeptLatents:
    """latents.h5 read back: n patients, `latents[name]` (n, width) float32 in the method's order."""

    ids: list[str]
    split: list[str]
    labels: dict[str, Label]
    present: dict[str, NDArray[np.bool_]]
    latents: dict[str, NDArray[np.float32]]


@torch.no_grad()
def latents_of(
    method: Method, data: PartData, rows: NDArray[np.int64], key: tuple[object, ...]
) -> dict[str, NDArray[np.float32]]:
    """The method's latents (n, width) of patients `rows` by name, as at inference; `key` seeds methods that sample."""
    method.eval()
    torch.manual_seed(derive(*key, "latents"))
    data = data.at_inference()
    found: dict[str, list[NDArray[np.float32]]] = {}
    for piece in data.pieces(rows):
        batch = data.batch(piece).with_noise_keys(data.noise_keys(piece, key))
        for name, z in method.latents(batch).items():
            found.setdefault(name, []).append(z.float().cpu().numpy())
    return {name: np.concatenate(pieces) for name, pieces in found.items()}


def write_latents(
    folder: Path,
    method: Method,
    data: PartData,
    roles: NDArray[np.int8],
    rows: NDArray[np.int64],
    key: tuple[object, ...],
) -> None:
    """Write latents.h5 of patients `rows` into a part's folder; `key` seeds methods that sample."""
    found = latents_of(method, data, rows, key)
    splits = {role: name for name, role in ROLES.items()}
    with h5py.File(folder / LATENTS, "w") as file:
        write_text(file, "patients", [data.data.ids[i] for i in rows])
        write_text(file, "split", [splits[int(roles[i])] for i in rows])
        for task, label in data.data.tasks.items():
            write_array(file.require_group("labels"), task, label.values[rows].astype(np.int64))
            write_attributes(file["labels"][task], {"classes": label.classes, "ordinal": label.ordinal})
        for modality, present in data.present.items():
            write_array(file.require_group("present"), modality, present[rows])
        group = file.create_group("latents")
        write_attributes(group, {"order": list(found)})
        for name, latents in found.items():
            write_array(group, name, latents)


def read_latents(part: Path) -> KeptLatents:
    """The latents of a part; RequestError where none were kept, DamagedError where the file is not whole."""
    path = part / LATENTS
    if not path.is_file():
        raise RequestError(f"{part}: has no {LATENTS}; train the run with --keep-latents")
    try:
        with h5py.File(path, "r", locking=False) as file:
            labels = {
                task: Label(data[:], json_attribute(data, "classes", []), bool(data.attrs["ordinal"]))
                for task, data in file["labels"].items()
            }
            group = file["latents"]
            latents = {name: group[name][:] for name in json_attribute(group, "order", [])}
            present = {name: data[:] for name, data in file["present"].items()}
            return KeptLatents(read_text(file["patients"]), read_text(file["split"]), labels, present, latents)
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise DamagedError(f"{path}: damaged ({reason(error)}); remove {part} and train it again") from None
