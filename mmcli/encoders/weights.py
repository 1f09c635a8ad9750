"""Weights from a file, checked tensor by tensor against the model that they are for. Reading runs no code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmcli.errors import RequestError
from mmcli.files import sha256_file

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher", "student", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.", "teacher.", "backbone.", "encoder.")
_HEADS = ("fc.", "head.", "heads.", "classifier.", "last_linear.", "conv_seg.", "dino_head.", "ibot_head.")


@dataclass(frozen=True)
class Weights:
    """A weights file: its tensors by name, its SHA-256, and the timm-style config.json beside it, if there is one."""

    path: Path
    sha256: str
    tensors: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)


def read_weights(path: Path) -> Weights:
    """Read a file (safetensors, or a state dict saved by torch) or a folder that holds one and perhaps a config.json.

    Wrappers such as {"state_dict": ...} are opened. RequestError where nothing of the kind is found.
    """
    file, config = _locate(path)
    tensors = {k: v for k, v in _unwrap(_load(file), file).items() if isinstance(v, Tensor)}
    return Weights(file, sha256_file(file), tensors, config)


def _locate(path: Path) -> tuple[Path, dict[str, Any]]:
    if not path.exists():
        raise RequestError(f"--weights {path}: there is no such file")
    if path.is_file():
        return path, {}
    files = sorted(f for f in path.iterdir() if f.suffix in SUFFIXES and f.is_file())
    # A hub's folder often holds the same weights twice, as safetensors and as a state dict.
    chosen = [f for f in files if f.suffix == ".safetensors"] or files
    if len(chosen) != 1:
        found = ", ".join(f.name for f in chosen) or f"no file ending in {', '.join(SUFFIXES)}"
        raise RequestError(f"--weights {path}: one weights file is needed in the folder, found {found}; name the file")
    config = path / "config.json"
    if not config.is_file():
        return chosen[0], {}
    try:
        value = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RequestError(f"{config}: is not JSON ({error}); mend it or name the weights file itself") from None
    if not isinstance(value, dict):
        raise RequestError(f"{config}: is not a timm configuration (a JSON object); name the weights file itself")
    return chosen[0], value


def _load(file: Path) -> Any:
    with file.open("rb") as stream:
        start = stream.read(9)
    if not start:
        raise RequestError(f"--weights {file}: the file is empty; fetch it again")
    if start.startswith(b"version h"):
        raise RequestError(f"--weights {file}: is a Git LFS pointer, not the weights; run `git lfs pull`")
    if start[8:9] == b"{" and not start.startswith(b"PK"):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except (SafetensorError, OSError, ValueError) as error:
            raise RequestError(f"--weights {file}: is truncated or damaged ({error}); fetch it again") from None
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        objects = "GLOBAL" in str(error) or "Unsupported class" in str(error)
        reason = (
            "holds Python objects beside tensors, and loading those could run code; save its state dict alone: "
            "safetensors.torch.save_file(model.state_dict(), FILE)"
            if objects
            else "is neither safetensors nor a state dict saved by torch; is this the right file?"
        )
        raise RequestError(f"--weights {file}: {reason}") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RequestError(f"--weights {file}: is truncated or damaged ({line}); fetch it again") from None


def _unwrap(value: Any, file: Path) -> dict[str, Any]:
    for _ in range(4):
        if not isinstance(value, dict):
            break
        if any(isinstance(v, Tensor) for v in value.values()):
            return {str(k): v for k, v in value.items()}
        inner = next((value[k] for k in _WRAPPERS if isinstance(value.get(k), dict)), None)
        if inner is None:
            keys = ", ".join(map(str, list(value)[:5]))
            raise RequestError(f"--weights {file}: holds no state dict (its keys: {keys or 'none'})")
        value = inner
    raise RequestError(f"--weights {file}: holds a {type(value).__name__}, not a state dict")


def strip_prefixes(tensors: dict[str, Tensor], expected: set[str]) -> dict[str, Tensor]:
    """Take off "module.", "backbone." and the like when all names share it and the model's own names do not.

    A head beside the shared prefix (as in self-supervised checkpoints: backbone.* and head.*) is dropped with it.
    """
    while tensors and not expected & set(tensors):
        body = [k for k in tensors if not k.startswith(_HEADS)]
        prefix = next((p for p in _PREFIXES if body and all(k.startswith(p) for k in body)), None)
        if prefix is None:
            break
        tensors = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
    return tensors


@dataclass(frozen=True)
class Comparison:
    """Names of tensors that a model misses, does not know, or knows in another shape; heads are left out."""

    missing: list[str]
    unexpected: list[str]
    reshaped: list[str]
    fitting: list[str]

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.reshaped)


def compare(tensors: dict[str, Tensor], model: nn.Module, heads: tuple[str, ...] = ()) -> Comparison:
    """Set a state dict against a model's own. A classifier head that the model has not is no difference, nor are
    BatchNorm's step counters, which old files lack and inference does not read."""
    expected = model.state_dict()
    ignored = _HEADS + tuple(f"{h}." for h in heads)
    common = [k for k in expected if k in tensors]
    return Comparison(
        missing=[k for k in expected if k not in tensors and not k.endswith("num_batches_tracked")],
        unexpected=[
            k
            for k in tensors
            if k not in expected and not k.startswith(ignored) and not k.endswith("num_batches_tracked")
        ],
        reshaped=[k for k in common if tensors[k].shape != expected[k].shape],
        fitting=[k for k in common if tensors[k].shape == expected[k].shape],
    )


def fit(
    model: nn.Module,
    weights: Weights,
    *,
    encoder: str,
    partial: bool = False,
    heads: tuple[str, ...] = (),
    likely: Callable[[dict[str, Tensor], Comparison], str] | None = None,
) -> dict[str, int]:
    """Load `weights` into `model`, buffers too; how many of the model's tensors came from the file, of how many.

    All must fit unless `partial`; the RequestError says what does not and, by `likely`, what the file is for.
    """
    tensors = strip_prefixes(weights.tensors, set(model.state_dict()))
    found = compare(tensors, model, heads)
    if not found.fits and (not partial or not found.fitting):
        hint = likely(tensors, found) if likely else ""
        raise RequestError(_report(weights, encoder, model, found, hint))
    for name in found.fitting:
        if tensors[name].is_floating_point() and not bool(torch.isfinite(tensors[name]).all()):
            raise RequestError(f"--weights {weights.path}: {name} holds NaN or infinity; the file is of no use")
    model.load_state_dict({k: tensors[k] for k in found.fitting}, strict=False)
    return {"loaded": len(found.fitting), "of": len(found.fitting) + len(found.missing) + len(found.reshaped)}


def _report(weights: Weights, encoder: str, model: nn.Module, found: Comparison, hint: str) -> str:
    expected = model.state_dict()
    tensors = strip_prefixes(weights.tensors, set(expected))
    parts = []
    for names, what in ((found.missing, "missing"), (found.unexpected, "unexpected")):
        if names:
            parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    if found.reshaped:
        name = found.reshaped[0]
        shapes = f"{name}: {tuple(tensors[name].shape)} in the file, {tuple(expected[name].shape)} in the model"
        parts.append(f"{len(found.reshaped)} of another shape ({shapes})")
    remedy = hint or "name the encoder that the file was made for"
    tail = "; --set partial=true loads what fits" if found.fitting else "; nothing in the file fits"
    return (
        f"--weights {weights.path} do not fit encoder {encoder}: of its {len(expected)} tensors "
        f"{len(found.fitting)} fit, {', '.join(parts)}; {remedy}{tail}"
    )
