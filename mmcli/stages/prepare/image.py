"""Images (ultrasound, dermoscopy, photographs) to the rectangle that an encoder sees."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmcli.cohort.model import FileSpec
from mmcli.readers.image import read_image
from mmcli.stages.prepare.base import Given, Prepared, check_exists, source_of

OPTIONS: tuple[str, ...] = ()
COORDS = ("x", "y", "width", "height")


def options(given: Given) -> dict[str, Any]:
    """None yet."""
    return {}


def prepare(file: FileSpec, options: dict[str, Any]) -> Prepared:
    """The whole image as one instance: coords int32 (1, 4)."""
    check_exists(file)
    height, width, _ = read_image(file.path).shape
    return Prepared(source_of(file), np.array([[0, 0, width, height]], np.int32))
