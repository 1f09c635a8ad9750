"""Results on stdout: a table for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import Any


def print_json(outcome: Any) -> None:
    """One JSON object: message, exit_code, rows and whatever else the stage gives."""
    content = {"message": outcome.message, "exit_code": outcome.exit_code, "rows": outcome.rows, **outcome.data}
    print(json.dumps(content, indent=2, ensure_ascii=False, default=str))


def print_outcome(outcome: Any) -> None:
    """The rows as a table (or the tables that stand for them), then the message."""
    for rows in [outcome.rows] if outcome.tables is None else outcome.tables:
        if rows:
            _print_table(rows)
            if outcome.tables:
                print()
    if outcome.message:
        print(outcome.message)


def _print_table(rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    if not sys.stdout.isatty():  # a pipe has no width: never cut or wrap there
        widths = [max(len(c), *(len(r[i]) for r in cells)) for i, c in enumerate(columns)]
        for line in [columns, *cells]:
            print("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in cells:
        table.add_row(*row)
    Console().print(table, markup=False)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
