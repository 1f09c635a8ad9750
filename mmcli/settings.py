"""Typed settings of every stage.

An option exists once, here: its type, default, unit, help text and panel. The command line (`cli.py`), the settings
file and Python callers all fill these classes, and a run's settings.yaml is one of them written out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from mmcli.fields import (
    FIGURES,
    INPUT,
    INTERVALS,
    MACHINE,
    MISSING,
    OUTPUT,
    SUBGROUPS,
    TRAINING,
    CommaList,
    IntRanges,
    PerModality,
    option,
    required,
)


class Settings(BaseModel):
    """What every command takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    command: ClassVar[str]
    example: ClassVar[str]
    # Options that every command takes, so that one settings file serves all, but that mean nothing to this one.
    no_effect: ClassVar[frozenset[str]] = frozenset()

    seed: int = option(0, "Seed of everything drawn at random.", OUTPUT, least=0, most=2**63 - 1)
    device: Literal["auto", "cpu", "cuda"] = option("auto", "Where tensors live.", MACHINE, request=False)
    workers: int = option(
        0, "Processes or threads; 0 = the cores that the job was given.", MACHINE, request=False, least=0, most=4096
    )
    memory: str = option(
        "",
        "Memory that cached latents may take, e.g. 8G; default half of what is free.",
        MACHINE,
        request=False,
        metavar="SIZE",
    )
    force: bool = option(False, "Replace the output when it holds another request.", OUTPUT, request=False)
    dry_run: bool = option(False, "Check everything, say what would be done, write nothing.", OUTPUT, request=False)
    quiet: bool = option(False, "No progress on stderr.", OUTPUT, request=False)
    json_: bool = option(False, "The result as JSON on stdout, for programs.", OUTPUT, request=False)

    @field_validator("memory")
    @classmethod
    def _size(cls, value: str) -> str:
        if value and not re.fullmatch(r"\d+(\.\d+)?\s*[KMGT]?(I?B)?", value.strip().upper()):
            raise ValueError("no size; write for example 8G or 500M")
        return value

    def request(self) -> dict[str, Any]:
        """What was asked, as canonical JSON values: without the options that only say how to compute it."""
        fields = type(self).model_fields
        names = {n for n, f in fields.items() if (f.json_schema_extra or {}).get("request", True)}  # type: ignore[union-attr]
        names -= self.no_effect
        return {k: v for k, v in self.model_dump(mode="json").items() if k in names}


class _AllowFailures(Settings):
    allow_failures: str = option(
        "", "End with exit code 0 although some patients failed: 'any', or at most this number of patients.",
        OUTPUT, request=False, metavar="N|any",
    )  # fmt: skip


class _Failures(_AllowFailures):
    retry_failed: bool = option(False, "Try the patients again that failed in an earlier run.", OUTPUT, request=False)
    shard: str = option(
        "",
        "Do the i-th of n parts of the patients (0-based), or 'slurm': the array's own numbers.",
        MACHINE,
        metavar="I/N|slurm",
    )
    compression: Literal["none", "gzip", "lzf"] = option("none", "Compression of the store's large arrays.", OUTPUT)


class PreprocessSettings(_Failures):
    """Turn raw files into something that an encoder can read: tile coordinates, volume crops, clean tables."""

    command: ClassVar[str] = "preprocess"
    no_effect: ClassVar[frozenset[str]] = frozenset({"seed", "device", "memory"})
    example: ClassVar[str] = "mmcli preprocess cohort.yaml --out prepared.h5"

    cohort: Path = required("The cohort's YAML file.", INPUT, request=False, argument=True, metavar="COHORT")
    out: Path = required("The feature store to write.", OUTPUT, request=False, metavar="FILE.h5")
    root: Path | None = option(
        None, "Folder that the cohort's paths are relative to; default the YAML's own.", INPUT, request=False
    )
    modalities: CommaList = option([], "Only these modalities of the cohort; default all.", INPUT, metavar="A,B")
    mpp: PerModality = option(
        {},
        "MPP of a slide modality's level 0 in µm per pixel, over what the files say.",
        "Slides",
        metavar="[MODALITY=]MPP",
    )
    target_mpp: PerModality = option(
        {"": "0.5"},
        "MPP at which tiles are read, in µm per pixel; 'native' = level 0.",
        "Slides",
        metavar="[MODALITY=]MPP",
    )
    tile_px: PerModality = option(
        {"": "224"}, "Side of a tile in pixels at the target MPP.", "Slides", metavar="[MODALITY=]PX"
    )
    min_tissue: PerModality = option(
        {"": "0.5"}, "Least share of a tile that is tissue, 0 to 1.", "Slides", metavar="[MODALITY=]SHARE"
    )
    spacing: PerModality = option(
        {"": "2,2,2"}, "Voxel size x,y,z in mm that volumes are resampled to.", "Volumes", metavar="[MODALITY=]X,Y,Z"
    )
    crop: PerModality = option(
        {"": "48,64,64"},
        "Size z,y,x in voxels of the crop around the mask (or the centre).",
        "Volumes",
        metavar="[MODALITY=]Z,Y,X",
    )
    window: PerModality = option(
        {"": "-1000,1000"},
        "Intensities low,high that are kept (HU for CT); outside is clipped.",
        "Volumes",
        metavar="[MODALITY=]LOW,HIGH",
    )


class _Stores(Settings):
    stores: list[Path] = required(
        "Feature stores, joined by patient id; the first one fixes the patients.",
        INPUT,
        request=False,
        argument=True,
        metavar="STORE...",
    )
    cohort: Path | None = option(
        None, "A cohort whose labels, group and folds replace the stores' own.", INPUT, request=False
    )
    root: Path | None = option(None, "Folder that the cohort's paths are relative to.", INPUT, request=False)


class ExtractSettings(_Failures, _Stores):
    """Run encoders once over the prepared pixels and keep their latents in a feature store."""

    command: ClassVar[str] = "extract-features"
    no_effect: ClassVar[frozenset[str]] = frozenset({"memory"})
    example: ClassVar[str] = (
        "mmcli extract-features prepared.h5 --encoder slide=efficientnet-lite0 "
        "--encoder ct=intensity-statistics --out features.h5"
    )

    out: Path = required("The feature store to write.", OUTPUT, request=False, metavar="FILE.h5")
    encoder: PerModality = required(
        "The encoder of a modality (`mmcli encoders` lists them); slide@NAME makes a second one.",
        metavar="MODALITY=ENCODER",
    )
    weights: PerModality = option(
        {}, "Weights of a modality's encoder: a safetensors or state-dict file.", request=False, metavar="MODALITY=FILE"
    )
    random_weights: bool = option(False, "Let encoders without weights start from random ones; recorded in the store.")
    set: PerModality = option(
        {}, "An encoder's own option (`mmcli encoders NAME` lists them).", metavar="[MODALITY.]NAME=VALUE"
    )
    batch: int = option(32, "Instances in one call of an encoder.", least=1, most=1 << 20)
    dtype: Literal["float16", "float32"] = option("float16", "Precision of the stored latents.", OUTPUT)


class ImputeSettings(_Stores):
    """Fill the holes of a table, fitted on each fold's training patients alone."""

    command: ClassVar[str] = "impute"
    no_effect: ClassVar[frozenset[str]] = frozenset({"device", "workers", "memory"})
    example: ClassVar[str] = "mmcli impute prepared.h5 --table markers --method blend --folds cv --out imputed.h5"

    fitted: Path | None = option(
        None, "A store that impute made: its fitted imputers fill these patients, and nothing is fitted.", INPUT,
        request=False, metavar="IMPUTED.h5",
    )  # fmt: skip
    out: Path = required(
        "The feature store to write; with --benchmark the report's directory.", OUTPUT, request=False,
        metavar="FILE.h5|DIR",
    )  # fmt: skip
    table: str = required("The table whose holes are filled.", metavar="TABLE")
    method: str = option(
        "blend", "The imputer (`mmcli imputers` lists them); with --benchmark several with commas, default all.",
        metavar="NAME",
    )  # fmt: skip
    name: str = option("", "Name of the imputation in the store; default the method's.", metavar="NAME")
    folds: str = option("", "The fold set; default the only one.", metavar="SET")
    imputations: int = option(
        1, "Draws for each hole; more than one is multiple imputation. --benchmark takes 19 where it is not given.",
        least=1, most=10_000,
    )  # fmt: skip
    answer: Literal["mean", "median", "draw"] = option("mean", "What a filled cell is.")
    set: PerModality = option({}, "An imputer's own option (`mmcli imputers NAME` lists them).", metavar="NAME=VALUE")
    allow_label_column: bool = option(
        False, "Impute although a column copies a label, or says it in other words; recorded in the store."
    )
    benchmark: bool = option(
        False, "Hide observed cells, impute them with each method, and report how near each comes."
    )
    label: CommaList = option(
        [], "Labels that a classifier predicts after each benchmarked method; default all.", metavar="TASK[,TASK]"
    )
    spare: CommaList = option(
        [], "Columns that the benchmark never hides, such as age and sex.", metavar="COLUMN[,COLUMN]"
    )
    resamples: int = option(1000, "Bootstrap resamples of the benchmark.", INTERVALS, least=1, most=1_000_000)
    confidence: float = option(0.95, "Level of the benchmark's intervals, between 0 and 1.", INTERVALS)

    @field_validator("confidence")
    @classmethod
    def _level(cls, value: float) -> float:
        if not 0 < value < 1:
            raise ValueError("lies between 0 and 1; 95 percent is 0.95")
        return value

    def request(self) -> dict[str, Any]:
        """Without what the benchmark alone asks, or what it has no use for."""
        idle = {"name", "answer"} if self.benchmark else {"label", "spare", "resamples", "confidence"}
        return {k: v for k, v in super().request().items() if k not in idle}


class TrainSettings(_Stores):
    """What all training commands take."""

    out: Path = required("The run's directory.", OUTPUT, request=False, metavar="DIR")
    label: CommaList = option([], "The label to predict; several with commas.", metavar="TASK[,TASK]")
    folds: str = option("", "The fold set; default the only one.", TRAINING, metavar="SET")
    seeds: IntRanges = option([0], "Seeds, as numbers and ranges; each trains every fold.", TRAINING, metavar="0-4")
    only_folds: IntRanges = option([], "Train only these folds of the set now.", TRAINING, request=False, metavar="0,2")
    only_seeds: IntRanges = option([], "Train only these seeds now.", TRAINING, request=False, metavar="1")
    imputer: str = option(
        "", "Name of the imputation that fills tables; default none: holes get the training mean.", metavar="NAME"
    )
    withhold: PerModality = option(
        {}, "Hide a modality from this share (0 to 1) of the patients.", metavar="MODALITY=SHARE"
    )
    precision: Literal["auto", "float32", "bf16"] = option(
        "auto", "What training computes in; auto: bf16 for large bags on a GPU, else float32.", TRAINING
    )
    keep_latents: bool = option(False, "Keep the method's latents of every patient in each part (latents.h5).", OUTPUT)
    set: PerModality = option(
        {}, "A method's own option (`mmcli methods NAME` lists them).", TRAINING, metavar="NAME=VALUE"
    )


class TeacherSettings(TrainSettings):
    """Train a model on all modalities: the teacher, or a baseline."""

    command: ClassVar[str] = "train-teacher"
    example: ClassVar[str] = (
        "mmcli train-teacher features.h5 --label relapse --folds cv --seeds 0-4 --method attention --out runs/teacher"
    )

    method: str = option("attention", "The method (`mmcli methods` lists them).", metavar="NAME")
    modalities: CommaList = option([], "Only these modalities and tables; default all.", INPUT, metavar="A,B")


class DistillSettings(TrainSettings):
    """Train a student that needs fewer modalities than its teacher."""

    command: ClassVar[str] = "distill"
    example: ClassVar[str] = (
        "mmcli distill features.h5 --teacher runs/teacher --modalities ct --method kd --out runs/student"
    )

    teacher: Path = required(
        "The teacher's run; its label, folds and seeds are the default.", INPUT, request=False, metavar="RUN"
    )
    method: str = option("kd", "The method (`mmcli methods` lists them).", metavar="NAME")
    modalities: CommaList = required("What the student needs.", INPUT, metavar="A,B")


class GuideSettings(TrainSettings):
    """Train a model of an inferior modality that is guided by a superior one."""

    command: ClassVar[str] = "train-guide"
    example: ClassVar[str] = (
        "mmcli train-guide features.h5 --label relapse --superior slide --inferior ct "
        "--method deep-guide --out runs/guide"
    )

    superior: str = required("The modality that performs better, seen in training only.", INPUT, metavar="MODALITY")
    inferior: str = required(
        "The modality that is easier to acquire, all that the model needs.", INPUT, metavar="MODALITY"
    )
    method: str = option("deep-guide", "The method (`mmcli methods` lists them).", metavar="NAME")


class PredictSettings(Settings):
    """Predict new patients, who need no label, with all parts of a run."""

    command: ClassVar[str] = "predict"
    no_effect: ClassVar[frozenset[str]] = frozenset({"seed"})
    example: ClassVar[str] = "mmcli predict runs/student new-features.h5 --out predictions.csv"

    run: Path = required("The run, or one part of it.", INPUT, request=False, argument=True, metavar="RUN")
    stores: list[Path] = required(
        "Feature stores of the new patients.", INPUT, request=False, argument=True, metavar="STORE..."
    )
    out: Path = required("The table to write.", OUTPUT, request=False, metavar="FILE.csv")


class EvaluateSettings(Settings):
    """Compare runs: metrics with intervals, paired tests, subgroups, missing modalities, figures, a report."""

    command: ClassVar[str] = "evaluate"
    example: ClassVar[str] = "mmcli evaluate runs/teacher runs/student --bootstrap-ci --out report"

    runs: list[Path] = required(
        "Runs, or tables with patient_id, label and p_CLASS columns.",
        INPUT,
        request=False,
        argument=True,
        metavar="RUN...",
    )
    out: Path = required("The report's directory.", OUTPUT, request=False, metavar="DIR")
    label: CommaList = option([], "Only these tasks; default all that the runs share.", INPUT, metavar="TASK[,TASK]")
    split: Literal["test", "validation", "train"] = option("test", "The patients that are evaluated.", INPUT)
    partial: bool = option(False, "Evaluate a run although parts of it are missing.", INPUT)
    patients: Path | None = option(
        None, "Table with a row a patient (patient_id and columns for --by, --cluster, --withhold-by).", INPUT,
        request=False, metavar="FILE",
    )  # fmt: skip
    stores: CommaList = option(
        [], "Stores to read instead of those that the runs were trained on.", INPUT, request=False, metavar="A.h5,B.h5"
    )
    reference: Path | None = option(
        None, "The run that the others are compared with; default every pair.", INPUT, request=False, metavar="RUN"
    )
    threshold: str = option(
        "argmax",
        "How two classes are decided: argmax, a number, or a rule whose threshold is found on validation patients: "
        "youden, f1, sensitivity=0.9, specificity=0.9.",
        metavar="RULE",
    )
    coverage: float = option(0.9, "Coverage that conformal prediction sets are made for, between 0 and 1.")
    by: CommaList = option(
        [], "Every metric for each value of these columns, or of 'group'.", SUBGROUPS, metavar="COLUMN[,COLUMN]"
    )
    cut: PerModality = option(
        {}, "Limits at which a numeric --by column is cut; default its median.", SUBGROUPS, metavar="COLUMN=A,B"
    )
    withhold: PerModality = option(
        {}, "Predict again with a modality hidden from these shares of the patients.", MISSING,
        metavar="MODALITY=SHARE,SHARE",
    )  # fmt: skip
    withhold_seeds: IntRanges = option([0], "Seeds of who is hidden; the curve is their mean.", MISSING, metavar="0-4")
    withhold_by: str = option(
        "", "Hide rather from patients with high values of this column, or from whole groups ('group').", MISSING,
        metavar="COLUMN",
    )  # fmt: skip
    latents: bool = option(
        False, "t-SNE and PCA of the latents of runs that were trained with --keep-latents.", FIGURES
    )
    attention_maps: int = option(
        0, "Attention over the thumbnails of this many test patients' slides, where a method has it.", FIGURES, least=0,
        most=1000,
    )  # fmt: skip
    bootstrap_ci: bool = option(False, "Confidence intervals by a bootstrap over patients.", INTERVALS)
    resamples: int = option(2000, "Bootstrap resamples.", INTERVALS)
    confidence: float = option(0.95, "Level of the intervals, between 0 and 1.", INTERVALS)
    interval: Literal["auto", "percentile", "basic", "bca", "expanded"] = option(
        "auto", "Kind of interval; auto: by formula for proportions and balanced accuracy, else expanded.", INTERVALS
    )
    stratify: bool = option(False, "Resample within the classes, so that each keeps its size.", INTERVALS)
    cluster: str = option(
        "", "Resample whole clusters: 'group', or a column of the patients; default patients.", INTERVALS,
        metavar="COLUMN",
    )  # fmt: skip

    def request(self) -> dict[str, Any]:
        """Without intervals, what they would have been drawn by is not asked; nor who is hidden where nobody is."""
        asked = super().request()
        idle = (
            {"resamples", "confidence", "seed", "interval", "stratify", "cluster"} if not self.bootstrap_ci else set()
        )
        if not self.withhold:
            idle |= {"withhold_seeds", "withhold_by"}
        return {k: v for k, v in asked.items() if k not in idle}


class AuditSettings(Settings):
    """Look for leakage: patients in two folds, labels in disguise, fitted things that saw test patients."""

    command: ClassVar[str] = "audit"
    example: ClassVar[str] = "mmcli audit features.h5 runs/teacher"

    inputs: list[Path] = required(
        "Feature stores and runs.", INPUT, request=False, argument=True, metavar="STORE|RUN..."
    )
    label: CommaList = option([], "Only these labels; default all.", INPUT, metavar="TASK[,TASK]")
    folds: str = option("", "Only this fold set; default all.", INPUT, metavar="SET")
    cohort: Path | None = option(
        None, "A cohort whose labels, group and folds replace the stores' own.", INPUT, request=False
    )
    root: Path | None = option(None, "Folder that the cohort's paths are relative to.", INPUT, request=False)
    strict: bool = option(False, "Warnings count as findings: exit code 5.")
    permute: int = option(
        0, "Repeat each run's training this often with permuted labels; its AUC should then be chance.", least=0,
        most=1000,
    )  # fmt: skip
    out: Path | None = option(None, "Write the findings as a CSV table too.", OUTPUT, request=False, metavar="FILE.csv")


class DemoSettings(Settings):
    """Make a small cohort, run all commands on it and compare the models: no files and no network needed."""

    command: ClassVar[str] = "demo"
    no_effect: ClassVar[frozenset[str]] = frozenset({"device", "workers", "memory"})
    example: ClassVar[str] = "mmcli demo"

    out: Path = option(
        Path("mmcli-demo"), "Folder for the made cohort, the stores, the runs and the report.", OUTPUT, metavar="DIR"
    )
    patients: int = option(96, "Number of made patients.")


class StoreImportSettings(_AllowFailures):
    """Turn features that another tool made into a feature store."""

    command: ClassVar[str] = "store import"
    no_effect: ClassVar[frozenset[str]] = frozenset({"seed", "device", "workers", "memory"})
    example: ClassVar[str] = (
        "mmcli store import features/ --layout stamp --modality slide --cohort cohort.yaml --out slide.h5"
    )

    folder: Path = required("Folder or file with the features.", INPUT, request=False, argument=True, metavar="PATH")
    layout: Literal["stamp", "npz"] = required("How they are laid out.", INPUT, metavar="stamp|npz")
    modality: str = required("The modality's name in the store.", INPUT, metavar="NAME")
    cohort: Path = required("The cohort that the patients belong to.", INPUT, request=False)
    root: Path | None = option(None, "Folder that the cohort's paths are relative to.", INPUT, request=False)
    mpp: float | None = option(None, "MPP of level 0 in µm per pixel, where the layout and the cohort lack it.", INPUT)
    out: Path = required("The feature store to write.", OUTPUT, request=False, metavar="FILE.h5")
    compression: Literal["none", "gzip", "lzf"] = option("none", "Compression of the store's large arrays.", OUTPUT)


SETTINGS: dict[str, type[Settings]] = {
    s.command: s
    for s in (PreprocessSettings, ExtractSettings, ImputeSettings, TeacherSettings, DistillSettings, GuideSettings,
              EvaluateSettings, AuditSettings, PredictSettings, DemoSettings, StoreImportSettings)
}  # fmt: skip
