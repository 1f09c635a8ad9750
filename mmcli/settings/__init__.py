"""Typed settings of every stage.

An option exists once, here: its type, default, unit, help text and panel. The command line (`cli.py`), the settings
file and Python callers all fill these classes, and a run's settings.yaml is one of them written out.
"""

from __future__ import annotations

from mmcli.settings.base import Settings
from mmcli.settings.evaluate import AuditSettings, DemoSettings, EvaluateSettings
from mmcli.settings.prepare import (
    ExtractSettings,
    ImputeSettings,
    PreprocessSettings,
    StoreExportSettings,
    StoreImportSettings,
)
from mmcli.settings.train import DistillSettings, GuideSettings, PredictSettings, TeacherSettings, TrainSettings

SETTINGS: dict[str, type[Settings]] = {
    s.command: s
    for s in (PreprocessSettings, ExtractSettings, ImputeSettings, TeacherSettings, DistillSettings, GuideSettings,
              EvaluateSettings, AuditSettings, PredictSettings, DemoSettings, StoreImportSettings, StoreExportSettings)
}  # fmt: skip

__all__ = [
    "SETTINGS",
    "AuditSettings",
    "DemoSettings",
    "DistillSettings",
    "EvaluateSettings",
    "ExtractSettings",
    "GuideSettings",
    "ImputeSettings",
    "PredictSettings",
    "PreprocessSettings",
    "Settings",
    "StoreExportSettings",
    "StoreImportSettings",
    "TeacherSettings",
    "TrainSettings",
]
