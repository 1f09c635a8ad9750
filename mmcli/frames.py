"""Read a table file into a frame of text: CSV, TSV, Parquet, Excel. Nothing is guessed, "001" stays "001"."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from openpyxl.utils.exceptions import InvalidFileException

from mmcli.errors import RequestError

TEXT_EXTENSIONS = (".csv", ".tsv", ".txt")
EXTENSIONS = (*TEXT_EXTENSIONS, *(f"{e}.gz" for e in TEXT_EXTENSIONS), ".parquet", ".xlsx", ".xlsm")
DELIMITERS = ",;\t|"
MAX_BLOCK = 1 << 30
FIELD_LIMIT = 1 << 24


def read_frame(path: Path) -> pd.DataFrame:
    """Read a table with a header line, every cell as text.

    The index, named "row", is the row as an editor or Excel shows it (1-based, the header counts). Cells of CSV and
    TSV are exactly as written; numbers of Excel and Parquet are their shortest text (1.0 is "1"), dates ISO; a
    missing cell is "". Column names are stripped; a column without a name is `column_<position>`, or dropped when
    it is empty; of two columns with one name and the same cells the first stays. Rows with no text are dropped.
    Of an Excel file the first sheet is read. CSV is UTF-8 (or UTF-16 with its mark), the delimiter is whichever of
    , ; tab | the header has most of; a name that ends in .gz is unpacked.

    Raises RequestError for a file that is missing, empty, damaged, of another type, of another encoding, with a
    row longer or shorter than the header, or with two different columns of one name.
    """
    path = Path(path)
    name = path.name.lower()
    if not name.endswith(EXTENSIONS):
        raise RequestError(f"{path}: not a table that can be read; save it as one of {', '.join(EXTENSIONS)}")
    if not path.is_file():
        raise RequestError(f"{path}: no such file; check the name")
    try:
        if name.endswith(".parquet"):
            header, frame = _parquet(path)
        elif name.endswith((".xlsx", ".xlsm")):
            header, frame = _excel(path)
        else:
            header, frame = _delimited(path, name)
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror or error})") from error
    return _named(path, header, frame)


def _named(path: Path, header: list[str], frame: pd.DataFrame) -> pd.DataFrame:
    """Give the columns their names, drop what is empty; `frame` has columns 0..k-1."""
    names: list[str] = []
    keep: list[int] = []
    first: dict[str, int] = {}
    for position, text in enumerate(header):
        name = text.strip()
        if not name:
            if not frame.iloc[:, position].str.strip().ne("").any():
                continue
            name = f"column_{position + 1}"
        if name in first:
            if frame.iloc[:, first[name]].equals(frame.iloc[:, position]):
                continue
            raise RequestError(
                f"{path}: columns {first[name] + 1} and {position + 1} are both named {name!r} and differ; rename one"
                " (or, if the file has no header line, give it one)"
            )
        first[name] = position
        names.append(name)
        keep.append(position)
    if not names:
        raise RequestError(f"{path}: no column has a name; the first line must name the columns")
    named: pd.DataFrame = frame.iloc[:, keep]
    named.columns = pd.Index(names)
    blank = np.ones(len(named), dtype=bool)
    for name in names:
        if not blank.any():
            break
        blank[blank] = named[name][blank].str.strip().eq("").to_numpy()
    named = named.loc[~blank]
    named.index.name = "row"
    return named


def _delimited(path: Path, name: str) -> tuple[list[str], pd.DataFrame]:
    text = _decoded(path, path.read_bytes(), name.endswith(".gz"))
    if not text.strip():
        raise RequestError(f"{path}: the file is empty; its first line must name the columns")
    delimiter = _delimiter(text, "\t" if ".tsv" in name else ",")
    csv.field_size_limit(FIELD_LIMIT)
    consumed, lines = 0, 0

    def count() -> Any:
        nonlocal consumed, lines
        for line in io.StringIO(text, newline=""):
            consumed += len(line)
            lines += 1
            yield line

    try:
        header = next(row for row in csv.reader(count(), delimiter=delimiter) if row)
    except csv.Error as error:
        raise RequestError(f"{path}: the header line cannot be read ({error})") from error
    rest = text[consumed:]
    if '"' not in rest:
        fast = _fast(rest, len(header), delimiter, lines)
        if fast is not None:
            return header, fast
    return header, _slow(path, text, header, delimiter)


def _decoded(path: Path, raw: bytes, packed: bool) -> str:
    if packed:
        try:
            raw = gzip.decompress(raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise RequestError(f"{path}: a damaged gzip file ({error}); copy it again") from error
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        row = raw.count(b"\n", 0, error.start) + 1
        raise RequestError(f"{path}, row {row}: not UTF-8 text; save the file as CSV UTF-8") from error
    if "\0" in text:
        raise RequestError(
            f"{path}, row {text.count(chr(10), 0, text.index(chr(0))) + 1}: a zero byte; not a text file"
        )
    return text if "\n" in text else text.replace("\r", "\n")


def _delimiter(text: str, default: str) -> str:
    line = next(line for line in io.StringIO(text) if line.strip())
    outside = "".join(line.split('"')[::2])
    counts = {d: outside.count(d) for d in (default, *DELIMITERS)}
    best = max(counts, key=lambda d: counts[d])
    return best if counts[best] else default


def _fast(rest: str, width: int, delimiter: str, header_lines: int) -> pd.DataFrame | None:
    """Arrow's parser for a body without quotes; None when it disagrees with the header or with the line count."""
    rows = [n for n, line in enumerate(rest.split("\n"), header_lines + 1) if line not in ("", "\r")]
    if not rows:
        empty: pd.DataFrame = pd.DataFrame({i: pd.Series([], dtype=str) for i in range(width)})
        return empty
    body = rest.encode()
    names = [str(i) for i in range(width)]
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(body),
            read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=min(len(body) + 1, MAX_BLOCK)),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != len(rows):
        return None
    frame: pd.DataFrame = table.to_pandas()
    frame.index = pd.Index(rows)
    return frame


def _slow(path: Path, text: str, header: list[str], delimiter: str) -> pd.DataFrame:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    cells: list[list[str]] = []
    rows: list[int] = []
    start = 1
    try:
        for row in reader:
            if row and len(row) != len(header):
                raise RequestError(
                    f"{path}, row {start}: {len(row)} cells where the header has {len(header)}; "
                    f"a cell that holds {delimiter!r} needs quotes"
                )
            if row:
                cells.append(row)
                rows.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise RequestError(f"{path}, row {start}: {error}; look for a quote that is not closed") from error
    frame: pd.DataFrame = pd.DataFrame(cells[1:], index=pd.Index(rows[1:]), columns=range(len(header)), dtype=str)
    return frame


def _parquet(path: Path) -> tuple[list[str], pd.DataFrame]:
    try:
        table = pyarrow.parquet.ParquetFile(path).read()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise RequestError(f"{path}: not a Parquet file, or a damaged one ({_first_line(error)})") from error
    columns = {i: _arrow_text(path, name, table.column(i)) for i, name in enumerate(table.column_names)}
    frame = pd.DataFrame(columns, index=pd.Index(range(1, table.num_rows + 1)))
    return [str(name) for name in table.column_names], frame


def _arrow_text(path: Path, name: str, column: Any) -> Any:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_boolean(kind):
        return np.array([{None: "", True: "True", False: "False"}[v] for v in column.to_pylist()], dtype=object)
    if pa.types.is_floating(kind):
        values = column.to_pandas().to_numpy()
        return np.array(["" if np.isnan(v) else _number(v) for v in values], dtype=object)
    try:
        text = pc.fill_null(column.cast(pa.string()), "")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise RequestError(f"{path}, column {name}: holds {kind}, which is no text, number or date") from error
    if pa.types.is_timestamp(kind):
        text = pc.replace_substring_regex(text, r" 00:00:00(\.0+)?$", "")
    return text.to_pandas().to_numpy(dtype=object)


def _number(value: Any) -> str:
    """The shortest text that gives the number back (in its own precision): 1.0 is "1"."""
    if np.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _excel(path: Path) -> tuple[list[str], pd.DataFrame]:
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            cells = [[_cell_text(cell) for cell in row] for row in book.worksheets[0].iter_rows()]
        finally:
            book.close()
    except (
        zipfile.BadZipFile,
        InvalidFileException,
        KeyError,
        ValueError,
        IndexError,
        zlib.error,
        SyntaxError,
    ) as error:
        raise RequestError(
            f"{path}: not an Excel file, a damaged one or one with a password ({_first_line(error)}); save it as CSV"
        ) from error
    start = next((i for i, row in enumerate(cells) if any(cell.strip() for cell in row)), None)
    if start is None:
        raise RequestError(f"{path}: the first sheet is empty; its first row must name the columns")
    width = max(len(row) for row in cells)
    padded = [row + [""] * (width - len(row)) for row in cells]
    index = pd.Index(range(start + 2, len(cells) + 1))
    return padded[start], pd.DataFrame(padded[start + 1 :], index=index, columns=range(width), dtype=str)


def _cell_text(cell: Any) -> str:
    value = cell.value
    if value is None or (cell.data_type == "e" and value == "#N/A"):
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ")
    return str(value)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
