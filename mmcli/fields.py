"""Types of settings that the command line, the settings file and Python share, and the errors that name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from mmcli.errors import RequestError
from mmcli.registry import did_you_mean

Model = TypeVar("Model", bound=BaseModel)
INPUT, TRAINING, OUTPUT, MACHINE = "Input", "Training", "Output", "Machine"
INTERVALS, SUBGROUPS, MISSING, FIGURES = "Intervals", "Subgroups", "Missing modalities", "Figures"
STAGE = "What to do"
MOST_NUMBERS = 10_000


def _comma_list(value: Any) -> Any:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    if isinstance(value, list | tuple):
        return [_text(item) for item in value]
    return [_text(value)] if isinstance(value, int | float) else value


def _int_ranges(value: Any) -> Any:
    if isinstance(value, int):
        return [value]
    if not isinstance(value, str):
        return value
    numbers: list[int] = []
    for item in _comma_list(value):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", item)
        if not match:
            raise ValueError(f"{item!r} is neither a number nor a range; write for example 0-4 or 0,2")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"the range {item!r} runs backwards; write {last}-{first}")
        if last - first >= MOST_NUMBERS:
            raise ValueError(f"the range {item!r} has more than {MOST_NUMBERS} numbers")
        numbers += range(first, last + 1)
    return list(dict.fromkeys(numbers))


def _assignments(value: Any) -> Any:
    """`a=1` (repeated, or a mapping in a settings file) to {"a": "1"}; a bare value goes under ""."""
    if isinstance(value, dict):
        return {str(k): _text(v) for k, v in value.items()}
    if isinstance(value, int | float):
        return {"": _text(value)}
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        return value
    if value and not any(isinstance(item, str) for item in value):  # [48, 64, 64] of a settings file
        return {"": _text(value)}
    pairs: dict[str, str] = {}
    for item in value:
        name, equals, given = str(item).partition("=")
        name, given = (name.strip(), given.strip()) if equals else ("", name.strip())
        if name in pairs:
            raise ValueError(f"{name or 'the value for all'!r} is given twice")
        if not given:
            raise ValueError(f"{item!r} has no value; write NAME=VALUE")
        pairs[name] = given
    return pairs


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


CommaList = Annotated[list[str], BeforeValidator(_comma_list)]
IntRanges = Annotated[list[int], BeforeValidator(_int_ranges)]
PerModality = Annotated[dict[str, str], BeforeValidator(_assignments)]


def option(
    default: Any,
    help: str,
    panel: str = STAGE,
    *,
    request: bool = True,
    metavar: str = "",
    least: int | None = None,
    most: int | None = None,
) -> Any:
    """A setting with its help text, and the least and most that a number may be. `request=False`: it does not change
    what is made (workers, device ...)."""
    extra: dict[str, Any] = {"panel": panel, "request": request, "metavar": metavar}
    return Field(default, description=help, json_schema_extra=extra, validate_default=False, ge=least, le=most)


def required(help: str, panel: str = STAGE, *, request: bool = True, metavar: str = "", argument: bool = False) -> Any:
    """A setting without a default: a positional argument, or an option that must be given."""
    extra: dict[str, Any] = {"panel": panel, "request": request, "metavar": metavar, "argument": argument}
    return Field(description=help, json_schema_extra=extra)


def fill(kind: type[Model], given: dict[str, Any]) -> Model:
    """Build settings from plain values; what is wrong becomes one RequestError that names the options."""
    try:
        return kind(**given)
    except ValidationError as error:
        raise RequestError("; ".join(_problem(kind, e) for e in error.errors())) from None


def flag(name: str) -> str:
    """The option of a setting: dry_run -> --dry-run, json_ -> --json."""
    return "--" + name.strip("_").replace("_", "-")


def _problem(kind: type[BaseModel], error: Any) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    field = kind.model_fields.get(name)
    extra: Any = (field.json_schema_extra if field else None) or {}
    shown = extra.get("metavar") or name.upper() if extra.get("argument") else flag(name)
    if error["type"] == "missing":
        return f"{shown} is missing: {field.description if field else ''} For example: {getattr(kind, 'example', '')}"
    if error["type"] == "extra_forbidden":
        return f"unknown option {name!r}{did_you_mean(name, [n.strip('_') for n in kind.model_fields])}"
    message = str(error["msg"]).removeprefix("Value error, ")
    message = _PLAIN.get(error["type"], message)
    return f"{shown}: {message[:1].lower()}{message[1:]} (given: {error['input']!r})"


_PLAIN = {
    "path_type": "expected a path",
    "dict_type": "expected NAME=VALUE",
    "list_type": "expected a list with commas",
    "int_parsing": "expected a whole number",
    "float_parsing": "expected a number",
}


def fill_options(kind: type[Model], given: Mapping[str, str], owner: str) -> Model:
    """Typed options of `--set` texts; what is wrong becomes one RequestError that names options and their owner
    ("encoder resnet50", "method attention")."""
    try:
        return kind(**given)
    except ValidationError as error:
        raise RequestError("; ".join(_option_problem(kind, e, owner) for e in error.errors())) from None


def _option_problem(kind: type[BaseModel], error: Any, owner: str) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    if not name and error["type"] == "extra_forbidden":
        return f"--set: {error['input']!r} has no name; write NAME=VALUE"
    if error["type"] == "extra_forbidden":
        return f"--set: {owner} has no option {name!r}{did_you_mean(name, list(kind.model_fields))}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"--set {name}={error['input']}: {message[:1].lower()}{message[1:]} ({owner})"
