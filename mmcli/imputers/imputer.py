"""What an imputer is: fitted on training patients once, then it fills any patient's holes."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from mmcli.errors import DamagedError, RequestError
from mmcli.files import canonical_json
from mmcli.imputers.marginals import Marginals
from mmcli.store.parts import ColumnKind, Table

Answer = Literal["mean", "median", "draw"]
Floats = NDArray[np.float64]
STATE = "mmcli imputer 1"


class ImputerSettings(BaseModel):
    """An imputer's own options (`--set name=value`); each field has a description for `mmcli imputers NAME`."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Columns:
    """What a table's f columns mean; `categories` names the codes of categorical and ordinal columns, in order."""

    names: list[str]
    kinds: list[ColumnKind]
    categories: dict[str, list[str]]

    @classmethod
    def of(cls, table: Table) -> Columns:
        """The columns of a table."""
        return cls(list(table.columns), list(table.kinds), {c: list(v) for c, v in table.categories.items()})

    def levels(self) -> list[int]:
        """How many codes each column has; 0 for a numeric one."""
        pairs = zip(self.names, self.kinds, strict=True)
        return [0 if kind == "numeric" else len(self.categories[name]) for name, kind in pairs]


class Imputer(ABC):
    """Fills the holes (NaN) of a table. A subclass fits in `_fit`, proposes cells in `_propose`, and keeps what it
    learned as arrays, so that it can be stored and loaded without running any code.

    Whatever a subclass proposes, every imputer keeps these promises: an observed cell leaves bit for bit as it came;
    a filled numeric cell lies between the smallest and largest value that the training patients have (only `zero` is
    free of that); a filled ordinal cell is the nearest level, a filled categorical cell a category, that some training
    patient has; no hole is left. A column that no training patient has observed is filled with 0 (numeric) or its
    first category.
    """

    Settings: ClassVar[type[ImputerSettings]] = ImputerSettings
    name: ClassVar[str]
    source: ClassVar[str] = ""  # the paper, for `mmcli imputers`
    in_range: ClassVar[bool] = True  # whether numbers are kept in the training range; only `zero` is free of it

    def __init__(self, settings: ImputerSettings | None = None) -> None:
        self.settings: Any = settings or self.Settings()
        self.seed = 0

    def fit(self, values: Floats, columns: Columns, *, seed: int = 0, draws: int = 0) -> Imputer:
        """Learn from the training patients' `values` (n, f), NaN where not observed; codes in coded columns.

        `draws` is how many independent draws `transform` can be asked for (0: point answers alone). Returns itself.
        ValueError for infinite values, RequestError when there is no patient or no observed cell at all.
        """
        self._fit(self._begin(values, columns, seed, draws))
        return self

    @classmethod
    def fit_folds(
        cls,
        settings: ImputerSettings | None,
        tables: Sequence[Floats],
        columns: Columns,
        *,
        seeds: Sequence[int],
        draws: int = 0,
    ) -> list[Imputer]:
        """An imputer for each fold's training patients `tables` (n, f) and `seeds`: the same as fitting one after
        another, but for rounding where a subclass learns all of them at once."""
        imputers: list[Imputer] = [cls(settings) for _ in tables]
        begun = [i._begin(t, columns, s, draws) for i, t, s in zip(imputers, tables, seeds, strict=True)]
        cls._fit_many(imputers, begun)
        return imputers

    def _begin(self, values: Floats, columns: Columns, seed: int, draws: int) -> Floats:
        """Check training values (n, f), and set what `_fit` needs."""
        values = _checked(values, len(columns.names))
        if not len(values) or np.isnan(values).all():
            raise RequestError("no training patient has an observed cell")
        self.columns, self.seed, self.draws = columns, seed, draws
        self.marginals = Marginals.fit(values, columns.levels())
        return values

    @classmethod
    def _fit_many(cls, imputers: Sequence[Imputer], tables: Sequence[Floats]) -> None:
        """`_fit` of each imputer on its training values."""
        for imputer, values in zip(imputers, tables, strict=True):
            imputer._fit(values)

    def transform(self, values: Floats, ids: Sequence[str], *, draws: int = 1, answer: Answer = "mean") -> Floats:
        """Filled tables (m, n, f) of any patients `values` (n, f): m = `draws` for answer "draw", else 1.

        Nothing is fitted again, and a patient's cells depend on nobody else in the call: neither on their values nor
        on their number. What is random depends on the fit's seed and the patient's id alone.
        """
        values = _checked(values, len(self.columns.names))
        if len(ids) != len(values):
            raise ValueError(f"{len(ids)} ids for {len(values)} patients")
        if answer != "draw":
            draws = 1
        elif draws > self.draws:
            raise RequestError(f"this imputer was fitted for {self.draws} draws, not {draws}: fit it again")
        holes = np.isnan(values)
        filled = np.repeat(values[None], draws, 0)
        rows = np.flatnonzero(holes.any(1))
        if len(rows):
            proposed = self._propose(values[rows], [ids[i] for i in rows.tolist()], draws, answer)
            snapped = self.marginals.snap(proposed)
            if not self.in_range:
                snapped = np.where(self.marginals.coded, snapped, proposed)
            filled[:, rows] = np.where(holes[rows], snapped, values[rows])
        return filled

    @abstractmethod
    def _fit(self, values: Floats) -> None:
        """Learn from (n, f) training values; `marginals`, `columns`, `seed` and `draws` are set."""

    @abstractmethod
    def _propose(self, values: Floats, ids: list[str], draws: int, answer: Answer) -> Floats:
        """A finite number for every hole of `values` (n, f), as (m, n, f); what stands in observed cells is ignored."""

    @abstractmethod
    def _arrays(self) -> dict[str, NDArray[Any]]:
        """What `_fit` learned, besides the marginals."""

    @abstractmethod
    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `_arrays` gave."""

    def state(self) -> dict[str, NDArray[Any]]:
        """The fitted imputer as named arrays of at least one dimension; "about" holds JSON as UTF-8 bytes."""
        about = {"format": STATE, "imputer": self.name, "settings": self.settings.model_dump(mode="json"),
                 "seed": self.seed, "draws": self.draws, "columns": asdict(self.columns)}  # fmt: skip
        own = {f"own-{name}": array for name, array in self._arrays().items()}
        marginals = {f"marginal-{name}": array for name, array in asdict(self.marginals).items()}
        return {"about": np.frombuffer(canonical_json(about).encode(), np.uint8), **marginals, **own}

    @classmethod
    def from_state(cls, arrays: Mapping[str, NDArray[Any]]) -> Imputer:
        """The imputer that `state` described; it fills as the original, bit for bit. DamagedError for anything else."""
        about = read_about(arrays)
        if about["imputer"] != cls.name:
            raise DamagedError(f"the fitted imputer is {about['imputer']!r}, not {cls.name!r}")
        imputer = cls(cls.Settings(**about["settings"]))
        imputer.seed, imputer.draws, imputer.columns = about["seed"], about["draws"], Columns(**about["columns"])
        try:
            imputer.marginals = Marginals(**_under("marginal-", arrays))
            imputer._restore(_under("own-", arrays))
        except (KeyError, TypeError) as error:
            raise DamagedError(f"the fitted imputer {cls.name!r} lacks arrays ({error})") from None
        return imputer


def read_about(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The JSON of a fitted imputer's state; DamagedError where it is none."""
    try:
        about: dict[str, Any] = json.loads(arrays["about"].tobytes())
    except (KeyError, UnicodeDecodeError, json.JSONDecodeError):
        about = {}
    if about.get("format") != STATE:
        raise DamagedError(f"these arrays are no fitted imputer of the form {STATE!r}")
    return about


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _checked(values: Floats, f: int) -> Floats:
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] != f:
        raise ValueError(f"values have the shape {values.shape}, not (n, {f})")
    if np.isinf(values).any():
        raise ValueError("values are infinite")
    return values
