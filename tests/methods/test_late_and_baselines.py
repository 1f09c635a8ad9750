"""Late fusion and the baselines of scikit-learn against scikit-learn itself, on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmcli.blocks.softmax_regression import STRENGTHS
from mmcli.methods import METHODS
from mmcli.methods.late import Late, LateSettings, voters
from mmcli.methods.pooled import pool_bag, pooled_rows, row_width
from mmcli.settings import PredictSettings, TeacherSettings
from mmcli.stages import predict, teacher
from mmcli.store.batch import PackedBag
from mmcli.training.batch import Batch, TableRows
from mmcli.training.spec import BagSpec, DataSpec, TableSpec, TaskSpec

Write = Callable[..., Path]
ROLES = np.repeat([1, 2, 3], [120, 30, 60])


def cohort(seed: int = 0) -> dict[str, Any]:
    """210 patients: a table with holes, one that a third lacks, a bag that a fifth lacks."""
    rng = np.random.default_rng(seed)
    y = np.arange(210) % 2
    full = rng.normal(size=(210, 5)) + 0.7 * y[:, None] * [1, 0, 0, 0, 0]
    full[rng.random(full.shape) < 0.1] = np.nan
    part = rng.normal(size=(210, 3)) + 0.9 * y[:, None] * [0, 1, 0]
    part[rng.permutation(210)[:70]] = np.nan
    bags = [rng.normal(size=(rng.integers(1, 5), 4)) + 0.5 * v for v in y]
    shown: list[Any] = [b if keep else None for b, keep in zip(bags, rng.random(210) > 0.2, strict=True)]
    return {"labels": {"y": y}, "bags": {"slide": shown}, "tables": {"full": full, "part": part}, "roles": ROLES}


def predicted(store: Path, out: Path, method: str, **options: str) -> pd.DataFrame:
    teacher.run(TeacherSettings(stores=[store], out=out, quiet=True, method=method, set=options))
    return pd.read_parquet(out / "cv-0-seed-0/predictions-y.parquet").set_index("patient_id").sort_index()


def inputs(made: dict[str, Any]) -> dict[str, np.ndarray]:
    """Mean-pooled bags and tables, rows of NaN where a patient lacks one."""
    slide = np.array([np.full(4, np.nan) if b is None else b.astype(np.float32).mean(0) for b in made["bags"]["slide"]])
    return {"slide": slide} | made["tables"]


def test_late_fusion_is_ten_lines_of_scikit_learn(write_made_store: Write, tmp_path: Path) -> None:
    """One regression a modality on the training patients who have it, C by inner log loss, mean log-odds."""
    made = cohort()
    store = write_made_store(tmp_path / "s.h5", **made)
    found = predicted(store, tmp_path / "late", "late")
    y, train = made["labels"]["y"], ROLES == 1
    log_odds = []
    for x in inputs(made).values():
        there = ~np.isnan(x).all(1)
        x = np.where(np.isnan(x), np.nanmean(x[train & there], 0), x)
        chosen = train & there
        # The folds are the method's own: any other seed may choose another C, so each C is compared by its outcome.
        models = [make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-8, max_iter=9999)) for c in STRENGTHS]
        log_odds.append([np.where(there, m.fit(x[chosen], y[chosen]).decision_function(x), np.nan) for m in models])
    best = np.inf
    for i, j, k in np.ndindex(6, 6, 6):
        mean = np.nanmean([log_odds[0][i], log_odds[1][j], log_odds[2][k]], 0)
        best = min(best, np.abs(1 / (1 + np.exp(-mean)) - found.p_yes).max())
    assert best < 1e-4


def test_late_fusions_penalty_is_the_inner_choice() -> None:
    """With the seed of the method's own folds scikit-learn's grid search gives the same probabilities."""
    rng = np.random.default_rng(0)
    x, y = torch.from_numpy(rng.normal(size=(150, 4)).astype(np.float32)), torch.arange(150) % 2
    x[:, 0] += 0.6 * y
    task = TaskSpec(name="y", classes=["no", "yes"], ordinal=False, prior=[0.5, 0.5], weights=[1.0, 1.0])
    spec = DataSpec(bags=[], tables=[TableSpec(name="t", columns=list("abcd"))], tasks=[task])
    there = torch.ones(150, dtype=torch.bool)
    batch = Batch(torch.arange(150), {}, {"t": TableRows(x, torch.ones(150, 4), there)}, {"y": y})
    late = Late(spec, LateSettings())
    torch.manual_seed(3)
    late.fit(iter([batch]), iter([]))
    torch.manual_seed(3)
    folds = StratifiedKFold(5, shuffle=True, random_state=int(torch.randint(2**31 - 1, ())))
    search = GridSearchCV(LogisticRegression(tol=1e-8), {"C": STRENGTHS}, scoring="neg_log_loss", cv=folds)
    z = StandardScaler().fit_transform(x.numpy().astype(float))
    expected = search.fit(z, y).predict_proba(z)
    assert np.abs(late.predict(batch)[""]["y"].numpy() - expected).max() < 1e-4


def test_an_absent_modality_has_no_vote_and_neither_one_without_labels(write_made_store: Write, tmp_path: Path) -> None:
    made = cohort()
    made["labels"]["y"][~np.isnan(made["tables"]["part"]).all(1) & (ROLES == 1)] = -1  # nobody with `part` is labelled
    store = write_made_store(tmp_path / "s.h5", **made)
    both = predicted(store, tmp_path / "both", "late")
    without = tmp_path / "without"
    teacher.run(TeacherSettings(stores=[store], out=without, quiet=True, method="late", modalities=["slide", "full"]))
    other = pd.read_parquet(without / "cv-0-seed-0/predictions-y.parquet").set_index("patient_id").sort_index()
    assert np.abs(both.p_yes - other.p_yes).max() < 0.02  # the inner folds' seeds differ, the votes do not
    assert np.isfinite(both.p_yes).all() and not both.modalities.str.contains("part").any()


def test_bags_of_a_kind_share_a_vote() -> None:
    task = TaskSpec(name="y", classes=["no", "yes"], ordinal=False, prior=[0.5, 0.5], weights=[1.0, 1.0])
    bags = [BagSpec(name=n, kind=k, dim=2) for n, k in {"he": "slide", "ct": "volume", "cd3": "slide"}.items()]
    spec = DataSpec(bags=bags, tables=[TableSpec(name="t", columns=["a"])], tasks=[task])
    assert voters(spec, "modality") == [["he"], ["ct"], ["cd3"], ["t"]]
    assert voters(spec, "kind") == [["he", "cd3"], ["ct"], ["t"]]


def test_networks_as_late_models(write_made_store: Write, tmp_path: Path) -> None:
    store = write_made_store(tmp_path / "s.h5", **cohort())
    found = predicted(store, tmp_path / "n", "late", model="network", epochs="30")
    history = pd.read_csv(tmp_path / "n/cv-0-seed-0/history.csv")
    assert set(history.phase) == {"slide", "full", "part"}
    test = found[found.split == "test"]
    assert roc_auc_score(test.label == "yes", test.p_yes) > 0.65


@pytest.mark.parametrize("pool", ["mean", "mean-sd", "mean-max-min"])
def test_pooling_is_a_loop_over_bags(pool: Any) -> None:
    counts = [3, 0, 1, 5]
    x = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    offsets = torch.tensor([0, 3, 3, 4, 9])
    bag = PackedBag(x, offsets, offsets.diff() > 0)
    slow = []
    for rows in x.split(counts):
        if not len(rows):
            slow.append(torch.zeros(2 * {"mean": 1, "mean-sd": 2, "mean-max-min": 3}[pool]))
            continue
        more = {"mean": [], "mean-sd": [rows.std(0, correction=0)], "mean-max-min": [rows.amax(0), rows.amin(0)]}
        slow.append(torch.cat([rows.mean(0), *more[pool]]))
    torch.testing.assert_close(pool_bag(bag, pool), torch.stack(slow))
    spec = DataSpec(
        bags=[BagSpec(name="b", kind="slide", dim=2)], tables=[TableSpec(name="t", columns=["a"])], tasks=[]
    )
    values, observed = torch.tensor([[0.0], [0.5], [2.0], [0.0]]), torch.tensor([[0.0], [0.0], [1.0], [0.0]])
    table = TableRows(values, observed, torch.tensor([True, True, True, False]))
    batch = Batch(torch.arange(4), {"b": bag}, {"t": table}, {})
    rows = pooled_rows(batch, ["b", "t"], pool, holes=True)
    assert rows.shape == (4, row_width(spec, ["b", "t"], pool))
    assert rows[:, -3].isnan().tolist() == [True, False, False, True]  # a hole, an imputed cell, a cell, no table
    assert rows[1, :-3].isnan().all() and rows[:, -2:].tolist() == [[1, 1], [0, 1], [1, 1], [1, 0]]


@pytest.mark.parametrize(("method", "options"), [("forest", {"trees": "60"}), ("boosting", {"rounds": "20"})])
def test_trees_are_scikit_learns_and_a_part_predicts_again(
    method: str, options: dict[str, str], write_made_store: Write, tmp_path: Path
) -> None:
    """Holes and absent modalities are NaN for boosting, the training mean for the forest; then present flags."""
    made = cohort()
    store = write_made_store(tmp_path / "s.h5", **made)
    found = predicted(store, tmp_path / "run", method, **options)
    y, train = made["labels"]["y"], ROLES == 1
    columns = []
    instances = np.concatenate([b for b, t in zip(made["bags"]["slide"], train, strict=True) if t and b is not None])
    for name, x in inputs(made).items():
        mean, sd = (instances.mean(0), instances.std(0)) if name == "slide" else (np.nanmean(x[train], 0),
                                                                                 np.nanstd(x[train], 0))  # fmt: skip
        z = ((x - mean) / sd).astype(np.float32)
        columns.append(np.where(np.isnan(z), 0, z) if method == "forest" else z)
    flags = np.array([~np.isnan(x).all(1) for x in inputs(made).values()]).T
    x = np.concatenate([*columns, flags], 1).astype(np.float32)
    if method == "boosting":  # no seed is needed
        model: Any = HistGradientBoostingClassifier(max_iter=20, early_stopping=False).fit(x[train], y[train])
        # Columns differ in the last bits, so that a cell on a threshold may fall on its other side.
        close = np.isclose(model.predict_proba(x)[:, 1], found.p_yes, atol=1e-6)
        assert close.mean() > 0.98
    else:
        model = RandomForestClassifier(400, random_state=0).fit(x[train], y[train])
        assert np.corrcoef(model.predict_proba(x)[~train, 1], found.p_yes[~train])[0, 1] > 0.9
    out = tmp_path / "p.csv"
    predict.run(PredictSettings(run=tmp_path / "run", stores=[store], out=out, quiet=True))
    again = pd.read_csv(out).set_index("patient_id").sort_index()
    assert np.abs(again.p_yes.to_numpy() - found.p_yes.to_numpy()).max() < 1e-6


def test_fitted_methods_are_seeded_and_hold_no_pickle(write_made_store: Write, tmp_path: Path) -> None:
    store = write_made_store(tmp_path / "s.h5", **cohort())
    for name in ("forest", "late", "logistic"):
        runs = [predicted(store, tmp_path / f"{name}{i}", name) for i in range(2)]
        pd.testing.assert_frame_equal(*runs)
        files = sorted(p.name for p in (tmp_path / f"{name}0/cv-0-seed-0").iterdir())
        assert files == ["history.csv", "part.json", "predictions-y.parquet", "provenance.json",
                         "scalers.safetensors", "weights.safetensors"]  # fmt: skip
    assert not METHODS.get("forest").Settings().class_weights
