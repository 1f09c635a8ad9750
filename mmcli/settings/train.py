"""Settings of what makes and uses runs: train-teacher, distill, train-guide, predict."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from mmcli.fields import INPUT, OUTPUT, TRAINING, CommaList, IntRanges, PerModality, option, required
from mmcli.settings.base import Settings, StoresSettings


class TrainSettings(StoresSettings):
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
