"""--maps: stage maps beside the latents, through spool, store, pack and join."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmcli.encoders import load_encoder
from mmcli.errors import RequestError
from mmcli.settings import ExtractSettings, PreprocessSettings
from mmcli.stages import extract, preprocess
from mmcli.stages import store as store_stage
from mmcli.stages.pixels import unit
from mmcli.store import Store, Stores, verify

OPTIONS = {"ct.stem_z_stride": "1", "ct.dilated": "false"}


def encode(prepared: Path, out: Path, encoder: dict[str, str], **given: Any) -> Any:
    given = {"quiet": True, "workers": 2, "random_weights": True, **given}
    return extract.run(ExtractSettings(stores=[prepared], out=out, encoder=encoder, **given))


@pytest.fixture(scope="module")
def crops(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared store of small crops."""
    out = tmp_path_factory.mktemp("crops") / "p.h5"
    given = {"spacing": {"": "4,4,4"}, "crop": {"": "24,32,32"}, "modalities": ["ct"]}
    preprocess.run(PreprocessSettings(cohort=made / "cohort.yaml", out=out, quiet=True, **given))
    return out


@pytest.fixture(scope="module")
def mapped(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards with a 3D ResNet's maps, its strides as mhd-net's."""
    folder = tmp_path_factory.mktemp("maps")
    for i in range(2):
        encode(crops, folder / "f.h5", {"ct": "resnet3d_10"}, set=OPTIONS, shard=f"{i}/2",
               maps={"ct": "layer1:6x4x4,layer4"}, batch=3)  # fmt: skip
    return folder


def test_maps_are_the_networks_own(crops: Path, mapped: Path) -> None:
    encoder: Any = load_encoder("resnet3d_10", random_weights=True, options={k[3:]: v for k, v in OPTIONS.items()})
    with Stores(sorted(mapped.glob("f.shard*.h5"))) as joined, Store(crops) as store:
        bag = joined.bag("ct")
        assert bag.meta.settings["maps"] == {"layer1": [6, 4, 4], "layer4": None}
        for i in np.flatnonzero(bag.present)[:2].tolist():
            volume = torch.from_numpy(unit(store.bags["ct"].rows("pixels", i)))
            with torch.inference_mode():
                maps = encoder.model.maps(encoder.prepare(volume))
                small = F.adaptive_avg_pool3d(maps[0], (6, 4, 4)).numpy()
            found = bag.rows("maps/layer1", i)
            assert found.dtype == np.float16
            assert found.shape == (1, 64, 6, 4, 4)
            np.testing.assert_allclose(found, small, rtol=2e-3, atol=1e-3)
            np.testing.assert_allclose(bag.rows("maps/layer4", i), maps[3].numpy(), rtol=2e-3, atol=1e-3)
            np.testing.assert_allclose(bag.rows("features", i)[0], maps[3].numpy().mean((2, 3, 4))[0], atol=2e-3)


def test_pack_and_verify_keep_them(mapped: Path, tmp_path: Path) -> None:
    out, shards = tmp_path / "packed.h5", sorted(mapped.glob("f.shard*.h5"))
    store_stage.pack(shards, out, False)
    assert verify(out) == []
    with Store(out) as packed, Stores(shards) as joined:
        bag = packed.bags["ct"]
        assert bag.arrays["maps/layer1"].attrs["axes"] == '["c","t","h","w"]'
        assert len(bag.arrays["maps/layer1"]) == bag.offsets[-1]
        for i in range(len(packed.patients)):
            for array in ("maps/layer1", "maps/layer4", "pixels_sha256"):
                np.testing.assert_array_equal(bag.rows(array, i), joined.bag("ct").rows(array, i))
    with out.open("r+b") as file:  # a bit in the middle of the largest array
        place = len(out.read_bytes()) // 2
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))
    assert any("maps/" in damage for damage in verify(out))


def test_tiles_give_maps_of_one_frame(pictures: Path, tmp_path: Path) -> None:
    encode(pictures, tmp_path / "f.h5", {"us": "resnet10t"}, maps={"us": "layer4:3x3,layer2:1x5x5"}, batch=4)
    with Store(tmp_path / "f.h5") as store:
        bag = store.bags["us"]
        count = int(bag.offsets[-1])
        assert bag.arrays["maps/layer4"].shape == (count, 512, 1, 3, 3)
        assert bag.arrays["maps/layer2"].shape == (count, 128, 1, 5, 5)


@pytest.mark.parametrize(
    ("maps", "message"),
    [({"ct": "layer5"}, "encoder resnet3d_10 has no stage 'layer5' .its stages: layer1, layer2, layer3, layer4"),
     ({"ct": "layer1:4"}, "'layer1:4' is not STAGE, STAGE:HxW or STAGE:TxHxW"),
     ({"ct": "layer1:0x4x4"}, "is not STAGE"),
     ({"ct": "layer1,layer1:2x2x2"}, "the stage 'layer1' is given twice"),
     ({"": "layer1"}, "--maps: write MODALITY=STAGES"),
     ({"us": "layer1"}, "--maps: 'us' has no --encoder"),
     ({"ct": "layer1:99x4x4"}, "cannot be pooled to 99x4x4, which is larger")],
)  # fmt: skip
def test_wrong_maps(crops: Path, tmp_path: Path, maps: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        encode(crops, tmp_path / "f.h5", {"ct": "resnet3d_10"}, maps=maps, dry_run=True)


def test_statistics_give_no_maps(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"encoder intensity-statistics has no stage 'layer1' \(it gives no maps"):
        encode(prepared, tmp_path / "f.h5", {"ct": "intensity-statistics"}, maps={"ct": "layer1"})


def test_store_info_lists_them(mapped: Path) -> None:
    rows = {row["holds"]: row for row in store_stage.info([sorted(mapped.glob("f.shard*.h5"))[0]]).rows}
    assert rows["  ct/maps/layer1"]["what"] == "map 64 x 6 x 4 x 4 (c, t, h, w) of an instance, float16"
    assert rows["  ct/maps/layer4"]["count"] == rows["modality ct"]["count"]
