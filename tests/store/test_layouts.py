"""Attributes as JSON and back, and whose layout a file is."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mmcli.store.layouts.guess import hint, looks_like
from mmcli.store.layouts.h5files import attributes, number, plain, put_attributes

VALUES = {
    "text": "None", "empty text": "", "umlaut": "µm", "whole": 5, "float": 512.0, "odd": 0.1 + 0.2, "nan": float("nan"),
    "infinite": float("inf"), "half": np.float16(1.5), "single": np.float32(0.1), "byte": np.uint8(7), "flag": True,
    "large": 2**62, "array": np.array([1.0, 2.0]), "grid": np.arange(6, dtype=np.int32).reshape(2, 3),
    "texts": np.array(["a", "µ"], h5py.string_dtype()), "bytes": np.bytes_(b"fixed"), "nothing": h5py.Empty("f4"),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_an_attribute_comes_back_with_its_type(tmp_path: Path, name: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs[name] = VALUES[name]
        text = json.dumps(attributes(file), allow_nan=False)
        put_attributes(file.create_group("copy"), json.loads(text))
        old, new = file.attrs[name], file["copy"].attrs[name]
        assert type(old) is type(new)
        if isinstance(old, h5py.Empty):
            assert old.dtype == new.dtype
        else:
            assert np.asarray(old).dtype == np.asarray(new).dtype
            np.testing.assert_array_equal(old, new)


def test_an_attribute_for_reading(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs.update(VALUES)
        told = attributes(file)
    assert [plain(told[n]) for n in ("text", "nothing", "whole", "half", "array")] == [None, None, 5, 1.5, [1.0, 2.0]]
    assert [number(told.get(n)) for n in ("text", "nan", "infinite", "whole", "single", "lacks")] == [
        None, None, None, 5.0, float(np.float32(0.1)), None,
    ]  # fmt: skip


def test_whose_layout(tmp_path: Path, content) -> None:
    def made(name: str, **datasets: object) -> Path:
        with h5py.File(tmp_path / name, "w") as file:
            for key, value in datasets.items():
                file[key] = value
        return tmp_path / name

    trident = made("t.h5", features=np.ones((1, 2)), coords=np.ones((1, 2)))
    with h5py.File(trident, "r+") as file:
        file["coords"].attrs["patch_size_level0"] = 512.0
    torch.save(torch.ones(2), tmp_path / "c.pt")
    np.savez(tmp_path / "n.npz", patient_id=["a"], x=np.ones((1, 2)))
    np.savez(tmp_path / "o.npz", a=1)
    (tmp_path / "b.h5").write_bytes(b"no")
    found = {
        trident: "trident",
        made("c.h5", features=np.ones((1, 2)), coords=np.ones((1, 2))): "clam",
        made("s.h5", feats=np.ones((1, 2))): "stamp",
        made("p.h5", coords=np.ones((1, 2))): "coordinates",
        made("x.h5", x=np.ones((1, 2))): "",
        content.write(tmp_path / "store.h5"): "store",
        tmp_path / "c.pt": "clam",
        tmp_path / "n.npz": "npz",
        tmp_path / "o.npz": "",
        tmp_path / "b.h5": "",
        tmp_path / "none.h5": "",
    }
    assert {path: looks_like(path) for path in found} == found
    assert hint(tmp_path / "store.h5") == "; it is a feature store of mmcli, which needs no import"
    assert hint(tmp_path / "b.h5") == ""
