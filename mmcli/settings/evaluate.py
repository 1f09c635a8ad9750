"""Settings of what looks at runs and stores: evaluate, audit; and of the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from mmcli.fields import (
    FIGURES,
    INPUT,
    INTERVALS,
    MISSING,
    OUTPUT,
    SUBGROUPS,
    CommaList,
    IntRanges,
    PerModality,
    option,
    required,
)
from mmcli.settings.base import Settings


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
