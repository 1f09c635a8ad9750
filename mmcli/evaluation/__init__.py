"""Comparing runs: figures, intervals, tests, subgroups, pictures and the report, from predictions alone."""

from mmcli.evaluation.estimates import Bootstrap
from mmcli.evaluation.notebook import evaluate
from mmcli.evaluation.result import Result

__all__ = ["Bootstrap", "Result", "evaluate"]
