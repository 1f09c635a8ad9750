"""`cohort init` and `cohort check`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmcli.cohort import BagSpec, TableSpec, read_cohort
from mmcli.cohort.init import _text
from mmcli.cohort.schema import load_yaml
from mmcli.errors import DONE, FINDINGS, RequestError
from mmcli.stages.cohort import check, init


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A table of 40 patients with slides, CT with masks, images, markers, two labels, sites, a split."""
    rng = np.random.default_rng(0)
    n = 40
    frame = pd.DataFrame(
        {
            "age": rng.integers(30, 90, n),
            "patient_id": [f"{i:03d}" for i in range(n)],
            "site": [f"centre {i % 8}" for i in range(n)],
            "relapse": ["no", "yes", "no", "unknown"] * 10,
            "stage": ["I", "II", "III", "II"] * 10,
            "slide_path": [f"slides/{i}.svs" if i % 3 else "" for i in range(n)],
            "slide_mpp": "0.25",
            "ct": [f"ct/{i}.nii.gz" for i in range(n)],
            "ct_mask": [f"ct/{i}_mask.nii.gz" for i in range(n)],
            "ultrasound": [f"us/{i}_a.png;us/{i}_b.png" for i in range(n)],
            "afp": [f"{x:.2f}" if x > -1 else "" for x in rng.normal(size=n)],
            "sex": ["m", "f"] * 20,
            "date_of_birth": "1970-01-01",
            "comment": [f"free text {i}" for i in range(n)],
            "constant": "1",
            "split": ["train", "test"] * 4 * 5,
        }
    )
    frame["relapse"] = frame["relapse"].replace("unknown", "NA")
    frame.to_csv(tmp_path / "patients.csv", index=False)
    return tmp_path / "patients.csv"


def test_init_guesses_and_the_result_is_read(made: Path) -> None:
    outcome = init(made)
    assert outcome.exit_code == DONE and outcome.data["out"] == str(made.parent / "cohort.yaml")
    cohort = read_cohort(made.parent / "cohort.yaml", paths="ignore")
    assert cohort.id_column == "patient_id" and cohort.patients.ids[:2] == ["000", "001"]
    assert set(cohort.patients.labels) == {"relapse", "stage"}
    assert cohort.patients.labels["relapse"].classes == ["no", "yes"]
    assert (cohort.patients.labels["relapse"].values == -1).sum() == 10
    assert cohort.patients.group is not None and set(cohort.patients.folds) == {"cv", "given"}
    slide, ct, us = (cohort.modalities[m] for m in ("slide", "ct", "ultrasound"))
    assert isinstance(slide, BagSpec) and isinstance(ct, BagSpec) and isinstance(us, BagSpec)
    assert (slide.kind, ct.kind, us.kind) == ("slide", "volume", "image")
    assert slide.files[0] == [] and slide.files[1][0].mpp == 0.25
    assert ct.files[0][0].mask == made.parent / "ct/0_mask.nii.gz"
    assert [f.shown for f in us.files[3]] == ["us/3_a.png", "us/3_b.png"]
    clinical = cohort.modalities["clinical"]
    assert isinstance(clinical, TableSpec) and clinical.columns == ["age", "afp", "sex"]
    text = (made.parent / "cohort.yaml").read_text()
    assert "relapse: {classes: [no, yes], unlabelled:" in text
    for left_out in ("date_of_birth", "comment", "constant"):
        assert f"#   {left_out}: " in text
    # The files are not there: said at once, not an error of init.
    assert any("no such file" in line for line in outcome.data["findings"])


def test_init_never_overwrites(made: Path) -> None:
    out = made.parent / "cohort.yaml"
    out.write_text("patients: mine")
    with pytest.raises(RequestError, match="--force"):
        init(made)
    assert out.read_text() == "patients: mine"
    init(made, force=True)
    assert out.read_text() != "patients: mine"
    elsewhere = made.parent / "other" / "c.yaml"
    init(made, elsewhere)
    assert read_cohort(elsewhere, root=made.parent, paths="ignore").patients.ids[0] == "000"


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "is empty"), ("id,a\n", "no row under the header"), ("a,b\n1,2\n1,2\n", "none can be the id")],
)
def test_init_on_bad_tables(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(content)
    with pytest.raises(RequestError, match=message):
        init(tmp_path / "p.csv")
    assert not (tmp_path / "cohort.yaml").exists()


CELL = st.sampled_from(
    ["", "NA", "1", "2.5", "x", "yes", "no", "a/b.svs", "2020-01-01", "inf", "1,5", "none", "# y: z"]
)
NAMES = st.sampled_from(
    [
        "id",
        "label",
        "site",
        "x: y",
        "slide_path",
        "ct",
        "ct_mask",
        "mpp",
        "no",
        "split",
        "-",
        "[a]",
        "stage",
        "kind",
        "slide",
        "é #",
    ]
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_init_writes_is_a_right_cohort(tmp_path: Path, data: st.DataObject) -> None:
    names = data.draw(st.lists(NAMES, unique=True, min_size=1, max_size=8))
    n = data.draw(st.integers(1, 25))
    frame = pd.DataFrame({"patient": [f"p{i}" for i in range(n)]})
    for name in names:
        frame[name] = data.draw(st.lists(CELL, min_size=n, max_size=n))
    frame.to_csv(tmp_path / "p.csv", index=False)
    out = init(tmp_path / "p.csv", force=True).data["out"]
    assert len(read_cohort(Path(out), paths="ignore").patients) == n


@given(st.text(max_size=12))
def test_scalars_come_back(text: str) -> None:
    import yaml

    kept = text.encode("utf-8", "ignore").decode()
    assert yaml.load(f"a: [{_text(kept)}]", Loader=yaml.BaseLoader) == {"a": [kept]}
    assert yaml.load(f"a: {_text(kept)}  # comment", Loader=yaml.BaseLoader) == {"a": kept}


@pytest.mark.parametrize(
    "name",
    ["hancock/targets.csv", "hancock/pathological.csv", "hancock/icd_codes.csv", "miniacc/colData.csv", "hcv/hcvdat0.csv",  # noqa: E501
     "miniacc/miRNASeqGene.csv.gz", "cirrhosis_pbc/cirrhosis.csv", "tcga_lgg_vasari/TCGA_vasari_INFO.csv",
     "ovarian_soochow/Supplementary data 1.xlsx"],
)  # fmt: skip
def test_init_on_real_tables(data: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "cohort.yaml"
    assert init(data / "tables" / name, out).data["findings"] == []
    assert check(out).exit_code == DONE


def test_init_finds_the_labels_of_real_tables(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "cohort.yaml"
    init(data / "tables/hancock/targets.csv", out)
    labels = read_cohort(out).patients.labels
    assert np.bincount(labels["recurrence"].values).tolist() == [586, 177]
    assert load_yaml(out)["labels"]["recurrence"] == ["no", "yes"]


def test_check_gives_findings_and_exit_codes(made: Path) -> None:
    init(made)
    cohort = made.parent / "cohort.yaml"
    outcome = check(cohort)
    assert outcome.exit_code == FINDINGS
    problems = [row["finding"] for row in outcome.data["findings"] if row["level"] == "problem"]
    assert len(problems) == 4  # slides, CT, masks, images: none of the files is there
    assert all("no such file" in line for line in problems)
    for folder in ("slides", "ct", "us"):
        (made.parent / folder).mkdir()
    for i in range(40):
        for name in (f"slides/{i}.svs", f"ct/{i}.nii.gz", f"ct/{i}_mask.nii.gz", f"us/{i}_a.png", f"us/{i}_b.png"):
            (made.parent / name).touch()
    outcome = check(cohort)
    assert outcome.exit_code == DONE, outcome.message
    parts = {(row["kind"], row["name"]): row for row in outcome.rows}
    assert parts["modality", "slide"]["patients"] == 26
    assert parts["label", "relapse"]["what"] == "no: 20, yes: 10"
    assert check(cohort, made.parent / "nowhere").exit_code == FINDINGS


def test_check_of_a_missing_or_foreign_file_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such file"):
        check(tmp_path / "cohort.yaml")
    (tmp_path / "cohort.yaml").write_text("a: [1\nb: 2")
    with pytest.raises(RequestError, match="row 2: not valid YAML"):
        check(tmp_path / "cohort.yaml")
