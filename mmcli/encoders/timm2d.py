"""Any timm model as a 2D encoder, with the model's own data configuration.

The latent is what the model gives with `num_classes=0`: its pooled features before the classifier. Nothing is ever
fetched: weights come from a file that the user names.

Pixels are resized straight to the model's input size by Pillow (antialiased), as timm's evaluation transform does it;
but that resizes to a little more and crops the centre (`crop_pct`), since a photograph's subject lies there: a tile or
a lesion crop has no margin to give away. An instance that already has the input size is not touched. Values are then
normalised with the model's mean and standard deviation, on the device.
"""

from __future__ import annotations

import difflib
import inspect
import json
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from mmcli.encoders.base import TWO_D, Encoded, EncoderRequest, Maps
from mmcli.encoders.network import NetworkEncoder, NetworkOptions, random_or_refuse, seeded
from mmcli.encoders.timm_shim import import_timm
from mmcli.encoders.weights import Comparison, Weights, compare, fit, read_weights
from mmcli.errors import RequestError
from mmcli.fields import fill_options

_DATA_KEYS = ("mean", "std", "interpolation", "input_size", "crop_pct")
_COMMON = ("resnet18", "resnet34", "resnet50", "vit_small_patch16_224", "vit_base_patch16_224",
           "vit_large_patch16_224", "convnext_tiny", "convnext_base", "densenet121", "efficientnet_b0")  # fmt: skip
_MOST_CANDIDATES = 40


def _json_object(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('is not a JSON object such as {"init_values": 1e-5}') from None


class TimmOptions(NetworkOptions):
    """Options of timm models."""

    pool: Literal["model", "avg", "max", "token"] = Field(
        "model", description="How the last map becomes a vector: the model's own way, or this one where it has it."
    )
    model_args: Annotated[dict[str, Any], BeforeValidator(_json_object)] = Field(
        default_factory=dict,
        description='Further arguments of the timm model as a JSON object, e.g. {"init_values": 1e-5}; '
        "over those of a config.json beside the weights.",
    )


CACHED = 2  # images that are normalised at a time


class Imaged(NetworkEncoder):
    """What 2D networks share: uint8 RGB to a normalised batch in channels_last."""

    kinds = TWO_D

    def set_data(self, config: dict[str, Any]) -> None:
        """Take input size, mean, standard deviation (of RGB in [0, 1]) and interpolation from timm's data config."""
        size = tuple(int(v) for v in config["input_size"])
        if size[0] != 3:
            raise RequestError(f"encoder {self.name} takes {size[0]} channels; only models of RGB images can be used")
        self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.input_size = size[1:]
        self.interpolation = (
            config["interpolation"] if config["interpolation"] in ("bilinear", "nearest") else "bicubic"
        )
        self._mean = torch.tensor(config["mean"], dtype=torch.float32, device=self.device)
        self._std = torch.tensor(config["std"], dtype=torch.float32, device=self.device)
        self.settings = {
            "precision": self.precision,
            "input_size": list(self.input_size),
            "resize": "whole instance to the input size, antialiased, 8 bit",
            "interpolation": self.interpolation,
            "mean": [float(v) for v in config["mean"]],
            "std": [float(v) for v in config["std"]],
        }
        if self.compiled is not None:
            self.settings["compile"] = True
        self.stages = stages_of(self.model)

    def forward_stages(self, batch: Tensor, stages: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
        model: Any = self.model
        wanted = [stage for stage in self.stages if stage in stages]
        last, maps = model.forward_intermediates(batch, indices=[self.stages.index(s) for s in wanted])
        return model.forward_head(last), dict(zip(wanted, maps, strict=True))

    def _begin(self, pixels: NDArray[Any], maps: Maps) -> Callable[[], Encoded]:
        if pixels.shape[1:3] != tuple(self.input_size):
            pixels = np.stack([self.resized(image) for image in pixels])
        return super()._begin(pixels, maps)

    def prepare(self, pixels: Tensor) -> Tensor:
        n, height, width, _ = pixels.shape
        batch = torch.empty((n, height, 3 * width), dtype=torch.float32, device=self.device)
        # Mean and deviation lie as a row of pixels does, and few images at a time stay in the processor's cache: a
        # third of the time of (n, 3, h, w) against (3, 1, 1), and the same bits.
        mean, std = self._mean.repeat(width), self._std.repeat(width)
        few = CACHED if self.device.type == "cpu" else max(1, n)
        rows = pixels.reshape(batch.shape)
        for start in range(0, n, few):
            batch[start : start + few].copy_(rows[start : start + few]).div_(255).sub_(mean).div_(std)
        return batch.view(n, height, width, 3).permute(0, 3, 1, 2)  # channels_last by its strides

    def measure_dim(self) -> None:
        """Find `dim` by a forward pass of one grey image; models with another output than (n, dim) are refused."""
        grey = torch.full((1, *self.input_size, 3), 127, dtype=torch.uint8, device=self.device)
        with torch.inference_mode(), self.arithmetic():
            output = self.model(self.prepare(grey))
        if not isinstance(output, Tensor) or output.ndim != 2:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise RequestError(f"encoder {self.name} gives {shape} an image, not one vector; try --set pool=avg")
        self.dim = int(output.shape[1])


class TimmEncoder(Imaged):
    """A timm model by name, e.g. "resnet50" or, with a tag, "resnet50.a1_in1k"."""

    Options = TimmOptions
    summary = "a timm model: pooled features before its classifier"
    licence = "timm's code is Apache-2.0; weights have the licence of those who made them"

    @classmethod
    def load(cls, request: EncoderRequest) -> TimmEncoder:
        options: TimmOptions = fill_options(TimmOptions, request.options, f"encoder {request.name}")
        weights = read_weights(request.weights) if request.weights is not None else None
        self = cls()
        self.name = request.name
        sha256 = weights.sha256 if weights else random_or_refuse(request, f"e.g. {where_to_get(request.name)}")
        config = weights.config if weights else {}
        _check_architecture(request, config)
        arguments = {**_dictionary(config, "model_args"), **options.model_args}
        arguments.pop("num_classes", None)
        if options.pool != "model":
            arguments["global_pool"] = options.pool
        overlay = {k: v for k, v in _dictionary(config, "pretrained_cfg").items() if k in _DATA_KEYS}
        model = seeded(lambda: _create(request.name, overlay, arguments), request.seed)
        share = _load_weights(request.name, model, weights, options.partial) if weights else None
        self.place(model, request.device, options)
        self.set_data(import_timm().data.resolve_model_data_config(model))
        self.measure_dim()
        self.weights_sha256 = sha256
        self.settings |= {"architecture": request.name, "pool": options.pool, "model_args": arguments}
        if share and share["loaded"] < share["of"]:
            self.settings["partial"] = {**share, "seed": request.seed}
        return self

    @classmethod
    def about(cls, name: str) -> dict[str, Any]:
        with torch.device("meta"):
            model = _create(name, {}, {})
        pretrained = dict(getattr(model, "pretrained_cfg", {}))
        size = import_timm().data.resolve_model_data_config(model)["input_size"]
        licence = pretrained.get("license")
        return super().about(name) | {
            "dim": _width(model),
            "input_size": list(size[1:]),
            "stages": list(stages_of(model)),
            "weights": f"--weights MODALITY=FILE, e.g. {where_to_get(name)}",
            "licence": f"{licence} (these weights, as timm has it)" if licence else cls.licence,
        }


def stages_of(model: nn.Module) -> tuple[str, ...]:
    """The stages whose maps timm gives beside the latent, by the names of their modules."""
    info = getattr(model, "feature_info", None)
    known = hasattr(model, "forward_intermediates") and isinstance(info, list)
    return tuple(str(level["module"]) for level in info) if known and info else ()


def _width(model: nn.Module) -> int:
    width: int = getattr(model, "head_hidden_size", None) or getattr(model, "num_features")  # noqa: B009
    return width


def is_timm_name(name: str) -> bool:
    """Whether timm has a model of this name; a tag after a dot is allowed."""
    return ":" not in name and "/" not in name and bool(import_timm().is_model(name))


def timm_count() -> int:
    """How many models this timm has, without tags."""
    return len(import_timm().list_models())


def nearest_names(name: str, count: int = 3) -> list[str]:
    """timm's names that look like `name`."""
    return difflib.get_close_matches(name, import_timm().list_models(), n=count, cutoff=0.7)


def where_to_get(name: str) -> str:
    """In words: the hub page from which a user can fetch the weights that timm knows for `name`."""
    try:
        pretrained = import_timm().get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError as error:
        raise RequestError(f"unknown encoder {name!r}: {error}") from None
    hub = getattr(pretrained, "hf_hub_id", None) if pretrained else None
    if not hub:
        return "a state dict of timm's model"
    tag = getattr(pretrained, "tag", "")
    architecture = getattr(pretrained, "architecture", None) or name.partition(".")[0]
    return "model.safetensors of https://huggingface.co/" + (
        str(hub) if not str(hub).endswith("/") else f"{hub}{architecture}{'.' + tag if tag else ''}"
    )


def _create(name: str, overlay: dict[str, Any], arguments: dict[str, Any]) -> nn.Module:
    timm = import_timm()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm tells of renamed models
            model: nn.Module = timm.create_model(
                name, pretrained=False, num_classes=0, pretrained_cfg_overlay=overlay or None, **arguments
            )
    except (RuntimeError, TypeError, ValueError, AssertionError, KeyError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        given = f" with {arguments}" if arguments else ""
        raise RequestError(f"timm cannot make the encoder {name!r}{given}: {line}") from None
    return model


def _dictionary(config: dict[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return dict(value) if isinstance(value, dict) else {}


def _check_architecture(request: EncoderRequest, config: dict[str, Any]) -> None:
    stated = config.get("architecture")
    if isinstance(stated, str) and stated.partition(".")[0] != request.name.partition(".")[0]:
        raise RequestError(
            f"{request.weights}/config.json says that these are weights of {stated!r}, not of {request.name!r}: "
            f"use --encoder MODALITY={stated}"
        )


def _load_weights(name: str, model: nn.Module, weights: Weights, partial: bool) -> dict[str, int]:
    def likely(tensors: dict[str, Tensor], found: Comparison) -> str:
        fitting = _models_that_fit(name, tensors)
        return f"the file fits {' or '.join(fitting)}" if fitting else ""

    classifier = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    converted = _converted(name, model, weights, heads)
    return fit(model, converted, encoder=name, partial=partial, heads=heads, likely=likely)


def _converted(name: str, model: nn.Module, weights: Weights, heads: tuple[str, ...]) -> Weights:
    """The weights with their makers' names turned to timm's, where timm knows how and that makes them fit.

    timm has such a function for many architectures (the original checkpoints of ConvNeXt, Swin, DINOv2 ...). It may
    also resample tensors to the model's size, so it is not asked where names agree and only shapes differ.
    """
    found = compare(weights.tensors, model, heads)
    if found.fits or found.fitting or found.reshaped:
        return weights
    module = sys.modules.get(import_timm().model_entrypoint(name.partition(".")[0]).__module__)
    convert = getattr(module, "checkpoint_filter_fn", None)
    if convert is None or len(inspect.signature(convert).parameters) < 2:
        return weights
    try:
        tensors = convert(dict(weights.tensors), model)
    except (KeyError, RuntimeError, ValueError, AttributeError, IndexError, TypeError, AssertionError):
        return weights
    if isinstance(tensors, dict) and compare(tensors, model, heads).fits:
        return Weights(weights.path, weights.sha256, tensors, weights.config)
    return weights


def _models_that_fit(name: str, tensors: dict[str, Tensor]) -> list[str]:
    """Models of the same family, or common ones, that this state dict fits in every name and shape."""
    family = name.partition(".")[0].split("_")[0].rstrip("0123456789")
    names = [n for n in import_timm().list_models(f"{family}*") if n != name][:_MOST_CANDIDATES]
    fitting = []
    for candidate in dict.fromkeys([*_COMMON, *names]):
        try:
            with torch.device("meta"):
                model = _create(candidate, {}, {})
        except RequestError:
            continue
        if compare(tensors, model).fits:
            fitting.append(candidate)
        if len(fitting) == 3:
            break
    return fitting
