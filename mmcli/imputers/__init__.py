"""What fills the holes of a table: built-in imputers, third parties' by entry point.

A new imputer is a subclass of `mmcli.imputers.imputer.Imputer` and one line in `IMPUTERS` below, or in another package
an entry point of the group "mmcli.imputers" whose value is "module:Class".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmcli.registry import Registry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmcli.imputers.imputer import Imputer

IMPUTERS = Registry(
    "imputer",
    "mmcli.imputers",
    "mmcli.imputers.imputer:Imputer",
    {
        "blend": "mmcli.imputers.blend:BlendImputer",
        "copula": "mmcli.imputers.copula:CopulaImputer",
        "cyclegan": "mmcli.imputers.cyclegan:CycleGanImputer",
        "knn": "mmcli.imputers.knn:KnnImputer",
        "mean": "mmcli.imputers.mean:MeanImputer",
        "median": "mmcli.imputers.median:MedianImputer",
        "mice": "mmcli.imputers.mice:MiceImputer",
        "missforest": "mmcli.imputers.missforest:MissForestImputer",
        "regression": "mmcli.imputers.regression:RegressionImputer",
        "zero": "mmcli.imputers.zero:ZeroImputer",
    },
)


def make_imputer(name: str, options: Mapping[str, str] | None = None) -> Imputer:
    """An imputer that is not fitted yet; RequestError for an unknown name or option, or a value out of its range."""
    from mmcli.fields import fill_options

    kind: type[Imputer] = IMPUTERS.get(name)
    return kind(fill_options(kind.Settings, options or {}, f"imputer {name}"))


def load_imputer(state: Mapping[str, NDArray[Any]]) -> Imputer:
    """The fitted imputer that `Imputer.state` gave, as `Store.fitted` returns it; DamagedError when it is none."""
    from mmcli.imputers.imputer import read_about

    kind: type[Imputer] = IMPUTERS.get(read_about(state)["imputer"])
    return kind.from_state(state)
