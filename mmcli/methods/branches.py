"""A branch for each modality: from a patient's bag or table row to one latent vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmcli.blocks.dropout_linear import DropoutLinear
from mmcli.blocks.gated_attention import GatedAttention
from mmcli.blocks.mlp import MLP
from mmcli.blocks.relu_dropout import ReLUDropout
from mmcli.store.batch import PackedBag
from mmcli.training.batch import Batch, TableRows
from mmcli.training.spec import DataSpec


class BagBranch(nn.Module):
    """Projection of each instance, ReLU, dropout, then gated attention pooling (Ilse et al. 2018, eq. 9)."""

    def __init__(self, dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Sequential(DropoutLinear(dim, width, dropout / 2), ReLUDropout(dropout))
        self.pool = GatedAttention(width, max(width // 2, 8))

    def forward(self, bag: PackedBag) -> Tensor:
        """(n, width), not negative; zeros for a patient without an instance."""
        pooled: Tensor = self.pool(self.project(bag.rows), bag.owner, len(bag))
        return pooled

    def attention(self, bag: PackedBag) -> Tensor:
        """The weight (N,) of each instance; each patient's sum to 1."""
        return self.pool.weights(self.project(bag.rows), bag.owner, len(bag))


class TableBranch(nn.Module):
    """An MLP on [values, 1 - observed]: a hole is the training mean, and a mark that it is a hole."""

    def __init__(self, columns: int, width: int, dropout: float) -> None:
        super().__init__()
        self.mlp = MLP([2 * columns, width, width], dropout, last_relu=True)

    def forward(self, table: TableRows) -> Tensor:
        """(n, width), not negative; zeros for a patient without the table."""
        there = table.present.unsqueeze(-1)
        holes = (1 - table.observed) * there
        z: Tensor = self.mlp(torch.cat([table.values, holes], -1))
        return z * there


class Branches(nn.Module):
    """The branches of all modalities of a DataSpec, by name. All latents have the same width and are not negative."""

    def __init__(self, spec: DataSpec, width: int, dropout: float) -> None:
        super().__init__()
        self.names = spec.modalities
        self.bags = [b.name for b in spec.bags]
        bags: list[nn.Module] = [BagBranch(b.dim, width, dropout) for b in spec.bags]
        tables: list[nn.Module] = [TableBranch(len(t.columns), width, dropout) for t in spec.tables]
        self.branches = nn.ModuleList(bags + tables)  # a list, as a module's name may hold no dot

    def forward(self, batch: Batch, name: str) -> Tensor:
        """The latent (n, width) of one modality; zeros where it is not present."""
        z: Tensor = self.branches[self.names.index(name)](
            batch.bags[name] if name in batch.bags else batch.tables[name]
        )
        return z

    def attention(self, batch: Batch) -> dict[str, Tensor]:
        """For each bag modality the weight (N,) of each instance."""
        branches = dict(zip(self.names, self.branches, strict=True))
        return {name: branches[name].attention(batch.bags[name]) for name in self.bags}  # type: ignore[operator]
