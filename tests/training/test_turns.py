"""The learning rates against torch's own schedulers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mmcli.training import turns
from mmcli.training.method import Optimiser


def torch_rates(scheduler: Callable[[torch.optim.Optimizer], Any], lr: float, losses: list[float]) -> list[float]:
    """The rate of each epoch by a scheduler of torch."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr)
    made, found = scheduler(optimiser), []
    for loss in losses:
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        plateau = isinstance(made, torch.optim.lr_scheduler.ReduceLROnPlateau)
        made.step(loss) if plateau else made.step()
    return found


def test_rates_are_torchs() -> None:
    from torch.optim import lr_scheduler as schedulers

    losses = [5, 4, 4.5, 4.2, 4.1, 3, 3.5, 3.2, 3.1, 3.05, 3.3, 3.4, 2.9]
    cosine = Optimiser(lr=0.3, schedule="cosine", least_lr=0.01)
    ours = [turns.rate(cosine, e, 13, []) for e in range(13)]
    assert ours == pytest.approx(torch_rates(lambda o: schedulers.CosineAnnealingLR(o, 13, 0.01), 0.3, losses))
    again = Optimiser(lr=0.3, schedule="cosine", least_lr=0.01, restart=4)
    ours = [turns.rate(again, e, 13, []) for e in range(13)]
    assert ours == pytest.approx(
        torch_rates(lambda o: schedulers.CosineAnnealingWarmRestarts(o, 4, 1, 0.01), 0.3, losses)
    )
    plateau = Optimiser(lr=0.3, schedule="plateau", plateau=2, least_lr=1e-3)
    ours = [turns.rate(plateau, e, 13, losses[:e]) for e in range(13)]
    # torch counts `patience` bad epochs before the one that lowers the rate, and compares without a threshold here
    theirs = torch_rates(
        lambda o: schedulers.ReduceLROnPlateau(o, patience=1, threshold=0, min_lr=1e-3, eps=0), 0.3, losses
    )
    assert ours == pytest.approx(theirs) and len(set(ours)) == 4
    warm = Optimiser(lr=0.3, schedule="cosine", warmup=3)
    ours = [turns.rate(warm, e, 13, []) for e in range(13)]

    def both(o: torch.optim.Optimizer) -> Any:
        start = schedulers.LinearLR(o, 1 / 4, 1.0, total_iters=3)
        return schedulers.SequentialLR(o, [start, schedulers.CosineAnnealingLR(o, 10)], [3])

    assert ours == pytest.approx(torch_rates(both, 0.3, losses))
