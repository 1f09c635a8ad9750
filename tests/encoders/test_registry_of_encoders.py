"""What encoders there are: built-in ones, timm's by name, and another package's by entry point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmcli.encoders import ENCODERS, describe, load_encoder
from mmcli.errors import RequestError

PLUGIN = '''
import numpy as np
from mmcli.encoders.base import Encoder, TWO_D

class Mean(Encoder):
    """The mean colour."""

    kinds, dim, input_size, summary = TWO_D, 3, (), "mean colour"

    @classmethod
    def load(cls, request):
        self = cls()
        self.name, self.weights_sha256, self.settings = request.name, "", {}
        return self

    def features(self, pixels):
        return pixels.mean(axis=(1, 2))

wrong = 3
'''


def test_another_package_adds_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "colour_plugin.py").write_text(PLUGIN)
    record = tmp_path / "colour_plugin-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: colour-plugin\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text(
        "[mmcli.encoders]\nmean-colour = colour_plugin:Mean\nbad-one = colour_plugin:wrong\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "mean-colour" in ENCODERS
    encoder = load_encoder("mean-colour")
    latents = encoder.encode(np.full((2, 4, 4, 3), (1, 2, 3), np.uint8))
    assert latents.dtype == np.float32
    assert latents.tolist() == [[1, 2, 3], [1, 2, 3]]
    assert describe("mean-colour")[0]["about"] == "mean colour"
    with pytest.raises(RequestError, match=r"'bad-one' .* is not a subclass"):
        load_encoder("bad-one")


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet3d_81", "resnet3d_18"), ("resnet5O", "resnet50"), ("statistic", "statistics"), ("hf-hub:org/uni", ""),
     ("timm/resnet50", "")],
)  # fmt: skip
def test_unknown_names_bring_the_nearest(name: str, near: str) -> None:
    with pytest.raises(RequestError, match=f"unknown encoder {name!r}.*{near}.*any timm model") as caught:
        load_encoder(name, random_weights=True)
    assert "\n" not in str(caught.value)


def test_unknown_tag_of_a_timm_model() -> None:
    with pytest.raises(RequestError, match="nosuchtag"):
        load_encoder("resnet18.nosuchtag", random_weights=True)


def test_description_agrees_with_the_encoders_themselves() -> None:
    rows = describe()
    assert [r["name"] for r in rows[: len(ENCODERS.names())]] == ENCODERS.names()
    assert rows[-1]["name"].startswith("any of timm's ")
    for row in rows[:-1]:
        encoder = load_encoder(row["name"], random_weights=True)
        assert (row["dim"], row["kinds"]) == (encoder.dim, sorted(encoder.kinds))
        assert row["input_size"] == list(encoder.input_size)
        assert row["weights"]
        assert row["licence"]
        assert all(o["help"] for o in row["options"])


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_description_of_a_timm_model_needs_no_forward_pass_and_is_right(name: str) -> None:
    row = describe(name)[0]
    encoder = load_encoder(name, random_weights=True)
    assert (row["dim"], row["input_size"]) == (encoder.dim, list(encoder.input_size))
    assert "huggingface.co/timm/" in row["weights"]
    assert {o["name"] for o in row["options"]} == {"precision", "compile", "partial", "pool", "model_args"}


def test_threads_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    load_encoder("statistics", threads=1)
    load_encoder("statistics")
    assert asked == [1]
