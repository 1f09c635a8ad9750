"""`impute` with wrong requests and stores that are no use."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

LINES = {
    "none.h5 --table markers --out x.h5": ("none.h5: no such feature store", 2),
    "schema2.h5 --table markers --out x.h5": ("a feature store of schema 2", 4),
    "cut.h5 --table markers --out x.h5": ("cut.h5: not a feature store, or truncated", 4),
    "p.h5 others.h5 --table markers --out x.h5": ("others.h5: none of its patients is among those", 2),
    "p.h5 --table markers --out p.h5 --force": ("--out p.h5 is one of the files that are read", 2),
    "p.h5 --table markers --out mine --force": ("--out mine is a folder", 2),
    "p.h5 --table markers --out thesis.txt --force": ("not even --force replaces it", 2),
    "p.h5 --table markers --out thesis.txt/x.h5 --method mean": ("cannot be written", 2),
    "p.h5 --out x.h5": ("--table is missing", 2),
    "p.h5 --table marker --out x.h5": ("did you mean 'markers'?", 2),
    "p.h5 --table slide --out x.h5": ("unknown table 'slide'", 2),
    "p.h5 --table markers --method mise --out x.h5": ("did you mean 'mice'?", 2),
    "p.h5 --table markers --folds vc --out x.h5": ("unknown fold set 'vc'", 2),
    "p.h5 --table markers --imputations 0 --out x.h5": ("--imputations: input should be greater", 2),
    "p.h5 --table markers --answer mode --out x.h5": ("--answer: input should be", 2),
    "p.h5 --table markers --set nope=1 --out x.h5": ("imputer blend has no option 'nope'", 2),
    "p.h5 --table markers --method mice --set rounds=0 --out x.h5": ("--set rounds=0: input should be greater", 2),
    "p.h5 --table markers --name a/b --out x.h5": ("--name: 'a/b' cannot be an imputation's name", 2),
    "p.h5 --table markers --seed 99999999999999999999999 --out x.h5": ("--seed: input should be less", 2),
    "p.h5 --table markers --cohort others.yaml --out x.h5": ("others.yaml: none of its patients is in the stores", 2),
    "p.h5 --table markers --method mice,mean --out x.h5": ("one imputer fills a table; --benchmark compares", 2),
    "p.h5 --table markers --fitted none.h5 --out x.h5": ("none.h5: no such feature store", 2),
    "p.h5 --table markers --fitted thesis.txt --out x.h5": ("thesis.txt: not a feature store", 4),
    "p.h5 --table markers --fitted p.h5 --out x.h5": ("nothing is imputed in table markers", 2),
    "p.h5 --table marker --fitted p.h5 --out x.h5": ("has no table 'marker'; did you mean 'markers'?", 2),
    "p.h5 --table markers --benchmark --out p.h5": ("--out p.h5: is, or holds, the input p.h5", 2),
    "p.h5 --table markers --benchmark --out mine --force": ("mine: is there and holds no benchmark", 2),
    "p.h5 --table markers --benchmark --method mice,maen --out x": ("did you mean 'mean'?", 2),
    "p.h5 --table markers --benchmark --label relapsed --out x": ("did you mean 'relapse'?", 2),
    "p.h5 --table markers --benchmark --confidence 95 --out x": ("--confidence: lies between 0 and 1", 2),
    "p.h5 --table markers --benchmark --fitted p.h5 --out x": ("leave out --fitted", 2),
    "p.h5 --table markers --benchmark --set nope=1 --method mice --out x": ("none of mice has an option 'nope'", 2),
    "p.h5 --table markers --benchmark --out thesis.txt/x --method mean": ("cannot be written", 2),
}


@pytest.mark.parametrize(("line", "expected"), LINES.items(), ids=LINES)
def test_refused(line: str, expected: tuple[str, int], refused: Callable[..., str]) -> None:
    refused(f"impute {line}", *expected)


def test_one_class_and_no_labels_can_be_imputed(work: Path, tmp_path: Path, say: Callable) -> None:
    table, yaml = (work / "patients.csv").read_text(), (work / "cohort.yaml").read_text()
    (tmp_path / "patients.csv").write_text(table.replace(",no,", ",yes,"))
    (tmp_path / "cohort.yaml").write_text(yaml)
    assert say(f"preprocess {tmp_path}/cohort.yaml --modalities markers --out {tmp_path}/p.h5 --quiet")[0] == 0
    assert say(f"impute {tmp_path}/p.h5 --table markers --method mean --out {tmp_path}/i.h5 --quiet")[0] == 0
    (tmp_path / "bare.yaml").write_text(yaml.replace("labels:", "labels: {}").split("  relapse:")[0] + "modalities:\n"
        "  markers: {kind: table, columns: [afp, cea]}\n")  # fmt: skip
    assert say(f"preprocess {tmp_path}/bare.yaml --out {tmp_path}/bare.h5 --quiet")[0] == 0
    code, _, err = say(f"impute {tmp_path}/bare.h5 --table markers --out {tmp_path}/j.h5 --quiet")
    assert code == 2
    assert "--folds: the stores have none: give a --cohort with folds" in err


def test_a_full_disk_is_told_before_anything_is_written(
    tmp_path: Path, say: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    code, out, err = say(f"impute p.h5 --table markers --method mean --out {tmp_path}/x.h5 --quiet")
    assert (code, out) == (2, "")
    assert "x.h5: needs about 0.1 MB, the disk has 0.0 MB left; make room" in err
    assert list(tmp_path.iterdir()) == []
