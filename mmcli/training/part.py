"""A part on disk: everything that prediction needs, and how it came to be. No pickle."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors

from mmcli import __version__
from mmcli.errors import DamagedError, RequestError
from mmcli.registry import Registry
from mmcli.training.checkpoint import LoopState
from mmcli.training.data import CohortData, Preparation
from mmcli.training.engine import PartName
from mmcli.training.memory import peak_memory
from mmcli.training.method import Method, build_method
from mmcli.training.preparing import LatentScaler, TableEncoder
from mmcli.training.spec import DataSpec, TeacherSpec

WEIGHTS, SCALERS, HEAD, HISTORY, PROVENANCE = (
    "weights.safetensors", "scalers.safetensors", "part.json", "history.csv", "provenance.json"
)  # fmt: skip

Fitted = tuple[dict[str, NDArray[Any]], dict[str, Any]]  # an imputer's arrays, and how it was asked


def _imputer_file(table: str) -> str:
    return f"imputer-{table}.safetensors"


@dataclass
class Part:
    """A finished part read back: its method with weights, its preparation, and part.json as `head`."""

    path: Path
    head: dict[str, Any]
    method: Method
    prepared: Preparation

    def imputer(self, table: str) -> dict[str, NDArray[Any]]:
        """The arrays of the fold's fitted imputer of a table; none where holes were not imputed."""
        path = self.path / _imputer_file(table)
        return load_arrays(path) if path.exists() else {}

    @property
    def name(self) -> PartName:
        """Which part it is."""
        return PartName(**self.head["part"])

    def as_teacher(self) -> TeacherSpec:
        """What a student's part must know to build it again."""
        settings: dict[str, Any] = self.head["method_settings"]
        return TeacherSpec(method=self.head["method"], settings=settings, spec=self.method.spec)


def write_part(
    folder: Path,
    name: PartName,
    stage: str,
    method: Method,
    data: CohortData,
    prepared: Preparation,
    imputers: dict[str, str],
    fitted: dict[str, Fitted],
    state: LoopState,
    seconds: float,
    how: dict[str, Any] | None = None,
) -> None:
    """Write all files of a part but its predictions into `folder`; `how` it was trained goes into its provenance."""
    for table, (imputer_arrays, _) in fitted.items():
        (folder / _imputer_file(table)).write_bytes(save_arrays(imputer_arrays))
    weights = {n: t.detach().cpu().clone().contiguous() for n, t in method.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save_tensors(weights))  # save_file would shut out the group
    (folder / SCALERS).write_bytes(save_arrays(_arrays(prepared)))
    bags = {
        n: {"kind": x.bag.meta.kind, "encoder": x.bag.meta.encoder, "weights_sha256": x.bag.meta.weights_sha256,
            "settings": x.bag.meta.settings, "dim": x.dim}
        for n, x in data.latents.items()
    }  # fmt: skip
    head = {
        "mmcli_version": __version__,
        "stage": stage,
        "method": method.name,
        "method_settings": method.settings.model_dump(mode="json"),
        "part": {"fold_set": name.fold_set, "fold": name.fold, "seed": name.seed, "base_seed": name.base_seed},
        "spec": method.spec.model_dump(mode="json"),
        "variants": list(method.variants),
        "bags": bags,
        "tables": {
            n: e.head() | {"imputer": imputers.get(n, ""), "imputation": fitted[n][1] if n in fitted else {}}
            for n, e in prepared.encoders.items()
        },
    } | _teachers_tables(prepared)
    (folder / HEAD).write_text(json.dumps(head, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = ["phase,epoch,lr,train_loss,validation_loss,validation_auc"]
    for row in state.history:
        watched = ["" if row[n] is None else repr(row[n]) for n in ("validation_loss", "validation_auc")]
        lines.append(",".join([row["phase"], str(row["epoch"]), repr(row["lr"]), repr(row["train_loss"]), *watched]))
    (folder / HISTORY).write_text("\n".join(lines) + "\n", encoding="utf-8")
    provenance = {
        "mmcli": __version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "epochs": len(state.history),
        "wall_s": round(seconds, 3),
        "peak_memory_bytes": peak_memory(),
    } | (how or {})
    (folder / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")


def read_spec(path: Path) -> DataSpec:
    """What a finished part's method was told, without its weights."""
    try:
        return DataSpec(**json.loads((path / HEAD).read_text(encoding="utf-8"))["spec"])
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise _damaged(path, error) from None


def read_part(path: Path, methods: Registry) -> Part:
    """A finished part, its method built again from `methods` in evaluation mode.

    DamagedError when a file of it is missing or does not fit, RequestError when its method is not registered.
    """
    try:
        head: dict[str, Any] = json.loads((path / HEAD).read_text(encoding="utf-8"))
        arrays = load_arrays(path / SCALERS)
        weights = load_file(path / WEIGHTS)
        spec = DataSpec(**head["spec"])
        method = build_method(methods, head["method"], spec, head["method_settings"])
        method.load_state_dict(weights)
        prepared = _preparation(spec, head, arrays)
    except RequestError:
        raise
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise _damaged(path, error) from None
    method.requires_grad_(False).eval()
    return Part(path, head, method, prepared)


def _damaged(path: Path, error: Exception) -> DamagedError:
    told = " ".join(str(error).split())[:160]
    return DamagedError(f"{path}: not a finished part, or damaged ({told}); train it again")


def _arrays(prepared: Preparation, of: str = "") -> dict[str, NDArray[Any]]:
    """What scalers.safetensors holds; a teacher's preparation under "teacher."."""
    arrays: dict[str, NDArray[Any]] = {}
    for modality, scaler in prepared.scalers.items():
        arrays |= {f"{of}bag.{modality}.mean": scaler.mean, f"{of}bag.{modality}.scale": scaler.scale}
    for table, encoder in prepared.encoders.items():
        arrays |= {f"{of}table.{table}.mean": encoder.mean, f"{of}table.{table}.scale": encoder.scale}
    return arrays | (_arrays(prepared.teacher, of + "teacher.") if prepared.teacher else {})


def _teachers_tables(prepared: Preparation) -> dict[str, Any]:
    """What part.json says of a teacher's preparation."""
    teacher = prepared.teacher
    if teacher is None:
        return {}
    return {"teacher": {"tables": {n: e.head() for n, e in teacher.encoders.items()}} | _teachers_tables(teacher)}


def _preparation(spec: DataSpec, head: dict[str, Any], arrays: dict[str, NDArray[Any]], of: str = "") -> Preparation:
    """Read back what `_arrays` and part.json hold."""
    scalers = {
        b.name: LatentScaler(arrays[f"{of}bag.{b.name}.mean"], arrays[f"{of}bag.{b.name}.scale"]) for b in spec.bags
    }
    encoders = {
        name: TableEncoder(h["columns"], h["kinds"], h["categories"], h["encoded"],
                           arrays[f"{of}table.{name}.mean"], arrays[f"{of}table.{name}.scale"])
        for name, h in head["tables"].items()
    }  # fmt: skip
    teacher = _preparation(spec.teacher.spec, head["teacher"], arrays, of + "teacher.") if spec.teacher else None
    return Preparation(scalers, encoders, {b.name: b.maps for b in spec.bags if b.maps}, teacher)


def check_stores(part: Part, data: CohortData) -> list[str]:
    """Whether stores hold what a part was trained on: RequestError names the first difference in encoder, weights,
    their settings or a table's columns. Returns notes: categories that training did not have."""
    where = ", ".join(str(file.path) for file in data.stores.files)
    for name, latents in data.latents.items():
        wanted, meta = part.head["bags"][name], latents.bag.meta
        has = {"encoder": meta.encoder, "weights_sha256": meta.weights_sha256, "settings": _plain(meta.settings)}
        for key, value in (has | {"dim": latents.dim, "kind": meta.kind}).items():
            if (_plain(wanted[key]) if key == "settings" else wanted[key]) != value:
                what = "weights" if key == "weights_sha256" else "encoder settings" if key == "settings" else key
                raise RequestError(
                    f"{where}: modality {name} has other {what} ({_short(value)}) than {part.path} was trained with "
                    f"({_short(wanted[key])}); extract its features with the same"
                )
        for stage, shape in _shapes(part.prepared, name).items():
            if (found := latents.map_shapes.get(stage, ())) not in ((), shape):
                sizes = ["x".join(map(str, s)) for s in (found, shape)]
                raise RequestError(
                    f"{where}: the maps of the stage {stage!r} of {name} are {sizes[0]}, {part.path} was trained with "
                    f"{sizes[1]}; extract them with the same --maps"
                )
    notes = []
    for name, table in data.tables.items():
        encoder = part.prepared.encoders[name]
        lacking = [c for c in encoder.columns if c not in table.columns]
        if lacking:
            raise RequestError(
                f"{where}: table {name} lacks the column {lacking[0]!r} that {part.path} was trained with; add it, "
                "empty where it was not measured"
            )
        for column, kind in zip(encoder.columns, encoder.kinds, strict=True):
            j = table.columns.index(column)
            now = table.kinds[j]
            if not table.observed[:, j].any():
                continue  # nobody has it: its kind was a guess
            if now != kind:
                raise RequestError(
                    f"{where}: column {column!r} of table {name} is {now}, {part.path} was trained with {kind} values; "
                    "correct its cells, or set its `kinds` or `ordinal` in the cohort"
                )
            if kind == "ordinal" and table.categories[column] != encoder.categories[column]:
                raise RequestError(
                    f"{where}: column {column!r} of table {name} has the order {_short(table.categories[column])}, "
                    f"{part.path} was trained with {_short(encoder.categories[column])}"
                )
        if unknown := encoder.unknown(table):
            notes.append(f"table {name}: {', '.join(unknown[:5])} was not in training and counts as not observed")
    return notes


def _shapes(prepared: Preparation, bag: str) -> dict[str, tuple[int, ...]]:
    """Stage -> shape of the maps of a modality that a method, or its teacher, reads."""
    theirs = _shapes(prepared.teacher, bag) if prepared.teacher else {}
    return theirs | prepared.maps.get(bag, {})


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """An encoder's settings without its maps, whose shapes are compared where they are used."""
    return {key: value for key, value in settings.items() if key != "maps"}


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
