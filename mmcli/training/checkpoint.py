"""Checkpoints: one safetensors file, the loop's state as JSON in its header. No pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmcli.files import publish

Moment = tuple[int, int, str, Tensor]  # turn, which of its parameters, the name of the number, its value


@dataclass
class LoopState:
    """Where the loop is: the phase, the next epoch in it, the best validation loss so far and its epoch, the history
    of all epochs (rows for history.csv), the seconds spent, and, of a part in a stack, how many patients its steps and
    its validation are filled up to and how many rows the stack has. Random numbers are derived from (part, phase,
    epoch), so that no generator's state is needed."""

    phase: int = 0
    epoch: int = 0
    best_loss: float | None = None
    best_epoch: int = -1
    seconds: float = 0.0
    padded: list[int] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)


def moments_of(optimisers: list[torch.optim.Optimizer]) -> list[Moment]:
    """What the optimisers remember."""
    return [
        (turn, index, name, value)
        for turn, optimiser in enumerate(optimisers)
        for index, values in optimiser.state_dict()["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    ]


def save_checkpoint(
    path: Path,
    state: LoopState,
    weights: dict[str, Tensor],
    best: dict[str, Tensor] | None,
    moments: list[Moment],
) -> None:
    """Write everything that the loop needs to go on to the same bits, under one name, at once."""
    tensors = {f"weights.{n}": t for n, t in weights.items()} | {f"best.{n}": t for n, t in (best or {}).items()}
    tensors |= {f"optimiser.{turn}.{index}.{name}": value for turn, index, name, value in moments}
    tensors = {n: t.detach().cpu().clone().contiguous() for n, t in tensors.items()}
    with publish(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"state": json.dumps(asdict(state))}))


@dataclass
class Checkpoint:
    """A checkpoint read back."""

    state: LoopState
    weights: dict[str, Tensor]
    best: dict[str, Tensor] | None
    moments: list[Moment]

    def restore_optimisers(self, optimisers: list[torch.optim.Optimizer]) -> None:
        """Put each optimiser's moments back; its settings stay those of the phase."""
        for turn, optimiser in enumerate(optimisers):
            state: dict[int, dict[str, Tensor]] = {}
            for of, index, name, value in self.moments:
                if of == turn:
                    state.setdefault(index, {})[name] = value
            optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def load_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint, None where there is none. A damaged one counts as none: training then starts again."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            state = LoopState(**json.loads(file.metadata()["state"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError, OSError):
        return None
    groups: dict[str, dict[str, Tensor]] = {"weights": {}, "best": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        groups[group][rest] = tensor
    moments = []
    for name, tensor in groups["optimiser"].items():
        turn, index, key = name.split(".", 2)
        moments.append((int(turn), int(index), key, tensor))
    return Checkpoint(state, groups["weights"], groups["best"] or None, moments)
