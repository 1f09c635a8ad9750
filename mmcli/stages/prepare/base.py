"""What the kinds of modality have in common in `preprocess`: options given a modality, and what became of a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmcli.cohort.model import FileSpec
from mmcli.errors import RequestError, UnreadableError
from mmcli.fields import flag
from mmcli.files import fingerprint
from mmcli.registry import did_you_mean
from mmcli.settings import PreprocessSettings
from mmcli.store import Source

LARGEST = 1e9  # of any number that an option takes


@dataclass(frozen=True)
class Prepared:
    """One file of one patient as instances: coords (N, k), pixels (N, ...) where they are kept, and a picture uint8
    (h, w, 3) by which a person can check the result."""

    source: Source
    coords: NDArray[Any]
    pixels: NDArray[Any] | None = None
    picture: NDArray[np.uint8] | None = None


class Kind(Protocol):
    """How the files of one kind of modality are prepared: each kind is a module with these names.

    OPTIONS: the settings that it reads. COORDS: the columns of its instances' coords. `options`: the settings that
    hold for one modality, as JSON values kept in the store. `prepare`: a file to its instances, with its picture where
    `draw` asks for it; UnreadableError says in one line why it cannot be read.
    """

    OPTIONS: tuple[str, ...]
    COORDS: tuple[str, ...]

    def options(self, given: Given) -> dict[str, Any]: ...

    def prepare(self, file: FileSpec, options: dict[str, Any], draw: bool = True) -> Prepared: ...


@dataclass(frozen=True)
class Given:
    """The options of one modality: its own value, or the one for all."""

    settings: PreprocessSettings
    modality: str

    def text(self, name: str) -> str:
        """An option's text, "" where nobody gave one and it has no default."""
        default = type(self.settings).model_fields[name].default
        values: dict[str, str] = {**default, **getattr(self.settings, name)}
        return values.get(self.modality, values.get("", ""))

    def number(self, name: str, kind: Callable[[str], Any] = float) -> Any:
        """An option that is one number; RequestError names it where it is none."""
        return self.numbers(name, 1, kind)[0]

    def numbers(self, name: str, count: int, kind: Callable[[str], Any] = float) -> list[Any]:
        """An option that is `count` numbers with commas."""
        try:
            values = [kind(v) for v in self.text(name).split(",")]
            if len(values) != count or not all(-LARGEST <= v <= LARGEST for v in values):
                raise ValueError
        except ValueError:
            what = "a number" if count == 1 else f"{count} numbers with commas"
            whole = "whole " if kind is int else ""
            raise RequestError(
                f"{flag(name)}: expected {what.replace('number', whole + 'number')}, not {self.text(name)!r}"
            ) from None
        return values

    def choice(self, name: str, among: tuple[str, ...]) -> str:
        """An option that is one of a few words."""
        if self.text(name) not in among:
            raise RequestError(f"{flag(name)}: expected {' or '.join(among)}, not {self.text(name)!r}")
        return self.text(name)


def check_modalities(settings: PreprocessSettings, name: str, kind: str, known: list[str]) -> None:
    """RequestError where an option is given for a modality that is not among the `known` ones of its kind."""
    for modality in getattr(settings, name):
        if modality and modality not in known:
            raise RequestError(
                f"{flag(name)}: {modality!r} is no {kind} modality {whose(settings)}{did_you_mean(modality, known)}"
            )


def whose(settings: PreprocessSettings) -> str:
    """Among which modalities one was looked for."""
    return "among --modalities" if settings.modalities else "of the cohort"


def source_of(file: FileSpec, **known: Any) -> Source:
    """A file, or a folder of files, as the store keeps it; `known`: its mpp or spacing."""
    path = file.path
    size = path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.iterdir() if p.is_file())
    return Source(file.shown, size, fingerprint(path), **known)


def check_exists(file: FileSpec) -> None:
    """UnreadableError where the cohort names a file that is not there."""
    if not file.path.exists():
        raise UnreadableError(f"{file.shown}: no such file under the cohort's root")
