"""The report: one HTML file that opens from disk without a network, on a telephone, a desk or paper."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mmcli.evaluation.compare import Bootstrap, Difference, Figure

CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 80rem; color: #1b1b1b; background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .5rem; border-top: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p, dl { max-width: 46rem; overflow-wrap: anywhere; }
.note { color: #555; font-size: .875rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .8125rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; max-width: 46rem; color: #555; font-size: .875rem; padding-bottom: .4rem; }
th, td { padding: .35rem .7rem .35rem 0; text-align: left; vertical-align: top; white-space: nowrap; }
thead th { white-space: normal; vertical-align: bottom;
  border-top: 2px solid #1b1b1b; border-bottom: 1px solid #1b1b1b; }
tbody tr + tr > * { border-top: 1px solid #e6e6e6; }
tbody tr:last-child > * { border-bottom: 2px solid #1b1b1b; }
tbody th { font-weight: 600; position: sticky; left: 0; background: #fff; white-space: normal; min-width: 7rem; }
td small { display: block; color: #555; font-size: .75rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1.5rem; }
figure { margin: 0; break-inside: avoid; }
figure img { width: 100%; max-width: 24rem; height: auto; }
figcaption { color: #555; font-size: .875rem; }
dt { font-weight: 600; }
dd { margin: 0 0 .5rem; }
@media print {
  @page { size: A4 landscape; margin: 14mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  .wide { overflow: visible; }
  table { font-size: 7pt; } th, td { padding-right: .4rem; } td small { font-size: 6.2pt; }
  tr, figure { break-inside: avoid; } h2, h3 { break-after: avoid; }
  tbody th { position: static; }
}
"""

# Of two classes, macro sensitivity and macro specificity both equal balanced accuracy: where the positive class's own
# are there, tables for people show those alone. metrics.json and metrics.csv have all.
SHOWN_BY = {"sensitivity_macro": "sensitivity", "specificity_macro": "specificity"}


@dataclass(frozen=True)
class Picture:
    """A figure of the report: its SVG, its caption, and the text for those who cannot see it."""

    svg: bytes
    caption: str
    alt: str


@dataclass(frozen=True)
class TaskSection:
    """All that the report says about one task."""

    task: str
    classes: tuple[str, ...]
    said: Sequence[str]
    figures: Sequence[Figure]
    differences: Sequence[Difference]
    pictures: Sequence[Picture]


def render(
    title: str, said: Sequence[str], sections: Sequence[TaskSection], bootstrap: Bootstrap | None, facts: dict[str, str]
) -> str:
    """The whole page; every text from outside is escaped."""
    body = [f"<h1>{escape(title)}</h1>", *_paragraphs(said)]
    for section in sections:
        body.append(f"<h2>{escape(section.task)}</h2>")
        body += _paragraphs(section.said)
        body.append(_table(_by_run(section.figures), "Pooled figures" + _interval_words(bootstrap)))
        body.append(_means(section.figures))
        if section.differences:
            reference = section.differences[0].reference
            caption = f"Differences to {reference}" + _interval_words(bootstrap)
            body.append("<h3>Differences</h3>")
            body.append(_table(_by_run(section.differences), caption, signed=True))
        body.append('<h3>Figures</h3><div class="figures">')
        body += [_picture(p) for p in section.pictures]
        body.append("</div>")
    body.append("<h2>How this was made</h2><dl>")
    body += [f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items()]
    body.append("</dl>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def number(value: float, signed: bool = False) -> str:
    """Three decimals with a true minus sign; a dash where undefined."""
    if math.isnan(value):
        return "–"
    return f"{value:{'+' if signed else ''}.3f}".replace("-", "−")


def limits(figure: Figure | Difference, signed: bool = False) -> str:
    """The interval in brackets, empty where there is none."""
    if figure.interval is None:
        return ""
    return f"[{number(figure.interval.low, signed)}, {number(figure.interval.high, signed)}]"


def _interval_words(bootstrap: Bootstrap | None) -> str:
    return f", with {percent(bootstrap)} confidence intervals in brackets" if bootstrap else ""


def percent(bootstrap: Bootstrap) -> str:
    """The level of the intervals: 95 %."""
    return f"{100 * bootstrap.confidence:.4g} %"


def _by_run(figures: Sequence[Figure] | Sequence[Difference]) -> dict[tuple[str, int], list[Figure | Difference]]:
    rows: dict[tuple[str, int], list[Figure | Difference]] = {}
    known = {figure.metric for figure in figures}
    for figure in figures:
        if SHOWN_BY.get(figure.metric) in known:
            continue
        rows.setdefault((_title(figure), figure.n), []).append(figure)
    return rows


def _title(figure: Figure | Difference) -> str:
    return f"{figure.run} · {figure.variant}" if figure.variant else figure.run


def _table(rows: dict[tuple[str, int], list[Figure | Difference]], caption: str, signed: bool = False) -> str:
    titles = [f.title for f in next(iter(rows.values()))]
    lines = []
    for (title, n), figures in rows.items():
        cells = "".join(
            f"<td>{number(f.value, signed)}" + (f"<small>{limits(f, signed)}</small>" if f.interval else "") + "</td>"
            for f in figures
        )
        lines.append(f'<tr><th scope="row">{escape(title)}</th><td>{n}</td>{cells}</tr>')
    return _whole_table(caption, ["Run", "Patients", *titles], lines)


def _means(figures: Sequence[Figure]) -> str:
    """Mean and standard deviation over the parts; empty where no run has several."""
    rows = {title: list(f) for (title, _), f in _by_run(figures).items()}
    if not any(isinstance(f, Figure) and f.parts > 1 for row in rows.values() for f in row):
        return ""
    lines = []
    for title, row in rows.items():
        cells = ""
        for f in row:
            assert isinstance(f, Figure)
            cells += (
                f"<td>{number(f.mean)}" + ("" if math.isnan(f.sd) else f"<small>± {number(f.sd)}</small>") + "</td>"
            )
        parts = max(f.parts for f in row if isinstance(f, Figure))
        lines.append(f'<tr><th scope="row">{escape(title)}</th><td>{parts}</td>{cells}</tr>')
    return _whole_table(
        "Mean ± standard deviation over the parts (folds and seeds), each on its own patients: how training varies, "
        "not how sure the figure is",
        ["Run", "Parts", *[f.title for f in next(iter(rows.values()))]],
        lines,
    )


def _whole_table(caption: str, heads: Sequence[str], lines: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in heads)
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div><p></p>"
    )


def _picture(picture: Picture) -> str:
    source = base64.b64encode(picture.svg).decode("ascii")
    return (
        f'<figure><img alt="{escape(picture.alt, quote=True)}" src="data:image/svg+xml;base64,{source}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _paragraphs(said: Sequence[str]) -> list[str]:
    return [f"<p>{escape(text)}</p>" for text in said]
