from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcli.blocks.low_rank_fusion import LowRankFusion
from mmcli.blocks.tensor_fusion import tensor_fusion


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_it_is_a_linear_layer_on_the_full_product(widths: list[int], out: int, rank: int, seed: int) -> None:
    torch.manual_seed(seed)
    fusion = LowRankFusion(widths, out, rank).double()
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter)
    vectors = [torch.randn(5, d, dtype=torch.float64) for d in widths]
    full = torch.zeros(5, out, dtype=torch.float64)
    for r in range(rank):
        for n in range(5):
            product = torch.ones(out, dtype=torch.float64)
            for z, factor in zip(vectors, fusion.factors, strict=True):
                product = product * (factor[r, 0] + z[n] @ factor[r, 1:])
            full[n] += fusion.ranks[r] * product
    torch.testing.assert_close(fusion(vectors), full + fusion.bias)
    torch.testing.assert_close(tensor_fusion(vectors) @ fusion.full_weight() + fusion.bias, full + fusion.bias)


def test_by_hand() -> None:
    """Rank 1, widths 1 and 1: (2 + 3 x)(1 - y) 5 + 7 at x = 1, y = 3 is 5 * 5 * -2 + 7 = -43."""
    fusion = LowRankFusion([1, 1], 1, 1)
    with torch.no_grad():
        fusion.factors[0].copy_(torch.tensor([[[2.0], [3.0]]]))
        fusion.factors[1].copy_(torch.tensor([[[1.0], [-1.0]]]))
        fusion.ranks.fill_(5.0)
        fusion.bias.fill_(7.0)
    assert fusion([torch.tensor([[1.0]]), torch.tensor([[3.0]])]).tolist() == [[-43.0]]


def test_gradients_and_a_start_of_the_order_of_one() -> None:
    torch.manual_seed(0)
    fusion = LowRankFusion([3, 2], 2, 2).double()
    z = tuple(torch.randn(3, d, dtype=torch.float64, requires_grad=True) for d in (3, 2))
    assert torch.autograd.gradcheck(lambda *x: fusion(x), z)
    many = LowRankFusion([32] * 10, 8)
    h = many([torch.randn(200, 32).relu() for _ in range(10)]).detach()
    assert 0.1 < float(h.std()) < 10
