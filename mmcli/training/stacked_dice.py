"""The random numbers of a stack: each part's from its own generator, in the order in which it would draw them alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import groupby

import torch
from torch import Tensor

Draw = tuple[float | None, tuple[int, ...]]  # the chance that dropout keeps a number (None: uniform), and the shape
Kind = tuple[float | None, torch.dtype]  # the chance to be drawn with (None: uniform), and as what


class Dice:
    """Draws what one call of a function needs, (K, *shape) for each of `draws`: uniform numbers, or dropout's factors,
    0 or 1 / chance.

    A shape whose first size is `width`, the stack's number of rows a part, has for each part its own number of them,
    and zeros behind; a part without rows draws nothing. Draws next to each other that torch makes in the same way are
    one. The next call writes over what a call returned.
    """

    def __init__(self, draws: Sequence[Draw], width: int, parts: int) -> None:
        self._groups = [_Group(kind, list(of), width, parts) for kind, of in groupby(draws, _kind)]

    def __call__(self, counts: Sequence[int], generators: Sequence[torch.Generator]) -> list[Tensor]:
        """The numbers of K parts with `counts` (K) rows of their own."""
        return [x for group in self._groups for x in group(list(counts), generators)]


class _Group:
    """Draws of one kind: a part's lie one behind the other in its row of a buffer, and are then taken apart."""

    def __init__(self, kind: Kind, draws: list[Draw], width: int, parts: int) -> None:
        self._chance, self._draws, self._width = kind[0], draws, width
        self._buffer = torch.zeros(parts, sum(math.prod(shape) for _, shape in draws), dtype=kind[1])
        self._shown = [torch.zeros(parts, *shape) for _, shape in draws]
        self._counts: list[int] = []

    def __call__(self, counts: list[int], generators: Sequence[torch.Generator]) -> list[Tensor]:
        if counts != self._counts:
            self._arrange(counts)
        for k, row in self._rows:
            if self._chance is None:
                row.uniform_(generator=generators[k])
            else:
                row.bernoulli_(self._chance, generator=generators[k])
        for least, numbers, place in self._pieces:
            if least is None:
                place.copy_(numbers)
            else:
                torch.lt(numbers, least, out=place)
        for (chance, _), shown in zip(self._draws, self._shown, strict=True):
            if chance is not None:
                shown.mul_(1 / chance)
        return self._shown

    def _arrange(self, counts: list[int]) -> None:
        """Find each part's numbers, and where they go, for parts with these numbers of rows."""
        self._counts, self._rows, self._pieces = counts, [], []
        for shown in self._shown:
            shown.zero_()
        start = 0
        for count, run in groupby(counts):
            stop = start + len(list(run))
            if count:
                at = 0
                for (chance, shape), shown in zip(self._draws, self._shown, strict=True):
                    own = (count, *shape[1:]) if shape and shape[0] == self._width else shape
                    numbers = self._buffer[start:stop, at : at + math.prod(own)].view(stop - start, *own)
                    place = shown[start:stop, : own[0]] if own else shown[start:stop]
                    self._pieces.append((None if self._chance is not None else chance, numbers, place))
                    at += math.prod(own)
                self._rows += [(k, self._buffer[k, :at]) for k in range(start, stop)]
            start = stop


def _kind(draw: Draw) -> Kind:
    if draw[0] is None:
        return None, torch.float32
    return (None, torch.float64) if _bernoulli_compares() else (draw[0], torch.float32)


@cache
def _bernoulli_compares() -> bool:
    """Whether bernoulli_ is, on this machine, a comparison of uniform_ in float64, which takes half of its time: it is
    so unless MKL draws."""
    one, other = (torch.Generator().manual_seed(1) for _ in range(2))
    uniform = torch.empty(999, dtype=torch.float64).uniform_(generator=one)
    return torch.equal((uniform < 0.7).float(), torch.empty(999).bernoulli_(0.7, generator=other))
