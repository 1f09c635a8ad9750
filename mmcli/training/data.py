"""The patients as the engine sees them: latents loaded once for all parts, and one part's prepared view of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmcli.errors import DamagedError
from mmcli.store import Label, Stores, Table
from mmcli.store.batch import Latents, PackedBag
from mmcli.store.parts import TRAIN
from mmcli.training.batch import Batch, Roster, TableRows
from mmcli.training.preparing import LatentScaler, TableEncoder
from mmcli.training.spec import BagSpec, DataSpec, TableSpec, TaskSpec
from mmcli.training.withhold import withheld

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
INSTANCES_AT_ONCE = 32768
MAP_NUMBERS_AT_ONCE = 1 << 26
Shapes = dict[str, dict[str, tuple[int, ...]]]  # modality -> stage -> (c, t, h, w) of its maps


@dataclass
class Moments:
    """Each patient's sum and sum of squares (n, dim) over the instances, and their number (n,)."""

    sums: NDArray[np.float64]
    squares: NDArray[np.float64]
    counts: Ints

    @classmethod
    def of(cls, latents: Latents, ids: list[str]) -> Moments:
        """Read every bag once; DamagedError names a patient `ids[i]` with a feature that is no finite number."""
        counts = np.diff(latents.bag.offsets)
        sums, squares = np.zeros((len(counts), latents.dim)), np.zeros((len(counts), latents.dim))
        for i in np.flatnonzero(counts):
            rows = latents.pack(np.array([i])).features.double()
            sums[i] = rows.sum(0).numpy()
            squares[i] = rows.square_().sum(0).numpy()
        if len(bad := np.flatnonzero(~np.isfinite(sums).all(1))):
            raise DamagedError(
                f"{latents.bag.name}: the features of patient {ids[bad[0]]} are not all finite ({len(bad)} patients); "
                "extract them again, with --dtype float32 where they overflow"
            )
        return cls(sums, squares, counts)


@dataclass
class CohortData:
    """What all parts share. `present[m]` (n,): the patient has the modality, it was read, it has at least one
    instance, and it is not withheld."""

    stores: Stores
    tasks: dict[str, Label]
    latents: dict[str, Latents]
    tables: dict[str, Table]
    present: dict[str, Bools]
    _moments: dict[str, Moments] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.stores.patients)

    @property
    def ids(self) -> list[str]:
        """The patients."""
        return self.stores.patients.ids

    def moments(self, bag: str) -> Moments:
        """Computed when first asked for, as prediction needs none."""
        if bag not in self._moments:
            self._moments[bag] = Moments.of(self.latents[bag], self.ids)
        return self._moments[bag]


def load_cohort(
    stores: Stores,
    tasks: list[str],
    modalities: list[str],
    *,
    budget: int,
    withhold: dict[str, float],
    seed: int,
    maps: dict[str, list[str]] | None = None,
    opened: dict[str, Latents] | None = None,
) -> CohortData:
    """Open modalities and tables of the joined stores; latents come into memory as far as `budget` bytes go, and after
    them the maps of the stages that `maps` names of a modality (RequestError where the stores lack them). Latents of
    the same stores that are `opened` already serve again."""
    latents, tables, present = {}, {}, {}
    for name in modalities:
        if name in stores.tables:
            tables[name] = stores.tables[name]
            there = tables[name].present.copy()
        else:
            bag = stores.bag(name)
            if opened and name in opened:
                latents[name] = opened[name]
            else:
                size = int(bag.offsets[-1]) * bag.dim * 4
                latents[name] = Latents(bag, in_memory=size <= budget)
                budget -= size if size <= budget else 0
            there = bag.present & (np.diff(bag.offsets) > 0)
        if name in withhold:
            there &= ~withheld(stores.patients.ids, name, withhold[name], seed)
            if name in tables:  # one that is withheld is not there for anything that is fitted either
                tables[name] = replace(tables[name], present=there)
        present[name] = there
    for name, stages in (maps or {}).items():
        if stages and name in latents:
            budget -= latents[name].open_maps(stages, budget)
    return CohortData(stores, {t: stores.patients.labels[t] for t in tasks}, latents, tables, present)


@dataclass
class Preparation:
    """Everything that was fitted to a part's training patients, the shapes of the maps that its batches hold, and the
    teacher's own preparation where the method needs the teacher."""

    scalers: dict[str, LatentScaler]
    encoders: dict[str, TableEncoder]
    maps: Shapes = field(default_factory=dict)
    teacher: Preparation | None = None


def fit_preparation(data: CohortData, roles: NDArray[np.int8], maps: dict[str, list[str]] | None = None) -> Preparation:
    """Fit on role-1 patients. `maps` are the stages of each modality that batches shall hold."""
    train = roles == TRAIN
    scalers = {}
    for name in data.latents:
        rows, moments = np.flatnonzero(train & data.present[name]), data.moments(name)
        scalers[name] = LatentScaler.fit(moments.sums[rows], moments.squares[rows], moments.counts[rows])
    encoders = {
        name: TableEncoder.fit(table, np.flatnonzero(train & data.present[name])) for name, table in data.tables.items()
    }
    shapes = {n: {s: data.latents[n].map_shapes[s] for s in stages} for n, stages in (maps or {}).items()}
    return Preparation(scalers, encoders, shapes)


def fit_tasks(data: CohortData, roles: NDArray[np.int8]) -> list[TaskSpec]:
    """Priors and balanced weights of the labelled role-1 patients."""
    specs = []
    for name, label in data.tasks.items():
        y = label.values[(roles == TRAIN) & (label.values >= 0)]
        counts = np.bincount(y, minlength=len(label.classes)).astype(float)
        weights = np.where(counts > 0, len(y) / (max((counts > 0).sum(), 1) * np.maximum(counts, 1)), 0.0)
        prior = (counts / max(len(y), 1)).tolist()
        specs.append(
            TaskSpec(name=name, classes=label.classes, ordinal=label.ordinal, prior=prior, weights=weights.tolist())
        )
    return specs


def data_spec(data: CohortData, prepared: Preparation, tasks: list[TaskSpec], roles: dict[str, str]) -> DataSpec:
    """What the method is told."""
    bags = [
        BagSpec(name=n, kind=x.bag.meta.kind, dim=x.dim, maps=prepared.maps.get(n, {})) for n, x in data.latents.items()
    ]
    tables = [TableSpec(name=n, columns=e.encoded) for n, e in prepared.encoders.items()]
    return DataSpec(bags=bags, tables=tables, tasks=tasks, roles=roles)


class PartData:
    """One part's view: prepared tensors of all patients, and batches of any of them.

    A modality that was prepared and that the stores lack altogether is a modality that nobody has. `teacher` is the
    teacher's view in training, with all of its modalities; without one, a prepared teacher sees those of `data`, their
    tables filled as the student's.
    """

    def __init__(
        self,
        data: CohortData,
        prepared: Preparation,
        filled: dict[str, NDArray[np.float64]],
        extra: dict[str, Tensor] | None = None,
        device: torch.device | None = None,
        teacher: PartData | None = None,
    ) -> None:
        self.data = data
        self.prepared = prepared
        self.device = device or torch.device("cpu")
        self.scalers = {
            n: (torch.from_numpy(s.mean).to(self.device), torch.from_numpy(s.scale).to(self.device))
            for n, s in prepared.scalers.items()
        }
        nobody = np.zeros(len(data), bool)
        self.present = {n: data.present.get(n, nobody) for n in [*prepared.scalers, *prepared.encoders]}
        self.tables = {}
        for name, encoder in prepared.encoders.items():
            values = observed = np.zeros((len(data), len(encoder.encoded)), np.float32)
            if name in data.tables:
                values, observed = encoder.encode(data.tables[name], filled.get(name))
            present = torch.from_numpy(self.present[name])
            self.tables[name] = TableRows(torch.from_numpy(values), torch.from_numpy(observed), present).to(self.device)
        self.labels = {t: torch.from_numpy(y.values.astype(np.int64)).to(self.device) for t, y in data.tasks.items()}
        self.extra = {n: x.to(self.device) for n, x in (extra or {}).items()}
        self._without = PartData(data, prepared.teacher, filled, device=device) if prepared.teacher else None
        self.teacher = teacher or self._without

    def at_inference(self) -> PartData:
        """The same without what training alone has: `extra`, and the teacher's other modalities."""
        found = copy(self)
        found.extra, found.teacher = {}, self._without
        return found

    def noise_keys(self, rows: Ints, key: tuple[object, ...]) -> list[tuple[object, ...]]:
        """What a patient's noise at inference is derived from; `key` is the part's."""
        return [(*key, "noise", self.data.ids[i]) for i in rows]

    def batch(self, rows: Ints) -> Batch:
        """Patients `rows` in that order."""
        index = torch.from_numpy(rows).to(self.device)
        tables = {n: TableRows(t.values[index], t.observed[index], t.present[index]) for n, t in self.tables.items()}
        bags = {n: self._bag(n, rows) for n in self.scalers}
        labels = {t: y[index] for t, y in self.labels.items()}
        teacher = self.teacher.batch(rows) if self.teacher else None
        return Batch(index, bags, tables, labels, {n: x[index] for n, x in self.extra.items()}, teacher)

    def _bag(self, name: str, rows: Ints) -> PackedBag:
        mean, scale = self.scalers[name]
        shapes = self.prepared.maps.get(name, {})
        if name not in self.data.latents:
            nothing = torch.zeros((0, len(mean)), device=self.device), torch.zeros(len(rows) + 1, dtype=torch.int64)
            maps = {stage: torch.zeros((0, *shape)) for stage, shape in shapes.items()}
            return PackedBag(*nothing, torch.zeros(len(rows), dtype=torch.bool), maps).to(self.device)
        latents = self.data.latents[name]
        packed = latents.standardised(rows, self.present[name], mean, scale)
        if shapes:
            maps = latents.maps(rows, self.present[name], list(shapes))
            packed.maps = {s: x.reshape(len(x), *shapes[s]).to(self.device) for s, x in maps.items()}
        return packed

    def roster(self, rows: Ints) -> Roster:
        """What is known of these patients without reading an instance."""
        index = torch.from_numpy(rows)
        return Roster(
            {n: torch.from_numpy(p[rows]) for n, p in self.present.items()},
            {t: y.cpu()[index] for t, y in self.labels.items()},
            {n: x.cpu()[index] for n, x in self.extra.items()},
            self.teacher.roster(rows) if self.teacher else None,
        )

    def pieces(self, rows: Ints, most: int = 512) -> Iterator[Ints]:
        """The rows in pieces of at most `most` patients and about 32 768 instances a modality (fewer where maps would
        take more than some hundred MiB), in order."""
        counts = self._loads(rows)
        if not counts:
            yield from (rows[i : i + most] for i in range(0, len(rows), most))
            return
        load = np.max(counts, axis=0)
        start, held = 0, 0
        for i, extra in enumerate(load):
            if i > start and (i - start >= most or held + extra > INSTANCES_AT_ONCE):
                yield rows[start:i]
                start, held = i, 0
            held += int(extra)
        if start < len(rows):
            yield rows[start:]

    def _loads(self, rows: Ints) -> list[Ints]:
        """For each bag modality, how much of a piece each patient's instances take, in instances."""
        found = [] if self.teacher is None else self.teacher._loads(rows)
        for name, latents in self.data.latents.items():
            if name not in self.scalers:
                continue
            counts: Ints = np.diff(latents.bag.offsets)[rows] * self.present[name][rows]
            numbers = sum(math.prod(shape) for shape in self.prepared.maps.get(name, {}).values())
            found.append(counts * max(-(-numbers * INSTANCES_AT_ONCE // MAP_NUMBERS_AT_ONCE), 1))
        return found
