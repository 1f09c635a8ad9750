"""read_ahead: in order, and never more at once than threads and bytes allow."""

from __future__ import annotations

import threading
import time

import pytest

from mmcli.stages.spooled import read_ahead


@pytest.mark.parametrize(("workers", "most", "expected"), [(1, 100, 3), (4, 100, 9), (4, 3, 3), (4, 0, 1)])
def test_what_waits_is_bounded(workers: int, most: int, expected: int) -> None:
    """Items of one byte each: with n threads at most 2 n are begun and one is in the caller's hands."""
    lock, held, peak = threading.Lock(), 0, 0

    def work(item: int) -> int:
        nonlocal held, peak
        with lock:
            held += 1
            peak = max(peak, held)
        time.sleep(0.001)
        return item * item

    results = []
    for item, result in read_ahead(work, range(40), workers, lambda _: 1, most):
        time.sleep(0.002)
        results.append((item, result))
        with lock:
            held -= 1
    assert results == [(i, i * i) for i in range(40)]
    assert peak <= expected


def test_closing_drops_what_is_not_begun_and_errors_come_in_their_place() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 2:
            raise ValueError("item 2")
        return item

    ahead = read_ahead(work, range(1000), 2)
    assert [next(ahead)[1] for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match="item 2"):
        next(ahead)
    assert len(begun) < 12
    ahead = read_ahead(work, range(10, 1000), 2)
    next(ahead)
    ahead.close()
    assert len(begun) < 24
    assert list(read_ahead(work, [], 2)) == []
