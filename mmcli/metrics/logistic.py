"""Logistic regression on one variable, for many resamples at once.

Newton's method from the fit with equal weights, kept from running away by what one knows of the likelihood. A Newton
step of d in the linear predictor leaves an error of at most about d squared: the last one is below `CLOSE`.
"""

from __future__ import annotations

import numpy as np

from mmcli.metrics.metric import Floats, divide

STEPS = 100
CLOSE = 1e-6


def intercept(x: Floats, happened: Floats, w: Floats) -> Floats:
    """a (B,) of logit P(happened) = a + x under the weights `w` (B, n); `x`, `happened` (n,).

    Every resample must have both outcomes.
    """
    start = _intercept(x, happened, np.ones((1, len(x))), np.zeros(1))
    return _intercept(x, happened, w, np.repeat(start, len(w)))


def slope(x: Floats, happened: Floats, w: Floats) -> Floats:
    """b (B,) of logit P(happened) = a + b x under the weights `w` (B, n); `x`, `happened` (n,).

    In every resample the outcomes must overlap in x, or there is no maximum. NaN where `STEPS` steps do not find it.
    """
    spread = x.std()
    x = (x - x.mean()) / spread
    start = _slope(x, happened, np.ones((1, len(x))), np.zeros((1, 2)))
    start = np.where(np.isnan(start).any(), 0.0, start)
    b: Floats = _slope(x, happened, w, np.repeat(start, len(w), axis=0))[:, 1] / spread
    return b


def _intercept(x: Floats, happened: Floats, w: Floats, start: Floats) -> Floats:
    """The score (target minus expected) falls in a: the root is bracketed, and the bracket halved where a Newton step
    leaves it or is more than half of the one before."""
    target = w @ happened
    odds = np.log(target) - np.log(w @ (1 - happened))
    # At odds - max(x), even if all had the highest x, no more would be expected than happened; and so on.
    low, high = odds - x.max() - CLOSE, odds - x.min() + CLOSE
    found = np.full(len(w), np.nan)
    active = np.arange(len(w))
    at, before = np.clip(start, low, high), high - low
    for _ in range(STEPS):
        if not len(active):
            break
        chance = _chance(at, None, x)
        expected = w * chance
        score, curvature = target - expected.sum(axis=1), _variance(expected, chance).sum(axis=1)
        low, high = np.where(score > 0, at, low), np.where(score > 0, high, at)
        step = divide(score, curvature)
        newton = (np.abs(step) <= before / 2) & (at + step >= low) & (at + step <= high)
        step = np.where(newton, step, (low + high) / 2 - at)
        at, before = at + step, np.abs(step)
        done = (newton & (before <= CLOSE)) | (before <= 1e-13)
        found[active[done]] = at[done]
        left = ~done
        if done.any():
            active, w, target = active[left], w[left], target[left]
            at, before, low, high = at[left], before[left], low[left], high[left]
    return found


def _slope(x: Floats, happened: Floats, w: Floats, start: Floats) -> Floats:
    """(a, b) (B, 2), from `start` (B, 2).

    Each step is taken, then judged by the slope of the log likelihood along it at its end. The log likelihood is
    concave: a clearly negative slope there says that the maximum was passed, and the step is cut by the secant of the
    slopes at both ends; else the next step follows. The end of a step gives the next one for nothing, so that the
    last one is applied unjudged, when it is short.
    """
    powers = np.stack([np.ones_like(x), x, x**2], axis=1)
    target = w @ (powers[:, :2] * happened[:, None])
    reach = np.array([1.0, np.abs(x).max()])
    found = np.full((len(w), 2), np.nan)
    active = np.arange(len(w))
    at, step, rising = start, np.zeros_like(start), np.zeros(len(w))
    for _ in range(STEPS):
        if not len(active):
            break
        tried = at + step
        chance = _chance(tried[:, 0], tried[:, 1], x)
        expected = w * chance
        score = target - expected @ powers[:, :2]
        h0, h1, h2 = (_variance(expected, chance) @ powers).T
        s0, s1 = score.T
        newton = divide(np.stack([h2 * s0 - h1 * s1, h0 * s1 - h1 * s0], axis=1), (h0 * h2 - h1 * h1)[:, None])
        ends = (score * step).sum(axis=1)
        good = np.isfinite(newton).all(axis=1) & (ends >= -rising / 4)
        cut = np.clip(divide(rising, rising - ends), 0.1, 0.5)
        at = np.where(good[:, None], tried, at)
        step = np.where(good[:, None], newton, step * cut[:, None])
        rising = np.where(good, (score * newton).sum(axis=1), rising * cut)
        done = good & (np.abs(step) @ reach <= CLOSE)
        found[active[done]] = (at + step)[done]
        if done.any():
            left = ~done
            active, w, target = active[left], w[left], target[left]
            at, step, rising = at[left], step[left], rising[left]
    return found


def _chance(a: Floats, b: Floats | None, x: Floats) -> Floats:
    """1 / (1 + exp(-(a + b x))) (B, n) for a, b (B,); b None = 1. In one buffer: here most of the time is spent."""
    chance: Floats = -x - a[:, None] if b is None else np.multiply.outer(-b, x)
    if b is not None:
        chance -= a[:, None]
    with np.errstate(over="ignore"):
        np.exp(chance, out=chance)
    chance += 1
    np.reciprocal(chance, out=chance)
    return chance


def _variance(expected: Floats, chance: Floats) -> Floats:
    """expected * (1 - chance), in the buffer of `chance`."""
    np.subtract(1, chance, out=chance)
    chance *= expected
    return chance
