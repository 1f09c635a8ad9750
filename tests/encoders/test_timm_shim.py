"""The import of timm, with and without a torchvision whose operators load."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from mmcli.encoders import timm_shim

CHILD = """
from mmcli.encoders.timm_shim import import_timm
timm = import_timm()
import torch, torchvision
from torchvision.extension import _has_ops
boxes, scores = torch.tensor([[0., 0, 2, 2], [0, 0, 2, 2.1], [5, 5, 6, 6]]), torch.tensor([.9, .8, .7])
print(timm.create_model("resnet10t", num_classes=0).num_features, _has_ops(), torch.ops.torchvision.nms.default._schema)
try:
    print(torchvision.ops.nms(boxes, scores, 0.5).tolist())
except (RuntimeError, NotImplementedError) as error:
    print("refused")
"""


def test_timm_imports_in_a_fresh_process_and_operators_are_real_or_refuse() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("512 ")
    assert "torchvision::nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" in first
    assert second == ("[0, 2]" if " True " in first else "refused")


def test_shim_declares_only_where_the_extension_cannot_load(monkeypatch: pytest.MonkeyPatch) -> None:
    declared: list[int] = []
    monkeypatch.setattr(timm_shim, "_declare", lambda: declared.append(1))
    for name in ("timm", "torchvision"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    # the import itself is not repeated: a stand-in answers it once the decision has been made
    for loads, expected in ((True, 0), (False, 1)):
        monkeypatch.setattr(timm_shim, "_extension_loads", lambda loads=loads: loads)
        real_import = __import__

        def fake(name: str, *rest: object, real=real_import) -> object:  # type: ignore[no-untyped-def]
            return torch if name == "timm" else real(name, *rest)

        monkeypatch.setattr("builtins.__import__", fake)
        timm_shim.import_timm()
        monkeypatch.setattr("builtins.__import__", real_import)
        assert len(declared) == expected


def test_import_is_repeatable() -> None:
    assert timm_shim.import_timm() is timm_shim.import_timm()
