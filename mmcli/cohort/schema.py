"""The YAML of a cohort: its keys, and what each may hold. Every scalar is text until a key asks for a number."""

from __future__ import annotations

import re
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from mmcli.cohort.dates import FORMATS, ISO, parse_date
from mmcli.errors import RequestError
from mmcli.registry import did_you_mean
from mmcli.store.parts import ColumnKind

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_FORBIDDEN = re.compile(r"[/,=@\\\x00-\x1f]|^[.]")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelKeys(_Strict):
    """`classes` in order; cells of `unlabelled` (and always the empty one) give no label."""

    classes: list[str] = Field(min_length=2)
    unlabelled: list[str] = Field(default_factory=lambda: [""])
    ordinal: bool = False

    @model_validator(mode="after")
    def _distinct(self) -> LabelKeys:
        twice = sorted({c for c in self.classes if self.classes.count(c) > 1})
        if twice:
            raise ValueError(f"the class {twice[0]!r} stands twice")
        if "" in self.classes:
            raise ValueError("an empty class; an empty cell is a patient without the label")
        both = sorted(set(self.classes) & set(self.unlabelled))
        if both:
            raise ValueError(f"{both[0]!r} is a class and unlabelled")
        return self


class MadeFolds(_Strict):
    """A fold set to be made: `n` folds, `repeats` times; `validation` is the share of the patients outside test."""

    n: int = Field(default=5, ge=2, le=1000)
    repeats: int = Field(default=1, ge=1, le=1000)
    stratify: str | None = None
    validation: float = 0.2
    seed: int = Field(default=0, ge=0)

    @field_validator("validation")
    @classmethod
    def _share(cls, value: float) -> float:
        if not 0 < value < 1:
            raise ValueError("a share between 0 and 1 (0.2 is usual): training stops by the validation patients")
        return value


class GivenFolds(_Strict):
    """A fold set that the table has: `column` holds train, validation, test or nothing (unused). Without validation
    rows, a fifth of train is taken, and each of the `repeats` takes another: the tests are the same."""

    column: str
    repeats: int = Field(default=1, ge=1, le=1000)


class BagKeys(_Strict):
    """A modality of files; `path`, `mask` and `mpp` are columns of the patients' table or of `file`."""

    kind: Literal["slide", "volume", "image"]
    path: str
    mask: str | None = None
    mpp: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> BagKeys:
        if self.mask is not None and self.kind == "slide":
            raise ValueError("a slide has no mask: (volumes and images have)")
        if self.mpp is not None and self.kind == "volume":
            raise ValueError("a volume has no mpp: its file holds the spacing")
        return self


class DateKeys(_Strict):
    """A column of dates as time: `until` or `since` another column or an ISO date; `name` is the new column's."""

    until: str | None = None
    since: str | None = None
    name: str | None = Field(default=None, min_length=1)
    unit: Literal["years", "days"] = "years"
    format: str = ISO

    @model_validator(mode="after")
    def _one(self) -> DateKeys:
        if (self.until is None) == (self.since is None):
            raise ValueError("until: or since:, with a column or a date like 2020-01-31")
        if self.format not in FORMATS:
            raise ValueError(f"format: one of {', '.join(FORMATS)}, not {self.format!r}")
        other = self.until or self.since or ""
        if other[:1].isdigit() and parse_date(other) is None and re.fullmatch(r"[\d./-]+", other):
            raise ValueError(f"{other!r}: a date is written like 2020-01-31")
        return self


def _bound(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip() in ("", "~", "null") else value


Bound = Annotated[float | None, BeforeValidator(_bound)]


class TableKeys(_Strict):
    """A modality of table columns, of the patients' table or of `file` (there all columns when none are named).

    `dates` turns columns of dates to years or days; the other keys know such a column by its new name. A number
    outside of its `limits` is a problem, or with `outside: missing` not observed.
    """

    kind: Literal["table"]
    columns: list[str] | None = Field(default=None, min_length=1)
    ordinal: dict[str, list[str]] = Field(default_factory=dict)
    kinds: dict[str, ColumnKind] = Field(default_factory=dict)
    units: dict[str, str] = Field(default_factory=dict)
    limits: dict[str, tuple[Bound, Bound]] = Field(default_factory=dict)
    outside: Literal["problem", "missing"] = "problem"
    dates: dict[str, DateKeys] = Field(default_factory=dict)
    file: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> TableKeys:
        if self.columns is None and self.file is None:
            raise ValueError("name its columns: (only a table with a file: of its own has all of them by default)")
        twice = sorted({c for c in self.columns or [] if (self.columns or []).count(c) > 1})
        if twice:
            raise ValueError(f"the column {twice[0]!r} stands twice")
        for column, order in self.ordinal.items():
            if len(order) < 2 or len(set(order)) < len(order):
                raise ValueError(f"ordinal: {column}: two or more different values in order")
            if self.kinds.get(column, "ordinal") != "ordinal":
                raise ValueError(f"kinds: {column}: {self.kinds[column]}, but ordinal: gives its order")
        for column, (low, high) in self.limits.items():
            if (low is None and high is None) or not (isfinite(low or 0) and isfinite(high or 0)):
                raise ValueError(f"limits: {column}: two numbers [low, high], one of them may be empty")
            if low is not None and high is not None and low >= high:
                raise ValueError(f"limits: {column}: {low:g} is not below {high:g}; write [low, high]")
        bare = sorted(c for c, kind in self.kinds.items() if kind == "ordinal" and c not in self.ordinal)
        if bare:
            raise ValueError(f"kinds: {bare[0]}: ordinal needs the order of its values under ordinal:")
        return self


def _fold_tag(value: Any) -> str:
    return "column" if isinstance(value, dict) and "column" in value else "made"


def _modality_tag(value: Any) -> str | None:
    kind = value.get("kind") if isinstance(value, dict) else None
    return {"table": "table", "slide": "bag", "volume": "bag", "image": "bag"}.get(str(kind))


def _label(value: Any) -> Any:
    return {"classes": value} if isinstance(value, list) else value


def _empty(value: Any) -> Any:
    # "labels:" with nothing behind it is a key that the user left open, not a text.
    return {} if value == "" else value


Label = Annotated[LabelKeys, BeforeValidator(_label)]
Folds = Annotated[Annotated[MadeFolds, Tag("made")] | Annotated[GivenFolds, Tag("column")], Discriminator(_fold_tag)]
Modality = Annotated[
    Annotated[BagKeys, Tag("bag")] | Annotated[TableKeys, Tag("table")],
    Discriminator(
        _modality_tag,
        custom_error_type="kind",
        custom_error_message="kind: must be slide, volume, image or table",
    ),
]


class CohortKeys(_Strict):
    """The whole file."""

    patients: str = Field(min_length=1)
    id: str = Field(min_length=1)
    group: str | None = None
    labels: Annotated[dict[str, Label], BeforeValidator(_empty)] = Field(default_factory=dict)
    folds: Annotated[dict[str, Annotated[Folds, BeforeValidator(_empty)]], BeforeValidator(_empty)] = Field(
        default_factory=dict
    )
    modalities: Annotated[dict[str, Modality], BeforeValidator(_empty)] = Field(default_factory=dict)


class _Loader(yaml.BaseLoader):
    """Everything is text (`no` stays "no"); a key that stands twice is an error instead of the last one winning."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def load_yaml(path: Path) -> Any:
    """The file as dicts, lists and texts; RequestError when it is missing or no YAML."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file; `mmcli cohort init patients.csv` makes one") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not UTF-8 text; give the cohort's YAML file") from error
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", row {mark.line + 1}" if mark else ""
        raise RequestError(f"{path}{where}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, TypeError) as error:
        raise RequestError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from error


def parse_keys(path: Path, raw: Any) -> tuple[CohortKeys | None, list[str]]:
    """The keys, or None and what is wrong with them, one line a key."""
    if not isinstance(raw, dict):
        return None, [f"{path}: must hold keys (patients:, id:, labels:, modalities: ...)"]
    try:
        keys = CohortKeys.model_validate(raw)
    except ValidationError as error:
        return None, [_line(path, item) for item in error.errors()]
    problems = [f"{path}, key labels.{n}: / , = @ and \\ are not allowed in a label; rename the column"
                for n in keys.labels if not n or _FORBIDDEN.search(n)]  # fmt: skip
    for section, names in (("folds", keys.folds), ("modalities", keys.modalities)):
        problems += [
            f"{path}, key {section}.{n}: a name is letters, digits and _ . + - and starts with a letter or digit"
            for n in names
            if not _NAME.fullmatch(n)
        ]
    return (None if problems else keys), problems


_MODELS: dict[str, type[BaseModel]] = {
    "labels": LabelKeys,
    "column": GivenFolds,
    "made": MadeFolds,
    "bag": BagKeys,
    "table": TableKeys,
}


def _line(path: Path, item: Any) -> str:
    model: type[BaseModel]
    location = [str(part) for part in item["loc"]]
    model = next((_MODELS[part] for i, part in enumerate(location) if part in _MODELS and (part != "labels" or i == 0)),
                 CohortKeys)  # fmt: skip
    if len(location) == 1 or location[0] not in ("labels", "folds", "modalities"):
        model = CohortKeys
    if "dates" in location[3:]:
        model = DateKeys
    tags = {"folds": {"column", "made"}, "modalities": {"bag", "table"}}.get(location[0], set())
    shown = [part for i, part in enumerate(location) if not (i == 2 and part in tags)]
    key = ".".join(shown)
    if item["type"] == "extra_forbidden":
        return f"{path}, key {key}: unknown key{did_you_mean(shown[-1], list(model.model_fields))}"
    if item["type"] == "missing":
        return f"{path}, key {key}: missing; give it"
    message = item["msg"].removeprefix("Value error, ")
    given = "" if isinstance(item["input"], dict | list) else f" (it is {item['input']!r})"
    return f"{path}, key {key}: {message[:1].lower() + message[1:]}{given}"
