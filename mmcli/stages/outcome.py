"""What a stage returns, and the one rule about outputs that exist already."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmcli.errors import DONE, RequestError
from mmcli.files import canonical_json


@dataclass
class Outcome:
    """A stage's result: one line for people, rows for a table, data for programs, the exit code.

    `tables` are what people see instead of `rows`, where those are too wide for a terminal or told already.
    """

    message: str
    data: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int = DONE
    tables: list[list[dict[str, Any]]] | None = None


def is_done(out: Path, request: dict[str, Any], existing: dict[str, Any] | None, force: bool) -> bool:
    """Whether `out` holds the answer to `request` already.

    `existing` is the request that the output was made for, None where there is no output. Another request on the
    same output is refused with the difference named; `force` says that it may be replaced.
    """
    if existing is None or force:
        return False
    if canonical_json(existing) == canonical_json(request):
        return True
    raise RequestError(
        f"{out} holds the answer to another request ({difference(existing, request)}); "
        "give another --out, or --force to replace it"
    )


def existing_report(out: Path, file: str, rows: str, ours: tuple[str, ...], what: str) -> dict[str, Any] | None:
    """The JSON `file` of the folder that a command wrote, None where there is nothing.

    What is no report of this kind (`file` has no list `rows`), or holds a file whose name begins like none of `ours`,
    is never replaced: RequestError says so, `what` being the report's name.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        content = json.loads((out / file).read_text(encoding="utf-8"))
        known = isinstance(content["request"], dict) and isinstance(content[rows], list)
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise RequestError(f"{out}: is there and holds no {what} of mmcli's; give another --out")
    if foreign := [f.name for f in sorted(out.iterdir()) if not f.name.startswith(ours)]:
        raise RequestError(f"{out}: holds {foreign[0]!r} beside the {what}; move it away, or give another --out")
    return dict(content)


def refuse_input(out: Path, inputs: Sequence[Path], option: str = "--out") -> None:
    """RequestError where writing `out` would write over an input: it is one of them, or a folder that holds one."""
    final = out.resolve()
    for path in inputs:
        given = path.resolve()
        if given == final or final in given.parents:
            raise RequestError(f"{option} {out}: is, or holds, the input {path}; give another {option}")


def difference(old: Any, new: Any, name: str = "") -> str:
    """The first few settings in which two requests differ, as text."""
    return "; ".join(_differences(old, new, name)[:4]) or "nothing differs"


def _differences(old: Any, new: Any, name: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{name}.{k}".strip("."))]
    return [] if old == new else [f"{name}: {_short(old)} there, {_short(new)} now"]


def _short(value: Any) -> str:
    text = canonical_json(value)
    return text if len(text) <= 60 else text[:57] + "..."


def remove(path: Path) -> None:
    """Remove a file or a whole directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
