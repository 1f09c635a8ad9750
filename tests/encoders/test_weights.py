"""Weights files that are damaged, foreign or dangerous: one clear line each, and no code is run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmcli.encoders.weights import Weights, compare, fit, read_weights, strip_prefixes
from mmcli.errors import RequestError


class Bomb:
    """What a malicious pickle does: it makes a folder when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(1), "b": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(RequestError, match="Python objects beside tensors") as caught:
        read_weights(tmp_path / "bomb.pth")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
     (b"<html>Not found</html>", "neither safetensors nor a state dict"),
     (b"PK\x03\x04 cut off here", "truncated or damaged"),
     ((40).to_bytes(8, "little") + b'{"a":', "truncated or damaged")],
)  # fmt: skip
def test_files_that_are_no_weights(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(RequestError, match=message) as caught:
        read_weights(tmp_path / "w.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_truncated_files(tmp_path: Path, form: str) -> None:
    state = {"a": torch.rand(1000)}
    file = tmp_path / "w.bin"
    if form == "safetensors":
        save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=form == "zip")
    assert torch.equal(read_weights(file).tensors["a"], state["a"])
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(RequestError, match="truncated or damaged"):
        read_weights(file)


def test_files_without_a_state_dict(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    with pytest.raises(RequestError, match="holds a list"):
        read_weights(tmp_path / "list.pt")
    torch.save({"epoch": 1, "lr": 0.1}, tmp_path / "log.pt")
    with pytest.raises(RequestError, match="its keys: epoch, lr"):
        read_weights(tmp_path / "log.pt")
    with pytest.raises(RequestError, match="no file ending in"):
        (tmp_path / "folder").mkdir()
        read_weights(tmp_path / "folder")


def test_a_bad_configuration_beside_the_weights(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "w.safetensors")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RequestError, match=r"config.json: is not JSON"):
        read_weights(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(RequestError, match="not a timm configuration"):
        read_weights(tmp_path)


def test_prefixes_come_off_only_where_all_share_them() -> None:
    one = torch.ones(1)
    assert set(strip_prefixes({"module.encoder.a": one, "module.encoder.b": one}, {"a", "b"})) == {"a", "b"}
    assert set(strip_prefixes({"module.a": one, "b": one}, {"a", "b"})) == {"module.a", "b"}
    assert set(strip_prefixes({"model.a": one, "model.b": one}, {"model.a", "model.b"})) == {"model.a", "model.b"}


def test_comparison_counts_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    tensors = {"0.weight": torch.ones(3, 2), "0.bias": torch.ones(4), "1.weight": torch.ones(3), "x": torch.ones(1),
               "fc.weight": torch.ones(1)}  # fmt: skip
    found = compare(tensors, model)
    assert found.missing == ["1.bias", "1.running_mean", "1.running_var"]
    assert (found.unexpected, found.reshaped, found.fitting) == (["x"], ["0.bias"], ["0.weight", "1.weight"])
    with pytest.raises(RequestError, match=r"3 missing .*1 unexpected \(x\).*\(4,\) in the file, \(3,\) in the model"):
        fit(model, Weights(Path("w"), "", tensors), encoder="e")


def test_weights_with_nan_are_refused() -> None:
    model = nn.Linear(2, 1)
    tensors = {"weight": torch.tensor([[1.0, float("nan")]]), "bias": torch.zeros(1)}
    with pytest.raises(RequestError, match="weight holds NaN"):
        fit(model, Weights(Path("w"), "", tensors), encoder="e")
