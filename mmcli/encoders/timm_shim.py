"""The one way to timm: `import_timm()`.

timm imports torchvision, which at import registers shape functions for its operators nms and qnms. Where torchvision's
compiled extension cannot load (a build for another CUDA version than torch's, as when pip pairs a CPU torch with a CUDA
torchvision), those operators do not exist and the import ends in "operator torchvision::nms does not exist", although
no encoder ever calls them. Declaring their schemas beforehand, in that case only, lets the import through; a call of
such an operator still fails loudly, since a schema has no kernel.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch

from mmcli.errors import RequestError

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: torch.library.Library | None = None


def import_timm() -> Any:
    """The module timm, imported whatever the state of torchvision's extension."""
    if "timm" not in sys.modules and "torchvision" not in sys.modules and not _extension_loads():
        _declare()
    try:
        import timm
    except ImportError as error:
        raise RequestError(f"timm cannot be imported ({error}); install it again: pip install timm") from error
    return timm


def _extension_loads() -> bool:
    """Whether torchvision's compiled operators load; tried on the file itself, without importing torchvision."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True  # nothing to mend: timm's own import error is the clear one
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        file = Path(spec.origin).with_name(f"_C{suffix}")
        if file.is_file():
            try:
                torch.ops.load_library(str(file))  # type: ignore[no-untyped-call]
            except OSError:
                return False
            return True
    return False


def _declare() -> None:
    global _library
    if _library is None and not hasattr(torch.ops.torchvision, "nms"):
        # its schemas live as long as this object
        _library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            _library.define(schema)  # type: ignore[no-untyped-call]
