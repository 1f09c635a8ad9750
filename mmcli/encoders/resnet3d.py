"""3D ResNets whose parameter names are those of MedicalNet, so that its public weights load as they are.

Source: Chen, Ma, Zheng, "Med3D: Transfer Learning for 3D Medical Image Analysis", arXiv:1904.00625, after He et al.,
"Deep Residual Learning for Image Recognition", 2016. One input channel; stem 7x7x7 with stride 2 and a 3x3x3 max-pool;
layers 3 and 4 keep their resolution and dilate by 2 and 4 instead (Med3D section 3.2), so maps end at an eighth of the
input. The latent is the mean over the last map; Med3D's segmentation head `conv_seg` is not built.

Shortcuts where a block changes shape: type A subsamples and appends zero channels (no parameters), type B is a 1x1x1
convolution with BatchNorm. Med3D's 10 and 50 have B, its 18 and 34 have A.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from mmcli.encoders.base import VOLUME, EncoderRequest
from mmcli.encoders.network import NetworkEncoder, NetworkOptions, random_or_refuse, seeded
from mmcli.encoders.weights import Comparison, Weights, compare, fit, read_weights, strip_prefixes
from mmcli.errors import RequestError
from mmcli.fields import fill_options

Shortcut = Literal["A", "B"]
# blocks in each of the four layers, whether they are bottlenecks, the shortcut of the public weights
DEPTHS: dict[int, tuple[tuple[int, int, int, int], bool, Shortcut]] = {
    10: ((1, 1, 1, 1), False, "B"),
    18: ((2, 2, 2, 2), False, "A"),
    34: ((3, 4, 6, 3), False, "A"),
    50: ((3, 4, 6, 3), True, "B"),
}
SMALLEST = 16


class ShortcutA(nn.Module):
    """Every `stride`-th voxel, and zeros in the channels that are new: (n, c, d, h, w) to (n, channels, d', h', w')."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        s = self.stride
        x = x[:, :, ::s, ::s, ::s]
        return F.pad(x, (0, 0, 0, 0, 0, 0, 0, self.channels - x.shape[1]))


def _conv3(channels: int, out: int, stride: int, dilation: int) -> nn.Conv3d:
    return nn.Conv3d(channels, out, 3, stride, padding=dilation, dilation=dilation, bias=False)


class Block(nn.Module):
    """A residual block: two 3x3x3 convolutions, or as a bottleneck 1x1x1, 3x3x3 and 1x1x1 to four times the width."""

    def __init__(
        self, channels: int, width: int, stride: int, dilation: int, bottleneck: bool, downsample: nn.Module | None
    ) -> None:
        super().__init__()
        if bottleneck:
            self.conv1 = nn.Conv3d(channels, width, 1, bias=False)
            self.conv2 = _conv3(width, width, stride, dilation)
            self.conv3: nn.Conv3d | None = nn.Conv3d(width, 4 * width, 1, bias=False)
            self.bn3: nn.BatchNorm3d | None = nn.BatchNorm3d(4 * width)
        else:
            self.conv1 = _conv3(channels, width, stride, dilation)
            self.conv2 = _conv3(width, width, 1, dilation)
            self.conv3 = self.bn3 = None
        self.bn1, self.bn2 = nn.BatchNorm3d(width), nn.BatchNorm3d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.conv3 is not None and self.bn3 is not None:
            y = self.bn3(self.conv3(F.relu(y)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet3d(nn.Module):
    """(n, channels, d, h, w) to (n, dim); `maps` gives the four layers' maps.

    `stem_z_stride` 1 keeps the frames of thick-slice volumes through the stem's convolution; `dilated` False halves the
    resolution in layers 3 and 4 instead of dilating. Neither changes a parameter's name or shape.
    """

    def __init__(
        self,
        depth: int,
        shortcut: Shortcut | None = None,
        stem_z_stride: int = 2,
        dilated: bool = True,
        channels: int = 1,
    ) -> None:
        super().__init__()
        blocks, bottleneck, default = DEPTHS[depth]
        self.shortcut: Shortcut = shortcut or default
        self.dim = 2048 if bottleneck else 512
        self.conv1 = nn.Conv3d(channels, 64, 7, (stem_z_stride, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.maxpool = nn.MaxPool3d(3, 2, padding=1)
        steps = ((1, 1), (2, 1), (1, 2), (1, 4)) if dilated else ((1, 1), (2, 1), (2, 1), (2, 1))
        width_in = 64
        for index, (count, (stride, dilation)) in enumerate(zip(blocks, steps, strict=True)):
            width = 64 << index
            out = 4 * width if bottleneck else width
            layer = [
                Block(
                    width_in if i == 0 else out, width, stride if i == 0 else 1, dilation, bottleneck,
                    self._downsample(width_in, out, stride) if i == 0 else None,
                )
                for i in range(count)
            ]  # fmt: skip
            setattr(self, f"layer{index + 1}", nn.Sequential(*layer))
            width_in = out
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _downsample(self, channels: int, out: int, stride: int) -> nn.Module | None:
        if stride == 1 and channels == out:
            return None
        if self.shortcut == "A":
            return ShortcutA(out, stride)
        return nn.Sequential(nn.Conv3d(channels, out, 1, stride, bias=False), nn.BatchNorm3d(out))

    def maps(self, x: Tensor) -> list[Tensor]:
        """The maps after layers 1 to 4, each (n, c, d', h', w')."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        maps = []
        for index in range(1, 5):
            x = cast(nn.Module, getattr(self, f"layer{index}"))(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x)[-1].mean(dim=(2, 3, 4))


class ResNet3dOptions(NetworkOptions):
    """Options of the 3D ResNets."""

    shortcut: Literal["default", "A", "B"] = Field(
        "default", description="Shortcut type; default as in the public weights (A for 18 and 34, B for 10 and 50)."
    )
    stem_z_stride: Literal["1", "2"] = Field(
        "2", description="Stride of the stem along z: 2 as MedicalNet's, 1 for few thick slices (MHD-Net)."
    )
    dilated: bool = Field(
        True, description="Dilate in layers 3 and 4 as MedicalNet does; false halves the resolution instead (MHD-Net)."
    )
    channels: Literal["1", "3"] = Field(
        "1",
        description="Of a sequence of a slide's tiles: 1 = luminance, as MedicalNet's weights take it; 3 = RGB. "
        "Weights of one channel are then repeated over the three and divided by 3: grey tiles give the same maps.",
    )


class ResNet3dEncoder(NetworkEncoder):
    """Pooled features of a 3D ResNet, of volumes of any size from 16 voxels a side.

    Each instance is normalised by the mean and standard deviation of its voxels above its own minimum (Med3D: the
    non-zero region, of volumes whose background is 0), all voxels by the same line. Med3D then fills the background
    with noise; here it keeps its value, so that a volume has one latent. A constant instance becomes zeros. Sequences
    of a slide's tiles are instances like these; with `channels` 3 their three colours are normalised by one line.
    """

    Options = ResNet3dOptions
    kinds = VOLUME
    input_size = ()
    stages = ("layer1", "layer2", "layer3", "layer4")
    summary = "3D ResNet with MedicalNet's parameter names; takes crops of any size from 16 voxels a side"
    weights_note = "--weights MODALITY=FILE, e.g. resnet_18.pth of https://github.com/Tencent/MedicalNet"
    licence = "MIT (MedicalNet's weights)"

    @classmethod
    def load(cls, request: EncoderRequest) -> ResNet3dEncoder:
        options: ResNet3dOptions = fill_options(ResNet3dOptions, request.options, f"encoder {request.name}")
        depth = int(request.name.rpartition("_")[2])
        weights = read_weights(request.weights) if request.weights is not None else None
        self = cls()
        self.name = request.name
        self.weights_sha256 = weights.sha256 if weights else random_or_refuse(request, "e.g. MedicalNet's")
        shortcut: Shortcut = DEPTHS[depth][2] if options.shortcut == "default" else options.shortcut
        stride = int(options.stem_z_stride)
        self.channels = int(options.channels)
        model = seeded(lambda: ResNet3d(depth, shortcut, stride, options.dilated, self.channels), request.seed)
        self.dim = model.dim
        self.settings = {
            "architecture": request.name,
            "shortcut": shortcut,
            "stem_z_stride": stride,
            "dilated": options.dilated,
            "normalisation": "z-score of the voxels above the instance's minimum",
            "pool": "avg",
        }
        if self.channels != 1:
            self.settings["channels"] = self.channels
        if weights:
            weights = self._in_colour(weights, model)
            share = fit(model, weights, encoder=request.name, partial=options.partial, likely=_likely(depth, shortcut))
            if share["loaded"] < share["of"]:
                self.settings["partial"] = {**share, "seed": request.seed}
        self.place(model, request.device, options)
        self.settings |= {"precision": self.precision, **({"compile": True} if options.compile else {})}
        return self

    def _in_colour(self, weights: Weights, model: ResNet3d) -> Weights:
        """Weights whose first convolution takes one channel, for a network that takes three."""
        tensors = strip_prefixes(weights.tensors, set(model.state_dict()))
        first = tensors.get("conv1.weight")
        if self.channels == 1 or first is None or first.ndim != 5 or first.shape[1] != 1:
            return weights
        self.settings["inflated"] = "conv1.weight: 1 channel repeated over 3, divided by 3"
        return replace(weights, tensors=tensors | {"conv1.weight": first.repeat(1, 3, 1, 1, 1) / 3})

    @classmethod
    def about(cls, name: str) -> dict[str, Any]:
        row = super().about(name)
        depth = name.rpartition("_")[2]
        return row | {
            "dim": 2048 if depth == "50" else 512,
            "weights": row["weights"].replace("resnet_18.pth", f"resnet_{depth}.pth"),
        }

    def forward_stages(self, batch: Tensor, stages: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
        maps = cast(ResNet3d, self.model).maps(batch)
        return maps[-1].mean(dim=(2, 3, 4)), {s: maps[self.stages.index(s)] for s in stages}

    def prepare(self, pixels: Tensor) -> Tensor:
        if min(pixels.shape[1:4]) < SMALLEST:
            size = " x ".join(map(str, pixels.shape[1:4]))
            raise RequestError(
                f"encoder {self.name} takes crops of at least 16 voxels a side, not {size}; enlarge --crop "
                "(of tiles in sequences --sequence and --tile-px)"
            )
        instances = torch.stack([normalise(volume) for volume in pixels])
        return instances[:, None] if self.channels == 1 else instances.permute(0, 4, 1, 2, 3)


def normalise(volume: Tensor) -> Tensor:
    """z-score of a (d, h, w) or (d, h, w, 3) instance over its voxels above its minimum (population's sd)."""
    body = volume[volume > volume.min()].double()
    if body.numel() == 0 or not bool(body.std(correction=0) > 0):
        return volume - volume.max()  # constant instance or body: zeros there; NaN stays NaN and is reported
    return ((volume.double() - body.mean()) / body.std(correction=0)).float()


def _likely(depth: int, shortcut: Shortcut) -> Any:
    def say(tensors: dict[str, Tensor], found: Comparison) -> str:
        other: Shortcut = "B" if shortcut == "A" else "A"
        for candidate, kind in _candidates(depth, other):
            with torch.device("meta"):
                model = ResNet3d(candidate, kind)
            if not compare(tensors, model).fits:
                continue
            if candidate == depth:
                return f"the file has shortcut type {kind}, the encoder {shortcut}: add --set shortcut={kind}"
            option = "" if kind == DEPTHS[candidate][2] else f" --set shortcut={kind}"
            return f"the file fits --encoder MODALITY=resnet3d_{candidate}{option}"
        return ""

    return say


def _candidates(depth: int, other: Shortcut) -> Iterable[tuple[int, Shortcut]]:
    yield depth, other
    for candidate, (_, _, kind) in DEPTHS.items():
        if candidate != depth:
            yield candidate, kind
            yield candidate, "B" if kind == "A" else "A"
