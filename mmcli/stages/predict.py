"""predict: new patients, who need no label and no fold, with all parts of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mmcli.errors import DamagedError, RequestError
from mmcli.files import publish, publish_json, sha256_file
from mmcli.imputers import load_imputer
from mmcli.methods import METHODS
from mmcli.progress import note, track
from mmcli.settings import PredictSettings
from mmcli.stages.machine import choose_device
from mmcli.stages.outcome import Outcome, is_done, refuse_input
from mmcli.store import Stores
from mmcli.training.data import CohortData, PartData, load_cohort
from mmcli.training.memory import latents_budget
from mmcli.training.part import HEAD, WEIGHTS, Part, check_stores, read_part
from mmcli.training.predicting import Answer, answer
from mmcli.training.run import missing_parts, read_run
from mmcli.training.seeds import reproducible


def run(settings: PredictSettings) -> Outcome:
    """Write `--out`: for each patient the mean over all parts of the probabilities, their standard deviation over the
    parts, and the modalities that the prediction rests on."""
    folders = part_folders(settings.run)
    out = settings.out
    refuse_input(out, [settings.run, *settings.stores])
    with Stores(settings.stores) as stores:
        request = {
            "parts": {folder.name: sha256_file(folder / WEIGHTS) for folder in folders},
            "stores": stores.fingerprints,
        }
        if is_done(out, request, _existing(out, settings.force), settings.force):
            return Outcome(f"nothing to do: {out} holds these predictions", {"out": str(out)})
        device = choose_device(settings.device)
        torch.set_num_threads(settings.workers or 1)
        first = read_part(folders[0], METHODS)
        data = _load(first, stores, settings)
        rows = np.arange(len(data))
        sums: dict[str, Ensemble] = {}
        used: list[set[str]] = [set() for _ in rows]
        notes: set[str] = set()
        with reproducible():
            for folder in track(folders, len(folders), "predict", settings.quiet):
                part = read_part(folder, METHODS)
                notes |= set(check_stores(part, data))
                if settings.dry_run:
                    continue
                filled = _filled(part, data, notes)
                encoders = part.prepared.encoders
                own = replace(data, tables={t: encoders[t].recoded(x) for t, x in data.tables.items()})
                part.method.to(device)
                view = PartData(own, part.prepared, filled, device=device)
                for task, a in answer(part.method, view, rows, part.name.key)[part.method.variants[0]].items():
                    sums.setdefault(task, Ensemble()).add(a)
                    used = [before | set(now.split(",")) - {""} for before, now in zip(used, a.modalities, strict=True)]
        for line in sorted(notes):
            note(line, settings.quiet)
        if settings.dry_run:
            return Outcome(f"would predict {len(rows)} patients with {len(folders)} parts into {out}")
        names = first.method.spec.modalities
        frame = _frame(data.ids, first, sums, [",".join(m for m in names if m in of) for of in used])
        with publish(out) as temporary:
            frame.to_csv(temporary, index=False, lineterminator="\n")
            out.unlink(missing_ok=True)  # the table comes last: killed in between, the same command goes on
            publish_json(_sidecar(out), {"request": request, "run": str(settings.run)})
    nothing = sum(not u for u in used)
    message = f"predicted {len(frame)} patients with {len(folders)} parts of {first.head['method']} into {out}"
    if nothing:
        message += f"; {nothing} have none of its modalities and got the training prior"
    return Outcome(message, {"out": str(out), "patients": len(frame), "parts": len(folders), "prior_only": nothing})


@dataclass
class Ensemble:
    """The probabilities (n, K) of several parts and, of methods that sample, each part's spread over its draws (n,)."""

    parts: list[NDArray[np.float64]] = field(default_factory=list)
    draws: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        """One part more."""
        self.parts.append(answer.probabilities)
        if answer.uncertainty is not None:
            self.draws.append(answer.uncertainty)

    def mean_sd(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation (n, K) over the parts; the deviation of one part is 0."""
        stack = np.stack(self.parts)
        return stack.mean(0), stack.std(0)


def part_folders(path: Path) -> list[Path]:
    """All parts of a finished run, or the one part that `path` is."""
    if (path / HEAD).is_file():
        return [path]
    run = read_run(path)
    if run is None:
        raise RequestError(f"{path}: neither a run nor a part of one; `mmcli train-teacher ... --out` makes a run")
    if missing := missing_parts(path, run["parts"]):
        raise RequestError(
            f"{path}: the run is not finished, {len(missing)} parts are missing ({', '.join(missing[:3])}); run its "
            "command again, or name one part of it"
        )
    return [path / part for part in run["parts"]]


def _load(part: Part, stores: Stores, settings: PredictSettings) -> CohortData:
    wanted = part.method.spec.modalities
    known = [name for name in wanted if name in stores.names()]
    for name in wanted:
        if name in stores.bags and name not in known:
            stores.bag(name)  # raises: it has no features yet
    if not known:
        raise RequestError(
            f"the stores have none of the modalities of {settings.run} ({', '.join(wanted)}); they have: "
            f"{', '.join(stores.names()) or 'none'}"
        )
    for name in wanted:
        if name not in known:
            note(f"no patient has {name}: the stores lack it", settings.quiet)
    maps = part.method.spec.maps
    return load_cohort(stores, [], known, budget=latents_budget(settings.memory), withhold={}, seed=0, maps=maps)


def _filled(part: Part, data: CohortData, notes: set[str]) -> dict[str, NDArray[np.float64]]:
    """The holes of each table, filled by the imputer that the part carries: (m, n, f) in training's columns and codes.
    Where it carries none, holes get the training mean, and a note says so."""
    filled = {}
    for table, head in part.head["tables"].items():
        if not head["imputer"] or table not in data.tables:
            continue
        recoded = part.prepared.encoders[table].recoded(data.tables[table])
        if arrays := part.imputer(table):
            how = head["imputation"]
            imputer = load_imputer(arrays)
            filled[table] = imputer.transform(recoded.values, data.ids, draws=how["draws"], answer=how["answer"])
        elif not recoded.observed[recoded.present].all():
            notes.add(
                f"table {table}: the model was trained with the imputer {head['imputer']!r}, of which it carries no "
                "fitted state; holes get the training mean"
            )
    return filled


def _frame(ids: list[str], part: Part, sums: dict[str, Ensemble], used: list[str]) -> pd.DataFrame:
    """One row a patient; with several tasks the columns begin with `<task>.`. Of a method that samples, `uncertainty`
    is the mean over the parts of the spread over a part's own draws."""
    columns: dict[str, Any] = {"patient_id": ids}
    several = len(part.method.spec.tasks) > 1
    for task in part.method.spec.tasks:
        prefix = f"{task.name}." if several else ""
        mean, sd = sums[task.name].mean_sd()
        columns[f"{prefix}prediction"] = [task.classes[k] for k in mean.argmax(1)]
        columns |= {f"{prefix}p_{c}": mean[:, k] for k, c in enumerate(task.classes)}
        columns |= {f"{prefix}sd_{c}": sd[:, k] for k, c in enumerate(task.classes)}
        if sums[task.name].draws:
            columns[f"{prefix}uncertainty"] = np.mean(sums[task.name].draws, axis=0)
    frame: pd.DataFrame = pd.DataFrame(columns | {"modalities": used})
    return frame


def _sidecar(out: Path) -> Path:
    return out.with_name(out.name + ".json")


def _existing(out: Path, force: bool) -> dict[str, Any] | None:
    """The request that `--out` was made for, None where there is no file."""
    if not out.exists():
        return None
    try:
        request: dict[str, Any] = json.loads(_sidecar(out).read_text(encoding="utf-8"))["request"]
    except FileNotFoundError:
        raise RequestError(f"{out} exists and was not made by predict; give another --out") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if force:
            return None
        raise DamagedError(f"{_sidecar(out)}: damaged ({error}); --force makes it again") from None
    return request
