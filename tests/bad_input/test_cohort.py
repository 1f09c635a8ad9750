"""`cohort init` and `cohort check` on what people really have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

LINES = {
    "cohort check none.yaml": "none.yaml: no such file; `mmcli cohort init",
    "cohort check mine": "mine: cannot be read (Is a directory)",
    "cohort check p.h5": "p.h5: not UTF-8 text; give the cohort's YAML file",
    "cohort init none.csv --out c.yaml": "none.csv: no such file",
    "cohort init slides/P002.tif --out c.yaml": "not a table that can be read",
    "cohort init patients.csv --out patients.csv --force": "is the table that is read",
    "cohort init patients.csv --out thesis.txt --force": "no cohort's YAML, so that not even --force replaces it",
    "cohort init patients.csv --out mine --force": "no cohort's YAML, so that not even --force replaces it",
    "cohort init patients.csv": "cohort.yaml: exists already; give another --out, or --force",
    "cohort init patients.csv --out thesis.txt/c.yaml": "cannot be written",
}


@pytest.mark.parametrize(("line", "message"), LINES.items(), ids=LINES)
def test_refused(line: str, message: str, refused: Callable[..., str]) -> None:
    refused(line, message)


def _csv(change: Callable[[str], str]) -> Callable[[str, str], tuple[str, str]]:
    return lambda table, yaml: (change(table), yaml)


def _yaml(old: str, new: str) -> Callable[[str, str], tuple[str, str]]:
    return lambda table, yaml: (table, yaml.replace(old, new))


FINDINGS = {
    "empty cohort": (_csv(lambda t: t.splitlines()[0] + "\n"), "no row under the header"),
    "empty file": (_csv(lambda t: ""), "the file is empty"),
    "duplicate ids": (_csv(lambda t: t + "\n".join(t.splitlines()[1:2]) + "\n"), "the id 'P001' stands 2 times"),
    "no id": (_csv(lambda t: t.replace("\nP003,", "\n,")), "row 4, column patient_id: no id"),
    "one patient": (_csv(lambda t: "\n".join(t.splitlines()[:2])), "fewer than n: 3 folds"),
    "a label that is no class": (_csv(lambda t: t.replace(",no,", ",nan,")), "column relapse: 'nan' is not a class"),
    "a missing file": (_csv(lambda t: t.replace("slides/P002", "slides/none")), "row 3, column slide_path: no such"),
    "a short row": (_csv(lambda t: t + "P999,x\n"), "2 cells where the header has 16"),
    "unknown column": (_yaml("path: slide_path", "path: slide_pth"), "did you mean 'slide_path'?"),
    "unknown key": (_yaml("labels:", "lables:"), "did you mean 'labels'?"),
    "a slash in a name": (_yaml("  ct: {", "  c/t: {"), "key modalities.c/t: a name is letters, digits"),
    "an unknown kind": (_yaml("kind: volume", "kind: mesh"), "must be slide, volume, image or table"),
    "too many folds": (_yaml("n: 3", "n: 100"), "fewer than n: 100 folds"),
    "stratify by nothing": (_yaml("stratify: relapse", "stratify: relaps"), "did you mean 'relapse'?"),
}


@pytest.mark.parametrize(("change", "finding"), FINDINGS.values(), ids=FINDINGS)
def test_findings(change: Callable, finding: str, work: Path, tmp_path: Path, say: Callable) -> None:
    table, yaml = change((work / "patients.csv").read_text(), (work / "cohort.yaml").read_text())
    (tmp_path / "patients.csv").write_text(table)
    (tmp_path / "cohort.yaml").write_text(yaml)
    code, out, err = say(f"cohort check {tmp_path}/cohort.yaml --root {work}")
    assert (code, err) == (5, "")
    assert finding in out
    code, out, err = say(f"preprocess {tmp_path}/cohort.yaml --root {work} --out {tmp_path}/x.h5 --quiet")
    if "slides/none" in table:  # that is one patient's failure, not the cohort's
        assert code == 3
    else:
        assert (code, out) == (2, "")
        assert finding in err
        assert not (tmp_path / "x.h5").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("\n", "\r\n").encode(),
        lambda t: b"\xef\xbb\xbf" + t.encode(),
        lambda t: t.replace(",", ";").encode(),
        lambda t: t.encode("utf-16"),
    ],
    ids=["crlf", "bom", "semicolons", "utf-16"],
)
def test_tables_as_other_programs_write_them(change: Callable, work: Path, tmp_path: Path, say: Callable) -> None:
    folder = tmp_path / "Universitäts klinikum ü"
    folder.mkdir()
    (folder / "patients.csv").write_bytes(change((work / "patients.csv").read_text()))
    (folder / "cohort.yaml").write_text((work / "cohort.yaml").read_text())
    code, out, _ = say("cohort check --json --root", str(work), str(folder / "cohort.yaml"))
    assert code == 0
    assert json.loads(out)["summary"][0]["patients"] == 12


def test_one_class_is_a_warning(work: Path, tmp_path: Path, say: Callable) -> None:
    (tmp_path / "patients.csv").write_text((work / "patients.csv").read_text().replace(",no,", ",yes,"))
    (tmp_path / "cohort.yaml").write_text((work / "cohort.yaml").read_text())
    code, out, _ = say(f"cohort check {tmp_path}/cohort.yaml --root {work}")
    assert code == 0
    assert "column relapse: one class only ('yes')" in out
