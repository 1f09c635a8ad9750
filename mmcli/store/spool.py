"""The spool: where a stage collects patients until the store is packed.

A folder `.<store>.spool` beside the output, with one append-only file an array of a modality and one journal. A
patient's line enters the journal after its bytes, so that after kill -9 everything up to the last whole line is kept
and the rest is cut off. `flock` keeps a second process out.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mmcli.errors import DamagedError, RequestError
from mmcli.files import canonical_json, publish_json, reason
from mmcli.store.hdf5 import Rows
from mmcli.store.parts import Instances, Source, in_order
from mmcli.store.write import BagData, BagMeta

MOST_TRIES = 100  # to make the folder while others remove it; where it cannot be made at all, the reason is the same


@dataclass(frozen=True)
class Entry:
    """One patient's line in the journal. `failed` holds the reason of a failure; a patient who lacks the modality
    has count 0 and no reason."""

    modality: str
    patient: int
    count: int = 0
    present: bool = False
    failed: str = ""
    arrays: dict[str, list[Any]] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)
    sha256: str = ""


class Spool:
    """The collected patients of one output that is being made. A context manager; `discard` removes it.

    What was collected for another request, or with `fresh` for any, is dropped.
    """

    def __init__(self, out: Path, request: dict[str, Any], fresh: bool = False) -> None:
        self.folder, self._fresh = spool_folder(out), fresh
        self._files: dict[str, BinaryIO] = {}
        self.entries: dict[tuple[str, int], Entry] = {}
        self._lock = self._locked(out)
        try:
            for stale in out.parent.glob(f".{glob.escape(out.name)}.*.partial"):
                stale.unlink()  # of a process that was killed: whoever holds the lock is the only one
            known = spool_request(out)
            if fresh or known is None or canonical_json(known) != canonical_json(request):
                self._clear()
                publish_json(self.folder / "request.json", request)
            self._read_journal()
        except BaseException:
            self._lock.close()
            raise

    def _locked(self, out: Path) -> IO[str]:
        tries = 0
        while True:
            tries += 1
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = (self.folder / "lock").open("w")
            except OSError as error:
                if isinstance(error, FileNotFoundError) and tries < MOST_TRIES:
                    continue  # another process has just finished and removed the folder
                raise RequestError(
                    f"{out.parent}: cannot be written to ({reason(error)}); give another --out"
                ) from error
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                raise RequestError(f"another process is making {out} now; wait for it, or give another --out") from None
            if os.fstat(lock.fileno()).st_nlink:
                return lock
            lock.close()

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.name != "lock":
                path.unlink()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and (self._fresh or not self.entries):
            self.discard()  # nothing to go on with
            return
        if error is None:
            self.close()
            return
        with contextlib.suppress(OSError):  # on a full disk: the error that is under way tells it
            self.close()

    def close(self) -> None:
        """Flush and close all files."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        self._files.clear()
        self._lock.close()

    def discard(self) -> None:
        """Remove the spool: the store is complete."""
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()
        self._files.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def forget_failed(self) -> None:
        """Try the patients again whose files could not be read before the interruption."""
        self.entries = {key: entry for key, entry in self.entries.items() if not entry.failed}

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self.entries

    def add(self, modality: str, patient: int, bag: Instances) -> None:
        """Append a patient's instances."""
        digest, arrays = hashlib.sha256(), {}
        for name, array in bag.arrays.items():
            if len(array) != bag.count:
                raise ValueError(f"{name} has {len(array)} rows for {bag.count} instances")
            content = np.ascontiguousarray(array).tobytes()
            start = self._append(_file_name(modality, name), content)
            arrays[name] = [start, array.dtype.str, list(array.shape)]
            digest.update(content)
        sources = [asdict(s) for s in bag.sources]
        self._log(Entry(modality, patient, bag.count, True, "", arrays, sources, digest.hexdigest()))

    def add_absent(self, modality: str, patient: int) -> None:
        """Note that a patient lacks a modality."""
        self._log(Entry(modality, patient))

    def add_failed(self, modality: str, patient: int, reason: str, sources: tuple[Source, ...] = ()) -> None:
        """Note that a patient's files could not be read, and why."""
        self._log(Entry(modality, patient, failed=reason, sources=[asdict(s) for s in sources]))

    def failures(self) -> list[Entry]:
        """All failed entries, in the order of modality and patient."""
        return [e for _, e in sorted(self.entries.items()) if e.failed]

    def bag_data(self, modality: str, meta: BagMeta, patients: int) -> BagData:
        """A modality's collected patients in patient order, ready for `write_store`; data are read when written."""
        entries = [self.entries.get((modality, i), Entry(modality, i)) for i in range(patients)]
        offsets = np.concatenate([[0], np.cumsum([e.count for e in entries])]).astype(np.int64)
        first: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        for entry in entries:
            for name, (_, dtype, shape) in entry.arrays.items():
                known = first.setdefault(name, (np.dtype(dtype), tuple(shape[1:])))
                if known != (np.dtype(dtype), tuple(shape[1:])):
                    raise DamagedError(
                        f"{self.folder}: instances of two shapes in {modality}; delete it and start again"
                    )
        source_starts = np.cumsum([0, *(len(e.sources) for e in entries)])
        arrays = {
            name: Rows((int(offsets[-1]), *form), dtype, lambda n=name: self._blocks(n, entries, source_starts))  # type: ignore[misc]
            for name, (dtype, form) in first.items()
        }
        present = np.array([e.present for e in entries], bool)
        failed = np.array([bool(e.failed) for e in entries], bool)
        sources = [_source(s) for e in entries for s in e.sources]
        return BagData(meta, present, failed, offsets, arrays, sources)

    def _blocks(self, name: str, entries: list[Entry], source_starts: NDArray[Any]) -> Iterator[NDArray[Any]]:
        for index, entry in enumerate(entries):
            if name in entry.arrays and entry.count:
                array = self._read(entry, name)
                # A patient's own source numbers become rows of the store's list of sources.
                yield array + np.int32(source_starts[index]) if name == "source" else array

    def _read(self, entry: Entry, name: str) -> NDArray[Any]:
        start, dtype, shape = entry.arrays[name]
        file = self._file(_file_name(entry.modality, name))
        file.seek(start)
        content = file.read(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        array: NDArray[Any] = np.frombuffer(content, dtype).reshape(shape)
        return array

    def check(self) -> None:
        """Compare every patient's bytes with the journal's checksum: what a power cut may have lost."""
        for entry in self.entries.values():
            digest = hashlib.sha256()
            for name in in_order(entry.arrays):
                digest.update(self._read(entry, name).tobytes())
            if entry.present and digest.hexdigest() != entry.sha256:
                raise DamagedError(
                    f"{self.folder}: the bytes of patient {entry.patient} changed; delete it and start again"
                )

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            self._files[name] = (self.folder / name).open("r+b" if (self.folder / name).exists() else "w+b")
        file = self._files[name]
        file.seek(0, os.SEEK_END)
        return file

    def _append(self, name: str, content: bytes) -> int:
        """Write at a file's end, and return where that was."""
        file = self._file(name)
        start = file.tell()
        try:
            file.write(content)
            file.flush()
        except OSError as error:
            raise RequestError(
                f"{self.folder}: cannot be written ({reason(error)}); make room, then the same command goes on where "
                "it was"
            ) from error
        return start

    def _log(self, entry: Entry) -> None:
        self._append("journal.jsonl", canonical_json(asdict(entry)).encode() + b"\n")
        self.entries[entry.modality, entry.patient] = entry

    def _read_journal(self) -> None:
        journal = self._file("journal.jsonl")
        journal.seek(0)
        good = 0
        ends: dict[str, int] = {}
        for line in journal:
            entry = _parse(line)
            if entry is None:
                break
            good += len(line)
            self.entries[entry.modality, entry.patient] = entry
            for name, (start, dtype, shape) in entry.arrays.items():
                nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
                ends[_file_name(entry.modality, name)] = start + nbytes
        journal.truncate(good)
        for path in self.folder.glob("*.bin"):
            end = ends.get(path.name, 0)
            if path.stat().st_size < end:
                raise DamagedError(f"{path}: shorter than its journal says; delete {self.folder} and start again")
            os.truncate(path, end)


def spool_folder(out: Path) -> Path:
    """The spool of an output."""
    return out.with_name(f".{out.name}.spool")


def spool_request(out: Path) -> dict[str, Any] | None:
    """The request of an interrupted output, None where there is none or nothing was collected for it."""
    folder = spool_folder(out)
    try:
        if not (folder / "journal.jsonl").stat().st_size:
            return None
        content: dict[str, Any] = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return content


def _file_name(modality: str, array: str) -> str:
    safe = ["".join(c if c.isalnum() or c in "-_@" else f"%{ord(c):x}" for c in part) for part in (modality, array)]
    return ".".join([*safe, "bin"])


def _parse(line: bytes) -> Entry | None:
    """A journal line, None when it is the half-written last one."""
    try:
        return Entry(**json.loads(line)) if line.endswith(b"\n") else None
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError):
        return None


def _source(content: Mapping[str, Any]) -> Source:
    return Source(**{**content, "spacing": tuple(content["spacing"])})
