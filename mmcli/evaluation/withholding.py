"""Who loses a modality when evaluation withholds it: masks that are fixed by one number a patient.

That number is the share from which on the patient is hidden. So the masks of all shares are nested, and a column of it
beside a report says everything about them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit, ndtri
from scipy.stats import rankdata

from mmcli.errors import RequestError
from mmcli.training.withhold import check_modality, fractions, read_share

Floats = NDArray[np.float64]
STRENGTH = 2.0
LEAST = 2.0**-64  # keeps the logit of a fraction of 0 or 1 finite


def parse_withhold(given: Mapping[str, str], modalities: Sequence[str]) -> dict[str, list[float]]:
    """`--withhold MODALITY=SHARE,SHARE` as numbers from the least to the largest, each once; RequestError on an unknown
    modality, no share at all, or one outside 0 to 1."""
    shares = {}
    for modality, text in given.items():
        if not modality:
            raise RequestError(f"--withhold {text}: write MODALITY=SHARE,SHARE, for example --withhold {text}=0,0.5,1")
        check_modality(modality, list(modalities))
        shares[modality] = sorted({read_share(modality, part.strip()) for part in text.split(",")})
    return shares


def hidden_from(ids: Sequence[str], modality: str, seed: int, by: Sequence[Any] | NDArray[Any] | None = None) -> Floats:
    """(n,) the share from which on each patient is hidden: at share s those below s are (`hidden_at`).

    Completely at random (no `by`): the patient's fraction u of training's `--withhold`, so that the same patients are
    hidden here and there; it depends on nobody else, and the share holds on average.

    At random given numbers `by` (n,), NaN = unknown: patients are hidden in the order of logit(u) - STRENGTH z, where z
    is the number's normal score, the standard normal quantile of (rank - 1/2)/m among the m known ones (ties share
    their mean rank), and 0 where it is unknown. As logit(u) is logistic, the patients who are hidden at any share are
    those of the logistic model P(hidden) = 1/(1 + exp(-(c + STRENGTH z))), whose c meets the share: one standard
    deviation more multiplies the odds of losing the modality by exp(2) = 7.4.

    By groups, texts `by` (n,): whole groups are hidden one after another, in the order of the fraction of the
    group's name for the modality "<modality>|group", the last one partly, in the order of u. A patient without a group
    ("") is a group of one.

    The last two hide an exact share of the patients given, to the nearest patient, and depend on who is given: make
    one mask for all runs. Neither depends on the patients' order. RequestError where `by` says the same of everybody.
    """
    names = list(ids)
    u = fractions(names, modality, seed)
    if by is None:
        return u
    known = np.asarray(by)
    if known.shape != (len(names),):
        raise ValueError(f"{known.shape} values for {len(names)} patients")
    if known.dtype.kind in "biuf":
        first = logit(u.clip(LEAST, 1 - 2.0**-53)) - STRENGTH * _normal_scores(known.astype(np.float64))
    else:
        first = _group_fractions([str(group) for group in known], u, modality, seed)
    order = np.lexsort((np.array(names, dtype=str), u, first))
    share = np.empty(len(names))
    share[order] = (np.arange(len(names)) + 0.5) / max(len(names), 1)
    return share


def hidden_at(shares: Floats, share: float) -> NDArray[np.bool_]:
    """(n,) who is hidden at a share, of the shares from which on each patient is."""
    hidden: NDArray[np.bool_] = shares < share
    return hidden


def _normal_scores(values: Floats) -> Floats:
    known = ~np.isnan(values)
    if len(np.unique(values[known])) < 2:
        raise RequestError("--withhold-by: the column has the same value for all patients; name another")
    z = np.zeros(len(values))
    z[known] = ndtri((rankdata(values[known]) - 0.5) / known.sum())
    return z


def _group_fractions(groups: list[str], u: Floats, modality: str, seed: int) -> Floats:
    names = sorted(set(groups) - {""})
    if len(names) + groups.count("") < 2:
        raise RequestError("--withhold-by: all patients are of one group; name another column")
    of = dict(zip(names, fractions(names, f"{modality}|group", seed), strict=True))
    return np.array([of.get(group, own) for group, own in zip(groups, u, strict=True)])
