"""The page's tables of one task: figures, parts, classes, comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mmcli.evaluation.reporting.elements import Html, Rows, details, figures, join, table
from mmcli.evaluation.reporting.says import BY_FORMULA, KINDS, PARTS
from mmcli.evaluation.reporting.shown import (
    FORMULAS,
    TESTS,
    THREE,
    Row,
    about,
    best,
    chunks,
    grouped,
    limits,
    number,
    p_text,
    records,
    title,
    who,
)
from mmcli.evaluation.reporting.summary import Asked, Task
from mmcli.evaluation.result import Result

ABOUT = {"ranking": "ranking", "decisions": "decisions", "calibration": "calibration and overall error"}
# Columns that an A4 page holds beside the run's name.
COLUMNS = 7
Head = str | tuple[str, str]


def cell(row: Row | None, signed: bool = False, kind: str = "", more: str = "") -> Html:
    """A figure with its interval below it."""
    if row is None:
        return figures("–")
    return figures(number(row["value"], signed), limits(row, signed), more, kind=kind)


def heads(metrics: Sequence[str]) -> list[Head]:
    """Each metric's name, and below it which way it is better."""
    return [(title(m), best(m)) for m in metrics]


def intervals(asked: Asked, rows: Sequence[Row]) -> str:
    """What the brackets of a table hold, for its caption."""
    if asked.bootstrap:
        formula = f"; {BY_FORMULA}" if any(r.get("interval") in ("wilson", "mover") for r in rows) else ""
        return f" In brackets {asked.level} bootstrap intervals ({KINDS[asked.drawn_kind]}){formula}."
    if any(r.get("analytic") for r in rows):
        return f" In brackets, where a formula exists, {asked.level} intervals by it (DeLong, Wilson)."
    return ""


def main_table(result: Result, task: Task, asked: Asked, metrics: Sequence[str]) -> Html:
    """A row a run, with figures of the ranking, the decisions and the calibration."""
    found = records(result.metrics, task=task.name)
    positive = ""
    if len(task.classes) == 2:
        positive = f" AUC, sensitivity, specificity and Brier score are those of {task.classes[1]}."
    caption = f"Pooled figures: ranking, decisions, calibration.{intervals(asked, found)}{positive}"
    return _by_run(found, caption, metrics)


def all_metrics(result: Result, task: Task, asked: Asked, shown: Sequence[str]) -> Html:
    """All other metrics, by what they tell; and the formulas' intervals beside the bootstrap's."""
    found = records(result.metrics, task=task.name)
    names = [m for m in dict.fromkeys(r["metric"] for r in found) if m not in shown]
    tables = []
    for kind, words in ABOUT.items():
        own = [m for m in names if about(m) == kind]
        caption = f"Other metrics of the {words}, pooled.{intervals(asked, found)}"
        tables += [_by_run(found, caption, some) for some in chunks(own, COLUMNS)]
    if asked.bootstrap:
        tables.append(_formulas(found, asked))
    return details(f"All other metrics ({len(names)})", join(tables)) if names else join(tables)


def _by_run(found: Sequence[Row], caption: str, metrics: Sequence[str]) -> Html:
    rows = Rows()
    for (run, variant, n), own in grouped(found, "run", "variant", "n").items():
        rows.add(who(run, variant), figures(str(n)), *[cell(own.get(m)) for m in metrics])
    return table(caption, ["Run", "n", *heads(metrics)], rows)


def _formulas(found: Sequence[Row], asked: Asked) -> Html:
    rows = Rows()
    for (run, variant), own in grouped((r for r in found if r["analytic"]), "run", "variant").items():
        rows.group(who(run, variant))
        for metric, row in own.items():
            formula = {**row, "low": row["analytic_low"], "high": row["analytic_high"]}
            bootstrap = {**row, "analytic_low": math.nan, "analytic_high": math.nan}
            rows.add(
                title(metric),
                figures(number(row["value"])),
                figures(limits(bootstrap) or "–", KINDS.get(str(row["interval"]), "")),
                figures(limits(formula) or "–", FORMULAS.get(str(row["analytic"]), "")),
            )
    caption = f"{asked.level} intervals by the bootstrap and by formula."
    return table(caption, ["Metric", "Value", "Bootstrap", "Formula"], rows)


def over_parts(result: Result, task: Task, metrics: Sequence[str]) -> Html:
    """Mean and standard deviation over folds and seeds; nothing where no run has several parts."""
    found = records(result.metrics, task=task.name)
    if not any(r["parts"] > 1 for r in found):
        return Html("")
    others = [m for m in dict.fromkeys(r["metric"] for r in found) if m not in metrics]
    rest = [_parts(found, some) for some in chunks(others, COLUMNS)]
    return join([_parts(found, metrics, PARTS), details("All other metrics over the parts", join(rest))])


def _parts(
    found: Sequence[Row], metrics: Sequence[str], caption: str = "Mean ± standard deviation over the parts."
) -> Html:
    rows = Rows()
    for (run, variant), own in grouped(found, "run", "variant").items():
        most = max(r["parts"] for r in own.values())
        cells = []
        for m in metrics:
            row = own.get(m)
            if row is None or not row["parts"]:
                cells.append(figures("–"))
                continue
            spread = "" if math.isnan(row["sd"]) else f"± {number(row['sd'])}"
            fewer = f"of {row['parts']} parts" if row["parts"] < most else ""
            cells.append(figures(number(row["mean"]), spread, fewer))
        rows.add(who(run, variant), figures(str(most)), *cells)
    return table(caption, ["Run", "Parts", *heads(metrics)], rows)


def by_class(result: Result, task: Task, asked: Asked) -> Html:
    """Each class against the rest."""
    found = records(result.classes, task=task.name)
    names = list(dict.fromkeys(r["metric"] for r in found))
    rows = Rows()
    for (run, variant), own in _runs(found):
        rows.group(who(run, variant))
        for (c,), row in grouped(own, "class").items():
            n = task.per_class.get(c, 0)
            rows.add(c, figures(str(n)), *[cell(row.get(m)) for m in names])
    caption = f"Each class against the rest; n counts the class's own patients.{intervals(asked, found)}"
    return table(caption, ["Class", "n", *heads(names)], rows)


def _runs(found: Sequence[Row]) -> list[tuple[tuple[str, str], list[Row]]]:
    rows: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        rows.setdefault((row["run"], row["variant"]), []).append(row)
    return list(rows.items())


def comparisons(result: Result, task: Task, asked: Asked) -> Html:
    """Paired differences: three metrics first, all others and all other tests in boxes that open."""
    found = records(result.comparisons, task=task.name)
    boot = [r for r in found if r["test"] == "bootstrap"]
    rest = [r for r in found if r["test"] != "bootstrap" and (r["metric"] in THREE or r["test"] not in OVER_FOLDS)]
    rest.sort(key=lambda r: [*TESTS].index(r["test"]))
    others = [r for r in boot if r["metric"] not in THREE]
    family = (
        "Run minus other, on the patients that both have. p is two-sided; p (Holm) and p (BH, Benjamini-Hochberg) are "
        "adjusted over the family: all pairs and tasks of the same metric and test."
    )
    how = intervals(asked, boot) + (" p belongs to the interval (bootstrap)." if asked.bootstrap else "")
    metrics: dict[str, Head] = {_column(r): (title(r["metric"]), best(r["metric"])) for r in others}
    tests: dict[str, Head] = {_column(r): (TESTS.get(str(r["test"]), ""), title(r["metric"])) for r in rest}
    opened = _matrix(rest, tests, f"Other tests of the same differences. {WHAT}")
    return join(
        [
            _differences([r for r in boot if r["metric"] in THREE], f"Paired differences. {family}{how}"),
            details(
                f"Differences in all other metrics ({len(metrics)})",
                _matrix(others, metrics, f"Paired differences, run minus other.{how} BH: comparisons.csv."),
            ),
            details("Other tests: DeLong, McNemar, over folds", opened) if boot else opened,
        ]
    )


CONTINUED = "The same, continued."
OVER_FOLDS = ("corrected_t", "wilcoxon")
WHAT = (
    "DeLong: the AUC, by formula. McNemar (exact, and by chi-square with continuity correction): how often one run "
    "alone is right; its difference is one of accuracy. Corrected t (Nadeau and Bengio) and Wilcoxon's signed ranks: "
    "over the folds, each the mean of its seeds; few folds cannot give a small p. Statistics, and the tests over folds "
    "of all other metrics, are in comparisons.csv."
)


def _differences(found: Sequence[Row], caption: str) -> Html:
    rows = Rows()
    for metric in [m for m in THREE if any(r["metric"] == m for r in found)]:
        rows.group(f"{title(metric)} ({best(metric)})")
        for r in (r for r in found if r["metric"] == metric):
            rows.add(
                _pair(r),
                figures(str(r["n"])),
                figures(number(r["value"], signed=True), limits(r, signed=True)),
                *[figures(p_text(r[c])) for c in ("p", "p_holm", "p_bh")],
            )
    return table(caption, ["Run − other", "n", "Difference", "p", "p (Holm)", "p (BH)"], rows)


def _matrix(found: Sequence[Row], heads: Mapping[str, Head], caption: str) -> Html:
    """A row a pair and a column a metric and test, each with difference, interval and p."""
    own: dict[str, dict[str, Row]] = {}
    for r in found:
        own.setdefault(_pair(r), {})[_column(r)] = r
    pieces: list[Html] = []
    for some in chunks(list(heads), COLUMNS - 2):
        rows = Rows()
        for pair, cells in own.items():
            rows.add(pair, *[_tested(cells.get(name)) for name in some])
        pieces.append(table(caption if not pieces else CONTINUED, ["Run − other", *[heads[n] for n in some]], rows))
    return join(pieces)


def _column(row: Row) -> str:
    return f"{row['metric']} {row['test']}"


def _tested(row: Row | None) -> Html:
    if row is None:
        return figures("–")
    return figures(
        number(row["value"], signed=True),
        limits(row, signed=True),
        f"p {p_text(row['p'])}, Holm {p_text(row['p_holm'])}",
    )


def _pair(row: Row) -> str:
    return f"{who(row['run'], row['variant'])} − {row['other']}"
