"""All modalities of a patient as one row of numbers, for models that know no bags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mmcli.blocks.segment import segment_max, segment_sum
from mmcli.store.batch import PackedBag
from mmcli.training.batch import Batch, TableRows
from mmcli.training.spec import DataSpec

Pool = Literal["mean", "mean-sd", "mean-max-min"]
SIZES = {"mean": 1, "mean-sd": 2, "mean-max-min": 3}
POOL_HELP = "What a bag is pooled to, a number a latent dimension each."


def pool_bag(bag: PackedBag, pool: Pool) -> Tensor:
    """The bag's mean over its instances, beside it the standard deviation or largest and smallest value:
    (n, SIZES[pool] * dim) float32, 0 without an instance."""
    n, owner, x = len(bag), bag.owner, bag.features.double()
    counts = bag.offsets.diff().clamp(min=1).unsqueeze(-1)
    parts = [segment_sum(x, owner, n) / counts]
    if pool == "mean-sd":
        parts.append((segment_sum((x - parts[0][owner]) ** 2, owner, n) / counts).sqrt())
    elif pool == "mean-max-min":
        parts += [segment_max(x, owner, n), -segment_max(-x, owner, n)]
    return torch.cat(parts, -1).float()


def table_cells(table: TableRows, holes: bool) -> Tensor:
    """The encoded columns (n, f); with `holes` NaN where nothing is known. A cell that was not observed and that an
    imputer has filled is known: its value is not exactly the training mean, 0."""
    if not holes:
        return table.values
    known = (table.observed > 0) | (table.values != 0)
    return table.values.masked_fill(~known, torch.nan)


def row_width(spec: DataSpec, names: Sequence[str], pool: Pool) -> int:
    """How many columns `pooled_rows` gives."""
    bags = sum(SIZES[pool] * b.dim for b in spec.bags if b.name in names)
    return bags + sum(len(t.columns) for t in spec.tables if t.name in names) + _flags(names)


def pooled_rows(batch: Batch, names: Sequence[str], pool: Pool, holes: bool = False) -> Tensor:
    """The modalities side by side, then, of several, their present flags: float32 (n, row_width).

    What a patient lacks is 0, the training mean; with `holes` it is NaN, and so is each cell that is not known.
    """
    parts = []
    for name in names:
        x = pool_bag(batch.bags[name], pool) if name in batch.bags else table_cells(batch.tables[name], holes)
        absent = ~batch.present[name].unsqueeze(-1)
        parts.append(x.masked_fill(absent, torch.nan if holes else 0.0))
    if _flags(names):
        parts.append(torch.stack([batch.present[m] for m in names], -1).float())
    return torch.cat(parts, -1)


def _flags(names: Sequence[str]) -> int:
    return len(names) if len(names) > 1 else 0
