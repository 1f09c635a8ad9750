"""Patients worked through one by one, each into the spool: as instances, as lacking the modality, or as failed."""

from __future__ import annotations

from collections.abc import Callable

from mmcli.cohort import BagSpec
from mmcli.cohort.model import FileSpec
from mmcli.progress import track
from mmcli.settings import PreprocessSettings
from mmcli.stages.machine import cores
from mmcli.stages.spooled import Shard, read_ahead
from mmcli.store import Instances, Source, Spool

Attempt = Callable[[int], Instances | str | None]  # a patient's instances, why they failed, or None: nothing is there


def work_through(
    name: str, bag: BagSpec, attempt: Attempt, opened: Spool, shard: Shard, settings: PreprocessSettings
) -> None:
    """Log what `attempt` says of each patient who is not in the spool under `name` yet; it is called by threads
    (OpenSlide and SimpleITK release the GIL)."""
    todo = [i for i in range(len(bag.files)) if i in shard and (name, i) not in opened]
    ahead = read_ahead(attempt, todo, cores(settings.workers))
    for patient, result in track(ahead, len(todo), name, settings.quiet):
        if isinstance(result, str):
            opened.add_failed(name, patient, result, tuple(_plain_source(f) for f in bag.files[patient]))
        elif result is None:
            opened.add_absent(name, patient)
        else:
            opened.add(name, patient, result)


def _plain_source(file: FileSpec) -> Source:
    """A file that failed: its fingerprint may not be had."""
    return Source(file.shown, file.path.stat().st_size if file.path.is_file() else 0, "")
