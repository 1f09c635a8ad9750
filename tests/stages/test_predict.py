"""predict as a hospital runs it: new patients, no label, no fold."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmcli.errors import RequestError
from mmcli.methods.attention import Attention
from mmcli.settings import GuideSettings, ImputeSettings, PredictSettings, TeacherSettings
from mmcli.stages import guide, impute, predict, teacher

Write = Callable[..., Path]
COLUMNS = {"columns": ["x", "site"], "categories": {"site": ["A", "B"]}}


def cohort(n: int = 50, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    slides: list[Any] = [rng.normal(size=(rng.integers(1, 6), 6)) + y[i] if i % 7 else None for i in range(n)]
    table = np.c_[rng.normal(size=n) + y, rng.integers(0, 2, n)].astype(float)
    table[::5] = np.nan
    table[1::5, 0] = np.nan
    return {"bags": {"slide": slides}, "tables": {"t": table}, "labels": {"y": y}} | COLUMNS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, write_made_store: Write) -> Path:
    """A finished teacher beside its store s.h5."""
    folder = tmp_path_factory.mktemp("runs")
    store = write_made_store(folder / "s.h5", **cohort())
    teacher.run(TeacherSettings(stores=[store], out=folder / "t", set={"epochs": "4", "width": "8"}, quiet=True))
    return folder / "t"


def table(run: Path, store: Path, out: Path, **more: Any) -> pd.DataFrame:
    predict.run(PredictSettings(run=run, stores=[store], out=out, quiet=True, **more))
    return pd.read_csv(out, dtype={"patient_id": str}, keep_default_na=False)


def test_one_part_says_what_it_said_when_it_was_trained(run: Path, tmp_path: Path) -> None:
    ours = table(run / "cv-1-seed-0", run.parent / "s.h5", tmp_path / "p.csv").set_index("patient_id")
    theirs = pd.read_parquet(run / "cv-1-seed-0/predictions-y.parquet").set_index("patient_id")
    np.testing.assert_allclose(ours.p_yes[theirs.index], theirs.p_yes, atol=1e-6)
    assert (ours.modalities[theirs.index] == theirs.modalities).all() and (ours.sd_yes == 0).all()


def test_mean_and_spread_over_the_parts(run: Path, tmp_path: Path) -> None:
    parts = [table(run / f"cv-{k}-seed-0", run.parent / "s.h5", tmp_path / f"{k}.csv").p_yes for k in range(5)]
    whole = table(run, run.parent / "s.h5", tmp_path / "p.csv")
    assert list(whole) == ["patient_id", "prediction", "p_no", "p_yes", "sd_no", "sd_yes", "modalities"]
    np.testing.assert_allclose(whole.p_yes, np.mean(parts, 0))
    np.testing.assert_allclose(whole.sd_yes, np.std(parts, 0), atol=1e-12)
    assert ((whole.p_yes > 0.5) == (whole.prediction == "yes")).all()


def test_patients_without_label_or_fold_a_new_category_and_lacking_modalities(
    run: Path, tmp_path: Path, write_made_store: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    made = cohort(20, 3) | {"labels": {}, "roles": False, "prefix": "new"}
    made["categories"] = {"site": ["B", "C"]}  # another order of codes, and a category that training had not
    outcome = predict.run(
        PredictSettings(run=run, stores=[write_made_store(tmp_path / "n.h5", **made)], out=tmp_path / "p.csv")
    )
    assert "site=C was not in training" in capsys.readouterr().err and outcome.exit_code == 0
    frame = pd.read_csv(tmp_path / "p.csv", keep_default_na=False)
    assert outcome.data["prior_only"] == 1 and frame.modalities[0] == ""
    tables = {k: v for k, v in made.items() if k != "bags"}
    alone = table(run, write_made_store(tmp_path / "t.h5", **tables), tmp_path / "t.csv")
    both = frame.modalities == "t"
    np.testing.assert_allclose(alone.p_yes[both], frame.p_yes[both], atol=1e-6)
    assert set(alone.modalities) == {"t", ""}


def test_a_guided_model_needs_the_inferior_modality_alone(run: Path, tmp_path: Path, write_made_store: Write) -> None:
    quick = {"epochs": "2", "guide_epochs": "2", "width": "8"}
    guide.run(GuideSettings(stores=[run.parent / "s.h5"], out=tmp_path / "g", superior="slide", inferior="t", set=quick,
                            quiet=True))  # fmt: skip
    made = {k: v for k, v in cohort(20, 3).items() if k not in ("bags", "labels")}
    frame = table(
        tmp_path / "g", write_made_store(tmp_path / "n.h5", labels={}, roles=False, **made), tmp_path / "p.csv"
    )
    assert set(frame.modalities) == {"t", ""} and frame.p_yes.nunique() > 10


def test_the_second_time_nothing_is_done(run: Path, tmp_path: Path) -> None:
    given = {"run": run, "stores": [run.parent / "s.h5"], "out": tmp_path / "p.csv", "quiet": True}
    predict.run(PredictSettings(**given))
    before = (tmp_path / "p.csv").stat().st_mtime_ns
    assert "nothing to do" in predict.run(PredictSettings(**given)).message
    assert (tmp_path / "p.csv").stat().st_mtime_ns == before
    with pytest.raises(RequestError, match="holds the answer to another request"):
        predict.run(PredictSettings(**given | {"run": run / "cv-0-seed-0"}))
    predict.run(PredictSettings(**given | {"run": run / "cv-0-seed-0", "force": True}))
    (tmp_path / "mine.csv").write_text("mine")
    with pytest.raises(RequestError, match="was not made by predict"):
        predict.run(PredictSettings(**given | {"out": tmp_path / "mine.csv"}))
    dry = predict.run(PredictSettings(**given | {"out": tmp_path / "dry.csv", "dry_run": True}))
    assert "would predict 50 patients with 5 parts" in dry.message and not (tmp_path / "dry.csv").exists()


@pytest.mark.parametrize("changed, message", [
    ({"weights": "random:1"}, "modality slide has other weights"),
    ({"encoder": "another"}, "modality slide has other encoder"),
    ({"columns": ["x", "town"], "categories": {}}, "table t lacks the column 'site'"),
    ({"categories": {}}, "column 'site' of table t is numeric"),
])  # fmt: skip
def test_another_store(
    run: Path, tmp_path: Path, write_made_store: Write, changed: dict[str, Any], message: str
) -> None:
    store = write_made_store(tmp_path / "n.h5", **cohort(20) | changed)
    with pytest.raises(RequestError, match=message):
        table(run, store, tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()


def test_a_column_that_no_new_patient_has(run: Path, tmp_path: Path, write_made_store: Write) -> None:
    """Its kind cannot be told from its cells: it is not observed, of whatever kind it came."""
    made = cohort(20)
    made["tables"]["t"][:, 1] = np.nan
    known = table(run, write_made_store(tmp_path / "k.h5", **made), tmp_path / "k.csv")
    guessed = table(run, write_made_store(tmp_path / "g.h5", **made | {"categories": {}}), tmp_path / "g.csv")
    pd.testing.assert_frame_equal(guessed, known)
    assert known.modalities.str.contains("t").any()


def test_a_method_that_samples_tells_its_own_spread(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Attention.predict

    def sampled(self: Any, batch: Any) -> dict[str, dict[str, torch.Tensor]]:
        draws = torch.tensor([[-0.01, 0.01], [0.01, -0.01]], dtype=torch.float64).unsqueeze(1)
        return {"": {"y": plain(self, batch)[""]["y"] + draws}}

    monkeypatch.setattr(Attention, "predict", sampled)
    frame = table(run, run.parent / "s.h5", tmp_path / "p.csv")
    assert list(frame)[-3:] == ["sd_yes", "uncertainty", "modalities"]
    np.testing.assert_allclose(frame.uncertainty, 0.01, rtol=1e-6)


def test_the_modalities_are_those_that_any_part_used(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table(run, run.parent / "s.h5", tmp_path / "p.csv").modalities
    plain, calls = Attention.used, []

    def used(self: Any, present: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
        calls.append(1)  # the last part had nobody to learn the slides from
        return {"": plain(self, present)[""] | ({"slide": present["slide"] & False} if len(calls) == 5 else {})}

    monkeypatch.setattr(Attention, "used", used)
    assert (table(run, run.parent / "s.h5", tmp_path / "q.csv").modalities == before).all() and len(calls) == 5


def test_wrong_runs(run: Path, tmp_path: Path, write_made_store: Write) -> None:
    store = run.parent / "s.h5"
    with pytest.raises(RequestError, match="neither a run nor a part"):
        table(tmp_path, store, tmp_path / "p.csv")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run, unfinished)
    shutil.rmtree(unfinished / "cv-1-seed-0")
    with pytest.raises(RequestError, match=r"not finished, 1 parts are missing \(cv-1-seed-0\)"):
        table(unfinished, store, tmp_path / "p.csv")
    other = write_made_store(tmp_path / "o.h5", {}, tables={"blood": np.ones((4, 2))}, roles=False)
    with pytest.raises(RequestError, match="none of the modalities"):
        table(run, other, tmp_path / "p.csv")


def test_a_part_carries_its_folds_imputer(run: Path, tmp_path: Path) -> None:
    """Trained with an imputation and asked about the bare store, a part fills the holes itself, to the same numbers."""
    store = run.parent / "s.h5"
    fill = {"stores": [store], "table": "t", "method": "mice", "quiet": True}
    impute.run(ImputeSettings(**fill, out=tmp_path / "i.h5"))
    out = tmp_path / "t"
    teacher.run(TeacherSettings(stores=[store, tmp_path / "i.h5"], out=out, imputer="mice", only_folds=[2], quiet=True,
                                modalities=["t"], set={"epochs": "4"}))  # fmt: skip
    part = out / "cv-2-seed-0"
    assert (part / "imputer-t.safetensors").exists()
    ours = table(part, store, tmp_path / "p.csv").set_index("patient_id")
    theirs = pd.read_parquet(part / "predictions-y.parquet").set_index("patient_id")
    np.testing.assert_allclose(ours.p_yes[theirs.index], theirs.p_yes, atol=1e-6)
    (part / "imputer-t.safetensors").unlink()
    other = table(part, store, tmp_path / "q.csv").set_index("patient_id")
    assert (other.p_yes != ours.p_yes).any()
