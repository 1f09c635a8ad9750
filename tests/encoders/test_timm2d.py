"""timm encoders against a plain loop over timm, one image at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mmcli.encoders import load_encoder
from mmcli.encoders.network import cpu_has_bfloat16
from mmcli.encoders.timm_shim import import_timm
from mmcli.errors import RequestError, UnreadableError


def pictures(n: int, h: int = 224, w: int = 224, seed: int = 0) -> np.ndarray[Any, Any]:
    """Smooth random pictures, as tissue is, so that resizing is well defined."""
    small = np.random.default_rng(seed).integers(0, 256, (n, 12, 12, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(s).resize((w, h), Image.Resampling.BICUBIC)) for s in small])


@pytest.fixture(scope="module")
def resnet18() -> Any:
    return load_encoder("resnet18", random_weights=True, seed=3)


def test_latents_equal_a_plain_loop_over_timm(resnet18: Any) -> None:
    timm = import_timm()
    torch.manual_seed(3)
    model = timm.create_model("resnet18", pretrained=False, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model) | {"crop_pct": 1.0})
    images = pictures(5)
    with torch.inference_mode():
        plain = torch.cat([model(transform(Image.fromarray(i))[None]) for i in images]).numpy()
    latents = resnet18.encode(images)
    assert latents.dtype == np.float32
    assert latents.shape == (5, 512) == (5, resnet18.dim)
    np.testing.assert_allclose(latents, plain, rtol=1e-4, atol=1e-5)
    assert resnet18.weights_sha256 == "random:3"
    assert resnet18.settings["mean"] == [0.485, 0.456, 0.406]


@pytest.mark.parametrize("size", [(300, 420), (100, 90)])
def test_other_sizes_are_resized_as_timm_does(resnet18: Any, size: tuple[int, int]) -> None:
    """timm's own transform for square crops at crop_pct 1, given the whole picture made square by Pillow."""
    timm = import_timm()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(resnet18.model) | {"crop_pct": 1.0})
    images = pictures(2, *size)
    squares = [Image.fromarray(i).resize((224, 224), Image.Resampling.BICUBIC) for i in images]
    with torch.inference_mode():
        plain = torch.cat([resnet18.model(transform(square)[None]) for square in squares]).numpy()
    np.testing.assert_allclose(resnet18.encode(images), plain, rtol=1e-4, atol=1e-5)
    assert (resnet18.resized(images[0]) == np.asarray(squares[0])).all()


def test_maps_of_stages_come_with_the_same_latents(resnet18: Any) -> None:
    images = pictures(3)
    assert resnet18.stages == ("act1", "layer1", "layer2", "layer3", "layer4")
    encoded = resnet18.start(images, {"layer4": (1, 7, 7), "layer2": None, "layer1": (1, 7, 4)})()
    assert (encoded.latents == resnet18.encode(images)).all()
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        getattr(resnet18.model, n).register_forward_hook(lambda _m, _i, out, n=n: seen.__setitem__(n, out))
        for n in ("layer1", "layer2", "layer4")
    ]
    resnet18.encode(images)
    for hook in hooks:
        hook.remove()
    assert encoded.maps["layer2"].shape == (3, 128, 1, 28, 28)
    np.testing.assert_allclose(encoded.maps["layer2"][:, :, 0], seen["layer2"].numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoded.maps["layer4"][:, :, 0], seen["layer4"].numpy(), rtol=1e-5, atol=1e-6)
    # 56 x 56 to 7 x 4: boxes of 8 x 14, worked with numpy alone
    boxes = seen["layer1"].numpy().reshape(3, 64, 7, 8, 4, 14).mean(axis=(3, 5))
    np.testing.assert_allclose(encoded.maps["layer1"][:, :, 0], boxes, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoded.maps["layer4"].mean(axis=(2, 3, 4)), encoded.latents, rtol=1e-4, atol=1e-5)


def test_wrong_stages_and_sizes(resnet18: Any) -> None:
    with pytest.raises(RequestError, match=r"encoder resnet18 has no stage 'layer9'.*act1, layer1"):
        resnet18.start(pictures(1), {"layer9": None})
    with pytest.raises(RequestError, match="a map of 1x7x7 cannot be pooled to 1x9x7, which is larger"):
        resnet18.start(pictures(1), {"layer4": (1, 9, 7)})


def test_compile_is_asked_of_torch_and_its_refusal_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the compiler replaced by torch's own "eager" backend (a real one takes a minute), then by one that fails."""
    plain, real = load_encoder("resnet10t", random_weights=True), torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: real(model, backend="eager"))
    encoder = load_encoder("resnet10t", random_weights=True, options={"compile": "true"})
    images = pictures(2, *encoder.input_size)
    np.testing.assert_allclose(encoder.encode(images), plain.encode(images), rtol=1e-5, atol=1e-6)
    assert encoder.settings["compile"] is True
    assert "compile" not in plain.settings

    def broken(_graph: Any, _inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda model: real(model, backend=broken))
    encoder = load_encoder("resnet10t", random_weights=True, options={"compile": "true"})
    with pytest.raises(RequestError, match="--set compile=true: torch cannot compile encoder resnet10t here") as caught:
        encoder.encode(images)
    assert "\n" not in str(caught.value)


def test_a_row_does_not_depend_on_its_call(resnet18: Any) -> None:
    images = pictures(6)
    whole = resnet18.encode(images)
    assert (resnet18.encode(images) == whole).all()
    order = [4, 0, 5, 2, 1, 3]
    assert (resnet18.encode(images[order]) == whole[order]).all()
    others = np.concatenate([images[:1], pictures(5, seed=9)])
    assert (resnet18.encode(others)[0] == whole[0]).all()


def test_empty_readonly_and_strided_batches(resnet18: Any) -> None:
    assert resnet18.encode(np.zeros((0, 224, 224, 3), np.uint8)).shape == (0, 512)
    images = pictures(2)
    mirrored = images[:, :, ::-1]
    mirrored.flags.writeable = False
    assert np.allclose(resnet18.encode(mirrored), resnet18.encode(mirrored.copy()))


@pytest.mark.parametrize("wrong", [np.zeros((1, 224, 224, 4), np.uint8), np.zeros((1, 224, 224, 3), np.float32)])
def test_wrong_pixels_are_a_value_error(resnet18: Any, wrong: Any) -> None:
    with pytest.raises(ValueError, match="takes uint8"):
        resnet18.encode(wrong)


def test_a_nan_latent_is_refused_and_names_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_encoder("resnet10t", random_weights=True)
    original = encoder.features

    def spoiled(pixels: Any) -> Any:
        latents = original(pixels)
        latents[1, 7] = np.nan
        return latents

    monkeypatch.setattr(encoder, "features", spoiled)
    with pytest.raises(UnreadableError, match=r"encoder resnet10t gave NaN.*1 instance.*row 1 ") as caught:
        encoder.encode(pictures(3, *encoder.input_size))
    assert caught.value.rows == [1]  # type: ignore[attr-defined]


def test_bfloat16_is_near_and_recorded() -> None:
    single = load_encoder("resnet10t", random_weights=True)
    half = load_encoder("resnet10t", random_weights=True, options={"precision": "bfloat16"})
    images = pictures(2, *single.input_size)
    a, b = single.encode(images), half.encode(images)
    assert b.dtype == np.float32
    assert (a != b).any()
    assert np.abs(a - b).max() < 0.05 * np.abs(a).max()
    assert (single.settings["precision"], half.settings["precision"]) == ("float32", "bfloat16")
    auto = load_encoder("resnet10t", random_weights=True, options={"precision": "auto"})
    assert auto.settings["precision"] == ("bfloat16" if cpu_has_bfloat16() else "float32")


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_bfloat16_weights_are_what_autocast_makes_of_them(name: str) -> None:
    single: Any = load_encoder(name, random_weights=True)
    half: Any = load_encoder(name, random_weights=True, options={"precision": "bfloat16"})
    assert any(p.dtype == torch.bfloat16 for p in half.model.parameters())
    assert all(p.dtype == torch.float32 for p in single.model.parameters())
    batch = single.prepare(torch.from_numpy(pictures(3, *single.input_size)))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(single.model(batch), half.model(batch))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_normalised_as_by_timm_itself(count: int) -> None:
    """Image by image ToTensor and Normalize of timm's own transform, to the bit; laid out as channels_last."""
    encoder: Any = load_encoder("resnet10t", random_weights=True)
    images = pictures(count, *encoder.input_size)
    batch = encoder.prepare(torch.from_numpy(images))
    mean, std = (torch.tensor(encoder.settings[key]).view(3, 1, 1) for key in ("mean", "std"))
    for image, found in zip(images, batch, strict=True):
        plain = torch.from_numpy(image).permute(2, 0, 1).float().div(255).sub(mean).div(std)
        assert torch.equal(found, plain)
    assert batch.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("flags : fpu avx2 avx512_bf16\n", True), ("flags : fpu amx_bf16\n", True), ("Features : fp asimd bf16\n", True),
     ("flags : fpu avx2 avx512f\nmodel name : bf16\n", False)],
)  # fmt: skip
def test_bfloat16_of_a_processor(tmp_path: Path, text: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_has_bfloat16(tmp_path / "cpuinfo") is expected
    assert cpu_has_bfloat16(tmp_path / "none") is False


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A resnet10t with its classifier and BatchNorm buffers that are not at their start."""
    model = import_timm().create_model("resnet10t", pretrained=False)
    generator = torch.Generator().manual_seed(5)
    for name, tensor in model.state_dict().items():
        if "running" in name:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return {k: v.clone() for k, v in model.state_dict().items()}


def test_weights_files_of_every_form_load_buffers_too(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, tmp_path / "plain.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "ddp.pth")
    torch.save({f"backbone.{k}": v for k, v in state.items()} | {"head.mlp.weight": torch.ones(2)}, tmp_path / "ssl.pt")
    torch.save({"model": state}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    images = pictures(1, 176, 176)
    latents, hashes = [], set()
    for name in ("plain.safetensors", "ddp.pth", "ssl.pt", "old.bin"):
        encoder: Any = load_encoder("resnet10t", weights=tmp_path / name)
        for key, tensor in encoder.model.state_dict().items():
            assert torch.equal(tensor, state[key]), (name, key)
        latents.append(encoder.encode(images))
        hashes.add(encoder.weights_sha256)
        assert "partial" not in encoder.settings
    assert all((x == latents[0]).all() for x in latents)
    assert len(hashes) == 4
    assert all(len(h) == 64 for h in hashes)


def test_a_folder_with_a_timm_configuration(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, tmp_path / "model.safetensors")
    torch.save(state, tmp_path / "pytorch_model.bin")
    config = {"architecture": "resnet10t", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
              "interpolation": "bilinear", "input_size": [3, 96, 96]}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder = load_encoder("resnet10t", weights=tmp_path)
    assert encoder.input_size == (96, 96)
    assert encoder.settings["std"] == [0.25] * 3
    assert encoder.settings["interpolation"] == "bilinear"
    with pytest.raises(RequestError, match="weights of 'resnet10t', not of 'resnet18'"):
        load_encoder("resnet18", weights=tmp_path)
    (tmp_path / "second.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes())
    with pytest.raises(RequestError, match=r"one weights file is needed.*model.safetensors, second.safetensors"):
        load_encoder("resnet10t", weights=tmp_path)


def test_weights_of_another_model_are_refused_and_named(tmp_path: Path) -> None:
    save_file(import_timm().create_model("resnet34").state_dict(), tmp_path / "r34.safetensors")
    with pytest.raises(RequestError) as caught:
        load_encoder("resnet18", weights=tmp_path / "r34.safetensors")
    message = str(caught.value)
    # by hand: resnet18 has 20 convolutions with a BatchNorm of 4 tensors and a counter; resnet34 8 blocks of 2 more
    assert "of its 120 tensors 120 fit, 80 unexpected (layer1.2.bn1.bias" in message
    assert "the file fits resnet34" in message
    assert "\n" not in message


def test_partial_weights_only_when_asked(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    some = {k: v for k, v in state.items() if not k.startswith("layer4")}
    save_file(some, tmp_path / "some.safetensors")
    with pytest.raises(RequestError, match=r"missing \(layer4.0.conv1.weight.*--set partial=true"):
        load_encoder("resnet10t", weights=tmp_path / "some.safetensors")
    encoder: Any = load_encoder("resnet10t", weights=tmp_path / "some.safetensors", options={"partial": "true"})
    assert encoder.settings["partial"]["loaded"] < encoder.settings["partial"]["of"]
    assert torch.equal(encoder.model.state_dict()["layer3.0.conv1.weight"], state["layer3.0.conv1.weight"])
    save_file({"a": torch.ones(2)}, tmp_path / "none.safetensors")
    with pytest.raises(RequestError, match="nothing in the file fits"):
        load_encoder("resnet10t", weights=tmp_path / "none.safetensors", options={"partial": "true"})


def test_a_missing_buffer_is_a_missing_tensor(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file({k: v for k, v in state.items() if "running_var" not in k}, tmp_path / "w.safetensors")
    with pytest.raises(RequestError, match=r"missing .*running_var"):
        load_encoder("resnet10t", weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({}, r"no weights: give --weights MODALITY=FILE .*timm/resnet18.*--random-weights"),
     ({"random_weights": True, "options": {"precison": "auto"}}, "no option 'precison'; did you mean 'precision'"),
     ({"random_weights": True, "options": {"precision": "fp8"}}, r"--set precision=fp8: input should be 'float32'"),
     ({"random_weights": True, "options": {"model_args": "x"}}, r"--set model_args=x: is not a JSON object"),
     ({"random_weights": True, "options": {"model_args": '{"bogus": 1}'}}, r"timm cannot make.*bogus"),
     ({"random_weights": True, "device": "tpu9"}, "no such device"),
     ({"weights": Path("/nowhere.pth")}, "there is no such file")],
)  # fmt: skip
def test_wrong_requests_are_one_clear_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        load_encoder("resnet18", **arguments)
    assert "\n" not in str(caught.value)


def test_cuda_that_is_not_there_is_a_request_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(RequestError, match="no CUDA GPU"):
        load_encoder("resnet18", random_weights=True, device="cuda")


def test_model_arguments_and_pooling_reach_timm() -> None:
    options = {"model_args": '{"embed_dim": 48, "depth": 1, "num_heads": 2}', "pool": "avg"}
    encoder = load_encoder("vit_tiny_patch16_224", random_weights=True, options=options)
    assert encoder.dim == 48
    assert encoder.settings["model_args"]["global_pool"] == "avg"
    largest = load_encoder("resnet10t", random_weights=True, options={"pool": "max"})
    mean = load_encoder("resnet10t", random_weights=True)
    images = pictures(1, *mean.input_size)
    assert (largest.encode(images) >= mean.encode(images)).all()


def test_random_weights_leave_torch_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    a = load_encoder("resnet10t", random_weights=True, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    b = load_encoder("resnet10t", random_weights=True, seed=2)
    images = pictures(1, *a.input_size)
    assert (a.encode(images) != b.encode(images)).any()
