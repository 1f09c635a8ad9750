"""What goes wrong with a patient's file, as one line that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmcli.errors import UnreadableError


def one_line(error: BaseException, limit: int = 160) -> str:
    """A foreign library's message as one short line, its file name and line numbers left out where possible."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An UnreadableError of a file with the file's name in front, and an OSError as one."""
    try:
        yield
    except UnreadableError as error:
        text = str(error)
        raise UnreadableError(text if text.startswith(path.name) else f"{path.name}: {text}") from error
    except OSError as error:
        raise UnreadableError(f"{path.name}: cannot be read ({one_line(error)})") from error
