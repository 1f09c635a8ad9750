"""What an encoder is: pixels in, one float32 latent an instance out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict

from mmcli.errors import RequestError, UnreadableError
from mmcli.fields import fill_options

TWO_D = frozenset({"slide", "image"})
VOLUME = frozenset({"volume"})


class EncoderOptions(BaseModel):
    """An encoder's own options (`--set name=value`); `mmcli encoders NAME` lists them with default and meaning."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class EncoderRequest:
    """What was asked of an encoder: `weights` is a file or a folder, `device` "cpu" or "cuda[:i]"."""

    name: str
    weights: Path | None = None
    random_weights: bool = False
    seed: int = 0
    options: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"


Size = tuple[int, int, int]  # (t, h, w) that maps are pooled to; t is 1 in 2D
Maps = Mapping[str, Size | None]  # stage -> size, None = as the stage gives it
RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}


@dataclass(frozen=True)
class Encoded:
    """What became of n instances: latents float32 (n, dim), and the maps that were asked for: stage -> float32
    (n, c, t, h, w). Nothing is checked for NaN yet."""

    latents: NDArray[np.float32]
    maps: dict[str, NDArray[np.float32]] = field(default_factory=dict)


class NotFiniteError(UnreadableError):
    """Some latents of a call are NaN or infinite; `rows` are their indices in that call."""

    def __init__(self, encoder: str, rows: list[int]) -> None:
        self.rows = rows
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        super().__init__(
            f"encoder {encoder} gave NaN or infinite features for {len(rows)} instance(s) (row {shown} of the batch): "
            "look at the pixels; with --set precision=bfloat16 try float32"
        )


class Encoder(ABC):
    """Turns instances into latents.

    `kinds`: the kinds of modality it reads, {"slide", "image"} or {"volume"}. `input_size`: (h, w) or (d, h, w) that
    pixels are resized to; () takes any size as it is. `weights_sha256`: of the weights file, "" where there are
    none, "random:<seed>". `settings`: all else that fixes the latents, as JSON values.

    A row's latent does not depend on the call it came in as long as the batch has the same shape; `by_row`: not even
    on that. `stages`: the names of the maps it can give beside the latent. `channels`: of the voxels that an encoder of
    volumes takes: 1, or 3 for sequences of a slide's tiles in colour.
    """

    Options: ClassVar[type[EncoderOptions]] = EncoderOptions
    kinds: ClassVar[frozenset[str]]
    summary: ClassVar[str] = ""
    weights_note: ClassVar[str] = "--weights MODALITY=FILE"
    licence: ClassVar[str] = "see the package that brings it"
    by_row: ClassVar[bool] = False

    name: str
    dim: int
    input_size: tuple[int, ...]
    weights_sha256: str
    settings: dict[str, Any]
    interpolation: str = "bicubic"
    stages: tuple[str, ...] = ()
    channels: int = 1

    @classmethod
    @abstractmethod
    def load(cls, request: EncoderRequest) -> Encoder:
        """Make the encoder that was asked for; RequestError names the option to mend."""

    @abstractmethod
    def features(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """(n, dim) latents of checked, contiguous pixels with n > 0."""

    @classmethod
    def about(cls, name: str) -> dict[str, Any]:
        """Its row of `mmcli encoders`, without building it; `dim` None where only building tells."""
        return {
            "name": name,
            "kinds": sorted(cls.kinds),
            "dim": getattr(cls, "dim", None),
            "input_size": list(getattr(cls, "input_size", ())),
            "weights": cls.weights_note,
            "licence": cls.licence,
            "about": cls.summary,
            "stages": list(getattr(cls, "stages", ())),
            "options": option_rows(cls.Options),
        }

    def encode(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Latents (n, dim) float32 of n instances; n = 0 gives (0, dim).

        2D: uint8 (n, h, w, 3) RGB. Volume: float32 (n, d, h, w) scaled to [0, 1] by the intensity window; with three
        `channels` (n, d, h, w, 3).
        ValueError for another type or shape, NotFiniteError where a latent is NaN or infinite.
        """
        self._check(pixels)
        if len(pixels) == 0:
            return np.zeros((0, self.dim), np.float32)
        features = self.checked(self.features(np.ascontiguousarray(pixels)), len(pixels))
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            raise NotFiniteError(self.name, np.flatnonzero(~finite).tolist())
        return features

    def start(self, pixels: NDArray[Any], maps: Maps | None = None) -> Callable[[], Encoded]:
        """Begin to encode n > 0 instances as `encode` takes them; what is returned waits for the result.

        On a GPU the result is on its way while the next batch is begun. `pixels` must stay as they are until then.
        """
        self._check(pixels)
        if maps:
            self.check_stages(list(maps))
        latents = self.checked(self.features(np.ascontiguousarray(pixels)), len(pixels))
        return lambda: Encoded(latents)

    def check_stages(self, names: list[str]) -> None:
        """RequestError where a stage is not one of the encoder's."""
        for name in names:
            if name not in self.stages:
                there = f"its stages: {', '.join(self.stages)}" if self.stages else "it gives no maps"
                raise RequestError(f"--maps: encoder {self.name} has no stage {name!r} ({there})")

    def resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One uint8 (h, w, 3) image as the encoder takes it: by Pillow (antialiased), as timm's own transform does;
        untouched where it has `input_size`, or the encoder takes any."""
        if not self.input_size or image.shape[:2] == tuple(self.input_size):
            return image
        height, width = self.input_size
        return np.asarray(Image.fromarray(image).resize((width, height), RESAMPLING[self.interpolation]))

    def checked(self, features: NDArray[Any], count: int) -> NDArray[np.float32]:
        """Latents as float32 (count, dim); RequestError where an encoder gave something else."""
        features = np.ascontiguousarray(features, np.float32)
        if features.shape != (count, self.dim):
            raise RequestError(
                f"encoder {self.name} gave latents of shape {features.shape}, not ({count}, {self.dim}): "
                "it cannot be used as it is"
            )
        return features

    def _check(self, pixels: NDArray[Any]) -> None:
        if self.kinds & VOLUME:
            tail = (3,) if self.channels == 3 else ()
            good = pixels.dtype == np.float32 and pixels.ndim == 4 + len(tail) and pixels.shape[4:] == tail
            wanted = f"float32 (n, d, h, w{', 3' if tail else ''})"
        else:
            good = pixels.ndim == 4 and pixels.shape[-1] == 3 and pixels.dtype == np.uint8
            wanted = "uint8 (n, h, w, 3)"
        if not good:
            raise ValueError(f"encoder {self.name} takes {wanted}, not {pixels.dtype} {pixels.shape}")


def option_rows(kind: type[EncoderOptions]) -> list[dict[str, Any]]:
    """Name, accepted values, default and help text of each option."""
    schema = kind.model_json_schema()["properties"] if kind.model_fields else {}
    return [
        {
            "name": name,
            "values": list(schema[name].get("enum", [])) or str(schema[name].get("type", "text")),
            "default": kind.model_fields[name].get_default(call_default_factory=True),
            "help": schema[name].get("description", ""),
        }
        for name in kind.model_fields
    ]


class StatisticsEncoder(Encoder):
    """An encoder that computes named statistics: no network, no weights, no options, any size of input."""

    columns: ClassVar[tuple[str, ...]]
    input_size = ()
    by_row = True
    weights_note = "none needed"
    licence = "Apache-2.0 (mmcli's own)"

    @classmethod
    def load(cls, request: EncoderRequest) -> Encoder:
        if request.weights is not None:
            raise RequestError(f"encoder {request.name} takes no weights; leave --weights {request.weights} out")
        fill_options(cls.Options, request.options, f"encoder {request.name}")
        self = cls()
        self.name, self.weights_sha256 = request.name, ""
        self.settings = {"columns": list(cls.columns)}
        return self
