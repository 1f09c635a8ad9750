"""MDFN: channel attention, projections and tensor fusion of images and tumour markers."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmcli.blocks.channel_attention import ChannelAttention
from mmcli.blocks.gated_attention import GatedAttention
from mmcli.blocks.low_rank_fusion import LowRankFusion
from mmcli.blocks.projection import BatchNorm, Projection
from mmcli.blocks.tensor_fusion import tensor_fusion
from mmcli.errors import RequestError
from mmcli.methods.network import FusionSettings, Heads, NetworkMethod, present_flags
from mmcli.store.batch import PackedBag
from mmcli.training.batch import Batch
from mmcli.training.method import MethodSettings, weighted_cross_entropy
from mmcli.training.spec import DataSpec

FULL_UP_TO = 3  # modalities
LARGEST = 2_000_000  # numbers of one patient's outer product


class MDFNSettings(FusionSettings):
    """Options of `mdfn`. What stands in brackets is from the authors' code, as the paper names no such numbers. Their
    training: `--set optimiser=adam --set lr=1e-5 --set weight_decay=0 --set batch=64 --set schedule=constant
    --set class_weights=false --set modality_dropout=0` (patience 20 is the default)."""

    channel_attention: bool = Field(True, description="Channel attention on the images' latents, sec. 3.2.")
    tensor_fusion: bool = Field(True, description="Outer product, sec. 3.4; false concatenates (None MDF of table 3).")
    auxiliary_heads: bool = Field(True, description="A head on each image modality's vector with a loss of its own.")
    auxiliary_weight: float = Field(0.2, ge=0, description="Weight of each auxiliary head's loss (authors: 0.2).")
    low_rank: Literal["auto", "true", "false"] = Field(
        "auto", description="Low-rank form of the product, sec. 3.4; auto = of more than three modalities."
    )
    rank: int = Field(4, ge=1, description="Rank of the low-rank form.")
    channel_hidden: int = Field(10, ge=1, description="Hidden units of the channel attention (authors: 10).")
    width: int = Field(32, ge=1, description="Width of a modality's vector (authors: 32).")
    hidden: int = Field(33, ge=1, description="Width after the fusion (authors: 33).")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout before the projections and the fusion (authors: 0.2).")
    lr: float = Field(1e-3, gt=0, description="Learning rate (authors: 1e-5).")


class ImageBranch(nn.Module):
    """BatchNorm and channel attention on a bag's latents, gated attention pooling, the rest of the projection.

    A bag of one is the paper's case: the pooling then is the identity. The projection's BatchNorm stands before the
    channel attention, as behind it it would undo all that the weights of different patients have in common."""

    def __init__(self, dim: int, settings: MDFNSettings) -> None:
        super().__init__()
        s = settings
        self.norm = BatchNorm(dim)
        self.channels = ChannelAttention(dim, s.channel_hidden) if s.channel_attention else None
        self.pool = GatedAttention(dim, s.width)
        self.project = Projection(dim, s.width, s.dropout, norm=False)

    def forward(self, bag: PackedBag, present: Tensor) -> Tensor:
        """(n, width), zeros for who is not `present` (n,)."""
        z: Tensor = self.project(self.pool(self._latents(bag), bag.owner, len(bag)), present)
        return z

    def attention(self, bag: PackedBag) -> Tensor:
        """The weight (N,) of each instance; each patient's sum to 1."""
        return self.pool.weights(self._latents(bag), bag.owner, len(bag))

    def _latents(self, bag: PackedBag) -> Tensor:
        x: Tensor = self.norm(bag.features)
        return x if self.channels is None else self.channels(x, bag.owner, len(bag))


class MDFNNetwork(nn.Module):
    """From images and tables to logits, and to those of the auxiliary heads."""

    def __init__(self, spec: DataSpec, settings: MDFNSettings) -> None:
        super().__init__()
        s = settings
        self.names, self.settings = spec.modalities, s
        self.bags, self.tables = [b.name for b in spec.bags], [t.name for t in spec.tables]
        self.images = nn.ModuleList(ImageBranch(b.dim, s) for b in spec.bags)
        self.markers = nn.ModuleList(Projection(len(t.columns), s.width, s.dropout) for t in spec.tables)
        count = len(self.names)
        low_rank = s.tensor_fusion and _low_rank(s, count)
        self.low_rank = LowRankFusion([s.width] * count, s.hidden, s.rank) if low_rank else None
        self.dropout = nn.Dropout(s.dropout)
        fused = (s.width + 1) ** count if s.tensor_fusion else s.width * count
        self.mix = nn.Linear(fused, s.hidden) if self.low_rank is None else None
        self.heads = Heads(spec, [s.hidden], 0.0)
        self.auxiliary = nn.ModuleList(Heads(spec, [s.width], 0.0) for _ in spec.bags if s.auxiliary_heads)

    def vectors(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Each modality's vector (n, width), zeros where it is absent, and the flags (n, M)."""
        flags = present_flags(batch, self.names, self.settings.modality_dropout if self.training else 0)
        parts = [batch.bags[m] for m in self.bags] + [batch.tables[m].values for m in self.tables]
        branches = [*self.images, *self.markers]
        return [f(x, flags[:, i]) for i, (f, x) in enumerate(zip(branches, parts, strict=True))], flags

    def fuse(self, vectors: list[Tensor]) -> Tensor:
        """ReLU(W fused + b), (n, hidden): sec. 3.4. Absent vectors are [1, 0, ..., 0] in the product."""
        if self.low_rank is not None:
            fused: Tensor = self.low_rank([self.dropout(z) for z in vectors])
            return fused.relu()
        joint = tensor_fusion(vectors) if self.settings.tensor_fusion else torch.cat(vectors, -1)
        return self.mix(self.dropout(joint)).relu()  # type: ignore[misc,no-any-return]

    def embed(self, batch: Batch) -> Tensor:
        """(n, hidden)."""
        return self.fuse(self.vectors(batch)[0])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits (n, K) of each task."""
        logits: dict[str, Tensor] = self.heads(self.embed(batch))
        return logits


class MDFN(NetworkMethod):
    """MDFN: channel attention on image latents, 32 numbers a modality, their outer product, auxiliary heads.

    loss = CE + 0.2 CE(image head 1) + 0.2 CE(image head 2) + ..., each image head over the patients who have the image
    (so the authors' code; the paper names no loss). Each modality is projected to z_m (BatchNorm, dropout, three times
    Linear and ReLU), a 1 is prepended, and the outer product of all [1, z_m] goes through dropout to 33, ReLU, classes
    (sec. 3.4).

    Inference: an absent modality is [1, 0, ..., 0] in the product, and only there: the prepended 1 keeps all
    interactions of the other modalities, and those with the absent one are zero. It takes any subset of its modalities.

    Departures. Encoders are frozen and their latents cached, so channel attention works on the latents' channels of
    every image modality; the paper's form, on the colours of the Doppler image, is for encoders that are fine-tuned,
    and is left out. Bags of several instances are pooled by gated attention (Ilse et al. 2018). Any number of
    modalities: of more than three, the product has the low-rank form (Liu et al. 2018); the paper speaks of a
    decomposition, its code has none. The authors' code puts a sigmoid before cross entropy, which floors the loss: a
    bug, and not here. AdamW at 1e-3, class weights and modality dropout are the defaults, since 1e-5 stands for
    thousands of patients.
    """

    name: ClassVar[str] = "mdfn"
    source: ClassVar[str] = (
        "Li et al. 2025 (MICCAI), Multimodal fusion network with distribution-based tumor-marker imputation"
    )
    stages: ClassVar[frozenset[str]] = frozenset({"train-teacher"})
    Settings: ClassVar[type[MethodSettings]] = MDFNSettings

    @classmethod
    def check(cls, bags: list[str], tables: list[str], settings: Any) -> None:
        """The full product must be of a size that can be learned from."""
        s, count = settings, len(bags + tables)
        numbers = (s.width + 1) ** count
        if s.tensor_fusion and not _low_rank(s, count) and numbers > LARGEST:
            raise RequestError(
                f"--set width={s.width}: the full product of {count} modalities has {numbers:,} numbers a patient; "
                "give a smaller one, or low_rank=true"
            )

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__(spec, settings)
        self.network = MDFNNetwork(spec, settings)

    def loss(self, batch: Batch) -> Tensor:
        """CE + 0.2 CE of each image head (the authors' code)."""
        s, network = self.settings, self.network
        vectors, flags = network.vectors(batch)
        total = weighted_cross_entropy(self.spec, network.heads(network.fuse(vectors)), batch, s.class_weights)
        for i, head in enumerate(network.auxiliary):
            there = flags[:, i]
            labels = {task: y.masked_fill(~there, -1) for task, y in batch.labels.items()}
            seen = Batch(batch.rows, {}, {}, labels)
            own = weighted_cross_entropy(self.spec, head(vectors[i]), seen, s.class_weights)
            total = total + s.auxiliary_weight * own
        return total

    def attention(self, batch: Batch) -> dict[str, Tensor]:
        """The pooling's weights in each image modality."""
        network = self.network
        pairs = zip(network.bags, network.images, strict=True)
        return {name: branch.attention(batch.bags[name]) for name, branch in pairs}


def _low_rank(settings: MDFNSettings, count: int) -> bool:
    """Whether the product of `count` modalities has the low-rank form."""
    return settings.low_rank == "true" or (settings.low_rank == "auto" and count > FULL_UP_TO)
