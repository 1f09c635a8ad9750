"""Tables as text: what is written is what is read, and every bad file is one clear line."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
from pathlib import Path

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcli.errors import RequestError
from mmcli.frames import read_frame


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def cells(frame: pd.DataFrame) -> list[list[str]]:
    return [list(row) for row in frame.itertuples(index=False)]


def test_cells_stay_as_written(tmp_path: Path) -> None:
    frame = read_frame(write(tmp_path / "t.csv", "id, a ,b\n001,1.50,no\n002,NA, x \n"))
    assert list(frame.columns) == ["id", "a", "b"]
    assert cells(frame) == [["001", "1.50", "no"], ["002", "NA", " x "]]
    assert list(frame.index) == [2, 3]


def test_rows_are_those_of_an_editor(tmp_path: Path) -> None:
    # Blank lines and lines of delimiters alone are no patients, but they count as rows.
    plain = read_frame(write(tmp_path / "t.csv", "\nid,a\n1,2\n\n,\n3,4\n"))
    assert list(plain.index) == [3, 6]
    # So do the line breaks inside quotes.
    quoted = read_frame(write(tmp_path / "q.csv", 'id,a\n1,"x\ny"\n3,4\n'))
    assert list(quoted.index) == [2, 4]
    assert cells(quoted) == [["1", "x\ny"], ["3", "4"]]


@pytest.mark.parametrize(
    ("name", "sep"), [("t.csv", ","), ("t.csv", ";"), ("t.tsv", "\t"), ("t.txt", "|"), ("t.csv", "\t")]
)
def test_delimiters(tmp_path: Path, name: str, sep: str) -> None:
    frame = read_frame(write(tmp_path / name, f"id{sep}a{sep}b\r\n1{sep}2{sep}3\r\n"))
    assert cells(frame) == [["1", "2", "3"]]


def test_one_column_and_marks_and_gzip(tmp_path: Path) -> None:
    assert cells(read_frame(write(tmp_path / "one.tsv", "id\n1\n"))) == [["1"]]
    assert list(read_frame(write(tmp_path / "bom.csv", "\ufeffid,a\n1,ü\n")).columns) == ["id", "a"]
    assert cells(read_frame(write(tmp_path / "utf16.csv", "id,a\n1,ü\n", "utf-16"))) == [["1", "ü"]]
    (tmp_path / "z.csv.gz").write_bytes(gzip.compress(b"id,a\n01,2\n", mtime=0))
    assert cells(read_frame(tmp_path / "z.csv.gz")) == [["01", "2"]]
    assert cells(read_frame(write(tmp_path / "mac.csv", "id,a\r1,2\r"))) == [["1", "2"]]


def test_header_only_is_an_empty_frame(tmp_path: Path) -> None:
    frame = read_frame(write(tmp_path / "t.csv", "id,a\n"))
    assert len(frame) == 0 and list(frame.columns) == ["id", "a"]


def test_unnamed_and_repeated_columns(tmp_path: Path) -> None:
    frame = read_frame(write(tmp_path / "t.csv", '"",a,a,\nr1,1,1,\nr2,2,2,\n'))
    assert list(frame.columns) == ["column_1", "a"]
    with pytest.raises(RequestError, match="columns 1 and 2 are both named 'a' and differ"):
        read_frame(write(tmp_path / "d.csv", "a,a\n1,2\n"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"id,a\n1,2\n1,2,3\n", r"row 3: 3 cells where the header has 2"),
        ("t.csv", b"id,a,b\n1,2\n", r"row 2: 2 cells where the header has 3"),
        ("t.csv", b'id,a\n1,"2\n', "row 2.*quote"),
        ("t.csv", b"id,a\n1,\xfc\n", "row 2: not UTF-8"),
        ("t.csv", b"id,a\n1,\x00\n", "row 2: a zero byte"),
        ("t.csv.gz", b"id,a\n", "damaged gzip"),
        ("t.csv.gz", gzip.compress(b"id,a\n1,2\n" * 99, mtime=0)[:-20], "damaged gzip"),
        ("t.parquet", b"PAR1 not really", "Parquet"),
        ("t.xlsx", b"not a zip", "not an Excel file"),
        ("t.xls", b"", "save it as one of"),
        ("t.json", b"{}", "save it as one of"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=message) as caught:
        read_frame(tmp_path / name)
    assert str(caught.value).count("\n") == 0 and name in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such file"):
        read_frame(tmp_path / "t.csv")
    (tmp_path / "f.csv").mkdir()
    with pytest.raises(RequestError, match="no such file"):
        read_frame(tmp_path / "f.csv")


def test_excel_and_parquet_numbers_are_their_shortest_text(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append([None, None, None, None, None, None])
    sheet.append(["id", "n", "x", "t", "d", "b"])
    sheet.append(["001", 1.0, 0.1, None, datetime.datetime(2020, 1, 2), True])
    sheet.append([2, 3, 12.5, "#N/A", datetime.datetime(2020, 1, 2, 3, 4, 5), False])
    book.save(tmp_path / "t.xlsx")
    frame = read_frame(tmp_path / "t.xlsx")
    assert (
        cells(frame)
        == [
            ["001", "1", "0.1", "", "2020-01-02", "TRUE"],
            ["2", "3", "12.5", "", "2020-01-02 03:04:05", "FALSE"],
        ][: len(frame)]
    )
    assert list(frame.index) == [3, 4]

    table = pa.table(
        {
            "id": ["001", None],
            "f8": [1.0, 0.1],
            "f4": pa.array([0.1, None], pa.float32()),
            "i": [1, None],
            "b": [True, None],
            "c": pa.array(["x", "y"]).dictionary_encode(),
            "d": [datetime.datetime(2020, 1, 2), datetime.datetime(2020, 1, 2, 3)],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    rows = cells(read_frame(tmp_path / "t.parquet"))
    assert rows[0] == ["001", "1", "0.1", "1", "True", "x", "2020-01-02"]
    assert rows[1][:6] == ["", "0.1", "", "", "", "y"]
    assert rows[1][6].startswith("2020-01-02 03:00:00")


def test_parquet_with_lists_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "x": [[1, 2]]}), tmp_path / "t.parquet")
    with pytest.raises(RequestError, match="column x: holds list"):
        read_frame(tmp_path / "t.parquet")


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
def test_round_trip_against_the_csv_module(tmp_path_factory: pytest.TempPathFactory, rows: list, quoting: int) -> None:
    path = tmp_path_factory.mktemp("frames") / "t.csv"
    text = io.StringIO()
    writer = csv.writer(text, quoting=quoting, lineterminator="\n")
    writer.writerow(["id", "a"])
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode())
    expected = [list(row) for row in rows if any(cell.strip() for cell in row)]
    assert cells(read_frame(path)) == expected


def test_real_tables_have_the_shape_that_pandas_reads(data: Path) -> None:
    for name in ("hancock/clinical.csv", "hancock/blood.csv", "cervical/risk_factors_cervical_cancer.csv"):
        path = data / "tables" / name
        expected = pd.read_csv(path, dtype=str, keep_default_na=False)
        frame = read_frame(path)
        assert cells(frame) == cells(expected)
    clinical = read_frame(data / "tables/hancock/clinical.csv")
    assert clinical["patient_id"].iloc[0] == "001" and len(clinical) == 763
    assert read_frame(data / "tables/miniacc/miRNASeqGene.csv.gz").shape == (80, 472)
    column = read_frame(data / "tables/miniacc/colData.csv")  # patientID stands twice, alike
    assert column.shape == (92, 30)
    ovarian = read_frame(data / "tables/ovarian_soochow/Supplementary data 1.xlsx")
    assert ovarian.shape == (349, 51) and ovarian["TYPE"].value_counts().to_dict() == {"1": 178, "0": 171}
