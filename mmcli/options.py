"""The bridge from typed settings to command-line options: one definition serves both."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mmcli.errors import RequestError
from mmcli.fields import FIGURES, INPUT, INTERVALS, MACHINE, MISSING, OUTPUT, STAGE, SUBGROUPS, TRAINING, fill, flag
from mmcli.registry import did_you_mean
from mmcli.settings import SETTINGS, Settings

PANELS = [
    INPUT, STAGE, "Slides", "Volumes", "Images", TRAINING, INTERVALS, SUBGROUPS, MISSING, FIGURES, OUTPUT, MACHINE,
]  # fmt: skip
SETTINGS_FILE = typer.Option(
    "--settings", "-c", metavar="FILE.yaml", show_default=False, rich_help_panel="Input",
    help="Any option of this command by its name; the command line wins. A block named like a command holds for it.",
)  # fmt: skip


def command(kind: type[Settings], call: Callable[[Settings], None]) -> Callable[..., None]:
    """A function whose signature Typer turns into the command of `kind`; it fills the settings and calls `call`."""

    def run(**given: Any) -> None:
        file: Path | None = given.pop("settings_file")
        values = read_settings_file(file, kind) if file else {}
        values.update({name: value for name, value in given.items() if value is not None})
        call(fill(kind, values))

    fields = sorted(
        kind.model_fields.items(),
        key=lambda item: (PANELS.index(_extra(item[1])["panel"]), item[0] in Settings.model_fields),
    )
    parameters = [_parameter(name, field, hidden=name in kind.no_effect) for name, field in fields]
    parameters.sort(key=lambda p: p.name != "run")  # `predict RUN STORE...`: the single argument comes first
    parameters.append(
        inspect.Parameter(
            "settings_file",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[Path | None, SETTINGS_FILE],
        )
    )
    run.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in parameters])  # type: ignore[attr-defined]
    run.__doc__ = f"{inspect.getdoc(kind)}\n\nExample: {kind.example}"
    run.__name__ = kind.command.replace("-", "_").replace(" ", "_")
    return run


def _parameter(name: str, field: FieldInfo, hidden: bool) -> inspect.Parameter:
    extra = _extra(field)
    annotation, multiple = _command_line_type(field)
    help_text = (field.description or "") + _default(field)
    shared: dict[str, Any] = {
        "help": help_text,
        "metavar": extra.get("metavar") or None,
        "rich_help_panel": extra.get("panel"),
        "hidden": hidden,
    }
    info: Any
    if extra.get("argument"):
        info = typer.Argument(show_default=False, **shared)
    elif annotation is bool:
        names = f"{flag(name)}/--no-{flag(name)[2:]}" if extra["request"] else flag(name)
        info = typer.Option(names, show_default=False, **(shared | {"metavar": None}))
    else:
        info = typer.Option(flag(name), show_default=False, **shared)
    wrapped: Any = list[annotation] | None if multiple else annotation | None  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[wrapped, info])


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def _command_line_type(field: FieldInfo) -> tuple[Any, bool]:
    """What Typer parses for a setting, and whether it may be repeated."""
    annotation: Any = field.annotation
    plain = (
        [a for a in get_args(annotation) if a is not type(None)] if type(None) in get_args(annotation) else [annotation]
    )
    kind = plain[0]
    if kind in (bool, int, float, Path):
        return kind, False
    if get_origin(kind) is dict:
        return str, True
    if get_origin(kind) is list and get_args(kind)[0] is Path:
        return Path, True
    return str, False


def _default(field: FieldInfo) -> str:
    """The tail of a help text that tells the default."""
    default = field.default
    if default is PydanticUndefined:
        return "" if _extra(field).get("argument") else " Required."
    if default is False or default in (None, "", [], {}):
        return ""
    if isinstance(default, dict):
        shown = ", ".join(f"{k}={v}" if k else str(v) for k, v in default.items())
    else:
        shown = ",".join(map(str, default)) if isinstance(default, list) else str(default)
    return f" Default: {shown}"


def read_settings_file(file: Path, kind: type[Settings]) -> dict[str, Any]:
    """The values that a settings file gives to a command; keys may be written with - or _."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)  # a SafeLoader: runs no code
    except OSError as error:
        raise RequestError(f"--settings {file}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"--settings {file}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise RequestError(f"--settings {file}: expected `option: value` lines")
    blocks = {name: content.pop(name) for name in list(content) if name in SETTINGS and isinstance(content[name], dict)}
    for name in content:
        if name in SETTINGS:
            raise RequestError(f"--settings {file}: the block {name!r} must hold `option: value` lines")
    plain = _named(content, file) | _named(blocks.get(kind.command, {}), file)
    unknown = [name for name in plain if name not in kind.model_fields]
    if unknown:
        known = [name.strip("_") for name in kind.model_fields]
        raise RequestError(f"--settings {file}: unknown option {unknown[0]!r}{did_you_mean(unknown[0], known)}")
    return plain


def _named(values: dict[Any, Any], file: Path) -> dict[str, Any]:
    """Options by the settings' own names; one that is left open (`root:`) is as if it were not there."""
    plain: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        name = "json_" if name == "json" else name
        if name in plain:
            raise RequestError(f"--settings {file}: {key!r} stands twice")
        plain[name] = value
    return {name: value for name, value in plain.items() if value is not None}


class _Loader(yaml.SafeLoader):
    """A key that stands twice is an error instead of the last one winning."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"{key!r} stands twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep=deep)
