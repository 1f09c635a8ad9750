"""train-guide: a model of an inferior modality, guided by a superior one that is seen in training only."""

from __future__ import annotations

from mmcli.errors import RequestError
from mmcli.settings import GuideSettings
from mmcli.stages.common import open_stores
from mmcli.stages.outcome import Outcome
from mmcli.stages.train import choose_modalities, make_plan, train


def run(settings: GuideSettings) -> Outcome:
    """Train each missing part of the run at `--out`."""
    if settings.superior == settings.inferior:
        raise RequestError(f"--superior and --inferior are both {settings.inferior!r}; name two modalities")
    with open_stores(settings) as stores:
        choose_modalities(stores, [settings.superior], "--superior")
        choose_modalities(stores, [settings.inferior], "--inferior")
        modalities = choose_modalities(stores, [settings.superior, settings.inferior])
        roles = {"superior": settings.superior, "inferior": settings.inferior}
        return train(make_plan(settings, "train-guide", stores, modalities, roles))
