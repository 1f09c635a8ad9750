"""Sequences of a slide's tiles: an encoder of volumes takes each as one instance, a 2D encoder its tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mmcli.encoders import load_encoder
from mmcli.errors import RequestError
from mmcli.settings import ExtractSettings, PreprocessSettings
from mmcli.stages import extract, preprocess
from mmcli.stages.encode import pipeline
from mmcli.stages.pixels import Stacked, luminance
from mmcli.store import Store, verify

LENGTH, SIDE = 16, 128
STEPS = {"stem_z_stride": "1", "dilated": "false"}  # mhd-net's
NET = {"slide": "resnet3d_10"}


def encode(prepared: Path, out: Path, encoder: dict[str, str] = NET, **given: Any) -> Any:
    given = {"quiet": True, "workers": 2, "random_weights": True, "dtype": "float32", **given}
    if "resnet3d_10" in encoder.values():
        name = next(n for n, e in encoder.items() if e == "resnet3d_10")
        given["set"] = {f"{name}.{k}": v for k, v in STEPS.items()} | given.get("set", {})
    return extract.run(ExtractSettings(stores=[prepared], out=out, encoder=encoder, **given))


def digest(path: Path) -> str:
    with Store(path) as store:
        return store.content_sha256


def lay_down(folder: Path, slides: dict[str, list[Path]], length: int, side: int, least: str = "0.5") -> Path:
    """A store of patients with these slides, their tiles in sequences."""
    lines = ["id,slide"]
    for patient, files in slides.items():
        names = [f"{patient}-{number}{file.suffix}" for number, file in enumerate(files)]
        for name, file in zip(names, files, strict=True):
            (folder / name).symlink_to(file)
        lines.append(f"{patient},{';'.join(names)}")
    (folder / "p.csv").write_text("\n".join(lines) + "\n")
    (folder / "c.yaml").write_text("patients: p.csv\nid: id\nmodalities:\n  slide: {kind: slide, path: slide}\n")
    preprocess.run(PreprocessSettings(
        cohort=folder / "c.yaml", out=folder / "p.h5", quiet=True, pictures=False, target_mpp={"": "native"},
        tile_px={"": str(side)}, min_tissue={"": least}, sequence={"slide": str(length)},
    ))  # fmt: skip
    return folder / "p.h5"


@pytest.fixture(scope="module")
def sequences(made: Path, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patient a has two slides, b none, c and d one."""
    with Store(prepared) as store:
        bag = store.bags["slide"]
        first = [int(bag.rows("source", i)[0]) for i in np.flatnonzero(bag.present)[:4].tolist()]
        one, two, three, four = (made / bag.sources[row].path for row in first)
    slides = {"a": [one, two], "b": [], "c": [three], "d": [four]}
    return lay_down(tmp_path_factory.mktemp("sequences"), slides, LENGTH, SIDE, "1")


def grey(path: Path, coords: NDArray[np.int32]) -> NDArray[np.float32]:
    """Tiles by OpenSlide itself, as luminance by the formula as it is printed."""
    slide = openslide.OpenSlide(str(path))
    tiles = [np.asarray(slide.read_region((x, y), 0, (w, h)).convert("RGB")) for x, y, w, h in coords.tolist()]
    return (np.stack(tiles).astype(np.float64) @ [0.299, 0.587, 0.114] / 255).astype(np.float32)


def test_equal_to_a_plain_loop(sequences: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.h5"
    encode(sequences, out, batch=2, maps={"slide": "layer1:8x4x4,layer4"}, seed=3)
    encoder: Any = load_encoder("resnet3d_10", random_weights=True, seed=3, options=STEPS)
    with Store(sequences) as before, Store(out) as store:
        tiles, bag = before.bags["slide"], store.bags["slide"]
        assert bag.present.tolist() == [True, False, True, True]
        assert (np.diff(bag.offsets) * LENGTH).tolist() == np.diff(tiles.offsets).tolist()
        assert bag.meta.kind == "slide" and bag.meta.settings["sequence"] == {"length": LENGTH, "pixels": "luminance"}
        for patient in np.flatnonzero(bag.present).tolist():
            coords = tiles.rows("coords", patient)
            files = [sequences.parent / tiles.sources[row].path for row in tiles.rows("source", patient).tolist()]
            np.testing.assert_array_equal(bag.rows("coords", patient), coords[::LENGTH])
            own = [store.bags["slide"].sources[row].path for row in bag.rows("source", patient).tolist()]
            assert own == [file.name for file in files[::LENGTH]]
            for number, row in enumerate(bag.rows("features", patient)):
                one = slice(number * LENGTH, (number + 1) * LENGTH)
                assert len(set(files[one])) == 1
                volume = grey(files[one][0], coords[one])[None]
                np.testing.assert_allclose(row, encoder.encode(volume)[0], rtol=1e-4, atol=1e-5)
                if number == 0:
                    with torch.inference_mode():
                        maps = encoder.model.maps(encoder.prepare(torch.from_numpy(volume)))
                    small = F.adaptive_avg_pool3d(maps[0], (8, 4, 4)).numpy()[0]
                    np.testing.assert_allclose(bag.rows("maps/layer1", patient)[0], small, rtol=2e-3, atol=1e-3)
                    np.testing.assert_allclose(
                        bag.rows("maps/layer4", patient)[0], maps[3].numpy()[0], rtol=2e-3, atol=1e-3
                    )
        assert len(set(store.bags["slide"].rows("source", 0).tolist())) == 2
    assert verify(out) == []


def test_the_sizes_of_mhd_net(data: Path, tmp_path: Path) -> None:
    """24 tiles of 224 px give the maps of its table: 64x12x56x56 and on to 512x2x7x7."""
    slide = (data / "images/slides/CMU-1-Small-Region.svs").resolve()
    store = lay_down(tmp_path, {"p": [slide]}, 24, 224)
    encode(store, tmp_path / "f.h5", maps={"slide": "layer1,layer2,layer3,layer4"})
    with Store(tmp_path / "f.h5") as found, Store(store) as before:
        bag = found.bags["slide"]
        count = int(before.bags["slide"].offsets[-1]) // 24
        sizes = {name: array.shape for name, array in bag.arrays.items() if name.startswith("maps/")}
        assert sizes == {
            "maps/layer1": (count, 64, 12, 56, 56), "maps/layer2": (count, 128, 6, 28, 28),
            "maps/layer3": (count, 256, 3, 14, 14), "maps/layer4": (count, 512, 2, 7, 7),
        }  # fmt: skip
        coords = before.bags["slide"].rows("coords", 0)[:24]
    encoder = load_encoder("resnet3d_10", random_weights=True, options=STEPS)
    with Store(tmp_path / "f.h5") as found:
        expected = encoder.encode(grey(slide, coords)[None])[0]
        np.testing.assert_allclose(found.bags["slide"].rows("features", 0)[0], expected, rtol=1e-3, atol=1e-4)


def test_a_2d_encoder_takes_the_tiles(sequences: Path, tmp_path: Path) -> None:
    """Both in one command: tiles as a bag of their own, and the same bits as alone."""
    encode(sequences, tmp_path / "f.h5", {"slide": "statistics", "slide@volumes": "intensity-statistics"}, batch=5)
    encode(sequences, tmp_path / "g.h5", {"slide": "statistics"}, batch=7)
    with Store(sequences) as before, Store(tmp_path / "f.h5") as both, Store(tmp_path / "g.h5") as alone:
        np.testing.assert_array_equal(both.bags["slide"].offsets, before.bags["slide"].offsets)
        np.testing.assert_array_equal(both.bags["slide@volumes"].offsets * LENGTH, before.bags["slide"].offsets)
        assert both.bags["slide@volumes"].dim == 48
        for array in ("features", "coords"):
            one, two = (store.bags["slide"].arrays[array][:] for store in (both, alone))
            np.testing.assert_array_equal(one, two)
        assert "sequence" not in both.bags["slide"].meta.settings


def test_the_same_bits_after_interruptions_and_by_reuse(
    sequences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"batch": 4, "maps": {"slide": "layer4:1x1x1"}}
    encode(sequences, tmp_path / "whole.h5", **given)
    done = encode(sequences, tmp_path / "reused.h5", reuse=tmp_path / "whole.h5", **given)
    assert done.data["reused"] == {"slide": 3}
    real = pipeline._Run._log
    interruptions = []

    def interrupted(self: Any, key: Any) -> None:
        real(self, key)
        interruptions.append(key)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline._Run, "_log", interrupted)
    out = tmp_path / "f.h5"
    while not out.exists():
        try:
            encode(sequences, out, workers=1, **given)
        except KeyboardInterrupt:
            continue
    assert interruptions == [("slide", 0), ("slide", 2), ("slide", 3)]
    assert digest(out) == digest(tmp_path / "whole.h5") == digest(tmp_path / "reused.h5")


def test_three_channels(sequences: Path, tmp_path: Path) -> None:
    """In colour the tiles are what OpenSlide reads; weights of one channel see grey tiles as they always did."""
    encode(sequences, tmp_path / "f.h5", set={"slide.channels": "3"}, shard="2/4")
    encoder: Any = load_encoder("resnet3d_10", random_weights=True, options=STEPS | {"channels": "3"})
    assert encoder.model.conv1.weight.shape == (64, 3, 7, 7, 7)
    with Store(sequences) as before, Store(tmp_path / "f.shard-2-of-4.h5") as store:
        tiles, bag = before.bags["slide"], store.bags["slide"]
        assert bag.meta.settings["sequence"]["pixels"] == "rgb" and bag.meta.settings["encoder"]["channels"] == 3
        slide = openslide.OpenSlide(str(sequences.parent / tiles.sources[int(tiles.rows("source", 2)[0])].path))
        places = tiles.rows("coords", 2)[:LENGTH].tolist()
        rgb = np.stack([np.asarray(slide.read_region((x, y), 0, (w, h)).convert("RGB")) for x, y, w, h in places])
        expected = encoder.encode((rgb[None] / 255).astype(np.float32))[0]
        np.testing.assert_allclose(bag.rows("features", 2)[0], expected, rtol=1e-4, atol=1e-5)
    single: Any = load_encoder("resnet3d_10", random_weights=True, options=STEPS)
    torch.save({"state_dict": {f"module.{k}": v for k, v in single.model.state_dict().items()}}, tmp_path / "w.pth")
    wide = load_encoder("resnet3d_10", weights=tmp_path / "w.pth", options=STEPS | {"channels": "3"})
    assert wide.settings["inflated"] == "conv1.weight: 1 channel repeated over 3, divided by 3"
    assert "channels" not in single.settings and "partial" not in wide.settings
    one = np.random.default_rng(0).random((2, 16, 24, 20), np.float32)
    three = np.repeat(one[..., None], 3, axis=-1)
    np.testing.assert_allclose(wide.encode(three), single.encode(one), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"takes float32 \(n, d, h, w, 3\), not float32 \(2, 16, 24, 20\)"):
        wide.encode(one)


def test_pixels_of_a_stack() -> None:
    tiles = np.zeros((2, 1, 4, 3), np.uint8)
    tiles[0, 0] = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]
    tiles[1, 0] = [[7, 7, 7], [10, 20, 30], [0, 0, 0], [1, 2, 3]]
    expected = [[[0.299, 0.587, 0.114, 1]], [[7 / 255, 18.15 / 255, 0, 1.815 / 255]]]
    grey_ones = Stacked(2, 1).pile(iter(tiles))
    assert grey_ones.dtype == np.float32
    np.testing.assert_allclose(grey_ones, expected, rtol=1e-6)
    coloured = Stacked(2, 3).pile(iter(tiles))
    assert coloured.dtype == np.float32
    np.testing.assert_array_equal(coloured, tiles.astype(np.float32) / np.float32(255))
    even = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    np.testing.assert_array_equal(luminance(even)[:, 0], np.arange(256, dtype=np.float32) / np.float32(255))


def test_what_is_refused(prepared: Path, sequences: Path, tmp_path: Path) -> None:
    single = (
        r"--encoder slide@v=resnet3d_10: it reads volume, slide@v is a slide of single tiles; for tiles in sequences: "
        r"mmcli preprocess --sequence slide=24"
    )
    with pytest.raises(RequestError, match=single):
        encode(prepared, tmp_path / "f.h5", {"slide@v": "resnet3d_10"})
    with pytest.raises(RequestError, match=r"--set ct.channels=3: ct is a volume of one channel; leave it out"):
        encode(prepared, tmp_path / "f.h5", {"ct": "resnet3d_10"}, set={"ct.channels": "3"})
    with pytest.raises(RequestError, match="cannot be pooled to 99x4x4, which is larger"):
        encode(sequences, tmp_path / "f.h5", maps={"slide": "layer1:99x4x4"}, dry_run=True)
    assert "would encode" in encode(sequences, tmp_path / "f.h5", dry_run=True).message
