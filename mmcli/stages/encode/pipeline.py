"""One pass over the pixels of a modality, for all of its encoders: threads read ahead while the network computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcli.encoders.base import Encoded, Encoder, Maps
from mmcli.errors import RequestError, UnreadableError
from mmcli.progress import track
from mmcli.settings import ExtractSettings
from mmcli.stages.encode.batches import Batch, Span, batch_size, batches
from mmcli.stages.encode.reading import Read, Reader
from mmcli.stages.encode.stopping import Stop
from mmcli.stages.machine import cores
from mmcli.stages.pixels import Pixels
from mmcli.stages.spooled import Shard, read_ahead
from mmcli.store import Instances, JoinedBag, Source, Spool

Key = tuple[str, int]  # modality in the new store, patient
BY_ENCODER = "encoder "  # how the reasons begin that lie in the latents


@dataclass
class _InHand:
    """What one patient has of one encoder so far."""

    latents: list[NDArray[Any]] = field(default_factory=list)
    maps: list[dict[str, NDArray[np.float16]]] = field(default_factory=list)
    digests: list[NDArray[np.uint8]] = field(default_factory=list)


@dataclass
class Pass:
    """All encoders of one prepared modality, by the names that they make in the new store, and the maps of some."""

    name: str
    bag: JoinedBag
    encoders: Mapping[str, Encoder]
    maps: Mapping[str, Maps]
    pixels: Pixels
    settings: ExtractSettings

    @property
    def size(self) -> int:
        """Instances in one call."""
        volume = int(np.prod(self.pixels.shape)) * 4 if self.pixels.dtype == np.float32 else 0
        return batch_size(self.settings.batch, volume)

    def run(self, opened: Spool, shard: Shard, stop: Stop) -> None:
        """Encode who is not in the spool yet. A batch that holds anybody's instances is computed as a whole, with the
        same instances in the same slots, whoever else of it is finished."""
        self._note_absent(opened, shard)
        try:
            _Run(self, opened, shard, stop).all()
        finally:
            self.pixels.close()

    def _note_absent(self, opened: Spool, shard: Shard) -> None:
        """Who has nothing to encode."""
        bag, counts = self.bag, self.pixels.counts
        for name, encoder in self.encoders.items():
            for patient in range(len(bag.present)):
                if patient not in shard or (name, patient) in opened:
                    continue
                if bag.failed[patient]:
                    opened.add_failed(name, patient, "could not be read by preprocess (see its failures.csv)")
                elif not bag.present[patient]:
                    opened.add_absent(name, patient)
                elif not counts[patient]:
                    none = np.empty((0, encoder.dim), np.dtype(self.settings.dtype))
                    opened.add(name, patient, Instances(0, none))


class _Run:
    """A pass under way."""

    def __init__(self, work: Pass, opened: Spool, shard: Shard, stop: Stop) -> None:
        self.work, self.opened, self.stop = work, opened, stop
        bag = work.bag
        self.counts = work.pixels.counts
        self.patients = [
            i for i in range(len(bag.present)) if i in shard and bag.present[i] and not bag.failed[i] and self.counts[i]
        ]
        gpu = any(str(getattr(e, "device", "cpu")).startswith("cuda") for e in work.encoders.values())
        self.unreadable = {i for i in self.patients if any(map(self._was_unreadable, self._keys(i)))}
        self.reader = Reader(work.pixels, list(work.encoders.values()), self.unreadable, pinned=gpu)
        self.depth = 1 if gpu else 0  # batches that a GPU computes while the next one is begun
        self.in_hand: dict[Key, _InHand] = {}
        self.failed: dict[Key, str] = {}
        self.last: int | None = None

    def _keys(self, patient: int) -> list[Key]:
        return [(name, patient) for name in self.work.encoders]

    def _was_unreadable(self, key: Key) -> bool:
        """Whether an interrupted command could not read the pixels; what an encoder said of them is another thing."""
        entry = self.opened.entries.get(key)
        return entry is not None and bool(entry.failed) and not entry.failed.startswith(BY_ENCODER)

    def _wanted(self, name: str, batch: Batch) -> bool:
        return any((name, s.patient) not in self.opened and (name, s.patient) not in self.failed for s in batch.spans)

    def batches(self) -> Iterator[Batch]:
        """Those of all batches that somebody still needs."""
        nbytes = self.work.pixels.nbytes if self.reader.own_sizes else None
        for batch in batches(self.patients, self.counts, self.work.size, nbytes):
            if any(key not in self.opened for span in batch.spans for key in self._keys(span.patient)):
                yield batch

    def all(self) -> None:
        """Read ahead, encode, and log each patient when its last instance is done."""
        settings = self.work.settings
        total = sum(1 for _ in self.batches())
        pending: deque[tuple[Batch, Read, dict[str, Callable[[], Encoded]]]] = deque()
        ahead = read_ahead(self.reader, self.batches(), cores(settings.workers), self.reader.nbytes)
        with closing(ahead):
            for batch, read in track(ahead, total, self.work.name, settings.quiet):
                self._note_unreadable(batch, read)
                started = {
                    name: self._start(name, batch, read)
                    for name in self.work.encoders
                    if self._wanted(name, batch)
                }  # fmt: skip
                pending.append((batch, read, started))
                while len(pending) > self.depth:
                    self._settle(*pending.popleft())
                if self.stop.asked:
                    while pending:
                        self._settle(*pending.popleft())
                    self._leave()
            while pending:
                self._settle(*pending.popleft())

    def _leave(self) -> None:
        """End here if the patient who was in hand when SIGTERM came is finished, or nobody was."""
        if self.last is None:
            self.last = min((patient for _, patient in self.in_hand), default=None)
        if self.last is None or not any(key in self.in_hand for key in self._keys(self.last)):
            self.stop.leave()

    def _note_unreadable(self, batch: Batch, read: Read) -> None:
        """A patient whose pixels fail once has empty slots from there on, also where they could be read."""
        for patient, reason in read.failed.items():
            self.unreadable.add(patient)
            self.failed |= {key: reason for key in self._keys(patient) if key not in self.failed}
        for span in batch.spans:
            if span.patient in self.unreadable:
                read.clear(span)

    def _start(self, name: str, batch: Batch, read: Read) -> Callable[[], Encoded]:
        encoder, maps = self.work.encoders[name], self.work.maps.get(name, {})
        held = read.pixels[self.reader.form(encoder)]
        if not isinstance(held, list):
            return encoder.start(held if not encoder.by_row else held[: batch.used], maps)
        latents = np.zeros((batch.size, encoder.dim), np.float32)
        for span in batch.spans:
            for slot in range(span.slots.start, span.slots.stop):
                if held[slot] is None:
                    continue
                try:
                    latents[slot] = encoder.start(held[slot][None], {})().latents[0]
                except RequestError as error:  # an image that is too small for it: its patient's fault alone
                    self.failed.setdefault((name, span.patient), f"{BY_ENCODER}{encoder.name}: {error}")
                    break
        return lambda: Encoded(latents)

    def _settle(self, batch: Batch, read: Read, started: dict[str, Callable[[], Encoded]]) -> None:
        """Take the rows of a batch to their patients."""
        for name, wait in started.items():
            encoded = wait()
            for span in batch.spans:
                key = (name, span.patient)
                if key not in self.opened and key not in self.failed:
                    try:
                        self._collect(key, span, encoded, read)
                    except UnreadableError as error:
                        self.failed[key] = str(error)
        for span in batch.spans:
            for key in self._keys(span.patient):
                if key in self.opened:
                    continue
                if key in self.failed:
                    self._log_failed(key)
                elif span.stop == self.counts[span.patient]:
                    self._log(key)

    def _collect(self, key: Key, span: Span, encoded: Encoded, read: Read) -> None:
        settings, encoder = self.work.settings, self.work.encoders[key[0]]
        latents = narrowed(encoded.latents[span.slots], np.dtype(settings.dtype), encoder, "latent")
        half = np.dtype(np.float16)
        maps = {s: narrowed(m[span.slots], half, encoder, f"{s} map") for s, m in encoded.maps.items()}
        hand = self.in_hand.setdefault(key, _InHand())
        hand.latents.append(latents)
        hand.maps.append(maps)
        if read.digests is not None:
            hand.digests.append(read.digests[span.slots].copy())

    def _log(self, key: Key) -> None:
        name, patient = key
        pixels, hand = self.work.pixels, self.in_hand.pop(key)
        sources, local = sources_of(pixels, patient)
        stages = self.work.maps.get(name, {})
        self.opened.add(name, patient, Instances(
            int(self.counts[patient]), np.concatenate(hand.latents), pixels.rows("coords", patient), None, local,
            sources,
            np.concatenate(hand.digests) if hand.digests else None,
            {stage: np.concatenate([maps[stage] for maps in hand.maps]) for stage in stages},
        ))  # fmt: skip

    def _log_failed(self, key: Key) -> None:
        self.in_hand.pop(key, None)
        sources, _ = sources_of(self.work.pixels, key[1])
        self.opened.add_failed(*key, self.failed[key], sources)


def narrowed(values: NDArray[np.float32], dtype: np.dtype[Any], encoder: Encoder, what: str) -> NDArray[Any]:
    """Rows in the type in which they are stored; UnreadableError where one is NaN, infinite, or becomes it."""
    wrong = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
    if len(wrong):
        raise UnreadableError(
            f"encoder {encoder.name} gave NaN or infinity in the {what} of {len(wrong)} of {len(values)} instances: "
            "look at the pixels; with --set precision=bfloat16 try float32"
        )
    with np.errstate(over="ignore"):
        narrow = values.astype(dtype)
    if not np.isfinite(narrow).all():
        raise UnreadableError(
            f"encoder {encoder.name}: a {what} of {np.abs(values).max():g} is beyond {dtype}"
            + ("; use --dtype float32" if what == "latent" else "")
        )
    return narrow


def sources_of(pixels: Pixels, patient: int) -> tuple[tuple[Source, ...], NDArray[np.int32]]:
    """A patient's sources in the order of their numbers, and each instance's own number among them."""
    used, local = np.unique(pixels.rows("source", patient), return_inverse=True)
    piece = pixels.bag.pieces[pixels.bag.where[patient, 0]]
    return tuple(piece.sources[i] for i in used.tolist()), local.astype(np.int32)
