from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcli.blocks.segment import segment_max, segment_softmax, segment_sum

counts_of_bags = st.lists(st.integers(0, 6), min_size=1, max_size=7).filter(sum)


def made(counts: list[int], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(sum(counts) + 31 * len(counts))
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return torch.randn(int(sum(counts)), width, dtype=torch.float64), owner


@settings(max_examples=40, deadline=None)
@given(counts_of_bags)
def test_the_same_as_a_loop_over_bags(counts: list[int]) -> None:
    values, owner = made(counts, 3)
    n = len(counts)
    total, softmax = segment_sum(values, owner, n), segment_softmax(values, owner, n)
    for i, bag in enumerate(values.split(counts)):
        torch.testing.assert_close(total[i], bag.sum(0))
        torch.testing.assert_close(softmax[owner == i], bag.softmax(0))


def test_softmax_by_hand_and_with_scores_that_overflow() -> None:
    owner = torch.tensor([0, 0, 2])
    weights = segment_softmax(torch.tensor([0.0, 0.6931471805599453, 5.0], dtype=torch.float64), owner, 3)
    torch.testing.assert_close(weights, torch.tensor([1 / 3, 2 / 3, 1.0], dtype=torch.float64))
    large = segment_softmax(torch.tensor([1e4, 1e4, -1e4]), owner, 3)
    torch.testing.assert_close(large, torch.tensor([0.5, 0.5, 1.0]))


def test_gradients() -> None:
    values, owner = made([2, 0, 4], 2)
    values.requires_grad_(True)
    for function in (segment_sum, segment_softmax):
        assert torch.autograd.gradcheck(lambda x, f=function: f(x, owner, 3), values)


@settings(max_examples=20, deadline=None)
@given(counts_of_bags)
def test_the_largest_of_each_bag(counts: list[int]) -> None:
    values, owner = made(counts, 3)
    largest = segment_max(values, owner, len(counts))
    for i, bag in enumerate(values.split(counts)):
        assert torch.equal(largest[i], bag.amax(0) if len(bag) else torch.zeros(3, dtype=torch.float64))
