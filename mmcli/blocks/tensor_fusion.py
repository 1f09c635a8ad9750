"""Tensor fusion: the outer product of all modalities' vectors, a 1 prepended to each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def prepend_one(z: Tensor) -> Tensor:
    """[1, z]: (n, d) to (n, d + 1)."""
    return torch.cat([z.new_ones(len(z), 1), z], -1)


def tensor_fusion(vectors: Sequence[Tensor]) -> Tensor:
    """[1, z_1] x ... x [1, z_M] of each patient, flattened in row-major order: (n, prod(d_m + 1)).

    Zadeh et al. 2017, "Tensor fusion network", eq. 2 (the 1 is prepended, as in MDFN's code). It keeps
    the products of fewer modalities: the entry where all but one index are 0 is that modality alone. A modality that is
    absent, z = 0, thus leaves the product of the others as it would be without it, and zeros elsewhere.
    """
    fused = vectors[0].new_ones(len(vectors[0]), 1)
    for z in vectors:
        fused = (fused.unsqueeze(-1) * prepend_one(z).unsqueeze(1)).flatten(1)
    return fused
