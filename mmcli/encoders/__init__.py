"""What turns pixels into latents: built-in encoders, any timm model by name, third parties' by entry point.

A new encoder is a subclass of `mmcli.encoders.base.Encoder` and one line in `ENCODERS` below, or in another package an
entry point of the group "mmcli.encoders" whose value is "module:Class".
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmcli.errors import RequestError
from mmcli.registry import Registry

if TYPE_CHECKING:
    from mmcli.encoders.base import Encoder

ENCODERS = Registry(
    "encoder",
    "mmcli.encoders",
    "mmcli.encoders.base:Encoder",
    {
        "efficientnet-lite0": "mmcli.encoders.efficientnet_lite0:EfficientNetLite0",
        "statistics": "mmcli.encoders.statistics:ImageStatistics",
        "intensity-statistics": "mmcli.encoders.volume_statistics:IntensityStatistics",
        "resnet3d_10": "mmcli.encoders.resnet3d:ResNet3dEncoder",
        "resnet3d_18": "mmcli.encoders.resnet3d:ResNet3dEncoder",
        "resnet3d_34": "mmcli.encoders.resnet3d:ResNet3dEncoder",
        "resnet3d_50": "mmcli.encoders.resnet3d:ResNet3dEncoder",
    },
)


def load_encoder(
    name: str,
    *,
    weights: Path | None = None,
    random_weights: bool = False,
    seed: int = 0,
    options: dict[str, str] | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> Encoder:
    """Make an encoder ready to encode.

    `weights` is a file or a folder; `random_weights` lets a network without them start from `seed`. `options` are the
    encoder's own (`--set`), as text. `threads` sets torch's number of threads for the whole process; None leaves it.
    RequestError for an unknown name or option, weights that do not fit, or a device that is not there.
    """
    import torch

    from mmcli.encoders.base import EncoderRequest

    if threads is not None:
        torch.set_num_threads(threads)
    return encoder_class(name).load(EncoderRequest(name, weights, random_weights, seed, dict(options or {}), device))


def encoder_class(name: str) -> type[Encoder]:
    """The class behind a registered name or a timm model's; RequestError with the nearest names otherwise."""
    if name in ENCODERS:
        found: type[Encoder] = ENCODERS.get(name)
        return found
    from mmcli.encoders.timm2d import TimmEncoder, is_timm_name, nearest_names

    if is_timm_name(name):
        return TimmEncoder
    import difflib

    registered = ENCODERS.names()
    near = difflib.get_close_matches(name, registered, n=1, cutoff=0.7) + nearest_names(name)
    hint = f"; did you mean {' or '.join(repr(n) for n in near[:3])}?" if near else ""
    raise RequestError(
        f"unknown encoder {name!r}{hint} (there are: {', '.join(registered)}, and any timm model by its name)"
    )


def describe(name: str | None = None) -> list[dict[str, Any]]:
    """Rows for `mmcli encoders [NAME]`: name, kinds, dim (None = depends), input_size ([] = any), weights (where they
    are looked for), licence, about, options (name, values, default, help), and of one encoder the stages whose maps
    it gives. Without a name timm's models are one row."""
    if name is not None:
        return [encoder_class(name).about(name)]
    from mmcli.encoders.timm2d import TimmEncoder, timm_count

    rows = [encoder_class(n).about(n) for n in ENCODERS.names()]
    rows.append(super(TimmEncoder, TimmEncoder).about(f"any of timm's {timm_count()} models"))
    return [{key: value for key, value in row.items() if key != "stages"} for row in rows]
