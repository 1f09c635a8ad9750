"""The generator of MDFN's imputation units."""

from __future__ import annotations

from torch import Tensor

from mmcli.blocks.stacked import layers, linear

LAYERS = 4


def generator_widths(inputs: int, width: int, outputs: int) -> list[int]:
    """The four linear layers' widths: in, width, width, width, out."""
    return [inputs, *[width] * (LAYERS - 1), outputs]


def residual_generator(flat: Tensor, widths: list[int], x: Tensor) -> Tensor:
    """K four-layer MLPs with residual connections and ReLU: x (K, n, in) to (K, n, out); `flat` (K, P).

    h = ReLU(W1 x), h = h + ReLU(W2 h), h = h + ReLU(W3 h), out = W4 h: section 3.3 of MDFN, which leaves open where
    the residuals are; the inner layers are the only ones of equal widths.
    """
    first, *inner, last = layers(flat, widths)
    h = linear(x, first).relu()
    for layer in inner:
        h = h + linear(h, layer).relu()
    return linear(h, last)
