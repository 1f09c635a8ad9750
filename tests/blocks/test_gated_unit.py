from __future__ import annotations

import math

import torch

from mmcli.blocks.gated_unit import GatedUnit


def test_by_hand() -> None:
    """Two modalities of one number: W = 1, 2; V_1 = (1, 1), V_2 = (0, 1), no bias."""
    unit = GatedUnit([1, 1], 1).double()
    for layer, values in zip([*unit.W, *unit.V], ([[1.0]], [[2.0]], [[1.0, 1.0]], [[0.0, 1.0]]), strict=True):
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(values))
            layer.bias.zero_()
    x, y = 0.5, -1.0

    def sigm(v: float) -> float:
        return 1 / (1 + math.exp(-v))

    both = sigm(x + y) * math.tanh(x) + sigm(y) * math.tanh(2 * y)
    alone = sigm(x) * math.tanh(x)
    vectors = [torch.tensor([[x], [x], [x]]).double(), torch.tensor([[y], [y], [y]]).double()]
    present = torch.tensor([[True, True], [True, False], [False, False]])
    torch.testing.assert_close(unit(vectors, present), torch.tensor([[both], [alone], [0.0]]).double())


def test_gradients() -> None:
    torch.manual_seed(0)
    unit = GatedUnit([3, 2], 4).double()
    z = tuple(torch.randn(3, d, dtype=torch.float64, requires_grad=True) for d in (3, 2))
    present = torch.tensor([[True, True], [True, False], [False, True]])
    assert torch.autograd.gradcheck(lambda *x: unit(x, present), z)
