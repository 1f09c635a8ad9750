"""Made SEG and RTSTRUCT masks against hand-drawn voxels, matplotlib's polygons and a ball's volume."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from mmcli.errors import UnreadableError
from mmcli.readers.rtstruct import draw, even_odd
from mmcli.readers.volume import Volume, read_mask

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
FRAME = "1.2.3.4"


def made(array: NDArray[Any], affine: NDArray[Any] | None = None, **known: str) -> Volume:
    """A volume whose voxel (x, y, z) lies at x, y, z mm in DICOM's world: -x, -y, z in RAS."""
    turned = array[:, ::-1, ::-1]
    _, height, width = array.shape
    at = np.array([[1.0, 0, 0, 1 - width], [0, 1, 0, 1 - height], [0, 0, 1, 0], [0, 0, 0, 1]])
    return Volume(turned.astype(np.float32), at if affine is None else affine, "CT", Path("made"), **known)


def saved(path: Path, modality: str, uid: str, fill: Callable[[Dataset], None]) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.TransferSyntaxUID = uid, ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid, dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.FrameOfReferenceUID = modality, FRAME
    fill(dataset)
    dataset.save_as(path, enforce_file_format=True)
    return path


def item(**values: Any) -> Dataset:
    made_item = Dataset()
    for name, value in values.items():
        setattr(made_item, name, value)
    return made_item


def write_seg(
    path: Path,
    frames: list[tuple[float, int, NDArray[Any]]],
    kind: str = "BINARY",
    names: tuple[str, ...] = ("liver", "Node", "node"),
    **changes: Any,
) -> Path:
    """frames: (z in mm, segment number, plane); columns run to the left, rows to the back, 1 mm pixels at 0, 0."""

    def fill(d: Dataset) -> None:
        d.SegmentationType = kind
        d.SegmentSequence = [item(SegmentNumber=i, SegmentLabel=name) for i, name in enumerate(names, start=1)]
        d.NumberOfFrames, d.SamplesPerPixel, d.PhotometricInterpretation = len(frames), 1, "MONOCHROME2"
        d.Rows, d.Columns = frames[0][2].shape
        bits = 1 if kind == "BINARY" else 8
        d.BitsAllocated = d.BitsStored = bits
        d.HighBit, d.PixelRepresentation, d.MaximumFractionalValue = bits - 1, 0, 200
        stack = np.stack([plane for _, _, plane in frames]).astype(np.uint8)
        raw = np.packbits(stack.ravel(), bitorder="little") if kind == "BINARY" else stack.ravel()
        d.PixelData = raw.tobytes() + b"\0" * (len(raw.tobytes()) % 2)
        measures = item(PixelSpacing=[1, 1], SpacingBetweenSlices=changes.get("between", 1), SliceThickness=9)
        plane = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
        d.SharedFunctionalGroupsSequence = [item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[plane])]
        d.PerFrameFunctionalGroupsSequence = [
            item(
                PlanePositionSequence=[item(ImagePositionPatient=[0, 0, z])],
                SegmentIdentificationSequence=[item(ReferencedSegmentNumber=number)],
            )
            for z, number, _ in frames
        ]
        if "frame" in changes:
            d.FrameOfReferenceUID = changes["frame"]

    return saved(path, "SEG", pydicom.uid.SegmentationStorage, fill)


def write_rtstruct(path: Path, structures: dict[str, Iterable[Any]], series: str = "", frame: str = FRAME) -> Path:
    """structures: name -> contours, each a list of (x, y, z) in DICOM's world, or a pair (type, list)."""

    def fill(d: Dataset) -> None:
        d.StructureSetROISequence = [
            item(ROINumber=10 + i, ROIName=name, ReferencedFrameOfReferenceUID=frame)
            for i, name in enumerate(structures)
        ]
        d.ROIContourSequence = []
        for i, contours in enumerate(structures.values()):
            drawn = []
            for contour in contours:
                kind, points = contour if isinstance(contour, tuple) else ("CLOSED_PLANAR", contour)
                drawn.append(item(ContourGeometricType=kind, NumberOfContourPoints=len(points),
                                  ContourData=[f"{v:.4f}" for p in points for v in p]))  # fmt: skip
            d.ROIContourSequence.append(item(ReferencedROINumber=10 + i, ContourSequence=drawn))
        referred = item(RTReferencedSeriesSequence=[item(SeriesInstanceUID=series or "9.9")])
        d.ReferencedFrameOfReferenceSequence = [item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[referred])]

    return saved(path, "RTSTRUCT", pydicom.uid.RTStructureSetStorage, fill)


def square(x0: float, y0: float, x1: float, y1: float, z: float) -> list[tuple[float, float, float]]:
    return [(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)]


def dicom_order(mask: NDArray[Any]) -> NDArray[Any]:
    """A mask (z, y, x) in the order of DICOM's rows and columns, as the hand-drawn ones here."""
    return mask[:, ::-1, ::-1]


# ---- SEG


def test_frames_of_odd_sizes_in_any_order_go_to_their_own_planes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    planes = random.random((6, 5, 7)) < 0.5  # 35 bits a frame: frames do not begin at a byte
    order = [4, 0, 2, 5]
    volume = made(np.zeros((6, 5, 7)))
    path = write_seg(tmp_path / "a.dcm", [(float(z), 1 + (z == 5), planes[z]) for z in order])
    expected = np.where(np.isin(np.arange(6), [0, 2, 4])[:, None, None], planes, False)
    np.testing.assert_array_equal(dicom_order(read_mask(path, volume, "LIVER")), expected)
    only = np.where(np.arange(6)[:, None, None] == 5, planes, False)
    np.testing.assert_array_equal(dicom_order(read_mask(path, volume, "2")), only)
    np.testing.assert_array_equal(dicom_order(read_mask(path, volume, "*")), expected | only)
    assert read_mask(path, volume, "Node").sum() == planes[5].sum()  # exact before other case
    with pytest.raises(UnreadableError, match="empty: no frame"):
        read_mask(path, volume, "node")


def test_fractional_and_labelmap_segments(tmp_path: Path) -> None:
    volume = made(np.zeros((2, 2, 3)))
    shares = np.array([[0, 99, 100], [101, 200, 0]])
    path = write_seg(tmp_path / "f.dcm", [(0.0, 1, shares), (1.0, 1, shares * 0)], "FRACTIONAL", ("a",))
    assert dicom_order(read_mask(path, volume)).tolist() == [(shares >= 100).tolist(), [[False] * 3] * 2]
    labels = np.array([[0, 1, 2], [3, 2, 1]])
    path = write_seg(tmp_path / "l.dcm", [(0.0, 0, labels), (1.0, 0, labels)], "LABELMAP")
    assert dicom_order(read_mask(path, volume, "1|3"))[0].tolist() == np.isin(labels, [1, 3]).tolist()


def test_segs_that_do_not_fit(tmp_path: Path) -> None:
    volume = made(np.zeros((6, 4, 4)), frame=FRAME)
    plane = np.ones((4, 4))
    for change, words in [
        ({"frames": [(0.0, 1, plane), (1.0, 1, plane), (2.6, 1, plane)]}, "unevenly"),
        ({"frames": [(90.0, 1, plane), (91.0, 1, plane)]}, "wholly outside"),
        ({"frames": [(0.0, 1, plane)], "frame": "7.7"}, "another frame of reference"),
        ({"frames": [(0.0, 1, plane)], "kind": "OTHER"}, "type OTHER"),
    ]:
        with pytest.raises(UnreadableError, match=words):
            read_mask(write_seg(tmp_path / "s.dcm", names=("a",), **change), volume)
    path = write_seg(tmp_path / "s.dcm", [(0.0, 1, plane), (3.0, 1, plane)], names=("a",))
    assert read_mask(path, volume).any(axis=(1, 2)).tolist() == [True, False, False, True, False, False]
    cut = path.read_bytes()[:-3]
    path.write_bytes(cut)
    with pytest.raises(UnreadableError, match="cannot be decoded"):
        read_mask(path, volume)


def test_damaged_segs(tmp_path: Path) -> None:
    volume = made(np.zeros((6, 4, 4)))
    path = write_seg(tmp_path / "s.dcm", [(0.0, 1, np.ones((4, 4))), (1.0, 2, np.ones((4, 4)))])
    whole = path.read_bytes()
    random = np.random.default_rng(2)
    for _ in range(80):
        raw = bytearray(whole)
        for at in random.integers(132, len(raw), 3):
            raw[at] = random.integers(256)
        path.write_bytes(raw)
        try:
            assert read_mask(path, volume, "1").dtype == np.bool_
        except UnreadableError as error:
            assert "\n" not in str(error)


# ---- RTSTRUCT


def test_holes_keyholes_and_doubled_contours(tmp_path: Path) -> None:
    volume = made(np.zeros((3, 9, 9)))
    outer, inner = square(0.5, 0.5, 7.5, 7.5, 1), square(2.5, 2.5, 5.5, 5.5, 1)
    ring = np.zeros((3, 9, 9), bool)
    ring[1, 1:8, 1:8] = True
    ring[1, 3:6, 3:6] = False
    keyhole = [*outer, outer[0], *inner[::-1], inner[-1], outer[0]]
    path = write_rtstruct(tmp_path / "r.dcm", {
        "ring": [outer, inner], "keyhole": [keyhole], "twice": [outer, outer], "point": [("POINT", [(1, 1, 1)])],
        "open": [("OPEN_PLANAR", outer)],
    })  # fmt: skip
    np.testing.assert_array_equal(dicom_order(read_mask(path, volume, "ring")), ring)
    np.testing.assert_array_equal(dicom_order(read_mask(path, volume, "keyhole")), ring)
    full = ring.copy()
    full[1, 3:6, 3:6] = True
    np.testing.assert_array_equal(dicom_order(read_mask(path, volume, "twice")), full)
    with pytest.raises(UnreadableError, match=r"no structure 'point'; there are: ring \(10\), keyhole \(11\)"):
        read_mask(path, volume, "point")  # a point marks no voxel


def test_contours_are_matched_to_slices_by_position_and_nothing_is_filled_in(tmp_path: Path) -> None:
    volume = made(np.zeros((8, 6, 6)))

    def marked(*heights: float) -> list[int]:
        path = write_rtstruct(tmp_path / "r.dcm", {"a": [square(0.5, 0.5, 4.5, 4.5, z) for z in heights]})
        mask = read_mask(path, volume)
        assert set(mask.sum(axis=(1, 2)).tolist()) <= {0, 16}
        return np.flatnonzero(mask.any(axis=(1, 2))).tolist()

    assert marked(5, 2, 3) == [2, 3, 5]
    assert marked(5.01, 1.99, 2.98) == [2, 3, 5]  # rounded positions
    assert marked(1, 2, 3, 6, 7, 8, 9) == [1, 2, 3, 6, 7]  # two parts, and slices that the volume lacks
    assert marked(2.4) == [2]
    assert marked(2.5) == [3]  # midway: one of the two, so that its volume stays
    assert marked(0.4, 1.4, 2.4) == [0, 1, 2]
    assert marked(1.5, 4.5) == [1, 2, 3, 4, 5, 6]  # drawn every 3 mm on another series: 1.5 mm to both sides
    assert marked(0, 2, 7) == [0, 2, 7]  # single slices here and there are what they are
    with pytest.raises(UnreadableError, match="on one slice of 2 only"):
        marked(1, 3, 5)
    with pytest.raises(UnreadableError, match="wholly outside"):
        marked(20, 21)


def test_contours_along_sagittal_slices_and_across_them(tmp_path: Path) -> None:
    volume = made(np.zeros((6, 6, 6)))
    points = [[(x, y, z) for y, z in ((0.5, 1.5), (3.5, 1.5), (3.5, 4.5), (0.5, 4.5))] for x in (2, 3)]
    expected = np.zeros((6, 6, 6), bool)
    expected[2:5, 1:4, 2:4] = True
    mask = read_mask(write_rtstruct(tmp_path / "r.dcm", {"a": points}), volume)
    np.testing.assert_array_equal(dicom_order(mask), expected)
    tilted = [[(x, y, 2 + 0.4 * y) for x, y, _ in square(0.5, 0.5, 4.5, 4.5, 0)]]
    with pytest.raises(UnreadableError, match="not drawn along this volume's slices"):
        read_mask(write_rtstruct(tmp_path / "r.dcm", {"a": tilted}), volume)


def test_frames_of_reference_are_compared_unless_the_series_is_named(tmp_path: Path) -> None:
    contours = {"a": [square(0.5, 0.5, 4.5, 4.5, 1)]}
    volume = made(np.zeros((3, 6, 6)), frame="5.5", series="6.6")
    with pytest.raises(UnreadableError, match="another frame of reference"):
        read_mask(write_rtstruct(tmp_path / "r.dcm", contours), volume)
    assert read_mask(write_rtstruct(tmp_path / "r.dcm", contours, series="6.6"), volume).sum() == 16
    assert read_mask(write_rtstruct(tmp_path / "r.dcm", contours, frame="5.5"), volume).sum() == 16


def test_damaged_structure_sets(tmp_path: Path) -> None:
    volume = made(np.zeros((3, 6, 6)))
    path = write_rtstruct(tmp_path / "r.dcm", {"a": [square(0.5, 0.5, 4.5, 4.5, 1)]})
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    for _ in range(80):
        raw = bytearray(whole)
        for at in random.integers(132, len(raw), 3):
            raw[at] = random.integers(256)
        path.write_bytes(raw)
        try:
            assert read_mask(path, volume).dtype == np.bool_
        except UnreadableError as error:
            assert "\n" not in str(error)
    with pytest.raises(UnreadableError, match="no closed contour"):
        read_mask(write_rtstruct(tmp_path / "r.dcm", {"a": [("POINT", [(1, 1, 1)])]}), volume)
    with pytest.raises(UnreadableError, match="fewer than three points"):
        read_mask(write_rtstruct(tmp_path / "r.dcm", {"a": [[(1, 1, 1), (2, 2, 1)]]}), volume)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-4, 14), st.floats(-4, 14)), min_size=3, max_size=12))
def test_even_odd_equals_matplotlibs_for_any_polygon(points: list[tuple[float, float]]) -> None:
    """Each pixel's centre against a winding count by angle, away from the edges themselves."""
    polygon = np.array(points)
    grid = np.stack(np.meshgrid(np.arange(11.0), np.arange(9.0)), axis=-1)
    crossings = np.zeros((9, 11), int)
    near = np.zeros((9, 11), bool)
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        spans = (a[1] <= grid[..., 1]) != (b[1] <= grid[..., 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            x = a[0] + (grid[..., 1] - a[1]) / (b[1] - a[1]) * (b[0] - a[0])
        crossings += spans & (x <= grid[..., 0])
        length = max(float((b - a) @ (b - a)), 1e-30)
        along = np.clip(((grid - a) @ (b - a)) / length, 0, 1)[..., None]
        near |= np.linalg.norm(grid - (a + along * (b - a)), axis=-1) < 1e-6
    drawn = even_odd([polygon], (9, 11))
    np.testing.assert_array_equal(drawn[~near], (crossings % 2 == 1)[~near])


def test_even_odd_equals_matplotlib_for_a_star() -> None:
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radii = np.where(np.arange(24) % 2, 7.3, 17.9)
    star = np.stack([20.13 + radii * np.cos(angles), 19.77 + radii * np.sin(angles)], axis=1)
    grid = np.stack(np.meshgrid(np.arange(40.0), np.arange(40.0)), axis=-1).reshape(-1, 2)
    np.testing.assert_array_equal(even_odd([star], (40, 40)).ravel(), Polygon(star).contains_points(grid))


def test_a_sphere_drawn_on_an_oblique_grid_has_its_volume() -> None:
    """Contours of a ball of 30 mm, cut along the slices of a turned grid of 0.9 x 1.1 x 2.5 mm."""
    c, s = np.cos(0.4), np.sin(0.4)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([0.9, 1.1, 2.5])
    affine[:3, 3] = affine[:3, :3] @ [-50.0, -45.0, 0.0] + [0, 0, -40.0]
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    polygons = []
    for k in range(33):
        z = -40.0 + 2.5 * k
        if abs(z) < 30:
            r = np.sqrt(900 - z * z)
            polygons.append(np.stack([r * np.cos(angles), r * np.sin(angles), np.full(200, z)], axis=1))
    mask = draw(polygons, (33, 90, 100), affine)
    assert mask.sum() * 0.9 * 1.1 * 2.5 == pytest.approx(4 / 3 * np.pi * 30**3, rel=0.01)
    at = (affine[:3, :3] @ np.argwhere(mask)[:, ::-1].T).T + affine[:3, 3]
    assert np.linalg.norm(at, axis=1).max() <= 30
