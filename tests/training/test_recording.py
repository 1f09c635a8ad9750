"""A recording gives what the function gives, for other numbers of the same shapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap

from mmcli.training.recording import record


def test_gradients_under_vmap_are_played_back() -> None:
    torch.manual_seed(0)

    def one(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
        z = nn.functional.linear(x, weight, bias).tanh()
        return torch.cat([z * 1, z.softmax(-1)], -1).square().sum()

    def function(given: dict[str, Any]) -> tuple[Tensor, list[Tensor]]:
        leaves = [p.detach().requires_grad_() for p in given["parameters"]]
        losses = vmap(one)(*leaves, given["x"])
        return losses.detach(), list(torch.autograd.grad(losses.sum(), leaves))

    def drawn() -> dict[str, Any]:
        return {"parameters": [torch.randn(3, 4, 5), torch.randn(3, 4)], "x": torch.randn(3, 7, 5)}

    first = drawn()
    result, recording = record(function, first)
    for given in (first, drawn(), drawn()):
        (losses, gradients), (expected, theirs) = recording(given), function(given)
        assert torch.equal(losses, expected) and not losses.requires_grad
        assert all(torch.equal(a, b) for a, b in zip(gradients, theirs, strict=True))
    assert torch.equal(result[0], recording(first)[0])
    by_hand = torch.stack([one(w, b, x) for w, b, x in zip(*first["parameters"], first["x"], strict=True)])
    torch.testing.assert_close(result[0], by_hand)


def test_writes_in_place_constants_and_unused_results() -> None:
    constant = torch.tensor([10.0, 20.0])

    def function(given: list[Tensor]) -> dict[str, Tensor]:
        x, y = given
        x.exp()  # nobody needs it
        total = torch.zeros(2)
        kept = total * 1
        total += x
        total.mul_(y)
        return {"total": total, "kept": kept, "with": total + constant, "same": x.view(2)}

    _, recording = record(function, [torch.ones(2), torch.ones(2)])
    for _ in range(2):  # a second time, what was written to is new again
        x, y = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])
        found = recording([x, y])
        assert found["total"].tolist() == [3, 10] and found["kept"].tolist() == [0, 0]
        assert found["with"].tolist() == [13, 30] and found["same"].tolist() == [1, 2]
        assert x.tolist() == [1, 2]


def test_what_is_not_needed_is_not_computed() -> None:
    _, recording = record(lambda x: (x.exp().sum(), x + 1)[1], torch.ones(3))
    assert len(recording._calls) == 1
    _, idle = record(lambda x: torch.ops.aten.mul.Scalar(x, 1) + 1, torch.ones(3))
    assert len(idle._calls) == 1 and idle(torch.zeros(3)).tolist() == [1, 1, 1]
    _, real = record(lambda x: torch.ops.aten.mul.Scalar(x, 2) + 1, torch.ones(3))
    assert real(torch.ones(3)).tolist() == [3, 3, 3]


def test_what_rests_on_constants_is_computed_once_but_not_what_may_change() -> None:
    weight, fixed = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1.0, 2.0])

    def function(x: Tensor) -> Tensor:
        return x @ weight.t() + (fixed * 3 + torch.arange(2)) + weight.sum()

    _, recording = record(function, torch.zeros(1, 2), [weight])
    assert len(recording._calls) == 4  # of the transposed view, the constants' product and sum nothing is left
    assert recording(torch.ones(1, 2)).tolist() == function(torch.ones(1, 2)).tolist() == [[16, 24]]
    weight.mul_(2)
    assert recording(torch.ones(1, 2)).tolist() == function(torch.ones(1, 2)).tolist() == [[29, 41]]


def test_tensors_among_the_arguments_stand_anywhere() -> None:
    def function(given: dict[str, Tensor]) -> list[Tensor]:
        x, y = given["x"], given["y"]
        return [torch.where(x > 0, x, y), torch.cat([x, y]), x[y.long()], torch.where(x > 0, 0.5, y), *x.split(2)]

    first = {"x": torch.tensor([1.0, -1.0, 2.0]), "y": torch.tensor([0.0, 1.0, 2.0])}
    _, recording = record(function, first)
    for given in (first, {"x": torch.tensor([-3.0, 5.0, 4.0]), "y": torch.tensor([2.0, 2.0, 0.0])}):
        assert all(torch.equal(a, b) for a, b in zip(recording(given), function(given), strict=True))


@pytest.mark.parametrize(("p", "k", "q"), [(7, 32, 5), (7, 33, 5), (1, 48, 9), (2, 32, 33), (32, 7, 16), (13, 11, 3)])
@pytest.mark.parametrize("turned", [False, True])
def test_the_bits_of_a_product_do_not_depend_on_its_place(p: int, k: int, q: int, turned: bool) -> None:
    """Eleven products of the same two matrices, at the recording and played back."""
    torch.manual_seed(p)
    a = torch.randn(k, p).expand(11, k, p).contiguous().mT if turned else torch.randn(p, k).expand(11, p, k).clone()
    b = torch.randn(k, q).expand(11, k, q).contiguous()
    result, recording = record(lambda given: torch.bmm(*given), [a, b])
    assert result.shape == (11, p, q) and result.is_contiguous()
    torch.testing.assert_close(result[0].double(), a[0].double() @ b[0].double(), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(x, result[0]) for x in (*result, *recording([a, b])))
