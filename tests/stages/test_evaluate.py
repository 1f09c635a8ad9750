"""`mmcli evaluate`: the report's directory as a whole."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mmcli.errors import DamagedError, RequestError
from mmcli.evaluation import figures as pictures
from mmcli.settings import EvaluateSettings
from mmcli.stages.evaluate import run

HOSTILE = "<script>alert(1)</script> & co"


def predictions(path: Path, strength: float, n: int = 40) -> Path:
    generator = np.random.default_rng(int(strength * 10))
    labels = np.arange(n) % 2
    p = 1 / (1 + np.exp(-(generator.normal(size=n) + strength * (labels - 0.5))))
    columns = {"patient_id": [f"{i:03d}" for i in range(n)], "label": np.array(["no", "yes"])[labels]}
    pd.DataFrame({**columns, "p_no": 1 - p, "p_yes": p}).to_csv(path, index=False)
    return path


def trained(path: Path, table: Path, folds: int = 2) -> Path:
    """A run directory whose parts are the folds of a table of predictions."""
    frame = pd.read_csv(table, dtype={"patient_id": str})
    parts = [f"cv-{k}-seed-0" for k in range(folds)]
    for k, part in enumerate(parts):
        (path / part).mkdir(parents=True)
        fold = frame.assign(split=["test" if i // 2 % folds == k else "train" for i in range(len(frame))])
        fold.to_parquet(path / part / "predictions-relapse.parquet")
    about = {"tasks": {"relapse": {"classes": ["no", "yes"], "ordinal": False}}, "parts": parts, "method": "attention"}
    (path / "run.json").write_text(json.dumps(about))
    return path


@pytest.fixture
def asked(tmp_path: Path) -> EvaluateSettings:
    a = trained(tmp_path / "teacher", predictions(tmp_path / "t.csv", 3.0))
    b = predictions(tmp_path / f"{HOSTILE.replace('/', '')}.csv", 1.0)
    return EvaluateSettings(
        runs=[a, b], reference=b, out=tmp_path / "report", bootstrap_ci=True, resamples=100, quiet=True
    )


def changed(settings: EvaluateSettings, **other: object) -> EvaluateSettings:
    return settings.model_copy(update=other)


def content_of(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.iterdir()}


def test_everything_is_written_and_says_the_same(asked: EvaluateSettings, tmp_path: Path) -> None:
    outcome = run(asked)
    names = {f.name for f in asked.out.iterdir()}
    assert {"metrics.json", "metrics.csv", "report.html", "roc-relapse.png", "roc-relapse.pdf"} <= names
    assert {"comparisons.csv", "conformal.csv", "tables.tex", "forest-relapse.pdf"} <= names | {"conformal.csv"}
    assert len([n for n in names if n.startswith("confusion-relapse-")]) == 4
    content = json.loads((asked.out / "metrics.json").read_text())
    frame = pd.read_csv(tmp_path / "t.csv")
    auc = next(m for m in content["metrics"] if (m["run"], m["metric"]) == ("teacher", "auc"))
    assert auc["value"] == pytest.approx(roc_auc_score(frame["label"] == "yes", frame["p_yes"]), abs=1e-12)
    assert auc["low"] < auc["value"] <= auc["high"]
    assert auc["parts"] == 2
    assert auc["sd"] is not None
    assert content["bootstrap"]["resamples"] == 100
    with (asked.out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(content["metrics"])
    assert float(rows[0]["value"]) == content["metrics"][0]["value"]
    assert [r["Run"] for r in outcome.rows] == ["teacher", HOSTILE.replace("/", "")]
    assert outcome.rows[0]["AUC"].startswith(f"{auc['value']:.3f} [")
    assert outcome.data["report"] == str(asked.out / "report.html")
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".")]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_report_is_self_contained_and_escaped(asked: EvaluateSettings) -> None:
    run(asked)
    html = (asked.out / "report.html").read_text()
    page = _Page()
    page.feed(html)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    assert all((a["src"] or "").startswith("data:image/svg+xml;base64,") for tag, a in page.tags if tag == "img")
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]*", "", html)
    assert "40 patients of the test split" in html
    assert "100 bootstrap resamples" in html
    assert "&lt;script&gt;" in html


def test_second_time_does_nothing_and_another_request_is_refused(asked: EvaluateSettings) -> None:
    first = run(asked)
    before = content_of(asked.out)
    again = run(asked)
    assert "nothing to do" in again.message
    assert again.rows == first.rows
    assert content_of(asked.out) == before
    with pytest.raises(RequestError, match=r"resamples: 100 there, 50 now.*--force"):
        run(changed(asked, resamples=50))
    assert content_of(asked.out) == before
    run(changed(asked, resamples=50, force=True))
    assert json.loads((asked.out / "metrics.json").read_text())["bootstrap"]["resamples"] == 50


def test_the_same_request_gives_the_same_bytes(asked: EvaluateSettings) -> None:
    run(asked)
    before = content_of(asked.out)
    run(changed(asked, force=True))
    assert content_of(asked.out) == before


def test_other_predictions_under_the_same_name_are_another_request(asked: EvaluateSettings) -> None:
    run(asked)
    predictions(asked.runs[1], 2.0)
    with pytest.raises(RequestError, match="another request"):
        run(asked)


def test_dry_run_and_refusals_write_nothing(asked: EvaluateSettings) -> None:
    assert "would compare" in run(changed(asked, dry_run=True)).message
    for wrong, words in [
        ({"confidence": 95.0}, "--confidence: lies between 0 and 1"),
        ({"resamples": 0}, "--resamples: at least 1"),
        ({"runs": []}, "RUN... is missing"),
        ({"label": ["grade"]}, "no task 'grade'"),
    ]:
        with pytest.raises(RequestError, match=re.escape(words)):
            run(changed(asked, **wrong))
    assert not asked.out.exists()


def test_what_is_not_a_report_is_never_replaced(asked: EvaluateSettings) -> None:
    asked.out.mkdir()
    (asked.out / "thesis.txt").write_text("years of work")
    with pytest.raises(RequestError, match="holds no report"):
        run(changed(asked, force=True))
    assert content_of(asked.out) == {"thesis.txt": b"years of work"}


def test_a_fault_on_the_way_leaves_the_old_report(asked: EvaluateSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    run(asked)
    before = content_of(asked.out)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures.Canvas, "savefig", full)
    with pytest.raises(RequestError, match="No space left on device"):
        run(changed(asked, force=True))
    assert content_of(asked.out) == before
    assert [f.name for f in asked.out.parent.iterdir() if f.name.startswith(".")] == []


def test_damaged_part_is_damage_of_the_run(asked: EvaluateSettings) -> None:
    (asked.runs[0] / "cv-1-seed-0" / "predictions-relapse.parquet").write_bytes(b"PAR1")
    with pytest.raises(DamagedError, match="cannot be read"):
        run(asked)


def test_one_class_only_gives_dashes_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("patient_id,label,p_a,p_b\n1,a,.5,.5\n2,a,.9,.1\n")
    settings = EvaluateSettings(runs=[path], out=tmp_path / "report", bootstrap_ci=True, resamples=20, quiet=True)
    outcome = run(settings)
    assert outcome.rows[0]["AUC"] == "–"
    content = json.loads((settings.out / "metrics.json").read_text())
    auc = next(m for m in content["metrics"] if m["metric"] == "auc")
    assert (auc["value"], auc["low"], auc["undefined"]) == (None, None, 20)
