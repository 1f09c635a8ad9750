"""What a run's parts say when patients lose a modality: predicted again from weights and stores."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mmcli.errors import DamagedError, RequestError
from mmcli.registry import Registry, did_you_mean
from mmcli.store import Label, Store, Stores
from mmcli.store.parts import ROLES, UNUSED, Source
from mmcli.training.data import CohortData, PartData, load_cohort
from mmcli.training.memory import latents_budget
from mmcli.training.part import Part, read_part, read_spec
from mmcli.training.predicting import answer, answer_draws, predictions_frame
from mmcli.training.run import missing_parts, read_run
from mmcli.training.seeds import reproducible

Bools = NDArray[np.bool_]
Frames = dict[str, dict[str, pd.DataFrame]]


@dataclass(frozen=True)
class AttentionOf:
    """One patient's attention over the N instances of a bag: `weights` (N,), the mean over `parts` parts, sum to 1.

    `coords` (N, k) with their names `columns` (slides: x, y, width, height at level 0), None where the store has none;
    `source` (N,) indexes `sources`, the files that the instances come from, whose paths are relative to `root`.
    """

    weights: NDArray[np.float64]
    parts: int
    coords: NDArray[Any] | None
    columns: list[str]
    source: NDArray[np.int64]
    sources: list[Source]
    root: Path


@dataclass(frozen=True)
class _Loaded:
    """A part with its view of the patients, and what its prediction files say: roles (n,)."""

    part: Part
    view: PartData
    roles: NDArray[np.int8]
    filled: dict[str, NDArray[np.float64]]


class Repredictor:
    """A run opened with the stores that it was trained on. A context manager.

    `ids` are all patients of the stores, in the order that masks have; `parts` the finished parts; `modalities` those
    that the run knows. What training withheld stays withheld. Labels and splits come from the parts' own prediction
    files, so that a cohort given anew needs not be given again.
    """

    def __init__(
        self,
        run: Path,
        methods: Registry,
        stores: Sequence[Path] = (),
        *,
        memory: str = "",
        device: torch.device | None = None,
    ) -> None:
        """`methods` is where the run's method is registered. `stores`: files to look among by content, in any order
        and more than this run needs, where they lie elsewhere than run.json says. `memory` as `--memory`.

        RequestError where there is no run, or a store is not there or has other content than the one trained on.
        """
        about = read_run(run)
        if about is None:
            raise RequestError(f"{run}: is not a run (it has no run.json)")
        self.run, self._methods, self._device = run, methods, device
        try:
            wanted = {str(s["content_sha256"]): Path(s["path"]) for s in about["stores"]}
            missing = set(missing_parts(run, about["parts"]))
            self.parts: list[str] = [part for part in about["parts"] if part not in missing]
            self.modalities: list[str] = list(about["modalities"])
            self._tasks: dict[str, dict[str, Any]] = about["tasks"]
            request = about["request"]
            withhold = {m: float(s) for m, s in request["withhold"].items()}
            seed = int(request["seed"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(f"{run}/run.json: damaged ({type(error).__name__}: {error}); train it again") from None
        if not self.parts:
            raise RequestError(f"{run}: none of the run's parts is finished; train it first")
        self._stores = _open_stores(run, wanted, stores)
        try:
            budget, maps = latents_budget(memory), read_spec(run / self.parts[0]).maps
            self._data = load_cohort(
                self._stores, [], self.modalities, budget=budget, withhold=withhold, seed=seed, maps=maps
            )
        except BaseException:
            self._stores.close()
            raise
        self.ids: list[str] = self._data.ids
        self._index = {patient: i for i, patient in enumerate(self.ids)}

    def __enter__(self) -> Repredictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stores.close()

    def present(self, modality: str) -> Bools:
        """(n,) who has a modality of the run, what training withheld taken off."""
        there: Bools = self._data.present[modality].copy()
        return there

    def frames(self, hidden: Mapping[str, Bools], splits: Collection[str] = tuple(ROLES)) -> Frames:
        """Part -> task -> the rows of predictions-<task>.parquet (all variants and draws), as if the patients of
        `hidden` (modality -> (n,) of `ids`) lacked the modality; modalities that the run does not know are passed over.

        With nothing hidden they are the part's own, to float tolerance. `splits` takes some of the rows alone (those of
        a method that samples are then other samples, unless it draws by `Batch.noise`); a part without a patient in
        them is left out.
        """
        found: Frames = {}
        roles = [ROLES[split] for split in splits]
        data = self._hide(hidden)
        with reproducible():
            for name in self.parts:
                loaded = self._load(name, data)
                method, view, key = loaded.part.method, loaded.view, loaded.part.name.key
                rows = np.flatnonzero(np.isin(loaded.roles, roles))
                if not len(rows):
                    continue
                answers = answer(method, view, rows, key)
                draws = answer_draws(method, view, loaded.part.prepared, loaded.filled, rows, key)
                found[name] = {
                    task: predictions_frame(method, view, loaded.roles, task, answers, draws) for task in self._tasks
                }
        return found

    def attended(self) -> list[str]:
        """The modalities over which the run's method has attention."""
        loaded = self._load(self.parts[0], self._data)
        with torch.no_grad():
            return list(loaded.part.method.attention(loaded.view.batch(np.array([0]))))

    def attention(self, patients: Sequence[str], modality: str, split: str = "test") -> dict[str, AttentionOf]:
        """Patient -> attention over the instances of a modality, by the parts that have the patient in `split`.

        Who has no instance of it, or is in that split of no part, is left out. RequestError for an unknown patient, or
        a modality over which the method has no attention.
        """
        if modality not in (known := self.attended()):
            raise RequestError(f"{self.run}: has no attention over {modality!r}{did_you_mean(modality, known)}")
        if strange := [p for p in patients if p not in self._index]:
            raise RequestError(f"{self.run}: patient {strange[0]!r} is in none of its stores")
        asked = np.array([self._index[p] for p in dict.fromkeys(patients)], np.int64)
        asked = asked[self._data.present[modality][asked]]
        found: dict[int, list[NDArray[np.float64]]] = {int(i): [] for i in asked}
        with reproducible(), torch.no_grad():
            for name in self.parts:
                loaded = self._load(name, self._data)
                for row, weights in _weights(loaded, asked[loaded.roles[asked] == ROLES[split]], modality):
                    found[row].append(weights)
        return {self.ids[row]: self._attention_of(row, modality, each) for row, each in found.items() if each}

    def _attention_of(self, row: int, modality: str, weights: list[NDArray[np.float64]]) -> AttentionOf:
        bag = self._stores.bags[modality]
        piece, own = bag.pieces[bag.where[row, 0]], int(bag.where[row, 1])
        root = next(file.root for file in self._stores.files if file.bags.get(modality) is piece)
        numbers = piece.rows("source", own).tolist() if "source" in piece.arrays else []
        order = list(dict.fromkeys(numbers))
        return AttentionOf(
            np.mean(weights, axis=0),
            len(weights),
            piece.rows("coords", own) if "coords" in piece.arrays else None,
            list(piece.meta.coords),
            np.array([order.index(k) for k in numbers], np.int64),
            [piece.sources[k] for k in order],
            Path(root),
        )

    def _hide(self, hidden: Mapping[str, Bools]) -> CohortData:
        """The cohort without what is hidden; a table that a patient does not show feeds nothing, its imputed cells
        neither."""
        present, tables = dict(self._data.present), dict(self._data.tables)
        for modality, mask in hidden.items():
            if mask.shape != (len(self.ids),):
                raise ValueError(f"{modality}: a mask of shape {mask.shape} for {len(self.ids)} patients")
            if modality in present:
                present[modality] = present[modality] & ~mask
            if modality in tables:
                tables[modality] = replace(tables[modality], present=present[modality])
        return replace(self._data, present=present, tables=tables)

    def _load(self, name: str, data: CohortData) -> _Loaded:
        part = read_part(self.run / name, self._methods)
        imputers = {t: h["imputer"] for t, h in part.head["tables"].items() if h["imputer"]}
        filled = {t: self._stores.filled(t, i, part.name.fold_set, part.name.fold) for t, i in imputers.items()}
        roles, tasks = np.full(len(self.ids), UNUSED, np.int8), {}
        for task, about in self._tasks.items():
            tasks[task] = self._labels(part, task, about, roles)
        part.method.to(self._device or torch.device("cpu"))
        return _Loaded(
            part, PartData(replace(data, tasks=tasks), part.prepared, filled, device=self._device), roles, filled
        )

    def _labels(self, part: Part, task: str, about: dict[str, Any], roles: NDArray[np.int8]) -> Label:
        """A task's labels as the part's own predictions have them; their splits go into `roles`."""
        file = part.path / f"predictions-{task}.parquet"
        classes: list[str] = about["classes"]
        values = np.full(len(self.ids), -1, np.int64)
        try:
            frame = pd.read_parquet(file, columns=["patient_id", "split", "label"]).drop_duplicates("patient_id")
            rows = frame["patient_id"].map(self._index).to_numpy(np.int64)
            roles[rows] = frame["split"].map(ROLES).to_numpy(np.int8)
            known = frame["label"].notna().to_numpy()
            values[rows[known]] = [classes.index(label) for label in frame["label"][known]]
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise DamagedError(
                f"{file}: cannot be read ({' '.join(str(error).split())[:160]}); remove {part.path} and run the "
                "training command again"
            ) from None
        return Label(values, classes, bool(about.get("ordinal")))


def _weights(loaded: _Loaded, rows: NDArray[np.int64], modality: str) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Each patient's weights by one part."""
    for piece in loaded.view.pieces(rows):
        batch = loaded.view.batch(piece)
        weights = loaded.part.method.attention(batch)[modality].double().cpu().numpy()
        ends = batch.bags[modality].offsets.cpu().numpy()[1:-1]
        yield from zip(piece.tolist(), np.split(weights, ends), strict=True)


def _open_stores(run: Path, wanted: dict[str, Path], given: Sequence[Path]) -> Stores:
    """The run's stores in its own order: `wanted` is content -> the path that it had."""
    paths = list(wanted.values())
    if given:
        have = {}
        for path in given:
            with Store(path) as store:
                have[store.content_sha256] = path
        if lacking := [path for content, path in wanted.items() if content not in have]:
            raise RequestError(
                f"--stores: none of them has the content of {lacking[0]} that {run} was trained on; name it too"
            )
        paths = [have[content] for content in wanted]
    elif lacking := [path for path in paths if not path.is_file()]:
        raise RequestError(
            f"{run}: the store {lacking[0]} that it was trained on is not there any more; name with --stores where it "
            "is now"
        )
    stores = Stores(paths)
    for file, content in zip(stores.files, wanted, strict=True):
        if file.content_sha256 != content:
            stores.close()
            raise RequestError(
                f"{file.path}: has other content than when {run} was trained on it; name with --stores where that "
                "store is now"
            )
    return stores
