"""`mmcli encoders [NAME]`: what turns pixels into latents."""

from __future__ import annotations

from typing import Any


def describe(name: str | None = None) -> list[dict[str, Any]]:
    """A row an encoder, or the one of `name`: name, kinds, dim (None = depends on the model), input_size ([] = any),
    weights (where they are looked for), licence, about, options. RequestError for an unknown name."""
    from mmcli import encoders

    return encoders.describe(name)
