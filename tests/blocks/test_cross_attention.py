from __future__ import annotations

import math

import torch
from torch import nn

from mmcli.blocks.cross_attention import CrossAttention


def made(width: int, heads: int) -> CrossAttention:
    torch.manual_seed(0)
    return CrossAttention(width, heads).double()


def test_the_same_as_a_loop() -> None:
    block = made(4, 2)
    x = torch.randn(3, 3, 4, dtype=torch.float64)
    present = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
    slow = torch.zeros_like(x)
    for n in range(3):
        for i in range(3):
            there = [j for j in range(3) if present[n, j]]
            if not present[n, i]:
                continue
            parts = []
            for h in (slice(0, 2), slice(2, 4)):
                q = block.q(x[n, i])[h]
                scores = torch.stack([q @ block.k(x[n, j])[h] / math.sqrt(2) for j in there]).softmax(0)
                parts.append(sum(a * block.v(x[n, j])[h] for a, j in zip(scores, there, strict=True)))
            slow[n, i] = block.out(torch.cat(parts))
    torch.testing.assert_close(block(x, present), slow)


def test_torchs_own_attention_agrees() -> None:
    block = made(6, 3)
    theirs = nn.MultiheadAttention(6, 3, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([block.q.weight, block.k.weight, block.v.weight]))
        theirs.in_proj_bias.copy_(torch.cat([block.q.bias, block.k.bias, block.v.bias]))
        theirs.out_proj.load_state_dict(block.out.state_dict())
    x = torch.randn(5, 4, 6, dtype=torch.float64)
    present = torch.rand(5, 4) < 0.6
    present[:, 0] = True
    expected, _ = theirs(x, x, x, key_padding_mask=~present)
    torch.testing.assert_close(block(x, present)[present], expected[present])


def test_what_an_absent_token_holds_does_not_matter_and_gradients() -> None:
    block = made(4, 2)
    x = torch.randn(3, 3, 4, dtype=torch.float64, requires_grad=True)
    present = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
    other = torch.where(present.unsqueeze(-1), x, 1e6)
    assert torch.equal(block(x, present), block(other, present))
    assert torch.autograd.gradcheck(lambda z: block(z, present), x)
