"""train-guide as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmcli.errors import RequestError
from mmcli.settings import GuideSettings
from mmcli.stages import guide

Write = Callable[..., Path]


def settings(store: Path, out: Path, **more: Any) -> GuideSettings:
    given = {"stores": [store], "out": out, "superior": "slide", "inferior": "t", "quiet": True,
             "set": {"epochs": "3", "guide_epochs": "3", "width": "8"}}  # fmt: skip
    return GuideSettings(**(given | more))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, write_made_store: Write) -> Path:
    """60 patients; every 3rd without slide, every 4th without the table."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    slides: list[Any] = [rng.normal(size=(4, 6)) + y[i] if i % 3 else None for i in range(60)]
    table = rng.normal(size=(60, 4))
    table[::4] = np.nan
    return write_made_store(tmp_path_factory.mktemp("s") / "s.h5", {"y": y}, {"slide": slides}, {"t": table})


def test_a_variant_answers_for_those_who_have_what_it_needs(store: Path, tmp_path: Path) -> None:
    guide.run(settings(store, tmp_path / "g", only_folds=[0, 2]))
    head = json.loads((tmp_path / "g/run.json").read_text())
    assert head["variants"] == ["G(I)+I", "S+I", "S", "I", "G(I)"]
    assert head["roles"] == {"superior": "slide", "inferior": "t"}
    frame = pd.read_parquet(tmp_path / "g/cv-2-seed-0/predictions-y.parquet")
    assert list(dict.fromkeys(frame.variant)) == head["variants"]
    number = frame.patient_id.str[1:].astype(int)
    for variant, rows in frame.groupby("variant"):
        has_slide, has_table = number[rows.index] % 3 != 0, number[rows.index] % 4 != 0
        expected = {"S": has_slide, "S+I": has_slide & has_table, "I": has_table, "G(I)": has_table}
        if variant == "G(I)+I":
            assert len(rows) == 60 and set(rows.modalities[has_table]) == {"t"}
            assert (rows.modalities[~has_table] == "").all() and rows.p_yes[~has_table].nunique() == 1
        else:
            assert expected[variant].all()
            assert set(rows.modalities) == {{"S": "slide", "S+I": "slide,t"}.get(variant, "t")}
    assert frame.groupby("variant").size().to_dict() == {"G(I)": 45, "G(I)+I": 60, "I": 45, "S": 40, "S+I": 30}
    history = pd.read_csv(tmp_path / "g/cv-2-seed-0/history.csv")
    assert list(dict.fromkeys(history.phase)) == ["C_I", "C_S", "G", "D_c", "D_SI"]


def test_superior_values_of_test_patients_do_not_reach_the_guided_model(
    store: Path, tmp_path: Path, write_made_store: Write
) -> None:
    """G(I)+I needs the inferior modality alone: slides of other patients than those in training change nothing."""
    guide.run(settings(store, tmp_path / "a", only_folds=[0]))
    from mmcli.store import Stores

    with Stores([store]) as s:
        roles, y = s.patients.folds["cv"], s.patients.labels["y"].values
        slides: list[Any] = [
            s.bags["slide"].rows("features", i) if s.bags["slide"].present[i] else None for i in range(60)
        ]
        table = s.tables["t"].values
    for i in np.flatnonzero(roles[:, 0] == 3):
        slides[i] = None if slides[i] is not None else np.ones((2, 6))
    other = write_made_store(tmp_path / "o.h5", {"y": y}, {"slide": slides}, {"t": table}, roles)
    guide.run(settings(other, tmp_path / "b", only_folds=[0]))
    a, b = (pd.read_parquet(tmp_path / x / "cv-0-seed-0/predictions-y.parquet") for x in "ab")
    for variant in ("G(I)+I", "I", "G(I)"):
        np.testing.assert_allclose(a[a.variant == variant].p_yes, b[b.variant == variant].p_yes, atol=1e-12)


@pytest.mark.parametrize("given, message", [
    ({"superior": "t"}, "are both 't'"),
    ({"superior": "slides"}, "--superior: unknown modality 'slides'; did you mean 'slide'"),
    ({"inferior": "ct"}, "--inferior: unknown modality 'ct'"),
    ({"withhold": {"slide": "0.999"}}, "no training patient"),
    ({"set": {"guide_lr": "-1"}}, "--set guide_lr=-1"),
])  # fmt: skip
def test_wrong_requests(store: Path, tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        guide.run(settings(store, tmp_path / "g", **given))
