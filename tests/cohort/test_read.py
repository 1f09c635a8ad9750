"""Reading a cohort: what is right is read, what is wrong is said, all at once."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from mmcli.cohort import BagSpec, Cohort, CohortError, TableSpec, examine_cohort, read_cohort
from mmcli.errors import RequestError
from mmcli.store.parts import TEST, TRAIN, VALIDATION

PATIENTS = "patient_id,site,stage,relapse,split,slide_path,mpp,ct_path,ct_mask,afp,grade,sex\n" + "".join(
    f"{i:03d},s{i % 10},{['I', 'II', 'III'][i % 3]},{['no', 'yes', 'unknown'][i % 3]},{['train', 'test'][i % 10 > 7]},"
    f"slides/{i}a.svs;slides/{i}b.svs,0.25;0.5,ct/{i}.nii,,{i}.5,{['G1', 'G2', ''][i % 3]},{'mf'[i % 2]}\n"
    for i in range(30)
)
YAML = """\
patients: patients.csv                 # paths are relative to this file
id: patient_id
group: site
labels:
  stage:   [I, II, III]
  relapse: {classes: [no, yes], unlabelled: ["", unknown]}
folds:
  cv:        {n: 5, repeats: 2, stratify: relapse, validation: 0.2, seed: 0}
  published: {column: split}
modalities:
  slide:    {kind: slide, path: slide_path, mpp: mpp}
  ct:       {kind: volume, path: ct_path, mask: ct_mask}
  markers:  {kind: table, columns: [afp, grade, sex], ordinal: {grade: [G1, G2, G3]}, units: {afp: ng/ml}}
  mrna:     {kind: table, file: mrna.csv}
"""
MRNA = "patient_id,TP53,EGFR\n" + "".join(f"{i:03d},{i}.25,{-i}\n" for i in reversed(range(5, 30))) + "999,1,1\n"


def cohort_in(folder: Path, yaml: str = YAML, patients: str = PATIENTS, mrna: str = MRNA) -> Path:
    (folder / "cohort.yaml").write_text(yaml)
    (folder / "patients.csv").write_text(patients)
    (folder / "mrna.csv").write_text(mrna)
    return folder / "cohort.yaml"


def read(folder: Path, **content: str) -> Cohort:
    return read_cohort(cohort_in(folder, **content), paths="ignore")


def problems(folder: Path, **content: str) -> list[str]:
    with pytest.raises(CohortError) as caught:
        read(folder, **content)
    assert caught.value.exit_code == 2
    return [line.replace(f"{folder}/", "") for line in caught.value.problems]


def test_a_published_split_may_draw_its_validation_several_times(tmp_path: Path) -> None:
    yaml = YAML.replace("{column: split}", "{column: split, repeats: 3}")
    roles = read(tmp_path, yaml=yaml).patients.folds["published"]
    assert roles.shape == (30, 3) and ((roles == 3) == (roles[:, :1] == 3)).all()
    assert len({tuple(column) for column in roles.T}) == 3
    given = PATIENTS.replace(",train,", ",validation,", 1).replace("000,s0", "000,s000")
    (line,) = problems(tmp_path, yaml=yaml.replace("group: site\n", ""), patients=given)
    assert "has validation patients, so that repeats: 3 would all be the same; leave repeats out" in line


def test_the_cohort_of_the_design(tmp_path: Path) -> None:
    cohort = read(tmp_path)
    patients = cohort.patients
    assert patients.ids[:2] == ["000", "001"] and patients.group is not None and patients.group[11] == "s1"
    assert patients.labels["relapse"].classes == ["no", "yes"]
    assert patients.labels["relapse"].values[:4].tolist() == [0, 1, -1, 0]
    assert patients.labels["stage"].values[:4].tolist() == [0, 1, 2, 0]
    assert patients.folds["cv"].shape == (30, 10) and patients.folds["published"].shape == (30, 1)
    slide, ct = cohort.modalities["slide"], cohort.modalities["ct"]
    assert isinstance(slide, BagSpec) and isinstance(ct, BagSpec)
    assert [(f.path, f.shown, f.mpp) for f in slide.files[3]] == [
        (tmp_path / "slides/3a.svs", "slides/3a.svs", 0.25),
        (tmp_path / "slides/3b.svs", "slides/3b.svs", 0.5),
    ]
    assert ct.files[0][0].mask is None
    mrna = cohort.modalities["mrna"]
    assert isinstance(mrna, TableSpec) and mrna.columns == ["TP53", "EGFR"]
    assert mrna.present.tolist() == [False] * 5 + [True] * 25
    assert mrna.typed.values[7].tolist() == [7.25, -7] and mrna.rows[29] == 2
    assert cohort.files == [tmp_path / n for n in ("cohort.yaml", "patients.csv", "mrna.csv")]
    assert any("1 ids are not patients of the cohort" in w and "'999'" in w for w in cohort.warnings)


def test_classes_are_text_as_written(tmp_path: Path) -> None:
    for shown, expected in (
        ("[no, yes]", ["no", "yes"]),
        ("[0, 1]", ["0", "1"]),
        ("[01, 1_0, 1.0]", ["01", "1_0", "1.0"]),
        ("[on, Off, null, ~, 2020-01-01]", ["on", "Off", "null", "~", "2020-01-01"]),
    ):
        text = "id,x\n" + "".join(f"{k}{i},{c}\n" for k in range(5) for i, c in enumerate(expected))
        yaml = f"patients: patients.csv\nid: id\nlabels:\n  x: {shown}\n"
        assert read(tmp_path, yaml=yaml, patients=text).patients.labels["x"].classes == expected


def test_roles_keep_groups_and_a_fifth_of_train_validates(tmp_path: Path) -> None:
    patients = read(tmp_path).patients
    assert patients.group is not None
    for roles in patients.folds.values():
        for k in range(roles.shape[1]):
            by_site = {(g, int(r)) for g, r in zip(patients.group, roles[:, k], strict=True)}
            assert len(by_site) == 10
    published = patients.folds["published"][:, 0]
    assert (published == TEST).sum() == 6 and (published == VALIDATION).sum() in (3, 6) and (published == TRAIN).any()


def test_default_folds_and_no_labels(tmp_path: Path) -> None:
    yaml = "patients: patients.csv\nid: patient_id\nlabels: {stage: [I, II, III]}\n"
    folds = read(tmp_path, yaml=yaml).patients.folds
    assert list(folds) == ["cv"] and folds["cv"].shape == (30, 5)
    assert [[(folds["cv"][c::3, k] == TEST).sum() for c in range(3)] for k in range(5)] == [[2, 2, 2]] * 5
    bare = read(tmp_path, yaml="patients: patients.csv\nid: patient_id\n").patients
    assert bare.folds == {} and bare.labels == {} and bare.group is None


def test_another_column_changes_no_fold(tmp_path: Path) -> None:
    before = read(tmp_path).patients.folds
    wider = "\n".join(f"{line},{i}" for i, line in enumerate(PATIENTS.splitlines()))
    after = read(tmp_path, patients=wider).patients.folds
    assert all((before[name] == after[name]).all() for name in before)


def test_everything_wrong_at_once(tmp_path: Path) -> None:
    lines = PATIENTS.splitlines()
    lines[4] = lines[4].replace("003,", "002,").replace("I,no", "IX,maybe")
    lines[6] = lines[6].replace("005,", ",", 1)
    lines[8] = lines[8].replace("0.25;0.5", "fine;0.5").replace("7.5", "high")
    yaml = YAML.replace("path: ct_path", "path: ct_pth").replace("mrna.csv", "mrna2.csv")
    found = problems(tmp_path, patients="\n".join(lines), yaml=yaml)
    expected = [
        "patients.csv, row 7, column patient_id: no id",
        "patients.csv, rows 4, 5, column patient_id: the id '002' stands 2 times",
        "patients.csv, row 5, column stage: 'IX' is not a class (I, II, III)",
        "patients.csv, row 5, column relapse: 'maybe' is not a class (no, yes)",
        "patients.csv, row 9, column mpp: 'fine': not µm per pixel",
        "cohort.yaml, key modalities.ct.path: patients.csv has no column 'ct_pth'; did you mean 'ct_path'?",
        "patients.csv, row 9, column afp: text in a column of numbers: 'high'",
        "mrna2.csv: no such file",
    ]
    assert len(found) == len(expected)
    assert all(any(line.startswith(start) for line in found) for start in expected), found


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("group:", "groups:", "cohort.yaml, key groups: unknown key; did you mean 'group'?"),
        ("mpp: mpp", "mppx: mpp", "key modalities.slide.mppx: unknown key; did you mean 'mpp'?"),
        ("seed: 0", "seeds: 0", "key folds.cv.seeds: unknown key; did you mean 'seed'?"),
        ("{column: split}", "{column: split, n: 3}", "key folds.published.n: unknown key"),
        ("unlabelled:", "unlabeled:", "key labels.relapse.unlabeled: unknown key; did you mean 'unlabelled'?"),
        ("kind: volume", "kind: volumes", "key modalities.ct: kind: must be slide, volume, image or table"),
        ("validation: 0.2", "validation: 0", "key folds.cv.validation: a share between 0 and 1"),
        ("n: 5", "n: five", "key folds.cv.n:"),
        ("id: patient_id\n", "", "key id: missing"),
        ("[I, II, III]", "[I, II, II]", "key labels.stage: the class 'II' stands twice"),
        ("[I, II, III]", "[I]", "key labels.stage.classes:"),
        ("stratify: relapse", "stratify: relapsed", "key folds.cv.stratify: 'relapsed' is not a label; did you mean"),
        ("[afp, grade, sex]", "[afp, grad, sex]", "key modalities.markers.columns: patients.csv has no column 'grad'"),
        ("[afp, grade, sex]", "[afp, grade, patient_id]", "key modalities.markers.columns: 'patient_id' is the id"),
        ("{grade: [G1, G2, G3]}", "{grad: [G1, G2, G3]}", "key modalities.markers.ordinal: 'grad' is not among"),
        ("[G1, G2, G3]", "[G2, G3]", "column grade: 'G1' not in the order G2, G3"),
        ("columns: [afp, grade, sex], ", "", "key modalities.markers: name its columns:"),
        ("group: site", "group: stage", "the group 'I' is in train and test"),
        ("column: split", "column: sex", "column sex: 'm' is not a role"),
        ("n: 5", "n: 11", "the class 'no' of relapse has 10 patients, fewer than n: 11 folds"),
        ("  slide: ", "  sl/ide: ", "key modalities.sl/ide: a name is"),
        ("mask: ct_mask", "mask: grade", "no such file"),
    ],
)
def test_each_problem_names_its_key_or_row(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in YAML
    path = cohort_in(tmp_path, YAML.replace(old, new))
    # Paths are checked only where that is asked: the other lines must do without.
    _, findings = examine_cohort(path, paths="check" if message == "no such file" else "ignore")
    found = [line.replace(f"{tmp_path}/", "") for line in findings.problems]
    assert any(message in line for line in found), found
    assert all("\n" not in line for line in found)


def test_paths_that_do_not_exist(tmp_path: Path) -> None:
    path = cohort_in(tmp_path)
    with pytest.raises(CohortError) as caught:
        read_cohort(path)
    slides, ct = caught.value.problems
    assert "rows 2, 3, 4, 5, 6 and 25 more, column slide_path: no such file: 'slides/0a.svs'" in slides
    assert "column ct_path" in ct and str(caught.value).startswith(f"{path}: 2 problems\n")
    elsewhere = tmp_path / "elsewhere"
    for folder in ("slides", "ct"):
        (elsewhere / folder).mkdir(parents=True)
    for i in range(30):
        for name in (f"slides/{i}a.svs", f"slides/{i}b.svs", f"ct/{i}.nii"):
            (elsewhere / name).touch()
    slide = read_cohort(path, elsewhere).modalities["slide"]
    assert isinstance(slide, BagSpec) and slide.files[0][0].path == elsewhere / "slides/0a.svs"


@pytest.mark.parametrize(
    ("patients", "message"),
    [
        ("", "patients.csv: the file is empty"),
        ("patient_id,stage\n", "no row under the header"),
        ("patientid,stage\n1,I\n", "key id: patients.csv has no column 'patient_id'; did you mean 'patientid'?"),
    ],
)
def test_empty_cohorts(tmp_path: Path, patients: str, message: str) -> None:
    assert any(message in line for line in problems(tmp_path, patients=patients))


def test_one_class_only_is_a_warning(tmp_path: Path) -> None:
    yaml = "patients: patients.csv\nid: id\nlabels: {y: [no, yes]}\n"
    one = "id,y\n" + "".join(f"{i},no\n" for i in range(20))
    assert any("one class only ('no')" in w for w in read(tmp_path, yaml=yaml, patients=one).warnings)
    # By default nobody is refused for want of folds: new patients need none.
    few = read(tmp_path, yaml=yaml, patients="id,y\n1,no\n2,yes\n3,\n")
    assert few.patients.folds == {} and any("no fold set is made" in w for w in few.warnings)


def test_long_table_of_files_and_uneven_cells(tmp_path: Path) -> None:
    yaml = "patients: patients.csv\nid: id\nmodalities:\n  slide: {kind: slide, file: mrna.csv, path: p, mpp: m}\n"
    patients = "id\na\nb\nc\n"
    cohort = read(tmp_path, yaml=yaml, patients=patients, mrna="id,p,m\na,1.svs,0.5\nc,2.svs,\na,3.svs;4.svs,0.25\n")
    slide = cohort.modalities["slide"]
    assert isinstance(slide, BagSpec)
    assert [[(f.shown, f.mpp) for f in mine] for mine in slide.files] == [
        [("1.svs", 0.5), ("3.svs", 0.25), ("4.svs", 0.25)],
        [],
        [("2.svs", None)],
    ]
    (line,) = problems(tmp_path, yaml=yaml, patients=patients, mrna="id,p,m\na,1.svs;2.svs;3.svs,0.5;0.25\n")
    assert "row 2, column m: not as many as there are paths" in line
    (line,) = problems(tmp_path, yaml=yaml, patients=patients, mrna="id,p,m\nA,1.svs,0.5\n")
    assert "none of its 1 ids is a patient of the cohort ('A' here, 'a' there)" in line
    shared = read(tmp_path, yaml=yaml, patients=patients, mrna="id,p,m\na,1.svs,\nb,1.svs,\n")
    assert any("1 files belong to several patients" in w for w in shared.warnings)


def test_a_label_among_the_features_is_warned_of(tmp_path: Path) -> None:
    cohort = read(tmp_path, yaml=YAML.replace("[afp, grade, sex]", "[afp, grade, stage]"))
    assert any("column 'stage' is a label too" in w for w in cohort.warnings)


@pytest.mark.parametrize(
    ("text", "message"),
    [("id: a\nid: b\n", "row 2: not valid YAML: the key 'id' stands twice"), ("[", "not valid YAML"), ("- a", "must hold keys"),  # noqa: E501
     ("", "must hold keys"), ("? [a, b]\n: c", "not valid YAML|must hold|unknown key")],
)  # fmt: skip
def test_yaml_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "cohort.yaml").write_text(text)
    with pytest.raises(RequestError, match=message):
        read_cohort(tmp_path / "cohort.yaml")
    with pytest.raises(RequestError, match="no such file"):
        read_cohort(tmp_path / "other.yaml")


def test_ten_thousand_patients_are_read_in_two_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    header = "id,site,y,p," + ",".join(f"x{j}" for j in range(40))
    values = rng.normal(size=(10_000, 40)).round(3).astype(str)
    body = "\n".join(f"P{i},s{i % 50},{'ab'[i % 2]},f{i}.svs,{','.join(values[i])}" for i in range(10_000))
    columns = ", ".join(f"x{j}" for j in range(40))
    yaml = (
        "patients: patients.csv\nid: id\ngroup: site\nlabels: {y: [a, b]}\nfolds: {cv: {repeats: 5, stratify: y}}\n"
        f"modalities:\n  slide: {{kind: slide, path: p}}\n  t: {{kind: table, columns: [{columns}]}}\n"
    )
    path = cohort_in(tmp_path, yaml, f"{header}\n{body}\n")
    start = time.process_time()
    cohort, findings = examine_cohort(path)
    # Twice what it takes on a busy machine; a loop over patients in pandas would take minutes.
    assert time.process_time() - start < 6
    assert cohort is None and len(findings.problems) == 1
