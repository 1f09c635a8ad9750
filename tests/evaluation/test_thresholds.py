"""Thresholds against an exhaustive search, and what a user may ask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcli.errors import RequestError
from mmcli.evaluation.thresholds import parse_rule
from mmcli.metrics.metric import Floats, Ints

Found = tuple[float, float, float]


def two(score: Floats) -> Floats:
    return np.stack([1 - score, score], axis=1)


def at(y: Ints, score: Floats, threshold: float) -> Found:
    """Sensitivity, specificity and F1, counted."""
    decided = score >= threshold
    tp, fp = int((decided & (y == 1)).sum()), int((decided & (y == 0)).sum())
    positives, negatives = int((y == 1).sum()), int((y == 0).sum())
    return tp / positives, (negatives - fp) / negatives, 2 * tp / (tp + fp + positives)


@st.composite
def validations(draw: st.DrawFn) -> tuple[Ints, Floats]:
    n = draw(st.integers(2, 15))
    # Eighths are exact and tie often; any float may be next to another.
    score = draw(st.lists(st.one_of(st.integers(0, 8).map(lambda i: i / 8), st.floats(0, 1)), min_size=n, max_size=n))
    y = [0, 1, *draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2))]
    return np.array(y, dtype=np.int64), np.array(score)


@settings(max_examples=150, deadline=None)
@given(validations(), st.sampled_from([0.3, 0.5, 0.8, 0.9, 1.0]))
def test_equals_exhaustive_search(validation: tuple[Ints, Floats], target: float) -> None:
    y, score = validation
    # Every way to decide: positive from one of the scores on, or nobody.
    ways = {t: at(y, score, t) for t in [*np.unique(score), 2.0]}
    found = {rule: parse_rule(rule).threshold(y, two(score))
             for rule in ("youden", "f1", f"sensitivity={target}", f"specificity={target}")}  # fmt: skip
    reached = {rule: at(y, score, t) for rule, t in found.items()}
    assert sum(reached["youden"][:2]) == pytest.approx(max(sum(w[:2]) for w in ways.values()), abs=1e-12)
    assert reached["f1"][2] == pytest.approx(max(w[2] for w in ways.values()), abs=1e-12)
    # Of equally good ones the lowest: the one that finds the most.
    assert reached["youden"][0] == max(w[0] for w in ways.values() if sum(w[:2]) > sum(reached["youden"][:2]) - 1e-12)
    assert reached["f1"][0] == max(w[0] for w in ways.values() if w[2] > reached["f1"][2] - 1e-12)
    sensitive, specific = reached[f"sensitivity={target}"], reached[f"specificity={target}"]
    assert sensitive[:2] == max((w[:2] for w in ways.values() if w[0] >= target), key=lambda w: (w[1], -w[0]))
    assert specific[:2] == max((w[:2] for w in ways.values() if w[1] >= target), key=lambda w: (w[0], -w[1]))


@settings(deadline=None)
@given(validations())
def test_lies_midway(validation: tuple[Ints, Floats]) -> None:
    y, score = validation
    places = np.unique(np.concatenate([[0.0], score, [1.0]]))
    middles = [*(places[1:] + places[:-1]) / 2, *places]
    for rule in ("youden", "f1", "sensitivity=0.7", "specificity=0.7"):
        threshold = parse_rule(rule).threshold(y, two(score))
        assert min(abs(threshold - m) for m in middles) <= 1e-15


def test_by_hand() -> None:
    y = np.array([0, 0, 0, 1, 0, 1, 1, 1])
    p = two(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]))
    expected = {"youden": 0.35, "f1": 0.35, "sensitivity=1": 0.35, "sensitivity=0.75": 0.55, "specificity=1": 0.55,
                "specificity=0.75": 0.35, "specificity=0.5": 0.25, "sensitivity=0.5": 0.65}  # fmt: skip
    for rule, threshold in expected.items():
        assert parse_rule(rule).threshold(y, p) == pytest.approx(threshold), rule


def test_a_target_that_only_one_answer_for_all_reaches() -> None:
    y = np.array([1, 0, 0, 0])
    assert parse_rule("sensitivity=1").threshold(y, two(np.array([0.2, 0.4, 0.6, 0.6]))) == 0.1
    assert parse_rule("specificity=1").threshold(y, two(np.array([0.2, 0.4, 0.6, 0.8]))) == 0.9
    certain = parse_rule("specificity=1").threshold(y, two(np.array([0.2, 0.4, 0.6, 1.0])))
    assert 1.0 < certain < 1.0 + 1e-15
    assert parse_rule("sensitivity=1").threshold(y, two(np.array([0.0, 0.4, 0.6, 1.0]))) == 0.0


def test_rules_without_validation() -> None:
    nobody, nothing = np.zeros(0, dtype=np.int64), np.zeros((0, 2))
    for text, threshold in (("argmax", 0.5), ("0.3", 0.3), ("1", 1.0), (" ArgMax ", 0.5), ("1e-2", 0.01)):
        rule = parse_rule(text)
        assert not rule.needs_validation
        assert rule.is_argmax == (rule.kind == "argmax")
        assert rule.threshold(nobody, nothing) == threshold
    assert parse_rule("Youden").needs_validation
    assert parse_rule(" sensitivity = 0.9 ").value == 0.9


@pytest.mark.parametrize("text", ["youden", "f1", "sensitivity=0.9", "specificity=0.9"])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_gives_no_threshold(text: str, label: int) -> None:
    with pytest.raises(RequestError, match=f"--threshold {text}: of 3 validation patients .* number, or argmax"):
        parse_rule(text).threshold(np.full(3, label), two(np.array([0.1, 0.2, 0.3])))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("yuden", "did you mean 'youden'"),
        ("youden=0.9", "did you mean 'youden'"),
        ("sensitivty=0.9", "did you mean 'sensitivity=0.9'"),
        ("sensitivity", "as in sensitivity=0.9"),
        ("sensitivity=90", "at most 1"),
        ("specificity=0", "above 0"),
        ("specificity=high", "as in specificity=0.9"),
        ("sensitivity=nan", "at most 1"),
        ("1.2", "between 0 and 1"),
        ("-0.1", "between 0 and 1"),
        ("inf", "between 0 and 1"),
        ("nan", "no such rule"),
        ("", "there are: argmax"),
        ("best", "there are: argmax, 0.5, youden, f1, sensitivity=0.9, specificity=0.9"),
    ],
)
def test_what_cannot_be_asked(text: str, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_rule(text)
    message = str(caught.value)
    assert said in message
    assert message.startswith("--threshold")
    assert "\n" not in message
