"""Datasets and attributes in and out of HDF5, each with its checksum, and the digest of a whole store."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mmcli.files import canonical_json

BLOCK_BYTES = 8 << 20
CHUNK_BYTES = 1 << 20
UNHASHED = {"mmcli_version", "created", "content_sha256", "sha256", "root"}


@dataclass(frozen=True)
class Rows:
    """A large array that arrives in blocks of whole rows: `blocks()` yields (r, *shape[1:]), shape[0] rows in all."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Callable[[], Iterable[NDArray[Any]]]

    @classmethod
    def of(cls, array: NDArray[Any]) -> Rows:
        """Rows that are in memory already."""
        return cls(array.shape, array.dtype, lambda: [array])


@dataclass(frozen=True)
class RawRows:
    """The rows of a dataset that lies in one piece of the file, uncompressed: read with one call of the system, which
    takes no detour through HDF5's buffers, holds no lock and maps no page."""

    dataset: h5py.Dataset
    handle: int
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> RawRows | None:
        """None for a dataset in chunks, one without a byte, and one of texts."""
        start = dataset.id.get_offset()
        if start is None or not dataset.shape or not dataset.size or dataset.dtype.hasobject:
            return None
        return cls(dataset, dataset.file.id.get_vfd_handle(), start, dataset.shape, dataset.dtype)

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Rows first:last as a new array."""
        out: NDArray[Any] = np.empty((last - first, *self.shape[1:]), self.dtype)
        self.read_into(out, first)
        return out

    def read_into(self, out: NDArray[Any], first: int) -> None:
        """Fill `out`, contiguous and of the dataset's type, with the rows from `first` on.

        Raises OSError for rows that the dataset does not have, ValueError when the store is closed.
        """
        if not self.dataset:
            raise ValueError("the store is closed")  # its handle may be another file's by now
        if not 0 <= first <= first + len(out) <= self.shape[0]:
            raise OSError(f"rows {first} to {first + len(out)} of {self.shape[0]}")
        if not out.size:
            return
        content: Any = out.reshape(-1).view(np.uint8)
        view = memoryview(content)
        at, done = self.start + first * (out.nbytes // len(out)), 0
        while done < len(view):
            count = os.preadv(self.handle, [view[done:]], at + done)
            if not count:
                raise OSError("the file ends before its data do")
            done += count


def write_rows(group: h5py.Group, name: str, rows: Rows, compression: str = "none") -> None:
    """Write a dataset block by block and keep the SHA-256 of its bytes beside it.

    Uncompressed data lie contiguously: a bag is then one sequential read. Compressed data are in chunks of about
    one MiB of whole rows.
    """
    options: dict[str, Any] = {}
    if compression != "none" and rows.shape[0]:
        row_bytes = max(1, int(np.prod(rows.shape[1:], dtype=np.int64)) * rows.dtype.itemsize)
        chunk = min(rows.shape[0], max(1, CHUNK_BYTES // row_bytes))
        options = {"chunks": (chunk, *rows.shape[1:]), "compression": compression, "shuffle": True}
    dataset = group.create_dataset(name, shape=rows.shape, dtype=rows.dtype, track_times=False, **options)
    digest, at = hashlib.sha256(), 0
    for block in rows.blocks():
        block = np.ascontiguousarray(block, dtype=rows.dtype)
        if len(block):
            dataset[at : at + len(block)] = block
        digest.update(block.tobytes())
        at += len(block)
    if at != rows.shape[0]:
        raise ValueError(f"{name}: {at} rows came, {rows.shape[0]} were announced")
    dataset.attrs["sha256"] = digest.hexdigest()


def write_array(group: h5py.Group, name: str, array: NDArray[Any]) -> None:
    """Write a small array with its checksum."""
    write_rows(group, name, Rows.of(np.asarray(array)))


def write_text(group: h5py.Group, name: str, values: Iterable[str]) -> None:
    """Write a list of texts as variable-length UTF-8."""
    texts = list(values)
    dataset = group.create_dataset(name, shape=(len(texts),), dtype=h5py.string_dtype(), track_times=False)
    if texts:
        dataset[:] = texts
    dataset.attrs["sha256"] = _text_digest(texts)


def read_text(dataset: h5py.Dataset) -> list[str]:
    """The texts of a variable-length dataset."""
    return [t.decode() if isinstance(t, bytes) else str(t) for t in dataset[:]]


def write_attributes(item: h5py.Group | h5py.Dataset, values: dict[str, Any]) -> None:
    """Write attributes; lists of texts and mappings go in as JSON, as plain h5py cannot hold an empty list of them."""
    for name, value in values.items():
        item.attrs[name] = canonical_json(value) if isinstance(value, dict | list | tuple) else value


def json_attribute(item: h5py.Group | h5py.Dataset, name: str, default: Any) -> Any:
    """An attribute that holds JSON."""
    return json.loads(item.attrs[name]) if name in item.attrs else default


def dataset_digest(dataset: h5py.Dataset) -> str:
    """The SHA-256 of a dataset's bytes as they are in the file now."""
    if h5py.check_string_dtype(dataset.dtype):
        return _text_digest(read_text(dataset))
    digest = hashlib.sha256()
    for block in row_blocks(dataset):
        digest.update(np.ascontiguousarray(block).tobytes())
    return digest.hexdigest()


def row_blocks(dataset: h5py.Dataset) -> Iterator[NDArray[Any]]:
    """A dataset's rows in blocks of some MiB."""
    if dataset.shape == () or dataset.shape[0] == 0:
        yield np.asarray(dataset[()])
        return
    row_bytes = max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64)))
    step = max(1, BLOCK_BYTES // row_bytes)
    for at in range(0, dataset.shape[0], step):
        yield dataset[at : at + step]


def content_digest(file: h5py.File) -> str:
    """SHA-256 of everything in a store but its version and time: names, shapes, types, values and attributes."""
    lines = [_line(file)]
    file.visititems(lambda _name, item: lines.append(_line(item)))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _line(item: Any) -> str:
    attributes = {k: _plain(v) for k, v in item.attrs.items() if k not in UNHASHED}
    form = [str(item.dtype), list(item.shape), str(item.attrs["sha256"])] if isinstance(item, h5py.Dataset) else []
    return canonical_json([item.name, form, attributes])


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _text_digest(texts: list[str]) -> str:
    return hashlib.sha256(canonical_json(texts).encode()).hexdigest()
