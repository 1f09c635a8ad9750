"""Does a number go missing because of what it is? Found from the other columns, and taken into account.

If the chance that a cell is missing depends on the cell's own value and, given that, on nothing else in the table (the
other columns are "shadow variables": Miao and Tchetgen Tchetgen, Biometrika 103 (2016) 475-482), then missing cells are
those whose *predicted* values differ: with odds exp(a + b g(x)) of being missing, a patient whose prediction is the
distribution p has the odds exp(a) E_p[exp(b g(x))], and p is estimated from patients who have the cell. So b can be
estimated, and the distribution of a missing cell is p reweighted by exp(b g(x)). g(x) = sqrt(12) (rank of x - 1/2): of
variance 1 and bounded, so that no tail runs away.

The assumption cannot be proven. Each column is therefore weighed between three explanations: missing at random; by its
own value; by another single column of the table. The weights are shared by the table's columns (empirical Bayes), and
begin at 6 : 1 : 1 against the last two. Slopes are returned times the probability of the second explanation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp, ndtr

from mmcli.imputers.scores import NODES, WEIGHTS, Scored, Scores

Floats = NDArray[np.float64]
SLOPES = np.linspace(-3.6, 3.6, 37)
PRIOR = np.array([6.0, 1, 1])
SPREAD = (0.5, 0.7)  # least and most spread of the columns' slopes round their common mean
MIN_CELLS = 5
ROUNDS = 60


def graded(scores: Scores, v: Scored, score: Floats) -> Floats:
    """g(x) (...) at scores (...) of a numeric column."""
    graded: Floats = np.sqrt(12) * (ndtr(score * scores.scale[v.span.start] + scores.centre[v.span.start]) - 0.5)
    return graded


def fit_slopes(scores: Scores, table: Floats, mean: Floats, variance: Floats) -> Floats:
    """(f,) slope b of each table column, 0 unless numeric, times the probability that its own value is the cause.

    `table` (n, d) training scores with NaN; `mean`, `variance` (n, d) of every cell predicted from the row's other
    cells by a model that was not fitted on that row.
    """
    slopes = np.zeros(len(scores.marginals.mean))
    numeric = []
    own, other = [], []
    everything = np.stack([_standard(ndtr(c)) for c in np.where(np.isnan(table), mean, table).T])
    for v in scores.variables:
        missing = np.isnan(table[:, v.span.start])
        if (v.categorical and len(v.levels) > 2) or min(missing.sum(), (~missing).sum()) < MIN_CELLS:
            continue
        exponents = _own_value(scores, v, table, mean, variance)
        random = _likelihoods(missing, np.zeros((1, len(table))))[0]
        rest = np.delete(everything, np.arange(v.span.start, v.span.stop), 0)
        others = _likelihoods(missing, rest[:, None] * SLOPES[::3, None]) - random
        own.append(_likelihoods(missing, exponents) - random)
        other.append(logsumexp(others + np.log(_normal(SLOPES[::3], 0, 1))) - np.log(max(len(rest), 1)))
        numeric.append(v.column if not len(v.levels) else -1)
    if own:
        weighed = _weigh(np.array(own), np.array(other))
        for column, slope in zip(numeric, weighed, strict=True):
            if column >= 0:
                slopes[column] = slope
    return slopes


def _own_value(scores: Scores, v: Scored, table: Floats, mean: Floats, variance: Floats) -> Floats:
    """(B, n) log E[exp(b g(x))] of each patient's predictive distribution, for every slope b."""
    column = v.span.start
    seen = ~np.isnan(table[:, column])
    if v.categorical:
        share = scores.shares(v, mean[:, v.span])[:, 1]
        return np.asarray(np.log1p(share * np.expm1(SLOPES[:, None])))
    # Recalibrated on the observed cells: an overconfident prediction would look like a weak dependence.
    truth, guess = table[seen, column], mean[seen, column]
    factor = np.clip(np.cov(guess, truth)[0, 1] / max(guess.var(ddof=1), 1e-9), 0, 1.2)
    centre = factor * mean[:, column]
    ratio = np.mean((truth - centre[seen]) ** 2) / np.mean(variance[seen, column])
    spread = np.sqrt(np.maximum(variance[:, column] * ratio, 1e-12))
    grades = graded(scores, v, centre[:, None] + spread[:, None] * NODES)
    return np.asarray(np.log(np.stack([np.exp(b * grades) @ WEIGHTS for b in SLOPES])))


def _likelihoods(missing: NDArray[np.bool_], exponents: Floats) -> Floats:
    """(...) log-likelihood that these patients lack the cell, with log-odds a + exponents (..., n) and the best a."""
    flat = exponents.reshape(-1, len(missing))
    share = missing.mean()
    a = np.log(share / (1 - share)) - flat.mean(1)
    for _ in range(20):
        p = expit(a[:, None] + flat)
        step = np.clip((share - p.mean(1)) / np.maximum((p * (1 - p)).mean(1), 1e-9), -2, 2)
        a += step
        if np.abs(step).max() < 1e-6:
            break
    odds = a[:, None] + flat
    likelihoods: Floats = (missing * odds - np.logaddexp(0, odds)).sum(1).reshape(exponents.shape[:-1])
    return likelihoods


def _weigh(own: Floats, other: Floats) -> Floats:
    """(J,) expected slopes from log-likelihood ratios against "at random" of the own value (J, B) and of another
    column (J,): expectation-maximisation over the shares of the explanations and the slopes' mean and spread."""
    shares, centre, spread = PRIOR / PRIOR.sum(), 0.0, SPREAD[1]
    for _ in range(ROUNDS):
        joint = own + np.log(_normal(SLOPES, centre, spread))
        evidence = logsumexp(joint, 1)
        explanations = np.log(shares) + np.stack([np.zeros(len(own)), evidence, other], 1)
        chance = np.exp(explanations - logsumexp(explanations, 1, keepdims=True))
        slope_chance = np.exp(joint - evidence[:, None])
        slope, square = slope_chance @ SLOPES, slope_chance @ SLOPES**2
        shares = (chance.sum(0) + PRIOR) / (len(own) + PRIOR.sum())
        weight = chance[:, 1]
        centre = float(weight @ slope / (weight.sum() + 1))
        scatter = weight @ (square - 2 * centre * slope + centre**2)
        spread = float(np.clip(np.sqrt((scatter + 1) / (weight.sum() + 1)), *SPREAD))
    expected: Floats = weight * slope
    return expected


def _normal(grid: Floats, centre: float, spread: float) -> Floats:
    density = np.exp(-((grid - centre) ** 2) / (2 * spread**2)) + 1e-300
    shares: Floats = density / density.sum()
    return shares


def _standard(values: Floats) -> Floats:
    sd = values.std()
    standard: Floats = (values - values.mean()) / (sd if sd > 1e-9 else 1)
    return standard
