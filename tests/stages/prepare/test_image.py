"""Images in preprocess: what is cropped, by hand and on real pictures, and what the encoder then reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmcli.cohort.model import FileSpec
from mmcli.errors import RequestError, UnreadableError
from mmcli.readers.contrast import clahe
from mmcli.settings import ExtractSettings, PreprocessSettings
from mmcli.stages import extract, preprocess
from mmcli.stages.pixels import Pixels
from mmcli.stages.prepare.base import Given
from mmcli.stages.prepare.image import around, options, prepare
from mmcli.store import Store, Stores


def given(folder: Path, **values: dict[str, str]) -> Given:
    return Given(PreprocessSettings(cohort=folder / "c.yaml", out=folder / "o.h5", **values), "us")


@pytest.fixture
def lesion(tmp_path: Path) -> FileSpec:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 50:60] = 1  # a label map: values of 1, not 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    return FileSpec(tmp_path / "a.png", "a.png", mask=tmp_path / "m.png")


def test_the_box_around_a_mask_by_hand(tmp_path: Path, lesion: FileSpec) -> None:
    for margin, box in (("0", [50, 20, 10, 20]), ("0.1", [49, 18, 12, 24]), ("3", [20, 0, 60, 60])):
        chosen = options(given(tmp_path, image_crop={"us": "mask"}, image_margin={"": margin}))
        assert prepare(lesion, chosen).coords.tolist() == [box]
    assert around(np.ones((3, 4), bool), 0.5) == (0, 0, 4, 3)
    assert prepare(lesion, options(given(tmp_path))).coords.tolist() == [[0, 0, 80, 60]]


def test_masks_that_do_not_fit(tmp_path: Path, lesion: FileSpec) -> None:
    chosen = options(given(tmp_path, image_crop={"": "mask"}))
    Image.new("1", (80, 60)).save(tmp_path / "empty.png")
    Image.new("1", (80, 61), 1).save(tmp_path / "other.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "m.png").read_bytes()[:60])
    for name, words in [("empty.png", "empty.png: the mask is empty"), ("other.png", "80 x 61 pixels, its"),
                        ("cut.png", "cut.png: cannot be decoded"), ("none.png", "no such file")]:  # fmt: skip
        with pytest.raises(UnreadableError, match=words):
            prepare(FileSpec(lesion.path, "a.png", mask=tmp_path / name), chosen)
    with pytest.raises(UnreadableError, match="has no mask to crop around"):
        prepare(FileSpec(lesion.path, "a.png"), chosen)
    # transparent is not set; a palette's index 0 is not set
    alpha = np.zeros((60, 80, 4), np.uint8)
    alpha[..., 0] = 255
    alpha[5:9, 6:9, 3] = 255
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    found = prepare(FileSpec(lesion.path, "a.png", mask=tmp_path / "alpha.png"), chosen | {"margin": 0.0})
    assert found.coords.tolist() == [[6, 5, 3, 4]]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"image_crop": {"us": "lesion"}}, "--image-crop: expected none or sector or mask, not 'lesion'"),
        ({"image_margin": {"": "-1"}}, "--image-margin must be 0 or more"),
        ({"image_frame": {"": "last"}}, "--image-frame: expected first or middle"),
        ({"clahe": {"us": "0"}}, "--clahe must be above 0"),
        ({"clahe": {"us": "much"}}, "--clahe: expected a number, not 'much'"),
    ],
)
def test_bad_options(tmp_path: Path, values: dict[str, dict[str, str]], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        options(given(tmp_path, **values))


def test_from_real_files_to_what_the_encoder_reads(data: Path, tmp_path: Path) -> None:
    """BUSI pictures with masks and an ultrasound screen: crops, CLAHE, pictures, and what extraction reads."""
    folder = data / "images/ultrasound"
    rows = ["id,us,mask,screen"]
    for name in ("benign (133)", "benign (51)", "malignant (137)", "normal (46)"):
        kind = name.split()[0]
        base = folder / "busi_original_with_masks" / kind
        rows.append(f"{name},{base}/images/{name}.png,{base}/mask/{name}_mask.png,{folder}/dicom/US-RGB-8-epicard")
    (tmp_path / "p.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "cohort.yaml").write_text(
        "patients: p.csv\nid: id\nmodalities:\n"
        "  us: {kind: image, path: us, mask: mask}\n  screen: {kind: image, path: screen}\n"
    )
    out = tmp_path / "prepared.h5"
    done = preprocess.run(PreprocessSettings(
        cohort=tmp_path / "cohort.yaml", out=out, quiet=True, allow_failures="any",
        image_crop={"us": "mask", "screen": "sector"}, clahe={"us": "2"},
    ))  # fmt: skip
    assert [f["reason"] for f in done.data["failures"]] == [
        "normal (46)_mask.png: the mask is empty: there is nothing to crop around"
    ]
    with Store(out) as store:
        assert store.bags["us"].meta.settings == {"crop": "mask", "margin": 0.1, "frame": "first", "clahe": 2.0}
        x, y, width, height = store.bags["us"].rows("coords", 0)[0].tolist()
        mask = np.array(Image.open(folder / "busi_original_with_masks/benign/mask/benign (133)_mask.png"))
        rows_, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert (x, x + width) == pytest.approx((columns[0], columns[-1] + 1), abs=0.1 * np.ptp(columns) + 2)
        assert y < rows_[0] and rows_[-1] < y + height
    with Stores([out]) as stores:
        seen = next(Pixels(stores.bags["us"], tmp_path).instances(0, 0, 1))
        raw = np.array(Image.open(folder / "busi_original_with_masks/benign/images/benign (133).png").convert("RGB"))
        np.testing.assert_array_equal(seen, clahe(raw[y : y + height, x : x + width], 2.0))
        screen = next(Pixels(stores.bags["screen"], tmp_path).instances(1, 0, 1))
        assert (screen[:5, :20] == 0).all() and screen.max() > 200  # beside the fan's apex
    for name, width in (("us", None), ("screen", 600)):
        picture = np.array(Image.open(next((tmp_path / "prepared.pictures" / name).glob("benign*133*.jpg"))))
        green = (picture[..., 1] > 180) & (picture[..., 0] < 90) & (picture[..., 2] < 90)
        assert green.sum() > 100 and picture.shape[1] <= 1200 and (width is None or picture.shape[1] > width)
    encoded = extract.run(ExtractSettings(
        stores=[out], out=tmp_path / "f.h5", encoder={"us": "statistics", "screen": "statistics"}, quiet=True,
        allow_failures="any",
    ))  # fmt: skip
    assert encoded.exit_code == 0
    with Store(tmp_path / "f.h5") as store:
        assert store.bags["us"].present.tolist() == [True, True, True, False]
        assert np.isfinite(store.bags["screen"].rows("features", 2)).all()
