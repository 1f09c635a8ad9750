"""One registry for methods, imputers, encoders and metrics: a name, and where its object is imported from."""

from __future__ import annotations

import difflib
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from mmcli.errors import RequestError


@cache
def _installed(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of a group among the packages on `path`, sys.path: looking for them takes 20 ms."""
    return tuple(entry_points(group=group))


class Registry:
    """Names of one kind of plug-in, imported only when one is asked for.

    `builtin` maps a name to "module:attribute". Third-party packages add names by an entry point of the
    group `group`; a name that exists twice is an error. `base` ("module:Class") is what every object is an instance or
    a subclass of.
    """

    def __init__(self, kind: str, group: str, base: str, builtin: dict[str, str]) -> None:
        self.kind = kind
        self.group = group
        self._base = base
        self._builtin = builtin

    def _entries(self) -> dict[str, EntryPoint]:
        entries = {name: EntryPoint(name, value, self.group) for name, value in self._builtin.items()}
        for entry in _installed(self.group, tuple(sys.path)):
            if entry.name in entries and entries[entry.name].value != entry.value:
                raise RequestError(
                    f"two packages register the {self.kind} {entry.name!r} ({entries[entry.name].value} and "
                    f"{entry.value}): uninstall one of them"
                )
            entries[entry.name] = entry
        return entries

    def names(self) -> list[str]:
        """All registered names, built-in ones first and in their order."""
        return list(self._entries())

    def __contains__(self, name: object) -> bool:
        return name in self._entries()

    def get(self, name: str) -> Any:
        """The object registered under `name`; RequestError names the nearest ones when there is none."""
        entries = self._entries()
        if name not in entries:
            raise RequestError(f"unknown {self.kind} {name!r}{did_you_mean(name, list(entries))}")
        entry = entries[name]
        try:
            found = entry.load()
        except Exception as error:
            if name in self._builtin:
                raise
            raise RequestError(
                f"the {self.kind} {name!r} of another package ({entry.value}) cannot be loaded: "
                f"{' '.join(str(error).split())}; mend or uninstall that package"
            ) from error
        base = EntryPoint("base", self._base, self.group).load()
        if not isinstance(found, base) and not (isinstance(found, type) and issubclass(found, base)):
            raise RequestError(f"the {self.kind} {name!r} ({entry.value}) is not a subclass of mmcli's {base.__name__}")
        return found


def did_you_mean(name: str, known: list[str]) -> str:
    """The tail of an error line about an unknown name: the nearest known one, and all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (there are: {', '.join(known) or 'none'})"
