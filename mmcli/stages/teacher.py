"""train-teacher: a model of all modalities, or a baseline."""

from __future__ import annotations

from mmcli.settings import TeacherSettings
from mmcli.stages.common import open_stores
from mmcli.stages.outcome import Outcome
from mmcli.stages.train import choose_modalities, make_plan, train


def run(settings: TeacherSettings) -> Outcome:
    """Train each missing part of the run at `--out`."""
    with open_stores(settings) as stores:
        modalities = choose_modalities(stores, settings.modalities)
        return train(make_plan(settings, "train-teacher", stores, modalities, {}))
