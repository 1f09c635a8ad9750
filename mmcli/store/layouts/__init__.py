"""How other tools lay out a slide's or patient's features: one file a layout, each with `read` and `write`."""

from __future__ import annotations

from mmcli.registry import Registry

LAYOUTS = Registry(
    "layout", "mmcli.layouts", {"stamp": "mmcli.store.layouts.stamp:Stamp", "npz": "mmcli.store.layouts.npz:Npz"}
)
