from __future__ import annotations

import math

import torch

from mmcli.blocks.gated_attention import GatedAttention


def test_the_same_as_one_bag_after_another() -> None:
    torch.manual_seed(0)
    pool = GatedAttention(5, 3).double()
    counts = [4, 0, 1, 7]
    h = torch.randn(12, 5, dtype=torch.float64)
    owner = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    z = pool(h, owner, 4)
    for i, bag in enumerate(h.split(counts)):
        if not len(bag):
            assert (z[i] == 0).all()
            continue
        scores = [pool.w(torch.tanh(pool.V(x)) * torch.sigmoid(pool.U(x))) for x in bag]
        a = torch.cat(scores).softmax(0)
        torch.testing.assert_close(z[i], sum(w * x for w, x in zip(a, bag, strict=True)))


def test_weights_by_hand() -> None:
    """One number an instance, V = 1, U = 0: score = w tanh(h) / 2."""
    pool = GatedAttention(1, 1).double()
    with torch.no_grad():
        for parameter, value in ((pool.V.weight, 1.0), (pool.V.bias, 0.0), (pool.U.weight, 0.0), (pool.U.bias, 0.0),
                                 (pool.w.weight, 2.0)):  # fmt: skip
            parameter.fill_(value)
    h = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    e = math.exp(math.tanh(1.0))
    weights = pool.weights(h, torch.tensor([0, 0]), 1)
    torch.testing.assert_close(weights, torch.tensor([1 / (1 + e), e / (1 + e)], dtype=torch.float64))


def test_gradients_and_no_instances_at_all() -> None:
    torch.manual_seed(1)
    pool = GatedAttention(3, 2).double()
    h = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    owner = torch.tensor([0, 0, 0, 2, 2])
    assert torch.autograd.gradcheck(lambda x: pool(x, owner, 3), h)
    assert pool(h[:0], owner[:0], 2).tolist() == [[0.0] * 3] * 2
