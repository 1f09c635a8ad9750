from __future__ import annotations

import torch

from mmcli.blocks.tensor_fusion import prepend_one, tensor_fusion


def test_by_hand() -> None:
    """a = [1, 2], b = [3], c = [5, 7]: 3 x 2 x 3 numbers with the sum 4 * 4 * 13, first slice 1, 5, 7, 3, 15, 21."""
    vectors = [torch.tensor([x]) for x in ([1.0, 2.0], [3.0], [5.0, 7.0])]
    fused = tensor_fusion(vectors)
    assert fused.shape == (1, 18) and float(fused.sum()) == 208
    assert fused[0, :6].tolist() == [1, 5, 7, 3, 15, 21]


def test_the_same_as_einsum_and_gradients() -> None:
    torch.manual_seed(0)
    a, b, c = (torch.randn(4, d, dtype=torch.float64, requires_grad=True) for d in (3, 2, 4))
    slow = torch.einsum("na,nb,nc->nabc", prepend_one(a), prepend_one(b), prepend_one(c)).flatten(1)
    torch.testing.assert_close(tensor_fusion([a, b, c]), slow)
    torch.testing.assert_close(tensor_fusion([a]), prepend_one(a))
    assert torch.autograd.gradcheck(lambda *z: tensor_fusion(z), (a, b, c))


def test_an_absent_modality_leaves_the_others_product() -> None:
    torch.manual_seed(0)
    a, c = torch.randn(4, 3), torch.randn(4, 2)
    cube = tensor_fusion([a, torch.zeros(4, 5), c]).view(4, 4, 6, 3)
    torch.testing.assert_close(cube[:, :, 0].flatten(1), tensor_fusion([a, c]))
    assert (cube[:, :, 1:] == 0).all()
