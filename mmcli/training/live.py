"""What a training says while it runs: one line that changes at a terminal, a line now and then in a batch job's log."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from mmcli.progress import LINE_EVERY_S, note

if TYPE_CHECKING:
    from mmcli.training.engine import Trainer


class Live:
    """Call it after each epoch of a part; `together` parts are being trained at once."""

    def __init__(self, quiet: bool, together: int = 1) -> None:
        self.quiet = quiet
        self.together = together
        self.terminal = sys.stderr.isatty()
        self._last = time.monotonic()

    def __call__(self, trainer: Trainer) -> None:
        """Say where the part is, if something was said long enough ago."""
        now = time.monotonic()
        if self.quiet or now - self._last < (0.2 if self.terminal else LINE_EVERY_S):
            return
        self._last = now
        if self.terminal:
            print(f"\r\x1b[2K{self._line(trainer)}", end="", file=sys.stderr, flush=True)
        else:
            note(self._line(trainer))

    def clear(self) -> None:
        """Make room for another line."""
        if self.terminal and not self.quiet:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)

    def _line(self, trainer: Trainer) -> str:
        row = trainer.state.history[-1]
        among = f" (one of {self.together} together)" if self.together > 1 else ""
        said = [f"{trainer.name}{among}: {row['phase']} epoch {row['epoch']}, loss {row['train_loss']:.4f}"]
        for name in ("validation_loss", "validation_auc"):
            if row[name] is not None:
                said.append(f"{name.replace('_', ' ').replace('auc', 'AUC')} {row[name]:.4f}")
        return ", ".join(said)
