"""`mmcli methods|imputers|encoders [NAME]`: what there is, and the options of one."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel

from mmcli.registry import Registry
from mmcli.stages.outcome import Outcome


def methods(name: str | None = None) -> Outcome:
    """The methods, or one method's options; RequestError for an unknown name."""
    from mmcli.methods import METHODS

    if name is not None:
        return _one(METHODS, name, _used_by(METHODS.get(name)))
    rows = [
        {"name": n, "what": _summary(METHODS.get(n)), "command": _commands(METHODS.get(n)),
         "source": METHODS.get(n).source}
        for n in METHODS.names()
    ]  # fmt: skip
    return Outcome("`mmcli methods NAME` lists a method's options (--set NAME=VALUE)", rows=rows)


def imputers(name: str | None = None) -> Outcome:
    """The imputers, or one imputer's options; RequestError for an unknown name."""
    from mmcli.imputers import IMPUTERS

    if name is not None:
        return _one(IMPUTERS, name, "")
    rows = [{"name": n, "what": _summary(IMPUTERS.get(n)), "source": IMPUTERS.get(n).source} for n in IMPUTERS.names()]
    return Outcome("`mmcli imputers NAME` lists an imputer's options (--set NAME=VALUE)", rows=rows)


def encoders(name: str | None = None) -> Outcome:
    """The encoders with where their weights are looked for, or one encoder's options; RequestError for an unknown
    name. An unset dim depends on the model."""
    from mmcli.encoders import describe

    found = describe(name)
    if name is None:
        rows = [{key: value for key, value in row.items() if key != "options"} for row in found]
        return Outcome("`mmcli encoders NAME` lists an encoder's options (--set NAME=VALUE)", rows=rows)
    facts = {key: value for key, value in found[0].items() if key != "options"}
    options = [
        {"option": o["name"], "values": o["values"], "default": o["default"], "meaning": o["help"]}
        for o in found[0]["options"]
    ]
    lines = [f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
             for key, value in facts.items() if value not in (None, "", [])]  # fmt: skip
    return Outcome("\n".join(lines), facts, options)


def options(kind: type[BaseModel]) -> list[dict[str, Any]]:
    """A row an option of typed settings: option, values, default, meaning."""
    schema = kind.model_json_schema()["properties"] if kind.model_fields else {}
    return [
        {"option": name, "values": _values(schema[name]), "default": schema[name].get("default"),
         "meaning": field.description or ""}
        for name, field in kind.model_fields.items()
    ]  # fmt: skip


def _values(schema: dict[str, Any]) -> str:
    """What an option takes: its choices, or its type and range."""
    if "anyOf" in schema:
        return " | ".join(_values(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]}" for key, sign in bounds.items() if key in schema]
    return " ".join([str(schema.get("type", "text")).replace("string", "text").replace("null", "none"), *limits])


def _one(registry: Registry, name: str, tail: str) -> Outcome:
    found = registry.get(name)
    rows = options(found.Settings)
    text = inspect.cleandoc(found.__doc__ or "")
    none = "" if rows else f"{registry.kind} {name} has no options."
    facts = {"name": name, "what": _summary(found), "source": found.source}
    return Outcome("\n\n".join(part for part in (f"{name}: {text}", tail, none) if part), facts, rows)


def _summary(found: Any) -> str:
    """The first sentence of a docstring."""
    text = inspect.cleandoc(found.__doc__ or "")
    return " ".join(text.split("\n\n")[0].split())


def _commands(found: Any) -> list[str]:
    return sorted(getattr(found, "stages", ()))


def _used_by(found: Any) -> str:
    return f"Used by: {', '.join(_commands(found))}." if _commands(found) else ""
