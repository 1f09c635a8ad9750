"""`mmcli store export`: a modality's features in the layout of another tool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmcli.errors import DamagedError, RequestError
from mmcli.files import publish, publish_folder, publish_json
from mmcli.registry import did_you_mean
from mmcli.settings import StoreExportSettings
from mmcli.stages.common import open_stores, patients_digest
from mmcli.stages.outcome import Outcome, is_done, refuse_input
from mmcli.store import JoinedBag
from mmcli.store.layouts import LAYOUTS
from mmcli.store.layouts.layout import Layout
from mmcli.store.layouts.slides import Plan, targets

# What is in the folder, and for which request: by it a second run knows that nothing is to do.
MANIFEST = "mmcli-export.json"


def run(settings: StoreExportSettings) -> Outcome:
    """Write one file a slide, or for npz one file; it appears when all of it is there."""
    layout: Layout = LAYOUTS.get(settings.layout)()
    out = settings.out
    refuse_input(out, settings.stores)
    with open_stores(settings) as stores:
        known = [*stores.bags, *stores.tables]
        if settings.modality not in known:
            raise RequestError(f"--modality: unknown modality {settings.modality!r}"
                               f"{did_you_mean(settings.modality, list(stores.bags))}")  # fmt: skip
        if settings.modality in stores.tables:
            raise RequestError(f"--modality: {settings.modality} is a table; layouts hold features")
        bag = stores.bag(settings.modality)
        if layout.slides_only and bag.meta.kind != "slide":
            raise RequestError(f"--layout {settings.layout}: has tiles of slides, and {settings.modality} is of kind "
                               f"{bag.meta.kind}; give --layout npz or clam")  # fmt: skip
        request = {**settings.request(), "command": "store export", "inputs": stores.fingerprints}
        if settings.cohort is not None:
            request["patients"] = patients_digest(stores.patients)
        if is_done(out, request, _existing(out, layout, settings.force), settings.force):
            return Outcome(f"{out} holds this already: nothing to do")
        by_slide = layout.one_a_file and settings.name_by == "slide" and _one_a_file(bag)
        plan = Plan(stores.patients, targets(bag, stores.patients.ids, by_slide))
        patients = len({target.patient for target in plan.targets})
        if not patients:
            raise RequestError(f"{settings.modality}: no patient of these stores has an instance to write")
        what = f"{settings.modality} of {patients} patients in the layout of {settings.layout}"
        if settings.dry_run:
            return Outcome(f"would write {out}: {what}")
        data: dict[str, Any] = {"out": str(out), "patients": patients}
        if layout.suffix:
            with publish(out) as temporary:
                layout.write(bag, plan, temporary, request)
            return Outcome(f"{out}: {what}", data)
        with publish_folder(out) as temporary:
            layout.write(bag, plan, temporary, request)
            sizes = {
                str(p.relative_to(temporary)): p.stat().st_size for p in sorted(temporary.rglob("*")) if p.is_file()
            }
            publish_json(temporary / MANIFEST, {"request": request, "files": sizes})
        return Outcome(f"{out}: {what}, {len(plan.targets)} slides", data | {"slides": len(plan.targets)})


def _one_a_file(bag: JoinedBag) -> bool:
    """Whether a source of the store is one slide's; an npz that was imported holds many patients."""
    layout = bag.meta.settings.get("layout", "")
    return layout not in LAYOUTS or bool(LAYOUTS.get(layout).one_a_file)


def _existing(out: Path, layout: Layout, force: bool) -> dict[str, Any] | None:
    """The request that an export was made for, None where there is none. What is no export of ours is never replaced,
    and one that lacks a file only with `force`."""
    if layout.suffix:
        if not out.exists():
            return None
        found = layout.written_for(out) if out.is_file() else None
        if found is None:
            raise RequestError(f"--out {out} exists and is no {layout.suffix} file of mmcli's; give another --out")
        return found
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        content = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        request, sizes = dict(content["request"]), dict(content["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise RequestError(f"--out {out} exists and is no export of mmcli's; give another --out") from None
    there = {str(p.relative_to(out)): p.stat().st_size for p in out.rglob("*") if p.is_file()}
    if foreign := sorted(there.keys() - sizes.keys() - {MANIFEST}):
        raise RequestError(f"--out {out}: holds {foreign[0]!r} beside the export; move it away, or give another --out")
    changed = sorted(name for name, size in sizes.items() if there.get(name) != size)
    if changed and not force:
        raise DamagedError(
            f"{out}: {changed[0]} is not as it was written ({len(changed)} files); --force writes all anew"
        )
    return request
