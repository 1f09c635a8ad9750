"""tables.tex: balanced, escaped, and of as many columns as it says. (TeX itself where it is installed.)"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcli.evaluation.reporting.latex import escape, tables
from mmcli.evaluation.reporting.shown import number, records
from mmcli.evaluation.result import Result

HOSTILE = "\\input{/etc/passwd} {a & b} 100% $x_1^2$ ~#<>|\"'`\n\\end{table}"


def check(text: str) -> None:
    """Braces and environments are balanced, every row has the columns that its table declares."""
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    open_environments = []
    columns = 0
    for line in lines:
        bare = re.sub(r"\\[{}&%$#_]", "", line)
        depth = 0
        for c in bare:
            depth += {"{": 1, "}": -1}.get(c, 0)
            assert depth >= 0, line
        assert depth == 0, line
        assert bare.count("$") % 2 == 0, line
        assert not re.search(r"[%#~^\"]", bare), line
        for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", line):
            if kind == "begin":
                open_environments.append(name)
            else:
                assert open_environments.pop() == name
        if found := re.match(r"\\begin\{tabular\}\{([lr]+)\}", line):
            columns = len(found[1])
        elif "tabular" in open_environments and re.search(r"\\\\(\[2pt\])?$", line):
            assert bare.count("&") == columns - 1, line
        else:
            assert "&" not in bare, line
    assert not open_environments


def test_every_figure_and_no_bold(large: Result) -> None:
    text = tables(large)
    check(text)
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 2
    for r in records(large.metrics):
        if r["metric"] in ("auc", "balanced_accuracy", "brier"):
            assert number(r["value"]) in text
            assert f"{{[}}{number(r['low'])}, {number(r['high'])}{{]}}" in text
    assert "textbf" not in text
    assert r"95 \% percentile intervals of 2000 bootstrap resamples of patients" in text


def test_names_are_set_as_they_stand(make: Callable[..., Result]) -> None:
    text = tables(make([HOSTILE, "student_1"], {"re_lapse & co": ("no", "100%")}))
    check(text)
    assert "\\input" not in text
    assert r"student\_1" in text
    assert r"\caption{re\_lapse \& co: pooled figures of 96 patients (no 52, 100\% 44)" in text
    assert r"\textbackslash{}input\{/etc/passwd\}" in text


@given(st.text(max_size=40))
def test_any_text_is_escaped(words: str) -> None:
    bare = re.sub(r"\\(textbackslash|textasci\w+|textless|textgreater|textbar|textquote\w+)\{\}|\\[{}&%$#_,]", "",
                  escape(words))  # fmt: skip
    bare = bare.replace("{[}", "").replace("{]}", "")
    bare = re.sub(r"\$(-|\\pm|\\cdot|\\infty)\$", "", bare)
    assert not re.search(r"[\\{}&%$#_^~\n\r\x00-\x1f]", bare)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX here")
def test_tex_compiles_it(large: Result, tmp_path: Path) -> None:
    document = (
        "\\documentclass{article}\\usepackage{booktabs}\\usepackage{textcomp}\\usepackage[T1]{fontenc}\n"
        f"\\begin{{document}}\n{tables(large)}\\end{{document}}\n"
    )
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    subprocess.run(["pdflatex", "-halt-on-error", "paper.tex"], cwd=tmp_path, check=True, timeout=60)
