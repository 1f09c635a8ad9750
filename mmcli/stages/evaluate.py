"""`mmcli evaluate`: compare runs, with metrics, intervals, tests, subgroups, pictures and a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmcli.errors import MmcliError, RequestError
from mmcli.evaluation.analysis import Question, analyse, check_coverage
from mmcli.evaluation.attributes import Attributes, of_file, of_stores, subgroups
from mmcli.evaluation.estimates import Bootstrap
from mmcli.evaluation.pictures import Album, draw_all
from mmcli.evaluation.predictions import Predictions
from mmcli.evaluation.reporting import as_json, from_json, gather, lines, missingness, rows, tables, write_report
from mmcli.evaluation.reporting.files import METRICS_FILE, REPORT
from mmcli.evaluation.result import Result
from mmcli.evaluation.sources import Inputs, PredictionTable, Run, load, unique_names
from mmcli.evaluation.thresholds import parse_rule
from mmcli.evaluation.withheld import Condition
from mmcli.files import fingerprint, publish_folder
from mmcli.progress import note, track
from mmcli.settings import EvaluateSettings
from mmcli.stages.outcome import Outcome, existing_report, is_done, refuse_input
from mmcli.store import Stores

if TYPE_CHECKING:
    from mmcli.evaluation.sweep import Sweep

OURS = (
    "metrics.", "report.html", "tables.tex", "classes.csv", "comparisons.csv", "subgroups.csv", "conformal.csv",
    "withheld", "roc-", "precision-recall-", "forest-", "confusion-", "reliability-", "decision-curve-",
    "risk-coverage-", "latents-", "attention-",
)  # fmt: skip
MASKS = "withheld-patients.csv"


def run(settings: EvaluateSettings) -> Outcome:
    """Check the runs, compare them and write the report's directory as a whole.

    The outcome has a row a run, variant and task, and in its data the content of metrics.json and the report's path.
    """
    bootstrap = _bootstrap(settings)
    reference = _reference(settings)
    paths = [*settings.runs]
    if settings.reference is not None and reference is None:
        paths.append(settings.reference)
    predictions, inputs = load(paths, settings.label, settings.split, settings.partial)
    reference = reference or (inputs.names[-1] if settings.reference is not None else None)
    facts: dict[str, Any] = {}
    attributes = _attributes(settings, inputs, predictions, facts)
    clusters = attributes.column(settings.cluster, "--cluster") if settings.cluster else None
    by = subgroups(attributes, settings.by, settings.cut)
    question = Question(bootstrap, reference, settings.threshold, settings.coverage, by, clusters, settings.confidence)
    sweep = _sweep(settings, inputs, predictions, attributes)
    _check_early(settings, inputs)
    request = _request(settings, inputs, reference)
    out = settings.out
    refuse_input(out, paths)
    for source in inputs.sources:
        if isinstance(source, Run) and source.path.resolve() in out.resolve().parents:
            raise RequestError(f"--out {out}: lies inside the run {source.path}; give another --out")
    existing = existing_report(out, METRICS_FILE, "metrics", OURS, "report")
    if is_done(out, request, None if existing is None else existing.get("request"), settings.force):
        assert existing is not None
        return _outcome(from_json(existing), out, f"{out} holds this evaluation already: nothing to do.\n")
    if settings.dry_run:
        patients = len({i for p in predictions for i in p.patients})
        return Outcome(f"would compare {', '.join(inputs.names)} on {patients} patients and write {out}")
    for p in predictions:
        if p.main and p.missing_parts:
            note(f"{p.run}: {len(p.missing_parts)} parts are missing; evaluated on {len(p.parts)}", settings.quiet)
    result = analyse(predictions, question, _conditions(settings, sweep, inputs, predictions))
    result = replace(result, about={"request": request, "inputs": _told(inputs, facts), "confidence": question.level})
    with publish_folder(out) as folder:
        _write(folder, settings, result, question, inputs, sweep)
    return _outcome(result, out)


def _outcome(result: Result, out: Path, first: str = "") -> Outcome:
    report = out / REPORT
    said = "".join(f"{line}\n" for line in lines(result))
    data = {**as_json(result), "report": str(report)}
    return Outcome(f"{first}{said}Report: {report}", data, rows(result), tables=tables(result))


def _bootstrap(settings: EvaluateSettings) -> Bootstrap | None:
    if not 0 < settings.confidence < 1:
        raise RequestError(f"--confidence: lies between 0 and 1 (given: {settings.confidence}); 95 percent is 0.95")
    if settings.resamples < 1:
        raise RequestError(f"--resamples: at least 1 (given: {settings.resamples})")
    if not settings.runs:
        raise RequestError(f"RUN... is missing: give runs or tables. For example: {settings.example}")
    if not settings.bootstrap_ci:
        return None
    return Bootstrap(
        settings.resamples, settings.confidence, settings.seed, settings.interval, settings.stratify, settings.cluster
    )


def _check_early(settings: EvaluateSettings, inputs: Inputs) -> None:
    """Refuse what would else be refused only after all the computing, and by no `--dry-run`."""
    check_coverage(settings.coverage)
    parse_rule(settings.threshold)
    trained = [source for source in inputs.sources if isinstance(source, Run)]
    if settings.attention_maps and not trained:
        raise RequestError("--attention-maps: needs a run's weights, and only tables of predictions are given")
    if settings.latents:
        from mmcli.evaluation.inside import with_latents

        with_latents(trained)


def _reference(settings: EvaluateSettings) -> str | None:
    """The reference's name among the runs, None where there is none or it is not among them."""
    if settings.reference is None:
        return None
    wanted = settings.reference.resolve()
    for path, name in zip(settings.runs, unique_names(settings.runs), strict=True):
        if path.resolve() == wanted:
            return name
    return None


def _attributes(
    settings: EvaluateSettings, inputs: Inputs, predictions: Sequence[Predictions], facts: dict[str, Any]
) -> Attributes:
    """Columns of `--patients`, of the tables of predictions and of the stores, the first one that has a cell wins.

    Each run's missingness goes into `facts`. Stores that are not there any more are missed only by who needs them.
    """
    found = of_file(settings.patients) if settings.patients else Attributes()
    for source in inputs.sources:
        if isinstance(source, PredictionTable):
            for name, values in source.attributes().columns.items():
                found.add(name, values)
    asked = {*settings.by, *filter(None, (settings.cluster, settings.withhold_by))}
    given = [Path(s) for s in settings.stores]
    for source in inputs.sources:
        if isinstance(source, Run):
            paths = given or [Path(str(s.get("path", ""))) for s in source.about.get("stores", [])]
            own = {i for p in predictions if p.run == source.name for i in p.patients}
            try:
                with Stores(paths) as stores:
                    facts[source.name] = missingness(stores, own)
                    for name, values in of_stores(stores, asked).columns.items():
                        found.add(name, values)
            except MmcliError as error:
                if given or asked - set(found.columns):
                    raise type(error)(f"{source.name}: its stores cannot be read: {error}") from None
    return found


def _sweep(
    settings: EvaluateSettings, inputs: Inputs, predictions: Sequence[Predictions], attributes: Attributes
) -> Sweep | None:
    if not settings.withhold:
        return None
    from mmcli.evaluation.sweep import Sweep

    return Sweep.plan(settings.withhold, settings.withhold_seeds, settings.withhold_by, inputs, predictions, attributes)


def _conditions(
    settings: EvaluateSettings, sweep: Sweep | None, inputs: Inputs, predictions: Sequence[Predictions]
) -> list[Condition]:
    if sweep is None:
        return []
    import torch

    from mmcli.methods import METHODS
    from mmcli.stages.machine import choose_device

    torch.set_num_threads(settings.workers or 1)
    found = sweep.conditions(
        inputs, predictions, settings.split, METHODS, [Path(s) for s in settings.stores],
        choose_device(settings.device), settings.memory,
    )  # fmt: skip
    return list(track(found, sweep.count(inputs), "withhold", settings.quiet))


def _told(inputs: Inputs, facts: dict[str, Any]) -> dict[str, Any]:
    """What the report says of each run: its run.json, its parts' provenance, missingness; a table's name."""
    told: dict[str, Any] = {}
    for source in inputs.sources:
        files = inputs.files[source.name]
        if isinstance(source, Run):
            told[source.name] = {**gather(source.path, source.parts), "files": files}
            if source.name in facts:
                told[source.name]["missingness"] = facts[source.name]
        else:
            told[source.name] = {"table": source.path.name, "files": files}
    return told


def _request(settings: EvaluateSettings, inputs: Inputs, reference: str | None) -> dict[str, Any]:
    patients = {"patients": fingerprint(settings.patients)} if settings.patients else {}
    return {**settings.request(), "label": list(inputs.tasks), "reference": reference, "runs": inputs.files, **patients}


def _write(
    folder: Path, settings: EvaluateSettings, result: Result, question: Question, inputs: Inputs, sweep: Sweep | None
) -> None:
    album = Album(folder)
    draw_all(album, result, question)
    trained = [source for source in inputs.sources if isinstance(source, Run)]
    if settings.latents:
        from mmcli.evaluation.inside import draw_latents

        result.notes.extend(draw_latents(album, trained, inputs.tasks, settings.split, settings.seed))
    if settings.attention_maps:
        result.notes.extend(_attention(album, settings, trained, result.predictions))
    if sweep is not None:
        sweep.table().to_csv(folder / MASKS, index=False, lineterminator="\n")
    write_report(folder, result, album.pictures)


def _attention(
    album: Album, settings: EvaluateSettings, trained: Sequence[Run], predictions: Sequence[Predictions]
) -> list[str]:
    from mmcli.evaluation.inside import draw_attention_maps
    from mmcli.evaluation.repredict import Repredictor
    from mmcli.methods import METHODS
    from mmcli.stages.machine import choose_device

    notes: list[str] = []
    device, stores = choose_device(settings.device), [Path(s) for s in settings.stores]
    for source in trained:
        patients = sorted({i for p in predictions if p.run == source.name for i in p.patients})
        with Repredictor(source.path, METHODS, stores, memory=settings.memory, device=device) as again:
            notes += draw_attention_maps(album, source, again, patients, settings.attention_maps)
    return notes
