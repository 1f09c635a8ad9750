"""The command line: what it imports, how it parses, what it says when the request is wrong."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mmcli import cli
from mmcli.settings import SETTINGS

DESIGN_LINES = """
mmcli preprocess cohort.yaml --out prepared.h5
mmcli extract-features prepared.h5 --encoder slide=resnet50 --weights slide=resnet50.safetensors --encoder ct=resnet3d_18 --weights ct=resnet_18.pth --out features.h5
mmcli impute prepared.h5 --table markers --method cyclegan --folds cv --out imputed.h5
mmcli train-teacher features.h5 imputed.h5 --label relapse --folds cv --seeds 0-4 --imputer cyclegan --method mmfusion --out runs/teacher
mmcli distill features.h5 imputed.h5 --teacher runs/teacher --modalities ct --method bidirectional --out runs/student
mmcli train-guide features.h5 --label stage,relapse --superior slide --inferior ct --method deep-guide --out runs/guide
mmcli evaluate runs/teacher runs/student runs/guide --bootstrap-ci --out report
mmcli predict runs/student new-features.h5 --out predictions.csv
"""  # noqa: E501
DESIGN = [shlex.split(line) for line in DESIGN_LINES.strip().splitlines()]


def mmcli(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "mmcli", *arguments], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("arguments", [["--help"], ["train-teacher", "--help"], ["store", "import", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; sys.argv[1:] = sys.argv[1:]\n"
        "from mmcli.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n"
        "    heavy = set('torch pandas sklearn matplotlib scipy timm h5py numpy'.split()) & set(sys.modules)\n"
        "    print('HEAVY', sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout
    assert "Usage: " in done.stdout


def test_every_command_has_help_with_a_worked_example() -> None:
    for name in SETTINGS:
        done = mmcli(*name.split(), "--help")
        assert done.returncode == 0, done.stderr
        assert f"Example: mmcli {name}" in " ".join(done.stdout.split())


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list:
    """Commands stop after parsing: what they would have run is collected."""
    calls: list = []
    monkeypatch.setattr(cli, "_run_stage", lambda module, settings: calls.append(settings))
    return calls


@pytest.mark.parametrize("line", DESIGN, ids=lambda line: line[1])
def test_the_lines_of_the_design_parse(line: list[str], parsed: list) -> None:
    assert cli._guarded(line[1:]) == 0
    assert parsed[0].command == line[1]


def test_values_arrive(parsed: list) -> None:
    for line in DESIGN:
        assert cli._guarded(line[1:]) == 0
    extract, impute, teacher, guide, evaluate = (parsed[i] for i in (1, 2, 3, 5, 6))
    assert extract.encoder == {"slide": "resnet50", "ct": "resnet3d_18"}
    assert extract.weights == {"slide": "resnet50.safetensors", "ct": "resnet_18.pth"}
    assert (impute.table, impute.method, impute.folds, impute.stores) == (
        "markers",
        "cyclegan",
        "cv",
        [Path("prepared.h5")],
    )
    assert teacher.seeds == [0, 1, 2, 3, 4] and teacher.stores == [Path("features.h5"), Path("imputed.h5")]
    assert guide.label == ["stage", "relapse"] and (guide.superior, guide.inferior) == ("slide", "ct")
    assert evaluate.bootstrap_ci is True and [r.name for r in evaluate.runs] == ["teacher", "student", "guide"]


def test_settings_file_gives_options_and_the_command_line_wins(parsed: list, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(
        "seeds: 0-2\nout: runs/a\nlabel: relapse\nset: {lr: 0.1, dropout: [1, 2]}\ndry-run: true\n"
        "train-teacher:\n  method: late\n  stores: [a.h5]\nevaluate: {resamples: 5}\n"
    )
    assert cli._guarded(["train-teacher", "-c", str(file), "--seeds", "7", "b.h5"]) == 0
    got = parsed[0]
    assert (got.seeds, got.method, got.label, got.dry_run) == ([7], "late", ["relapse"], True)
    assert got.set == {"lr": "0.1", "dropout": "1,2"} and got.stores == [Path("b.h5")]


WRONG = {
    ("train-teacher", "a.h5"): "--out is missing",
    ("train-teacher", "a.h5", "--out", "r", "--seeds", "4-0"): "--seeds: the range '4-0' runs backwards; write 0-4",
    ("train-teacher", "a.h5", "--out", "r", "--seeds", "many"): "'many' is neither a number nor a range",
    ("train-teacher", "a.h5", "--out", "r", "--sead", "1"): "No such option: --sead",
    ("train-teacher", "a.h5", "--out", "r", "--set", "lr=1", "--set", "lr=2"): "'lr' is given twice",
    ("train-teacher", "a.h5", "--out", "r", "--set", "lr="): "'lr=' has no value",
    ("train-teacher", "a.h5", "--out", "r", "--device", "tpu"): "--device: input should be 'auto', 'cpu' or 'cuda'",
    ("train-teachr",): "No such command 'train-teachr'",
    ("preprocess", "none.yaml", "--out", "p.h5"): "none.yaml",
    ("extract-features", "none.h5", "--encoder", "slide=resnet50", "--out", "f.h5"): "none.h5: no such feature store",
    ("impute", "none.h5", "--table", "t", "--out", "i.h5"): "none.h5: no such feature store",
    ("train-teacher", "none.h5", "--label", "y", "--out", "r"): "none.h5: no such feature store",
    ("train-guide", "none.h5", "--label", "y", "--superior", "a", "--inferior", "b", "--out", "r"): "none.h5: no such",
    ("evaluate", "none", "--out", "report"): "none",
    ("predict", "none", "none.h5", "--out", "p.csv"): "none",
    ("store", "info", "none.h5"): "none.h5: no such feature store",
    ("cohort", "check", "none.yaml"): "none.yaml",
    ("cohort", "init", "none.csv"): "none.csv",
    ("methods", "atention"): "did you mean 'attention'?",
    ("imputers", "mise"): "did you mean 'mice'?",
}


@pytest.mark.parametrize(
    ("arguments", "message"), WRONG.items(), ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else ""
)
def test_a_wrong_request_is_one_line_and_exit_code_2(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = mmcli(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_wrong_settings_files(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    for text, message in {"a: [": "not YAML", "- 1": "option: value", "sede: 1": "did you mean 'seed'?"}.items():
        file.write_text(text)
        done = mmcli("demo", "--settings", str(file))
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert message in done.stderr


def test_no_command_shows_help() -> None:
    done = mmcli()
    assert "Usage: " in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_version() -> None:
    from mmcli import __version__

    assert mmcli("--version").stdout == f"mmcli {__version__}\n"


def test_shell_completion() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mmcli"], capture_output=True, text=True,
        env={"_MMCLI_COMPLETE": "complete_bash", "COMP_WORDS": "mmcli train-", "COMP_CWORD": "1"},
    )  # fmt: skip
    assert set(done.stdout.split()) == {"train-teacher", "train-guide"}
