"""The report: one HTML file that opens from disk without a network, on a telephone, a desk or paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmcli.evaluation.reporting import groups, sections
from mmcli.evaluation.reporting.elements import (
    Html,
    Rows,
    element,
    heading,
    image,
    join,
    paragraph,
    paragraphs,
    table,
    terms,
    text,
)
from mmcli.evaluation.reporting.methods import cited, methods
from mmcli.evaluation.reporting.reporting_items import AUTHORS, items
from mmcli.evaluation.reporting.says import (
    baselines,
    compared,
    fallbacks,
    how_to_read,
    undefined,
    unfinished,
    unlabelled,
    warnings,
)
from mmcli.evaluation.reporting.shown import counted, main_metrics, records
from mmcli.evaluation.reporting.style import CSS
from mmcli.evaluation.reporting.summary import Asked, Summary, Task, asked, summarise
from mmcli.evaluation.result import Result


@dataclass(frozen=True)
class Picture:
    """A figure of the report: its SVG, its caption, the text for those who cannot see it, and its task ("" = all)."""

    svg: bytes
    caption: str
    alt: str
    task: str = ""


def render(result: Result, pictures: Sequence[Picture] = ()) -> str:
    """The whole page; every text from outside is escaped."""
    summary, how = summarise(result), asked(result)
    names = summary.names
    title = f"Evaluation of {names[0]}" if len(names) == 1 else f"Comparison of {len(names)} runs"
    anchors = {task.name: f"task-{i}" for i, task in enumerate(summary.tasks, 1)}
    body = [
        heading(1, title),
        paragraph(f"{counted(len(names), 'run')}: {', '.join(names)}."),
        paragraphs(how_to_read(summary, how, result)),
        _contents(anchors),
        *[_task(result, summary, how, t, anchors[t.name], pictures) for t in summary.tasks],
        _other_pictures(pictures, anchors),
        _notes(result, how),
        _cite(result, summary, how),
        _items(result, summary, how),
        _inputs(result),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{CSS}</style></head>\n<body>\n<main>\n{join(body)}\n</main>\n</body></html>\n"
    )


def _contents(anchors: dict[str, str]) -> Html:
    links = [*anchors.items(), ("Notes", "notes"), ("How to cite these figures", "cite"), ("TRIPOD+AI", "items"),
             ("Files", "inputs")]  # fmt: skip
    each = join((element("li", element("a", text(name), href=f"#{anchor}")) for name, anchor in links), "")
    return element("nav", element("ul", each), aria_label="Contents")


def _task(result: Result, summary: Summary, how: Asked, task: Task, anchor: str, pictures: Sequence[Picture]) -> Html:
    known = [r["metric"] for r in records(result.metrics, task=task.name)]
    shown = main_metrics(task.classes, task.ordinal, known)
    own = [p for p in pictures if p.task == task.name]
    content = [
        heading(2, task.name, anchor),
        paragraph(compared(task, how)),
        paragraph(unlabelled(summary, task.name)),
        paragraphs([*unfinished(summary, task.name), *warnings(result, task)], "warning"),
        sections.main_table(result, task, how, shown),
        paragraph(baselines(task), "note"),
        sections.all_metrics(result, task, how, shown),
        _under("Over folds and seeds", sections.over_parts(result, task, shown)),
        _under("By class", sections.by_class(result, task, how)),
        _under("Comparisons", sections.comparisons(result, task, how)),
        _under("Figures", element("div", join(image(p.svg, p.caption, p.alt) for p in own), _class="figures"))
        if own
        else Html(""),
        groups.subgroups(result, task, how, shown),
        groups.withheld(result, task, how, shown),
        groups.conformal(result, task, how),
    ]
    return element("section", join(content), _class="task")


def _under(title: str, content: Html) -> Html:
    return join([heading(3, title), content]) if content else content


def _other_pictures(pictures: Sequence[Picture], anchors: dict[str, str]) -> Html:
    own = [p for p in pictures if p.task not in anchors]
    if not own:
        return Html("")
    grid = element("div", join(image(p.svg, p.caption, p.alt) for p in own), _class="figures")
    return element("section", join([heading(2, "More figures"), grid]))


def _notes(result: Result, how: Asked) -> Html:
    said = list(result.notes)
    for frame in (result.classes, result.subgroups, result.withheld):
        said += [s for s in (undefined(frame, how), fallbacks(frame, how)) if s]
    content = paragraphs(said) if said else paragraph("None.")
    return element("section", join([heading(2, "Notes", "notes"), content]))


def _cite(result: Result, summary: Summary, how: Asked) -> Html:
    references = element("ul", join(element("li", text(words)) for words in cited(result, how)))
    return element(
        "section",
        join(
            [
                heading(2, "How to cite these figures", "cite"),
                paragraph("For the methods section, to paste and shorten:", "note"),
                paragraph(methods(result, summary, how), "paste"),
                references,
            ]
        ),
    )


def _items(result: Result, summary: Summary, how: Asked) -> Html:
    rows = Rows()
    rows.group("Answered from what the runs recorded")
    for item, topic, known in items(result, summary, how):
        rows.add(item, Html(f"<td>{text(topic)}</td>"), _long(known))
    rows.group("Only the authors can answer")
    for item, topic in AUTHORS:
        rows.add(item, Html(f'<td class="long" colspan="2">{text(topic)}</td>'))
    caption = (
        "After TRIPOD+AI (BMJ 2024; 385: e078378), numbers as there. This is no completed checklist: it gathers what "
        "mmcli knows and names what it cannot know."
    )
    return element(
        "section",
        join([heading(2, "TRIPOD+AI", "items"), table(caption, ["Item", "Topic", "Recorded"], rows)]),
        _class="items",
    )


def _long(lines: Sequence[str]) -> Html:
    return Html(f'<td class="long">{"<br>".join(text(line) for line in lines)}</td>')


def _inputs(result: Result) -> Html:
    inputs = result.about.get("inputs", {})
    pairs = [
        (name, "; ".join(f"{file} {mark}" for file, mark in (given.get("files") or {}).items()) or "not recorded")
        for name, given in inputs.items()
    ]
    content = [
        heading(2, "Files", "inputs"),
        paragraph(
            "Beside this page: metrics.json (everything), a CSV file for each table at full precision, and tables.tex. "
            "Read for it, with the fingerprints of their content:",
            "note",
        ),
        terms(pairs),
    ]
    return element("section", join(content))
