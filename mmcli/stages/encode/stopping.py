"""SIGTERM, as Slurm sends it before a job's end: the patient in hand is finished, then the command ends."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Stop:
    """While it is open, the first SIGTERM is only noted; `leave` then does what the signal would have done.

    A second one does so at once. Elsewhere than in the main thread signals are left as they are.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self.leave()
        self.asked = True

    def leave(self) -> None:
        """End the command the way in which SIGTERM ends it elsewhere."""
        self._restore()
        signal.raise_signal(signal.SIGTERM)
