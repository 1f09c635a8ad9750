"""Hiding a modality from a share of the patients: the same patients for every method, in training and evaluation."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from mmcli.errors import RequestError
from mmcli.registry import did_you_mean


def withheld(ids: list[str], modality: str, share: float, seed: int) -> NDArray[np.bool_]:
    """(n,) who does not get to show the modality.

    Patient `id` is among them where the first 8 bytes of SHA-256("withhold|<seed>|<modality>|<id>"), read as a
    fraction of 2**64, lie below `share`. So a larger share hides it from the same patients and more.
    """
    texts = (f"withhold|{seed}|{modality}|{patient}" for patient in ids)
    return np.array([int.from_bytes(hashlib.sha256(t.encode()).digest()[:8], "big") / 2**64 < share for t in texts])


def withhold_shares(given: dict[str, str], modalities: list[str]) -> dict[str, float]:
    """`--withhold MODALITY=SHARE` as numbers; RequestError on an unknown modality or a share outside 0 to 1."""
    shares = {}
    for modality, text in given.items():
        if modality not in modalities:
            raise RequestError(f"--withhold: unknown modality {modality!r}{did_you_mean(modality, modalities)}")
        try:
            share = float(text)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise RequestError(f"--withhold {modality}={text}: the share must be a number from 0 to 1")
        shares[modality] = share
    return shares
