"""Who the made patients are: hidden factors, the labels that follow from them, and the clinical table with its holes.

Four hidden factors, standard normal and uncorrelated, decide a relapse. `z_slide` is seen in the tissue, and faintly
in the CT lesion's texture; `z_ct` in the CT lesion's size and density alone; `z_markers` in the blood markers and the
grade; `z_clinical`, the weakest, in age and performance status. So each modality knows a part, and none knows all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmcli.errors import RequestError

FACTORS = ("z_slide", "z_ct", "z_markers", "z_clinical")
WEIGHTS = (0.64, 0.52, 0.53, 0.12)
RELAPSE_RATE = 0.4
LACK_SLIDE, LACK_CT, LACK_MARKERS = 0.15, 0.10, 0.08
SITES = 8
FEWEST = 12
MARKERS = ("afp", "cea", "ca125", "crp", "grade")
CLINICAL = ("age", "sex", "smoking", "performance")
GRADES = ("G1", "G2", "G3")
PERFORMANCE = ("0", "1", "2", "3")
SMOKING = ("never", "former", "current")
STAGES = ("I", "II", "III")


@dataclass(frozen=True)
class Drawn:
    """`table`: patients.csv, every cell text, "" = a hole. `truth`: the hidden factors, a row a patient (float64).
    `damaged`: the patient whose slide is to be cut short."""

    table: pd.DataFrame
    truth: pd.DataFrame
    damaged: str


def draw_patients(patients: int, seed: int) -> Drawn:
    """Draw `patients` made patients; the same arguments give the same table.

    Raises RequestError for fewer than 12 patients, of whom no folds with both classes could be made.
    """
    if patients < FEWEST:
        raise RequestError(f"{patients} patients are too few for a cohort with folds: ask for at least {FEWEST}")
    rng = np.random.default_rng([seed, 0])
    factors = _uncorrelated(rng, patients, len(FACTORS) + 1)
    truth = pd.DataFrame(factors[:, :-1], columns=list(FACTORS))
    unseen = np.sqrt(1 - np.square(WEIGHTS).sum())
    risk = factors @ np.array([*WEIGHTS, unseen])
    spread = 0.35 * factors[:, 0] + 0.55 * factors[:, 1] + 0.75 * rng.standard_normal(patients)

    width = max(3, len(str(patients)))
    identity = [f"P{i + 1:0{width}d}" for i in range(patients)]
    site = rng.permutation(np.arange(patients) % SITES)
    table = pd.DataFrame({"patient_id": identity, "site": [f"site-{s + 1}" for s in site]})
    table["relapse"] = _ranked(risk, ("no", "yes"), (1 - RELAPSE_RATE, RELAPSE_RATE))
    table["stage"] = _ranked(spread, STAGES, (0.4, 0.35, 0.25))
    for column, cells in {**_clinical(rng, truth), **_markers(rng, truth)}.items():
        table[column] = cells

    lacks_slide, lacks_ct, lacks_markers = (
        _some(rng, patients, share) for share in (LACK_SLIDE, LACK_CT, LACK_MARKERS)
    )
    _make_holes(rng, table, site, lacks_slide, lacks_markers)
    names = np.array(identity)
    table["slide_path"] = np.where(lacks_slide, "", np.char.add(np.char.add("slides/", names), ".tif"))
    table["ct_path"] = np.where(lacks_ct, "", np.char.add(np.char.add("ct/", names), ".nii.gz"))
    table["ct_mask"] = np.where(lacks_ct, "", np.char.add(np.char.add("ct/", names), "-lesion.nii.gz"))
    damaged = str(rng.choice(names[~lacks_slide & ~lacks_ct & ~lacks_markers]))
    truth.insert(0, "patient_id", identity)
    return Drawn(table, truth, damaged)


def _uncorrelated(rng: np.random.Generator, n: int, k: int) -> NDArray[np.float64]:
    """(n, k) draws with mean 0, variance 1 and no correlation in this very sample.

    Among a hundred patients chance correlations reach 0.2, which would hand one modality's part to another.
    """
    draws = rng.standard_normal((n, k))
    draws -= draws.mean(axis=0)
    factor = np.linalg.cholesky(np.cov(draws, rowvar=False, bias=True))
    return np.asarray(np.linalg.solve(factor, draws.T).T, np.float64)


def _ranked(value: NDArray[np.float64], names: tuple[str, ...], shares: tuple[float, ...]) -> list[str]:
    """Cut `value` (n,) into ordered classes that hold the given shares of the patients, to the nearest one."""
    edges = np.round(np.cumsum(shares)[:-1] * len(value))
    rank = np.argsort(np.argsort(value))
    return [names[code] for code in np.searchsorted(edges, rank, side="right")]


def _some(rng: np.random.Generator, n: int, share: float) -> NDArray[np.bool_]:
    return rng.permutation(n) < round(share * n)


def _seen(rng: np.random.Generator, factor: pd.Series[float], correlation: float) -> NDArray[np.float64]:
    """A standard normal look (n,) at a factor, of the given correlation with it."""
    noise = rng.standard_normal(len(factor))
    return np.asarray(correlation * factor.to_numpy() + np.sqrt(1 - correlation**2) * noise, np.float64)


def _clinical(rng: np.random.Generator, truth: pd.DataFrame) -> dict[str, list[str]]:
    age = np.clip(np.round(62 + 10 * _seen(rng, truth["z_clinical"], 0.7)), 24, 92).astype(int)
    sex = rng.choice(["female", "male"], len(truth))
    smoking = _ranked(rng.standard_normal(len(truth)), SMOKING, (0.45, 0.33, 0.22))
    performance = _ranked(_seen(rng, truth["z_clinical"], 0.6), PERFORMANCE, (0.45, 0.33, 0.16, 0.06))
    return {"age": [str(a) for a in age], "sex": sex.tolist(), "smoking": smoking, "performance": performance}


def _markers(rng: np.random.Generator, truth: pd.DataFrame) -> dict[str, list[str]]:
    # median, spread of the logarithm, correlation with the factor; ng/ml, ng/ml, U/ml, mg/l
    looks = {"afp": (6.0, 0.9, 0.85), "cea": (3.2, 0.8, 0.85), "ca125": (22.0, 0.7, 0.75), "crp": (7.0, 1.0, 0.7)}
    cells = {}
    for name, (median, spread, correlation) in looks.items():
        value = median * np.exp(spread * _seen(rng, truth["z_markers"], correlation))
        cells[name] = [f"{v:.1f}" for v in np.maximum(value, 0.1)]
    cells["grade"] = _ranked(_seen(rng, truth["z_markers"], 0.75), GRADES, (0.3, 0.42, 0.28))
    return cells


def _make_holes(
    rng: np.random.Generator,
    table: pd.DataFrame,
    site: NDArray[np.int64],
    lacks_slide: NDArray[np.bool_],
    lacks_markers: NDArray[np.bool_],
) -> None:
    """Empty cells of `table` in place: some at random, some because of what stands in other columns."""
    n = len(table)
    old = table["age"].astype(int).to_numpy() >= 70
    man = (table["sex"] == "male").to_numpy()
    chance = {
        "age": np.full(n, 0.03),
        "smoking": np.where(site >= SITES - 2, 0.35, 0.08),
        "performance": np.full(n, 0.10),
        "afp": np.where(site == 0, 0.6, 0.08),
        "cea": np.full(n, 0.08),
        "ca125": np.where(man, 0.40, 0.05),
        "crp": np.where(old, 0.30, 0.08),
        "grade": np.where(lacks_slide, 0.7, 0.05),
    }
    for column, p in chance.items():
        table.loc[rng.random(n) < p, column] = ""
    table.loc[lacks_markers, list(MARKERS)] = ""
    # Holes alone must not take the markers from more patients than are meant to lack them.
    emptied = (table[list(MARKERS)] == "").all(axis=1) & ~lacks_markers
    table.loc[emptied, "cea"] = "3.2"
