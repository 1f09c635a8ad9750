"""Every command of the README runs; its file examples are what the code reads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import yaml

from mmcli.cohort.schema import TableKeys
from mmcli.demo import make_cohort

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_install_commands_name_what_exists() -> None:
    """CI runs the second one itself; both must name extras and scripts that the project has."""
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    demo, tests = blocks("sh")
    assert demo.strip() == "python3 -m venv .venv && .venv/bin/pip install '.[weights]' && .venv/bin/mmcli demo"
    assert tests.strip() == "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/python -m pytest"
    assert {"weights", "test", "dev"} <= set(project["optional-dependencies"])
    assert "mmcli" in project["scripts"]


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's tour, run line by line in a folder that has patients.csv and its files, but no cohort.yaml."""
    folder = tmp_path_factory.mktemp("tour")
    make_cohort(folder, 40, seed=1, quiet=True).unlink()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    (script,) = blocks("sh tour")
    for line in script.strip().splitlines():
        done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
    return folder


def test_the_tour_ends_with_a_report_and_predictions(tour: Path) -> None:
    assert (tour / "report" / "report.html").stat().st_size > 1000
    header, *rows = (tour / "predictions.csv").read_text().splitlines()
    assert header.startswith("patient_id,") and len(rows) == 40


def test_imputing_evaluating_and_pixels_run(tour: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for line in "".join(blocks("sh impute") + blocks("sh evaluate") + blocks("sh pixels")).strip().splitlines():
        done = subprocess.run(["bash", "-c", line], cwd=tour, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert (tour / "imputers" / "benchmark.csv").is_file()
    assert (tour / "report-subgroups" / "subgroups.csv").is_file()
    assert (tour / "report-withheld" / "withheld.csv").is_file()
    assert (tour / "report-screening" / "report.html").is_file()
    assert (tour / "back.h5").is_file() and list((tour / "lesions.pictures" / "ct").glob("*.jpg"))


def test_the_notebook_example_runs() -> None:
    import numpy as np
    import pandas as pd

    generator = np.random.default_rng(0)
    label = generator.integers(2, size=60)
    ids = [f"P{i}" for i in range(60)]
    tables = {}
    for name, strength in (("ours", 1.5), ("theirs", 0.5)):
        p = 1 / (1 + np.exp(-generator.normal(strength * (label - 0.5))))
        columns = {"patient_id": ids, "label": np.array(["no", "yes"])[label], "p_no": 1 - p, "p_yes": p}
        tables[name] = pd.DataFrame(columns)
    found = {**tables, "patients": pd.DataFrame({"patient_id": ids, "sex": generator.choice(["f", "m"], 60)})}
    (example,) = blocks("python notebook")
    exec(compile(example, "README.md", "exec"), found)
    result = found["result"]
    assert set(result.metrics["run"]) == {"ours", "theirs"}
    assert set(result.subgroups["subgroup"]) == {"f", "m"}
    assert {"run", "metric", "value", "low", "high"} <= set(result.metrics.columns)
    assert len(result.comparisons) and len(result.conformal) == 0


def test_the_python_example_reads_the_store(tour: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tour)
    (example,) = blocks("python")
    found: dict = {}
    exec(compile(example, "README.md", "exec"), found)
    assert len(found["ids"]) == len(found["roles"]) == 40
    assert found["bag"].shape == (found["offsets"][1], 1280)
    assert found["markers"].shape == (40, 9)
    assert isinstance(found["store"], h5py.File)


def test_the_cohort_example_is_read(tmp_path: Path) -> None:
    from mmcli.cohort import read_cohort

    (example,) = blocks("yaml")
    (tmp_path / "cohort.yaml").write_text(example)
    rows = ["patient_id,site,relapse,split,slide_path,mpp,ct_path,ct_mask,afp,cea,grade"]
    for i in range(40):
        relapse = ["no", "yes", "unknown"][i % 3]
        rows.append(f"P{i},s{i % 9},{relapse},{['train', 'test'][i % 9 < 2]},,,,,{i},{2 * i},G{i % 3 + 1}")
    (tmp_path / "patients.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "mrna.csv").write_text("patient_id,g1,g2\n" + "".join(f"P{i},{i},{i * i}\n" for i in range(30)))
    cohort = read_cohort(tmp_path / "cohort.yaml")
    assert list(cohort.modalities) == ["slide", "ct", "markers", "mrna"]
    assert cohort.patients.folds["cv"].shape == (40, 25) and cohort.patients.folds["published"].shape == (40, 5)


def test_the_readers_page_shows_a_table_as_the_cohort_takes_it() -> None:
    page = (ROOT / "mmcli" / "readers" / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    keys = TableKeys(**yaml.safe_load(example)["clinical"])
    assert keys.limits["psa"] == (0, 5000) and keys.dates["birth"].name == "age"
