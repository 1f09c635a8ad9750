"""Slides in preprocess: tiles, overlap, sequences, pictures, and slides that are bad in every way they come."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from mmcli.cohort.model import FileSpec
from mmcli.demo.slides import draw_slide, write_slide
from mmcli.errors import RequestError, UnreadableError
from mmcli.settings import PreprocessSettings
from mmcli.stages import preprocess
from mmcli.stages.prepare.base import Given
from mmcli.stages.prepare.slide import options, prepare
from mmcli.stages.prepare.slide_picture import HEAD
from mmcli.store import Store

PINK, GREEN, BLUE, RED = (210, 130, 180), (0, 140, 60), (40, 70, 220), (220, 30, 30)


def given(folder: Path, **values: dict[str, str]) -> Given:
    return Given(PreprocessSettings(cohort=folder / "c.yaml", out=folder / "o.h5", **values), "slide")


def painted(folder: Path, *boxes: tuple[int, int, int, int], size: tuple[int, int] = (800, 600)) -> FileSpec:
    """A white picture with pink boxes (x, y, width, height), as a slide of 0.5 µm per pixel."""
    pixels = np.full((size[1], size[0], 3), 244, np.uint8)
    for x, y, w, h in boxes:
        pixels[y : y + h, x : x + w] = PINK
    Image.fromarray(pixels).save(folder / "s.png")
    return FileSpec(folder / "s.png", "s.png", mpp=0.5)


def corners(coords: NDArray[np.int32]) -> list[list[int]]:
    return coords[:, :2].tolist()


def test_tiles_with_and_without_overlap_by_hand(tmp_path: Path) -> None:
    file = painted(tmp_path, (100, 100, 200, 100))
    plain = prepare(file, options(given(tmp_path, tile_px={"": "100"})))
    assert plain.coords.tolist() == [[100, 100, 100, 100], [200, 100, 100, 100]]
    assert (plain.source.mpp, plain.source.mpp_source) == (0.5, "cohort")
    half = prepare(file, options(given(tmp_path, tile_px={"": "100"}, overlap={"slide": "50"}, min_tissue={"": "0.9"})))
    assert corners(half.coords) == [[100, 100], [150, 100], [200, 100]]
    # at twice the MPP a tile of 50 px is 100 px of level 0, and so is its overlap
    coarse = options(
        given(tmp_path, tile_px={"": "50"}, overlap={"": "25"}, target_mpp={"": "1"}, min_tissue={"": "0.9"})
    )
    assert prepare(file, coarse).coords.tolist() == half.coords.tolist()
    told = prepare(file, options(given(tmp_path, tile_px={"": "100"}, mpp={"": "0.25"}, min_tissue={"": "0.2"})))
    assert told.coords.tolist() == [[0, 0, 200, 200], [200, 0, 200, 200]]
    assert (told.source.mpp, told.source.mpp_source) == (0.25, "--mpp")


def test_sequences_leave_out_the_tiles_with_the_least_tissue(tmp_path: Path) -> None:
    # two rows of four tiles; of each row's tiles the third has less tissue
    boxes = [(100 * i, 100 * j, 100 if i != 2 else 70, 100) for i in range(4) for j in range(2)]
    file = painted(tmp_path, *boxes)
    chosen = options(given(tmp_path, tile_px={"": "100"}, sequence={"slide": "3"}))
    assert chosen["sequence"] == 3
    made = prepare(file, chosen)
    assert corners(made.coords) == [[0, 0], [100, 0], [300, 0], [0, 100], [100, 100], [300, 100]]
    whole = options(given(tmp_path, tile_px={"": "100"}, sequence={"": "4"}))
    assert len(prepare(file, whole).coords) == 8  # four divides eight: nothing is left out
    assert "sequence" not in options(given(tmp_path))
    long = options(given(tmp_path, tile_px={"": "100"}, sequence={"": "24"}))
    with pytest.raises(
        UnreadableError, match=r"s\.png: only 8 tiles of 100 px have 50% tissue, fewer than a sequence of 24"
    ):
        prepare(file, long)


def test_the_picture_shows_slide_tissue_and_tiles(tmp_path: Path) -> None:
    file = painted(tmp_path, (100, 100, 330, 220))
    made = prepare(file, options(given(tmp_path, tile_px={"": "100"}, sequence={"": "2"})))
    picture = made.picture
    assert picture is not None and picture.dtype == np.uint8 and max(picture.shape) <= 1200
    scale = 800 / picture.shape[1]

    def at(x: float, y: float) -> tuple[int, ...]:
        return tuple(picture[HEAD + round(y / scale), round(x / scale)].tolist())

    assert corners(made.coords) == [[x, y] for y in (100, 200) for x in (100, 200, 300)]
    assert at(150, 150) == PINK and at(700, 500) == (244, 244, 244)
    assert at(100, 150) == GREEN and at(300, 150) == BLUE and at(300, 230) == GREEN
    edge = [at(x, 250) for x in range(425, 436)]
    assert any(np.abs(np.subtract(c, RED)).max() < 5 for c in edge)
    everything = prepare(file, options(given(tmp_path, tile_px={"": "100"}, min_tissue={"": "0"})))
    assert len(everything.coords) == 48 and everything.picture is not None
    assert not (everything.picture == RED).all(axis=2).any()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"overlap": {"": "224"}}, "--overlap: must be from 0 to less than the tile's 224 px"),
        ({"overlap": {"": "-1"}}, "--overlap: must be from 0"),
        ({"overlap": {"": "half"}}, "--overlap: expected a whole number, not 'half'"),
        ({"sequence": {"": "1"}}, "--sequence: must be from 2 to 4096"),
        ({"sequence": {"slide": "5000"}}, "--sequence: must be from 2 to 4096"),
        ({"min_tissue": {"": "1.1"}}, "--min-tissue between 0 and 1"),
    ],
)
def test_bad_options(tmp_path: Path, values: dict[str, dict[str, str]], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        options(given(tmp_path, **values))


# ---- bad slides


def without_its_second_page(path: Path) -> None:
    """The directory of level 0 says that it is the last one."""
    raw = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        first = tiff.pages[0]
        at = first.offset + 2 + 12 * len(first.tags)
    raw[at : at + 4] = bytes(4)
    path.write_bytes(bytes(raw))


def with_a_broken_level(path: Path, level: int) -> None:
    raw = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[level]
        for at, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            raw[at : at + count] = bytes(count)
    path.write_bytes(bytes(raw))


def test_every_kind_of_bad_slide_is_one_line_and_the_rest_is_done(tmp_path: Path, data: Path) -> None:
    good = tmp_path / "good.tif"
    write_slide(good, draw_slide(np.random.default_rng(3), 0.5))
    folder = data / "images/slides"
    expected: dict[str, str] = {}

    def bad(name: str, words: str) -> Path:
        expected[name] = words
        return Path(shutil.copy(good, tmp_path / f"{name}.tif"))

    cut = bad("cut", r"cut\.tif: ")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    bad("empty", r"empty\.tif: is empty \(zero bytes\)").write_bytes(b"")
    bad("words", r"words\.tif: unknown to OpenSlide, and neither TIFF, PNG nor JPEG").write_text("a slide")
    with_a_broken_level(bad("broken", r"broken\.tif: damaged pixels at level 0, tile 0,0"), 0)
    with_a_broken_level(bad("thumb", r"thumb\.tif: (damaged pixels at level 1|OpenSlide cannot read it)"), 1)
    Image.new("RGB", (900, 900), (244, 244, 244)).save(
        bad("blank", r"no tile of 224 px has 50% tissue \(0\.0% of it is")
    )
    Image.new("RGB", (200, 900), PINK).save(bad("small", r"no tile of 224 px"), dpi=(50_800, 50_800))
    Image.new("RGB", (900, 900), PINK).save(bad("dpi", r"its µm per pixel are unknown: give them by"), dpi=(96, 96))
    expected["gone"] = r"gone\.tif: no such file"
    expected["dapi"] = r"dark background: not a brightfield slide.*--min-tissue 0"
    shutil.copy(folder / "test3-DAPI-2-(387).ndpi", tmp_path / "dapi.tif")
    expected["crop"] = r"its µm per pixel are unknown"  # 96 dpi, as its writer put it
    shutil.copy(folder / "CropBreastSlide.tiff", tmp_path / "crop.tif")
    shutil.copy(good, tmp_path / "level.tif")
    without_its_second_page(tmp_path / "level.tif")
    Image.new("RGB", (900, 900), (244, 244, 244)).save(tmp_path / "dpi-blank.tif", dpi=(50_800, 50_800))

    rows = [f"{name},{name}.tif," for name in expected]
    rows[list(expected).index("blank")] = "blank,dpi-blank.tif,"
    rows += ["good,good.tif,", "level,level.tif,", "both,good.tif;crop.tif,0.5", "half,good.tif;empty.tif,"]
    (tmp_path / "p.csv").write_text("id,slide,mpp\n" + "\n".join(rows) + "\n")
    (tmp_path / "cohort.yaml").write_text(
        "patients: p.csv\nid: id\nmodalities:\n  slide: {kind: slide, path: slide, mpp: mpp}\n"
    )
    done = preprocess.run(PreprocessSettings(cohort=tmp_path / "cohort.yaml", out=tmp_path / "o.h5", quiet=True))
    assert done.exit_code == 3
    reasons = {row["patient_id"]: row["reason"] for row in done.data["failures"]}
    expected["half"] = r"empty\.tif: is empty"
    assert set(reasons) == set(expected)
    for name, words in expected.items():
        with_words = pytest.raises(UnreadableError, match=words)
        with with_words:
            raise UnreadableError(reasons[name])
        assert "\n" not in reasons[name] and len(reasons[name]) < 250
    listed = (tmp_path / "o.h5.failures.csv").read_text()
    assert listed.count("\n") == len(expected) + 1
    with Store(tmp_path / "o.h5") as store:
        bag = store.bags["slide"]
        assert store.patients.ids[-4:] == ["good", "level", "both", "half"]
        assert bag.present.tolist() == [False] * (len(expected) - 1) + [True, True, True, False]
        one, level, both = (bag.rows("coords", len(expected) - 1 + i) for i in range(3))
        np.testing.assert_array_equal(one, both[: len(one)])
        assert len(level) and len(both) > len(one)
        assert len(np.unique(bag.rows("source", len(expected) + 1))) == 2
    pictures = {p.name for p in (tmp_path / "o.pictures" / "slide").iterdir()}
    assert pictures == {"good.jpg", "level.jpg", "both.jpg", "both-2.jpg"}
    with Image.open(tmp_path / "o.pictures/slide/both-2.jpg") as picture:
        assert max(picture.size) <= 1200 and min(picture.size) > 300


def test_a_real_slide_whose_mpp_is_told_three_ways(data: Path, tmp_path: Path) -> None:
    path = data / "images/slides/CMU-1-Small-Region.svs"
    chosen = options(given(tmp_path, target_mpp={"": "0.998"}, tile_px={"": "128"}))
    made = prepare(FileSpec(path, "a.svs"), chosen)
    assert (made.source.mpp, made.source.mpp_source) == (0.499, "metadata") and set(made.coords[:, 2].tolist()) == {256}
    wider = prepare(FileSpec(path, "a.svs", mpp=0.2495), chosen)
    assert wider.source.mpp_source == "cohort" and set(wider.coords[:, 2].tolist()) == {512}
    assert set(prepare(FileSpec(path, "a.svs", mpp=7.0), chosen | {"mpp": 0.499}).coords[:, 2].tolist()) == {256}
