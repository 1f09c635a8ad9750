"""What fills the holes of a table: built-in imputers, third parties' by entry point.

A new imputer is a subclass of `mmcli.imputers.imputer.Imputer` and one line in `IMPUTERS` below, or in another package
an entry point of the group "mmcli.imputers" whose value is "module:Class".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmcli.errors import RequestError
from mmcli.registry import Registry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmcli.imputers.imputer import Imputer

IMPUTERS = Registry(
    "imputer",
    "mmcli.imputers",
    {"mean": "mmcli.imputers.mean:MeanImputer", "mice": "mmcli.imputers.mice:MiceImputer"},
)


def imputer_class(name: str) -> type[Imputer]:
    """The class behind a registered name; RequestError with the nearest name otherwise."""
    from mmcli.imputers.imputer import Imputer

    found = IMPUTERS.get(name)
    if not (isinstance(found, type) and issubclass(found, Imputer)):
        raise RequestError(f"the imputer {name!r} of another package is not a subclass of mmcli's Imputer")
    return found


def make_imputer(name: str, options: Mapping[str, str] | None = None) -> Imputer:
    """An imputer that is not fitted yet; RequestError for an unknown name or option, or a value out of its range."""
    from mmcli.fields import fill_options

    kind = imputer_class(name)
    return kind(fill_options(kind.Settings, options or {}, f"imputer {name}"))


def load_imputer(state: Mapping[str, NDArray[Any]]) -> Imputer:
    """The fitted imputer that `Imputer.state` gave, as `Store.fitted` returns it; DamagedError when it is none."""
    from mmcli.imputers.imputer import read_about

    return imputer_class(read_about(state)["imputer"]).from_state(state)
