"""Where files become visible under their final name, and how their content is named."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmcli.errors import UnwritableError

_SAMPLE = 1 << 20


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed to `path`.

    On an error nothing appears under the final name. The file gets the mode that the umask gives to new files,
    so that a group on shared storage keeps its rights.
    """
    temporary = partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _TOLD.search(str(error)):
            raise  # HDF5 tells of a full disk by one of both, by when it notices
        raise UnwritableError(
            f"{path}: cannot be written ({reason(error)}); give another --out or make room"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # where nothing can be written, nothing was left
            temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: BaseException) -> UnwritableError:
    return UnwritableError(f"{path}: cannot be written ({reason(error)}); give another --out or make room")


@contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """The same for a folder of files: one that is there already goes only when the new one is whole."""
    final = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would follow a link that the user put there)
    new, old = partial_name(final), final.with_name(f".{final.name}.{os.getpid()}.old")
    try:
        new.mkdir(parents=True)
        yield new
        for file in new.rglob("*"):
            if file.is_dir():
                continue
            with file.open("rb") as content:
                os.fsync(content.fileno())
        if final.exists():
            final.rename(old)
        new.rename(final)
        sync_directory(final.parent)
    except OSError as error:
        raise UnwritableError(
            f"{path}: cannot be written ({reason(error)}); give another --out or make room"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists() and not final.exists():
            old.rename(final)
        shutil.rmtree(old, ignore_errors=True)


def partial_name(path: Path) -> Path:
    """A name beside `path` for what is not complete yet; two machines on one file system never make the same."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")


_TOLD = re.compile(r"errno = \d+, error message = '([^']+)'")


def reason(error: BaseException) -> str:
    """What went wrong in a few words; HDF5 tells it in several lines."""
    told = _TOLD.search(str(error))
    text = told[1] if told else getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())[:160] or type(error).__name__


def sync_directory(path: Path) -> None:
    """Flush a directory's entries, so that a rename in it survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file, or nothing."""
    with publish(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def publish_json(path: Path, value: Any) -> None:
    """Write a JSON file for people and programs: indented, keys in the order given, NaN refused."""
    publish_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces. What requests are compared by."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_file(path: Path) -> str:
    """SHA-256 of a whole file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(_SAMPLE):
        digest.update(block)
    return digest.hexdigest()


def fingerprint(path: Path) -> str:
    """What tells one source file from another without reading gigabytes: size and SHA-256 of three MiB.

    Files up to 3 MiB are hashed whole; of larger ones the first, middle and last MiB. A folder (a DICOM
    series) is the hash of its files' names and fingerprints, in name order.
    """
    digest = hashlib.sha256()
    if path.is_dir():
        for child in sorted(path.iterdir()):
            if child.is_file():
                digest.update(f"{child.name}\0{fingerprint(child)}\n".encode())
        return digest.hexdigest()
    size = path.stat().st_size
    digest.update(f"{size}\n".encode())
    with path.open("rb") as file:
        if size <= 3 * _SAMPLE:
            digest.update(file.read())
        else:
            for start in (0, size // 2 - _SAMPLE // 2, size - _SAMPLE):
                file.seek(start)
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
