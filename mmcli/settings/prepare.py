"""Settings of what makes feature stores: preprocess, extract-features, impute, store import; and of store export."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from mmcli.fields import INPUT, INTERVALS, OUTPUT, CommaList, PerModality, option, required
from mmcli.settings.base import AllowFailures, Failures, StoresSettings


class PreprocessSettings(Failures):
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
    pictures: bool = option(
        True, "Write a picture of each patient's result beside the store, for a person to check.", OUTPUT,
    )  # fmt: skip
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
        {"": "0.5"},
        "Least share of a tile that is tissue, 0 to 1; 0 looks for none and takes every tile.",
        "Slides",
        metavar="[MODALITY=]SHARE",
    )
    overlap: PerModality = option(
        {"": "0"}, "Pixels by which neighbouring tiles overlap, at the target MPP.", "Slides", metavar="[MODALITY=]PX"
    )
    sequence: PerModality = option(
        {},
        "Tiles in sequences of N, row by row (MHD-Net: 24); of a slide's tiles those with the least tissue are left "
        "out until N divides them.",
        "Slides",
        metavar="[MODALITY=]N",
    )
    spacing: PerModality = option(
        {"": "2,2,2"}, "Voxel size x,y,z in mm that volumes are resampled to.", "Volumes", metavar="[MODALITY=]X,Y,Z"
    )
    crop: PerModality = option(
        {"": "48,64,64"},
        "Size z,y,x in voxels of the crop around the mask (or the volume's centre).",
        "Volumes",
        metavar="[MODALITY=]Z,Y,X",
    )
    window: PerModality = option(
        {"": "-1000,1000"},
        "Intensities low,high that are kept, outside is clipped; the default is HU, for CT. Of each volume's own "
        "percentiles with %: 1%,99%.",
        "Volumes",
        metavar="[MODALITY=]LOW,HIGH",
    )
    expect: PerModality = option(
        {}, "Refuse DICOM volumes of another modality than this: CT, MR, PT.", "Volumes", metavar="[MODALITY=]CODE"
    )
    mask_label: PerModality = option(
        {},
        "What of a mask is taken: an RTSTRUCT's structure or a SEG's segment by name, a label by number, several with "
        "| between, * = all. Default all of a label map, the only one of a DICOM mask. A cell rs.dcm#GTV-T of the "
        "cohort says it for one patient.",
        "Volumes",
        metavar="[MODALITY=]NAME",
    )
    lesions: PerModality = option(
        {},
        "Cut the mask into its connected lesions, with a crop around each of the N largest; 2-2 takes the second "
        "largest alone.",
        "Volumes",
        metavar="[MODALITY=]N|A-B",
    )
    outside: PerModality = option(
        {"": "keep"},
        "What a crop has outside the mask: keep = the volume, blank = the window's low.",
        "Volumes",
        metavar="[MODALITY=]keep|blank",
    )
    frames: PerModality = option(
        {},
        "In place of crops: whole axial slices, N to a sequence, at H x W pixels (MHD-Net: 24,224,224).",
        "Volumes",
        metavar="[MODALITY=]N,H,W",
    )
    frames_drop: PerModality = option(
        {"": "0.2,0.3"},
        "With --frames, the shares of the slices that are left out at the end of the head and of the feet.",
        "Volumes",
        metavar="[MODALITY=]HEAD,FEET",
    )
    radiomics: PerModality = option(
        {},
        "Also describe the mask of a volume modality by radiomics of this bin width, as a table MODALITY_radiomics.",
        "Volumes",
        metavar="[MODALITY=]BIN_WIDTH",
    )
    radiomics_spacing: PerModality = option(
        {"": "native"},
        "Cubic voxels that volume and mask are resampled to before, in mm; 'native' = as they are.",
        "Volumes",
        metavar="[MODALITY=]MM",
    )
    image_crop: PerModality = option(
        {"": "none"},
        "What is kept of a picture: none = all of it, sector = the ultrasound scan without the text around it, mask = "
        "the lesion by its mask.",
        "Images",
        metavar="[MODALITY=]none|sector|mask",
    )
    image_margin: PerModality = option(
        {"": "0.1"}, "Margin around a mask, as a share of its sides.", "Images", metavar="[MODALITY=]SHARE"
    )
    image_frame: PerModality = option(
        {"": "first"}, "Which frame of a DICOM clip is taken.", "Images", metavar="[MODALITY=]first|middle"
    )
    clahe: PerModality = option(
        {},
        "Equalise contrast locally (CLAHE): the clip limit, 2 to 4 are usual; default not at all.",
        "Images",
        metavar="[MODALITY=]CLIP",
    )


class ExtractSettings(Failures, StoresSettings):
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
    maps: PerModality = option(
        {},
        "Keep maps of an encoder's stages beside its latents (for mhd-net), averaged to a size: "
        "ct=layer1:12x56x56,layer2.",
        OUTPUT,
        metavar="MODALITY=STAGE[:TxHxW],...",
    )
    reuse: Path | None = option(
        None, "An older feature store: what it holds of the same files, encoder and settings is taken over.", INPUT,
        request=False, metavar="OLD.h5",
    )  # fmt: skip
    batch: int = option(
        32, "Instances in one call of an encoder (fewer volumes where 16 MiB hold fewer).", least=1, most=1 << 20
    )
    dtype: Literal["float16", "float32"] = option("float16", "Precision of the stored latents.", OUTPUT)


class ImputeSettings(StoresSettings):
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


class StoreImportSettings(AllowFailures):
    """Turn features that another tool made into a feature store."""

    command: ClassVar[str] = "store import"
    no_effect: ClassVar[frozenset[str]] = frozenset({"seed", "device", "workers", "memory"})
    example: ClassVar[str] = (
        "mmcli store import features/ --layout trident --modality slide --cohort cohort.yaml --out slide.h5"
    )

    folder: Path = required("Folder or file with the features.", INPUT, request=False, argument=True, metavar="PATH")
    layout: str = required("How they are laid out.", INPUT, metavar="trident|clam|stamp|npz")
    modality: str = required("The modality's name in the store.", INPUT, metavar="NAME")
    cohort: Path = required("The cohort that the patients belong to.", INPUT, request=False)
    root: Path | None = option(None, "Folder that the cohort's paths are relative to.", INPUT, request=False)
    mpp: float | None = option(
        None, "MPP of level 0 in µm per pixel, over the cohort's; turns STAMP's micrometres to pixels.", INPUT
    )
    unit: Literal["um", "px"] | None = option(
        None, "Unit of coordinates whose file names none (STAMP's old files).", INPUT, metavar="um|px"
    )
    encoder: str = option("", "The encoder's name, where the files do not say it (CLAM).", INPUT, metavar="NAME")
    out: Path = required("The feature store to write.", OUTPUT, request=False, metavar="FILE.h5")
    compression: Literal["none", "gzip", "lzf"] = option("none", "Compression of the store's large arrays.", OUTPUT)

    @field_validator("mpp")
    @classmethod
    def _pixel_size(cls, value: float | None) -> float | None:
        if value is not None and not 0 < value < 1000:
            raise ValueError("is µm per pixel, for example 0.25")
        return value


class StoreExportSettings(StoresSettings):
    """Write a modality's features in another tool's layout."""

    command: ClassVar[str] = "store export"
    no_effect: ClassVar[frozenset[str]] = frozenset({"seed", "device", "workers", "memory"})
    example: ClassVar[str] = "mmcli store export features.h5 --modality slide --layout trident --out job"

    modality: str = required("The modality whose features are written.", INPUT, metavar="NAME")
    layout: str = option("npz", "How the features are laid out.", OUTPUT, metavar="trident|clam|stamp|npz")
    name_by: Literal["slide", "patient"] = option(
        "slide", "One file a slide, named by its stem, or one a patient, named by the id.", OUTPUT,
        metavar="slide|patient",
    )  # fmt: skip
    out: Path = required("The folder to write; for npz the file.", OUTPUT, request=False, metavar="DIR|FILE.npz")
