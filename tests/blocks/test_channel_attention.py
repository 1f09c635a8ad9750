from __future__ import annotations

import math

import torch

from mmcli.blocks.channel_attention import ChannelAttention


def set_to(parameter: torch.nn.Parameter, values: object) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values))


def test_by_hand() -> None:
    """Two channels, one hidden unit ReLU(x_1 - 1), scores (0, h ln 3)."""
    block = ChannelAttention(2, 1).double()
    set_to(block.squeeze.weight, [[1.0, 0.0]])
    set_to(block.squeeze.bias, [-1.0])
    set_to(block.excite.weight, [[0.0], [math.log(3)]])
    set_to(block.excite.bias, [0.0, 0.0])
    # Bag 0 has the mean (2, 6): h = 1, a = (1, 3) / 4, times C = 2; bag 1 the mean (0, 1): h = 0, equal weights.
    x = torch.tensor([[1.0, 4.0], [3.0, 8.0], [0.0, 1.0]]).double()
    out = block(x, torch.tensor([0, 0, 2]), 3)
    torch.testing.assert_close(out, torch.tensor([[0.5, 6.0], [1.5, 12.0], [0.0, 1.0]]).double())


def test_the_same_as_a_loop_and_gradients() -> None:
    torch.manual_seed(0)
    block = ChannelAttention(5, 3).double()
    counts = [3, 0, 1]
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    owner = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    slow = []
    for bag in x.split(counts):
        if len(bag):
            hidden = torch.relu(block.squeeze.weight @ bag.mean(0) + block.squeeze.bias)
            scores = block.excite.weight @ hidden + block.excite.bias
            a = scores.exp() / scores.exp().sum()
            slow += [5 * a * row for row in bag]
    torch.testing.assert_close(block(x, owner, 3), torch.stack(slow))
    assert torch.autograd.gradcheck(lambda rows: block(rows, owner, 3), x)
