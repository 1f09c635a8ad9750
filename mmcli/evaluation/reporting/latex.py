"""tables.tex: a booktabs table a task, runs as rows, to be included in a paper.

Nothing is set in bold: whether the highest figure is more than the others is what the comparisons say, not a typeface.
"""

from __future__ import annotations

import math

from mmcli.evaluation.reporting.says import BY_FORMULA, KINDS
from mmcli.evaluation.reporting.shown import Row, grouped, limits, main_metrics, number, records, title, who
from mmcli.evaluation.reporting.summary import Asked, Task, asked, summarise
from mmcli.evaluation.result import Result

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}", "`": r"\textasciigrave{}",
    "−": r"$-$", "–": r"--", "±": r"$\pm$", "·": r"$\cdot$", "∞": r"$\infty$", "“": "``", "”": "''", "\u202f": r"\,",
    "[": "{[}", "]": "{]}",
}  # fmt: skip


def escape(words: str) -> str:
    """Any text, as LaTeX sets it as it stands; control characters become spaces."""
    return "".join(SPECIAL.get(c, c if c.isprintable() else " ") for c in words)


def tables(result: Result) -> str:
    """All of tables.tex. Needs booktabs and, for names beyond ASCII, a UTF-8 LaTeX (any since 2018)."""
    how = asked(result)
    said = [
        "% Made by mmcli. In the preamble: \\usepackage{booktabs} \\usepackage{textcomp} \\usepackage[T1]{fontenc}",
        *[_table(result, task, how, i) for i, task in enumerate(summarise(result).tasks, 1)],
    ]
    return "\n".join(said)


def _table(result: Result, task: Task, how: Asked, index: int) -> str:
    found = records(result.metrics, task=task.name)
    metrics = main_metrics(task.classes, task.ordinal, [r["metric"] for r in found])
    lines = []
    for (run, variant, n), own in grouped(found, "run", "variant", "n").items():
        values = [_value(own.get(m)) for m in metrics]
        below = [escape(limits(own[m])) if m in own else "" for m in metrics]
        lines.append(" & ".join([escape(who(run, variant)), str(n), *values]) + r" \\")
        if any(below):
            lines.append(" & ".join(["", "", *[rf"{{\scriptsize {b}}}" if b else "" for b in below]]) + r" \\[2pt]")
    heads = " & ".join(["Run", "$n$", *[escape(title(m)) for m in metrics]])
    classes = ", ".join(f"{escape(c)} {n}" for c, n in task.per_class.items())
    brackets = ""
    if how.bootstrap:
        formula = f"; {BY_FORMULA}" if how.formula_first else ""
        brackets = (
            f" In brackets {escape(how.level)} {KINDS[how.drawn_kind]} intervals of {how.resamples} bootstrap "
            f"resamples of {escape(how.unit)}{escape(formula)}."
        )
    elif any(not math.isnan(r["analytic_low"]) for r in found):
        brackets = f" In brackets {escape(how.level)} intervals by formula."
    caption = f"{escape(task.name)}: pooled figures of {task.patients} patients ({classes}).{brackets}"
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:mmcli-{index}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(metrics) + 1)}}}",
            r"\toprule",
            heads + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _value(row: Row | None) -> str:
    return "--" if row is None else escape(number(row["value"]))
