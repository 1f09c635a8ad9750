"""README's architecture rows hold: no file imports upward, and what `mmcli --help` loads imports nothing heavy."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "mmcli").rglob("*.py"))
# Modules that are loaded before a command runs, and what they may import beside the standard library and each other.
LIGHT = {"cli", "options", "printing", "settings", "errors", "fields", "files", "progress", "registry"}
LIGHT_LIBRARIES = {"typer", "pydantic", "pydantic_core", "yaml"}


def rows() -> dict[str, int]:
    """The row of each name under mmcli/, as README's architecture block has them; 0 is the top one."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^## Architecture\n.*?^```\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert block
    lines = [re.split(r" {2,}", line)[0].split() for line in block[1].splitlines()]
    return {name.removesuffix("/").removesuffix(".py"): i for i, line in enumerate(lines) for name in line}


ROWS = rows()


def imported(code: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, wherever it stands, and of every "mmcli.module:attribute" of a registry."""
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: a relative import hides what it imports"
            names = [f"mmcli.{alias.name}" for alias in node.names]
            yield from ((node.lineno, name) for name in (names if node.module == "mmcli" else [str(node.module)]))
        elif isinstance(node, ast.Constant) and (found := re.fullmatch(r"(mmcli(\.\w+)+):\w+", str(node.value))):
            yield node.lineno, found[1]


def upward(name: str, code: ast.AST) -> list[str]:
    """The imports of a file of `name` (a package or module under mmcli/) that lie in a row above its own."""
    mine = ROWS[name]
    wrong = []
    for line, module in imported(code):
        top, *rest = module.split(".")
        if top == "mmcli" and rest and rest[0] != "__version__" and ROWS[rest[0]] < mine:
            wrong.append(f"line {line}: {module}")
    return wrong


def at_import(code: ast.AST) -> Iterator[str]:
    """The modules that importing a file imports: those outside of functions and of `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(code):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (module for _, module in imported(node))
        else:
            yield from at_import(node)


def heavy(code: ast.AST) -> list[str]:
    """What a light file imports and must not."""
    allowed = LIGHT_LIBRARIES | sys.stdlib_module_names
    wrong = []
    for module in at_import(code):
        top, *rest = module.split(".")
        if top not in allowed and not (top == "mmcli" and (rest[0] in LIGHT or rest[0] == "__version__")):
            wrong.append(module)
    return wrong


def owner(file: Path) -> str:
    return file.relative_to(ROOT / "mmcli").parts[0].removesuffix(".py")


def test_the_rows_name_everything_that_there_is() -> None:
    there = {owner(file) for file in FILES} - {"__init__", "__main__"}
    assert set(ROWS) == there
    assert set(ROWS) >= LIGHT


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_file_imports_upward(file: Path) -> None:
    code = ast.parse(file.read_text(encoding="utf-8"))
    if owner(file) == "__init__":
        assert list(imported(code)) == []
    elif owner(file) == "__main__":
        assert list(imported(code)) == [(3, "mmcli.cli")]
    else:
        assert upward(owner(file), code) == []


@pytest.mark.parametrize("name", sorted(LIGHT))
def test_what_help_loads_is_light(name: str) -> None:
    files = [file for file in FILES if owner(file) == name]
    assert files
    for file in files:
        assert heavy(ast.parse(file.read_text(encoding="utf-8"))) == [], file


def test_the_checks_see_what_they_look_for() -> None:
    late = "def f():\n    from mmcli.stages.train import train\n    from mmcli import cli, __version__\n"
    assert upward("store", ast.parse(late)) == ["line 2: mmcli.stages.train", "line 3: mmcli.cli"]
    assert upward("stages", ast.parse("import mmcli.store.read\nfrom mmcli.stages import common\n")) == []
    assert upward("readers", ast.parse("X = {'a': 'mmcli.methods.kd:KD'}")) == ["line 1: mmcli.methods.kd"]
    code = "import json\nimport numpy as np\nif TYPE_CHECKING:\n    import torch\ntry:\n    import mmcli.store\n"
    assert heavy(ast.parse(code + "finally:\n    pass\ndef f():\n    import pandas\n")) == ["numpy", "mmcli.store"]
    with pytest.raises(AssertionError, match="relative import"):
        list(imported(ast.parse("from . import x")))
