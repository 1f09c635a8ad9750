"""A run on disk: a grid of parts that several processes may fill, and the request that all of them share."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from mmcli.errors import DamagedError, RequestError, UnwritableError
from mmcli.files import partial_name, reason, sync_directory
from mmcli.training.engine import CHECKPOINT

RUN, SETTINGS = "run.json", "settings.yaml"
KEYS = ("request", "parts")


def read_run(path: Path) -> dict[str, Any] | None:
    """run.json of a run, None where there is none; RequestError where another tool's run.json lies."""
    try:
        content: dict[str, Any] = json.loads((path / RUN).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedError(f"{path / RUN}: damaged ({' '.join(str(error).split())}); train the run again") from None
    if not isinstance(content, dict) or any(key not in content for key in KEYS):
        raise RequestError(f"{path}: its run.json is not one of mmcli's; give another folder")
    return content


def remove_run(path: Path, run: dict[str, Any]) -> None:
    """Remove what mmcli wrote of a run, run.json last; what else lies in the folder stays."""
    for part in run["parts"]:
        for folder in (path / part, path / f".{part}.partial"):
            if folder.is_dir():
                shutil.rmtree(folder)
    for name in (SETTINGS, RUN):
        (path / name).unlink(missing_ok=True)


def missing_parts(path: Path, parts: list[str]) -> list[str]:
    """The parts that are not complete: a part exists when its directory exists under its final name."""
    return [part for part in parts if not (path / part).is_dir()]


def write_once(path: Path, text: str) -> None:
    """Write a whole file unless somebody else has done so; whoever comes first wins."""
    temporary = partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        except OSError:  # no hard links on this file system
            if not path.exists():
                temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise RequestError(f"{path}: cannot be written ({error.strerror or error}); give another --out") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """UnwritableError where a part's files cannot be written: a full disk, a quota."""
    try:
        yield
    except OSError as error:
        told = f"{folder}: cannot be written ({reason(error)}); make room, and the same command goes on"
        raise UnwritableError(told) from None


def settings_text(values: dict[str, Any]) -> str:
    """settings.yaml: the command's settings as a file that `--settings` reads."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


@contextmanager
def part_folder(run: Path, part: str) -> Iterator[Path | None]:
    """The folder `.<part>.partial` in which a part is made, for one process at a time; None when another one has it,
    or has finished it by now. It becomes `<part>` by one rename when the block ends without an error."""
    folder, final = run / f".{part}.partial", run / part
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "lock"
    try:
        file = lock.open("w")
    except FileNotFoundError:  # finished and renamed between these two lines
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        except OSError:  # a file system without locks: two processes on one part would do the same work twice
            pass
        if final.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
            yield None
            return
        yield folder
        for rest in (lock, folder / CHECKPOINT, *folder.glob(".*")):
            rest.unlink(missing_ok=True)
        for child in folder.iterdir():
            with child.open("rb") as content:
                os.fsync(content.fileno())
        sync_directory(folder)
        folder.replace(final)
        sync_directory(run)
