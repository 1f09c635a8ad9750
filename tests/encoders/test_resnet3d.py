"""3D ResNets: MedicalNet's names written out here on their own, and blocks worked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmcli.encoders import load_encoder
from mmcli.encoders.resnet3d import Block, ResNet3d, ShortcutA, normalise
from mmcli.errors import RequestError, UnreadableError

Tensors = dict[str, torch.Tensor]
BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def medicalnet(depth: int, shortcut: str, counters: bool = True) -> Tensors:
    """A state dict as MedicalNet saves it: DataParallel's prefix, a segmentation head, random values."""
    generator = torch.Generator().manual_seed(depth)
    state: Tensors = {}

    def conv(name: str, out: int, channels: int, size: int) -> None:
        shape = (out, channels, size, size, size)
        state[f"module.{name}.weight"] = torch.randn(shape, generator=generator) * (2 / (channels * size**3)) ** 0.5

    def norm(name: str, channels: int) -> None:
        state[f"module.{name}.weight"] = torch.rand(channels, generator=generator) * 0.4 + 0.3
        state[f"module.{name}.bias"] = torch.randn(channels, generator=generator) * 0.1
        state[f"module.{name}.running_mean"] = torch.randn(channels, generator=generator) * 0.1
        state[f"module.{name}.running_var"] = torch.rand(channels, generator=generator) + 0.5
        if counters:
            state[f"module.{name}.num_batches_tracked"] = torch.tensor(7)

    conv("conv1", 64, 1, 7)
    norm("bn1", 64)
    channels = 64
    for layer, (count, width) in enumerate(zip(BLOCKS[depth], (64, 128, 256, 512), strict=True), 1):
        out = width * 4 if depth == 50 else width
        for block in range(count):
            name = f"layer{layer}.{block}"
            if depth == 50:
                conv(f"{name}.conv1", width, channels, 1)
                norm(f"{name}.bn1", width)
                conv(f"{name}.conv2", width, width, 3)
                norm(f"{name}.bn2", width)
                conv(f"{name}.conv3", out, width, 1)
                norm(f"{name}.bn3", out)
            else:
                conv(f"{name}.conv1", width, channels, 3)
                norm(f"{name}.bn1", width)
                conv(f"{name}.conv2", width, width, 3)
                norm(f"{name}.bn2", width)
            if block == 0 and shortcut == "B" and (channels != out):
                conv(f"{name}.downsample.0", out, channels, 1)
                norm(f"{name}.downsample.1", out)
            channels = out
    conv("conv_seg.0", 32, 512, 2)
    norm("conv_seg.1", 32)
    return state


def batch_norm(x: torch.Tensor, state: Tensors, name: str) -> torch.Tensor:
    w, b, m, v = (state[f"module.{name}.{k}"][None, :, None, None, None]
                  for k in ("weight", "bias", "running_mean", "running_var"))  # fmt: skip
    return (x - m) / torch.sqrt(v + 1e-5) * w + b


def by_hand(x: torch.Tensor, state: Tensors, depth: int) -> torch.Tensor:
    """MedicalNet's forward pass written out in one place, straight from its state dict; (n, 1, d, h, w) to (n, c)."""
    x = F.conv3d(x, state["module.conv1.weight"], stride=2, padding=3)
    x = F.max_pool3d(batch_norm(x, state, "bn1").clamp(min=0), 3, 2, 1)
    for layer, (count, stride, dilation) in enumerate(zip(BLOCKS[depth], (1, 2, 1, 1), (1, 1, 2, 4), strict=True), 1):
        for block in range(count):
            name, s = f"layer{layer}.{block}", stride if block == 0 else 1
            kernels = {k: state.get(f"module.{name}.conv{k}.weight") for k in (1, 2, 3)}
            spatial = 2 if depth == 50 else 1
            y = x
            for k in (1, 2, 3) if depth == 50 else (1, 2):
                kernel = kernels[k]
                assert kernel is not None
                dil = dilation if kernel.shape[-1] == 3 else 1
                pad = dil if kernel.shape[-1] == 3 else 0
                y = F.conv3d(y, kernel, stride=s if k == spatial else 1, padding=pad, dilation=dil)
                y = batch_norm(y, state, f"{name}.bn{k}")
                if k != (3 if depth == 50 else 2):
                    y = y.clamp(min=0)
            down = state.get(f"module.{name}.downsample.0.weight")
            if down is not None:
                x = batch_norm(F.conv3d(x, down, stride=s), state, f"{name}.downsample.1")
            elif y.shape != x.shape:
                padded = torch.zeros_like(y)
                padded[:, : x.shape[1]] = x[:, :, ::s, ::s, ::s]
                x = padded
            x = (x + y).clamp(min=0)
    return x.mean(dim=(2, 3, 4))


@pytest.mark.parametrize(
    ("depth", "shortcut", "dim"), [(10, "B", 512), (18, "A", 512), (34, "A", 512), (50, "B", 2048)]
)
def test_medicalnet_weights_load_and_the_forward_pass_is_theirs(
    tmp_path: Path, depth: int, shortcut: str, dim: int
) -> None:
    state = medicalnet(depth, shortcut, counters=depth != 10)  # torch 0.4.0 saved no counters
    torch.save({"state_dict": state}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    encoder: Any = load_encoder(f"resnet3d_{depth}", weights=tmp_path / "w.pth")
    assert encoder.dim == dim
    own = {f"module.{k}" for k in encoder.model.state_dict() if "tracked" not in k}
    assert own == {k for k in state if "conv_seg" not in k and "tracked" not in k}
    volumes = np.random.default_rng(0).random((2, 24, 20, 28), dtype=np.float32)
    with torch.inference_mode():
        x = torch.stack([normalise(torch.from_numpy(v)) for v in volumes])[:, None]
        expected = by_hand(x, state, depth).numpy()
    latents = encoder.encode(volumes)
    assert latents.shape == (2, dim)
    np.testing.assert_allclose(latents, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


def test_parameters_number_as_published() -> None:
    # the table of MedicalNet's README, in millions: the backbone's parameters and BatchNorm statistics
    for depth, published in ((10, 14.36), (18, 32.99), (34, 63.31), (50, 46.21)):
        with torch.device("meta"):
            own = sum(v.numel() for k, v in ResNet3d(depth).state_dict().items() if "tracked" not in k)
        assert abs(own / 1e6 - published) < 0.006, (depth, own)


@pytest.mark.parametrize(
    ("depth", "file", "message"),
    [("18", (18, "B"), "the file has shortcut type B, the encoder A: add --set shortcut=B"),
     ("10", (10, "A"), "the file has shortcut type A, the encoder B: add --set shortcut=A"),
     ("18", (34, "A"), "the file fits --encoder MODALITY=resnet3d_34;"),
     ("34", (50, "B"), "the file fits --encoder MODALITY=resnet3d_50;")],
)  # fmt: skip
def test_weights_of_another_network_are_refused_and_named(
    tmp_path: Path, depth: str, file: tuple[int, str], message: str
) -> None:
    torch.save(medicalnet(*file), tmp_path / "w.pth")
    with pytest.raises(RequestError, match=message):
        load_encoder(f"resnet3d_{depth}", weights=tmp_path / "w.pth")
    if "shortcut" in message:
        encoder = load_encoder(f"resnet3d_{depth}", weights=tmp_path / "w.pth", options={"shortcut": file[1]})
        assert encoder.settings["shortcut"] == file[1]


def test_shortcut_a_by_hand() -> None:
    x = torch.arange(2 * 4 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4, 4)
    y = ShortcutA(5, 2)(x)
    assert y.shape == (1, 5, 2, 2, 2)
    assert y[0, 0].flatten().tolist() == [0, 2, 8, 10, 32, 34, 40, 42]
    assert y[0, 2:].abs().sum() == 0


def test_a_block_of_zero_convolutions_is_its_shortcut() -> None:
    block = Block(3, 3, 1, 2, False, None).eval()
    for conv in (block.conv1, block.conv2):
        torch.nn.init.zeros_(conv.weight)
    x = torch.randn(1, 3, 5, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), x.clamp(min=0))


def test_maps_of_both_layouts() -> None:
    x = torch.zeros(1, 1, 24, 32, 32)
    with torch.inference_mode():
        shapes = [tuple(m.shape[1:]) for m in ResNet3d(10).eval().maps(x)]
        assert shapes == [(64, 6, 8, 8), (128, 3, 4, 4), (256, 3, 4, 4), (512, 3, 4, 4)]
        # MHD-Net: 24 frames keep 12 after stem and pool, then 6, 3, 2
        shapes = [tuple(m.shape[1:]) for m in ResNet3d(10, stem_z_stride=1, dilated=False).eval().maps(x)]
        assert shapes == [(64, 12, 8, 8), (128, 6, 4, 4), (256, 3, 2, 2), (512, 2, 1, 1)]


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_mhd_nets_stage_maps(shortcut: str) -> None:
    """methods/README: 24 frames give 12, 6, 3, 2; here of 32 x 32 pixels in place of 224 x 224, so 8, 4, 2, 1."""
    options = {"stem_z_stride": "1", "dilated": "false", "shortcut": shortcut}
    encoder: Any = load_encoder("resnet3d_10", random_weights=True, seed=2, options=options)
    volumes = np.random.default_rng(0).random((2, 24, 32, 32), dtype=np.float32)
    full = encoder.start(volumes, dict.fromkeys(encoder.stages))()
    shapes = [full.maps[s].shape for s in encoder.stages]
    assert shapes == [(2, 64, 12, 8, 8), (2, 128, 6, 4, 4), (2, 256, 3, 2, 2), (2, 512, 2, 1, 1)]
    assert (full.latents == encoder.encode(volumes)).all()
    np.testing.assert_allclose(full.maps["layer4"].mean(axis=(2, 3, 4)), full.latents, rtol=1e-5, atol=1e-6)
    small = encoder.start(volumes, {"layer1": (3, 2, 8), "layer3": None})().maps
    boxes = full.maps["layer1"].reshape(2, 64, 3, 4, 2, 4, 8).mean(axis=(3, 5))
    np.testing.assert_allclose(small["layer1"], boxes, rtol=1e-4, atol=1e-5)
    assert (small["layer3"] == full.maps["layer3"]).all()


def test_normalisation_by_hand() -> None:
    # minimum 0 is background; body 1, 2, 3 has mean 2 and population sd sqrt(2/3)
    volume = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    sd = (2 / 3) ** 0.5
    expected = torch.tensor([[[-2 / sd, -1 / sd], [0.0, 1 / sd]]])
    torch.testing.assert_close(normalise(volume), expected)
    assert normalise(torch.full((2, 2, 2), 0.7)).abs().sum() == 0


@pytest.fixture(scope="module")
def encoder() -> Any:
    return load_encoder("resnet3d_10", random_weights=True, seed=1)


def test_a_row_does_not_depend_on_its_call(encoder: Any) -> None:
    volumes = np.random.default_rng(1).random((4, 16, 24, 20), dtype=np.float32)
    whole = encoder.encode(volumes)
    assert (encoder.encode(volumes[::-1]) == whole[::-1]).all()
    assert encoder.encode(volumes[:0]).shape == (0, 512)
    assert encoder.weights_sha256 == "random:1"
    assert encoder.input_size == ()


def test_the_latent_ignores_the_intensity_scale(encoder: Any) -> None:
    volumes = np.random.default_rng(2).random((1, 16, 16, 16), dtype=np.float32)
    np.testing.assert_allclose(encoder.encode(volumes), encoder.encode(volumes * 0.5 + 0.25), rtol=1e-3, atol=1e-4)


def test_bad_volumes(encoder: Any) -> None:
    with pytest.raises(RequestError, match="at least 16 voxels a side, not 8 x 32 x 32"):
        encoder.encode(np.zeros((1, 8, 32, 32), np.float32))
    with pytest.raises(ValueError, match="takes float32"):
        encoder.encode(np.zeros((1, 32, 32, 32)))
    broken = np.random.default_rng(0).random((3, 16, 16, 16), dtype=np.float32)
    broken[2, 3, 3, 3] = np.nan
    with pytest.raises(UnreadableError, match="row 2 "):
        encoder.encode(broken)
    flat = encoder.encode(np.full((1, 16, 16, 16), 0.3, np.float32))
    assert np.isfinite(flat).all()
