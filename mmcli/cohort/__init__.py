"""The cohort: who the patients are, and where the evidence of each modality lies."""

from mmcli.cohort.columns import TypedColumns, type_columns
from mmcli.cohort.model import BagSpec, Cohort, CohortError, FileSpec, ModalitySpec, TableSpec
from mmcli.cohort.read import examine_cohort, read_cohort

__all__ = [
    "BagSpec", "Cohort", "CohortError", "FileSpec", "ModalitySpec", "TableSpec", "TypedColumns", "examine_cohort",
    "read_cohort", "type_columns",
]  # fmt: skip
