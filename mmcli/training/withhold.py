"""Hiding a modality from a share of the patients: the same patients for every method, in training and evaluation."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from mmcli.errors import RequestError
from mmcli.registry import did_you_mean


def fractions(ids: list[str], modality: str, seed: int) -> NDArray[np.float64]:
    """(n,) a number from 0 to 1 for each id: the first 8 bytes of SHA-256("withhold|<seed>|<modality>|<id>") as a
    fraction of 2**64. It depends on nobody else."""
    texts = (f"withhold|{seed}|{modality}|{patient}" for patient in ids)
    return np.array([int.from_bytes(hashlib.sha256(t.encode()).digest()[:8], "big") / 2**64 for t in texts])


def withheld(ids: list[str], modality: str, share: float, seed: int) -> NDArray[np.bool_]:
    """(n,) who does not get to show the modality: those whose fraction lies below `share`. So a larger share hides it
    from the same patients and more."""
    return fractions(ids, modality, seed) < share


def withhold_shares(given: dict[str, str], modalities: list[str]) -> dict[str, float]:
    """`--withhold MODALITY=SHARE` as numbers; RequestError on an unknown modality or a share outside 0 to 1."""
    for modality in given:
        check_modality(modality, modalities)
    return {modality: read_share(modality, text) for modality, text in given.items()}


def check_modality(modality: str, modalities: list[str]) -> None:
    """RequestError where `--withhold` names none of the modalities."""
    if modality not in modalities:
        raise RequestError(f"--withhold: unknown modality {modality!r}{did_you_mean(modality, modalities)}")


def read_share(modality: str, text: str) -> float:
    """One share of `--withhold`; RequestError where it is no number from 0 to 1."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise RequestError(f"--withhold {modality}={text}: the share must be a number from 0 to 1")
    return share
