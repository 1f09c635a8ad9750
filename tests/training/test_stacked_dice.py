"""Each part's numbers are those that torch hands it alone, whoever else is in the stack."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mmcli.training import stacked_dice
from mmcli.training.stacked_dice import Dice, Draw

WIDTH = 8
DRAWS: list[Draw] = [
    (None, (WIDTH, 3)),
    (0.7, (WIDTH, 5)),
    (0.4, (WIDTH,)),
    (0.9, (6,)),
    (None, ()),
    (0.5, (WIDTH, 2, 3)),
]


def alone(count: int, generator: torch.Generator) -> list[torch.Tensor]:
    """What torch draws for `count` patients, filled up with zeros."""
    torch.set_rng_state(generator.get_state())
    found = []
    for chance, shape in DRAWS:
        own = (count, *shape[1:]) if shape[:1] == (WIDTH,) else shape
        drawn = torch.rand(own) if chance is None else functional.dropout(torch.ones(own), 1 - chance)
        whole = torch.zeros(shape)
        (whole[:count] if shape[:1] == (WIDTH,) else whole).copy_(drawn)
        found.append(whole)
    generator.set_state(torch.get_rng_state())
    return found


@pytest.mark.parametrize("compares", [True, False])
def test_numbers_are_those_of_a_part_alone(monkeypatch: pytest.MonkeyPatch, compares: bool) -> None:
    if compares and not stacked_dice._bernoulli_compares():
        pytest.skip("bernoulli_ does not compare on this machine")
    monkeypatch.setattr(stacked_dice, "_bernoulli_compares", lambda: compares)
    one, other = ([torch.Generator().manual_seed(s) for s in range(4)] for _ in range(2))
    dice = Dice(DRAWS, WIDTH, 4)
    with torch.random.fork_rng():
        for counts in ([8, 8, 7, 7], [8, 8, 7, 7], [5, 0, 8, 5], [0, 0, 1, 8], [8, 8, 8, 8]):
            found = dice(counts, one)
            for k, count in enumerate(counts):
                expected = alone(count, other[k]) if count else [torch.zeros(shape) for _, shape in DRAWS]
                for a, b in zip(found, expected, strict=True):
                    torch.testing.assert_close(a[k], b, rtol=1e-6, atol=0)
    assert all(torch.equal(a.get_state(), b.get_state()) for a, b in zip(one, other, strict=True))
