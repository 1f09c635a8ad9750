"""The demo's cohort: patients who are made, in the formats of the trade."""

from mmcli.demo.cohort import make_cohort

__all__ = ["make_cohort"]
