"""How other tools lay out a slide's or patient's features: one file a layout, read in pieces and written whole."""

from __future__ import annotations

from mmcli.registry import Registry

LAYOUTS = Registry(
    "layout",
    "mmcli.layouts",
    "mmcli.store.layouts.layout:Layout",
    {
        "trident": "mmcli.store.layouts.trident:Trident",
        "clam": "mmcli.store.layouts.clam:Clam",
        "stamp": "mmcli.store.layouts.stamp:Stamp",
        "npz": "mmcli.store.layouts.npz:Npz",
    },
)
