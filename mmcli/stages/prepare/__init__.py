"""How `preprocess` treats each kind of modality: one module a kind. They import readers, so they are loaded late."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from mmcli.stages.prepare.base import Given, Kind, Prepared

KINDS = ("slide", "volume", "image")


def kind_of(name: str) -> Kind:
    """The module of a kind of modality."""
    return cast(Kind, import_module(f"mmcli.stages.prepare.{name}"))


__all__ = ["KINDS", "Given", "Kind", "Prepared", "kind_of"]
