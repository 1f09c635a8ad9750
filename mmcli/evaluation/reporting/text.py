"""The terminal: tables of at most 100 columns, and the lines without which they cannot be read."""

from __future__ import annotations

from typing import Any

from mmcli.evaluation.reporting.says import BY_FORMULA, KINDS, pattern, warnings
from mmcli.evaluation.reporting.shown import (
    THREE,
    Row,
    cell,
    grouped,
    limits,
    main_metrics,
    number,
    p_text,
    percent,
    records,
    title,
)
from mmcli.evaluation.reporting.summary import Summary, Task, asked, summarise
from mmcli.evaluation.result import Result

WIDTH, GAP = 100, 2
# Names are cut to these lengths: a run alone in its table, a run beside others, any other text.
NAME, PAIRED, OTHER = 28, 18, 12
SHORT = {"balanced_accuracy": "bal. acc.", "brier": "Brier"}
# With more pairs than this, differences in the AUC alone; comparisons.csv has the rest.
PAIRS = 6
Table = list[dict[str, Any]]


def rows(result: Result) -> Table:
    """A row a run, variant and task with every metric of the terminal's tables: for programs."""
    summary = summarise(result)
    found = []
    for task in summary.tasks:
        metrics = _metrics(result, task)
        for who, own in _by_run(result, summary, task):
            found.append({**who, **{title(m): cell(own[m]) for m in metrics if m in own}})
    return found


def tables(result: Result) -> list[Table]:
    """Of every task the main metrics, three a table, the differences, the worst subgroups, the prediction sets."""
    summary = summarise(result)
    found: list[Table] = []
    for task in summary.tasks:
        who = _by_run(result, summary, task)
        short = _short([str(w["Run"]) for w, _ in who], NAME)
        metrics = _metrics(result, task)
        columns = {m: [cell(own.get(m)) for _, own in who] for m in metrics}
        heads = [{k: short[v] if k == "Run" else _cut(v) for k, v in w.items()} for w, _ in who]
        used = sum(GAP + max(len(k), *(len(str(h[k])) for h in heads)) for k in heads[0]) if heads else 0
        for pick in _packed(columns, WIDTH - used):
            found.append([{**h, **{title(m): columns[m][i] for m in pick}} for i, h in enumerate(heads)])
        found += [_differences(result, summary, task), _worst(result, summary, task), _sets(result, summary, task)]
    return [t for t in found if t]


def lines(result: Result) -> list[str]:
    """What must be known to read the tables and what must not be overlooked."""
    summary, how = summarise(result), asked(result)
    said = []
    if how.bootstrap:
        within = " within the classes" if how.stratify else ""
        said.append(
            f"In brackets: {how.level} {KINDS[how.drawn_kind]} intervals of {how.resamples} bootstrap resamples of "
            f"{how.unit}{within}{',' if how.formula_first else '.'}"
        )
        if how.formula_first:
            said.append(f"{BY_FORMULA}.")
    elif any(limits(r) for r in records(result.metrics)):
        said.append(
            f"In brackets: {how.level} intervals by formula (DeLong, Wilson); --bootstrap-ci gives all metrics'."
        )
    if not result.comparisons.empty:
        said.append("p: two-sided; Holm: adjusted over all pairs and tasks of the metric. All tests: comparisons.csv.")
    if any(len({r.n for r in summary.of(t.name)}) > 1 for t in summary.tasks):
        said += ["Compare lines on the same number of patients only."]
        if any(r.variant for r in summary.runs):
            said += [
                "A variant answers for those who have what it needs, a run's first line for everyone, by the training",
                "prior where a patient has nothing it needs.",
            ]
    many = len(summary.tasks) > 1
    for task in summary.tasks:
        own = [f"WARNING: {w}" for w in warnings(result, task)]
        said += [f"{task.name}: {line}" if many else line for line in own]
    return said + list(result.notes)


def _metrics(result: Result, task: Task) -> list[str]:
    """The page's main metrics, the three of the first table first."""
    known = list(dict.fromkeys(r["metric"] for r in records(result.metrics, task=task.name)))
    main = main_metrics(task.classes, task.ordinal, known)
    return [*[m for m in THREE if m in main], *[m for m in main if m not in THREE]]


def _by_run(result: Result, summary: Summary, task: Task) -> list[tuple[dict[str, Any], dict[str, Row]]]:
    found = []
    for (run, variant, n), own in grouped(records(result.metrics, task=task.name), "run", "variant", "n").items():
        found.append((_who(run, variant, task.name, n, summary), own))
    return found


def _who(run: str, variant: str, task: str, n: int, summary: Summary) -> dict[str, Any]:
    who: dict[str, Any] = {"Run": run}
    if any(r.variant for r in summary.runs):
        who["Variant"] = variant
    if len(summary.tasks) > 1:
        who["Task"] = task
    several = any(t.n != t.patients for t in summary.tasks)
    return {**who, "Rows" if several else "Patients": n}


def _packed(columns: dict[str, list[str]], room: int) -> list[list[str]]:
    """The metrics in tables of at most three that fit the room, at least one a table."""
    picks: list[list[str]] = []
    left = 0
    for metric, cells in columns.items():
        width = max(len(title(metric)), *(len(c) for c in cells)) + GAP
        if not picks or len(picks[-1]) == 3 or width > left:
            picks.append([])
            left = room + GAP
        picks[-1].append(metric)
        left -= width
    return picks


def _differences(result: Result, summary: Summary, task: Task) -> Table:
    found = records(result.comparisons, task=task.name)
    test = "bootstrap" if any(r["test"] == "bootstrap" for r in found) else "delong"
    own = [r for r in found if r["test"] == test and r["metric"] in THREE]
    pairs = {(r["run"], r["variant"], r["other"]) for r in own}
    if len(pairs) > PAIRS:
        own = [r for r in own if r["metric"] == "auc"]
    own.sort(key=lambda r: THREE.index(r["metric"]))
    width = PAIRED if len(summary.tasks) == 1 else PAIRED - 3
    first = _short([_title(r) for r in own], width)
    second = _short([str(r["other"]) for r in own], width)
    return [
        {
            "Run": first[_title(r)],
            "minus": second[r["other"]],
            **({"Task": _cut(task.name)} if len(summary.tasks) > 1 else {}),
            "in": SHORT.get(r["metric"], title(r["metric"])),
            "Difference": f"{number(r['value'], True)} {limits(r, True)}".strip(),
            "p": p_text(r["p"]),
            "Holm": p_text(r["p_holm"]),
        }
        for r in own
    ]


def _worst(result: Result, summary: Summary, task: Task) -> Table:
    """The worst subgroup of each run and column; of many runs by the AUC alone."""
    marked = [r for r in records(result.subgroups, task=task.name) if r["worst"] and r["metric"] in THREE[:2]]
    if len(marked) > 2 * PAIRS:
        marked = [r for r in marked if r["metric"] == "auc"]
    short = _short([_title(r) for r in marked], PAIRED)
    width = 2 * OTHER if len(summary.tasks) == 1 else OTHER - 1
    return [
        {
            "Run": short[_title(r)],
            **({"Task": _cut(task.name)} if len(summary.tasks) > 1 else {}),
            "By": _cut(r["by"]),
            "Worst": _cut(pattern(r["by"], r["subgroup"]), width),
            "n": r["n"],
            "in": SHORT.get(r["metric"], title(r["metric"])),
            "Value": cell(r),
        }
        for r in marked
    ]


def _sets(result: Result, summary: Summary, task: Task) -> Table:
    """Coverage and size of the conformal prediction sets over all patients."""
    found = records(result.conformal, task=task.name, by="")
    short = _short([_title(r) for r in found], NAME)
    return [
        {
            "Run": short[_title(r)],
            **({"Task": _cut(task.name)} if len(summary.tasks) > 1 else {}),
            "Sets for": percent(r["level"]),
            "Coverage": f"{number(r['coverage'])} {limits(r)}".strip(),
            "Classes a set": number(r["size"]),
        }
        for r in found
    ]


def _title(row: Row) -> str:
    return f"{row['run']} · {row['variant']}" if row["variant"] else str(row["run"])


def _cut(value: Any, width: int = OTHER) -> Any:
    return _middle(value, width) if isinstance(value, str) else value


def _middle(name: str, width: int) -> str:
    if len(name) <= width:
        return name
    left = (width - 1) // 2
    return f"{name[: width - 1 - left]}…{name[-left:]}"


def _short(names: list[str], width: int) -> dict[str, str]:
    """Long names without their middle; numbered where two would be the same."""
    short: dict[str, str] = {}
    for name in names:
        if name in short:
            continue
        text, count = _middle(name, width), 2
        while text in short.values():
            text, count = f"{_middle(name, width - 3)}#{count}", count + 1
        short[name] = text
    return short
