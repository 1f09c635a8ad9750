"""The cores and the device that a command may use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mmcli.errors import RequestError

if TYPE_CHECKING:
    import torch


def cores(workers: int) -> int:
    """The workers that were asked for, or the cores that this job may use (its affinity, not the machine's count)."""
    return workers or len(os.sched_getaffinity(0))


def choose_device(name: str) -> torch.device:
    """`auto` is a GPU where torch sees one."""
    import torch  # here, as preprocess wants to know the cores alone and starts faster without it

    if name == "cuda" and not torch.cuda.is_available():
        raise RequestError("--device cuda: torch sees no GPU here; leave it out, or use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device(name)
