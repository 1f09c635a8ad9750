"""What preprocess and extract-features share: patients worked through one by one, in a spool, shards and retries."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mmcli.errors import RequestError, UnreadableError
from mmcli.progress import note
from mmcli.stages.common import existing_request, failed_patients, failure_code, write_failures
from mmcli.stages.outcome import Outcome, is_done
from mmcli.store import Instances, Spool, Store, spool_request
from mmcli.store.read import Bag

Item = TypeVar("Item")
MOST_AHEAD = 256 << 20


class Shard:
    """The i-th of n parts of the patients: those whose row is i modulo n."""

    def __init__(self, text: str, quiet: bool = False) -> None:
        self.number, self.total = 0, 1
        array = os.environ.get("SLURM_ARRAY_TASK_ID")
        if not text:
            if array is not None:
                note(
                    "a Slurm array is seen but not used: give --shard slurm to do one part of the patients a task",
                    quiet,
                )
            return
        if text == "slurm":
            try:
                first = int(os.environ.get("SLURM_ARRAY_TASK_MIN", "0"))
                step = max(1, int(os.environ.get("SLURM_ARRAY_TASK_STEP", "1")))
                number, total = (int(array or "") - first) // step, int(os.environ["SLURM_ARRAY_TASK_COUNT"])
            except (KeyError, ValueError):
                raise RequestError(
                    "--shard slurm: SLURM_ARRAY_TASK_ID and _COUNT do not hold numbers; start it by sbatch --array"
                ) from None
        else:
            match = re.fullmatch(r"(\d+)/(\d+)", text)
            if not match:
                raise RequestError(f"--shard: {text!r} is not I/N (for example 0/4) or slurm")
            number, total = int(match[1]), int(match[2])
        if not 0 <= number < total:
            raise RequestError(f"--shard: part {number} of {total} does not exist; the first of n parts is 0/n")
        self.number, self.total = number, total

    def __str__(self) -> str:
        return f"{self.number}/{self.total}" if self.total > 1 else ""

    def __contains__(self, patient: int) -> bool:
        return patient % self.total == self.number

    def of(self, patients: int) -> str:
        """ "14 patients", or of a shard its share of them."""
        own = len(range(self.number, patients, self.total))
        return f"{patients} patients" if self.total == 1 else f"{own} of {patients} patients"

    def path(self, out: Path) -> Path:
        """`features.h5` -> `features.shard-0-of-4.h5`; unchanged when there is one part."""
        if self.total == 1:
            return out
        return out.with_name(f"{out.stem}.shard-{self.number}-of-{self.total}{out.suffix}")


def finished(out: Path, request: dict[str, Any], settings: Any, inputs: Sequence[Path]) -> Outcome | None:
    """The outcome of an output that is there already, None where there is work to do.

    An interrupted output of another request is refused like a finished one, unless --force drops it. A store that
    --force replaces stays until the new one is complete.
    """
    failure_code(0, settings.allow_failures)
    if is_done(out, request, existing_request(out, inputs, settings.force), settings.force):
        failed = failed_patients(out)
        if settings.retry_failed and failed:
            return None
        return Outcome(
            f"{out} holds this already: nothing to do"
            + (f" ({failed} failed; --retry-failed tries them again)" if failed else ""),
            {"out": str(out), "done": True, "failed": failed},
            exit_code=failure_code(failed, settings.allow_failures),
        )
    is_done(out, request, spool_request(out), settings.force)
    return None


@contextmanager
def spool(out: Path, request: dict[str, Any], settings: Any) -> Iterator[Spool]:
    """The spool of an output: a new one, the one that an interrupted command left, or (for --retry-failed) one that
    starts with the patients who did not fail in the finished store."""
    with Spool(out, request) as opened:
        if opened.entries:
            opened.check()
            note(f"{out}: going on where it was ({len(opened.entries)} done)", settings.quiet)
        if settings.retry_failed:
            opened.forget_failed()
        # Asked again now that nobody else can make it: another process may just have finished.
        if is_done(out, request, existing_request(out, (), settings.force), settings.force):
            _adopt(opened, out)
        yield opened


def _adopt(opened: Spool, out: Path) -> None:
    with Store(out) as store:
        for name, bag in store.bags.items():
            for patient in range(len(store.patients)):
                if (name, patient) in opened or bag.failed[patient] or not bag.present[patient]:
                    continue
                opened.add(name, patient, adopted(bag, patient))


def adopted(bag: Bag, patient: int) -> Instances:
    """One patient of a store as a stage would make them again: the same bytes, its sources numbered on their own."""
    rows = {array: bag.rows(array, patient) for array in bag.arrays}
    used, local = np.unique(rows.pop("source", np.empty(0, np.int32)), return_inverse=True)
    count = int(bag.offsets[patient + 1] - bag.offsets[patient])
    if len(used):
        rows["source"] = local.astype(np.int32)
    return Instances.of(count, rows, tuple(bag.sources[i] for i in used.tolist()))


def read_ahead(
    work: Callable[[Item], Any],
    items: Iterable[Item],
    workers: int,
    cost: Callable[[Item], int] = lambda _: 0,
    most: int = MOST_AHEAD,
) -> Generator[tuple[Item, Any], None, None]:
    """Each item with work(item), in order, done by threads that are at most two items a worker ahead, and whose
    results take at most `most` bytes by `cost` (one item may take more): what waits is bounded, however many items
    there are. Closing the iterator drops what is not begun."""
    source = iter(items)
    waiting: deque[tuple[Item, Future[Any]]] = deque()
    held = 0
    upcoming = next(source, None)
    pool = ThreadPoolExecutor(workers)
    try:
        while True:
            while (
                upcoming is not None and len(waiting) < 2 * workers and (not waiting or held + cost(upcoming) <= most)
            ):
                held += cost(upcoming)
                waiting.append((upcoming, pool.submit(work, upcoming)))
                upcoming = next(source, None)
            if not waiting:
                return
            item, future = waiting.popleft()
            yield item, future.result()
            held -= cost(item)
            del future  # it holds the result: large, and the caller's alone now
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def why_failed(error: Exception, shown: str = "") -> str:
    """Why one patient's files could not be used, in one line; `shown` is the file's name, which an UnreadableError says
    itself. A library's surprise at one file never ends a run over a thousand, and is told as ours to mend."""
    if isinstance(error, UnreadableError):
        return str(error)
    text = " ".join(str(error).split())
    if isinstance(error, (OSError, MemoryError)):
        reason = text or type(error).__name__
    else:
        reason = f"{type(error).__name__}: {text[:200]} (report this to mmcli)"
    return f"{shown}: {reason}" if shown else reason


def failure_rows(opened: Spool, ids: list[str]) -> list[dict[str, str]]:
    """The rows of failures.csv."""
    return [
        {
            "patient_id": ids[e.patient],
            "modality": e.modality,
            "path": "; ".join(s["path"] for s in e.sources),
            "reason": e.failed,
        }
        for e in opened.failures()
    ]


def closing(out: Path, opened: Spool, ids: list[str], settings: Any, rows: list[dict[str, Any]], done: str) -> Outcome:
    """Write failures.csv beside the output, remove the spool, and say what was made."""
    failures = failure_rows(opened, ids)
    listed = write_failures(out, failures)
    opened.discard()
    message = f"{out}: {done}"
    if listed:
        message += f"; {len(failures)} failed, listed in {listed}"
        note(
            "\n".join(f"failed: {f['patient_id']} {f['modality']}: {f['reason']}" for f in failures[:10]),
            settings.quiet,
        )
    data = {"out": str(out), "failed": len(failures), "failures": failures}
    return Outcome(message, data, rows, failure_code(len(failures), settings.allow_failures))


def modality_rows(opened: Spool, names: Iterable[str]) -> list[dict[str, Any]]:
    """For each modality: patients who have it, lack it, failed; instances."""
    rows = []
    for name in names:
        entries = [e for e in opened.entries.values() if e.modality == name]
        rows.append({
            "modality": name,
            "present": sum(e.present for e in entries),
            "absent": sum(not e.present and not e.failed for e in entries),
            "failed": sum(bool(e.failed) for e in entries),
            "instances": sum(e.count for e in entries),
        })  # fmt: skip
    return rows
