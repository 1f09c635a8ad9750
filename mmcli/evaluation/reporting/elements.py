"""The few HTML elements that the page is made of. `Html` is text that is escaped already; all other text is not."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import NewType

Html = NewType("Html", str)
# A table of at most so many rows stays on one sheet of paper.
SHORT = 14
# A figure so many times wider than high has a row of its own.
BROAD = 1.4


def text(words: str) -> Html:
    """Any text, escaped; no line breaks before a number's percent sign."""
    return Html(re.sub(r"(?<=\d) (?=%)", "&nbsp;", escape(words, quote=True)))


def join(pieces: Iterable[Html], between: str = "\n") -> Html:
    """Pieces one after the other; empty ones leave nothing."""
    return Html(between.join(p for p in pieces if p))


def element(tag: str, content: Html, **attributes: str) -> Html:
    """One element; an attribute's `_` becomes `-`, and a leading one goes (`_class`)."""
    given = "".join(f' {k.lstrip("_").replace("_", "-")}="{escape(v, quote=True)}"' for k, v in attributes.items())
    return Html(f"<{tag}{given}>{content}</{tag}>")


def paragraph(words: str, kind: str = "") -> Html:
    """A paragraph, with a class where it has a `kind`; nothing of empty text."""
    if not words:
        return Html("")
    return element("p", text(words), **({"_class": kind} if kind else {}))


def paragraphs(said: Iterable[str], kind: str = "") -> Html:
    """A paragraph each."""
    return join(paragraph(words, kind) for words in said)


def heading(level: int, words: str, name: str = "") -> Html:
    """A heading, with an anchor where it has a name."""
    return element(f"h{level}", text(words), **({"id": name} if name else {}))


def figures(value: str, *below: str, kind: str = "") -> Html:
    """A table's cell: a figure, and its interval and more in small print below, a line each."""
    small = "".join(f"<small>{escape(words)}</small>" for words in below if words)
    return Html(f"<td{f' class={kind}' if kind else ''}>{escape(value)}{small}</td>")


class Rows:
    """The rows of a table, in groups that each may have a name of their own."""

    def __init__(self) -> None:
        self.groups: list[tuple[str, list[Html]]] = []

    def group(self, name: str) -> None:
        """Begin a group."""
        self.groups.append((name, []))

    def add(self, head: str, *cells: Html, below: str = "") -> None:
        """A row: its head, and its cells as `figures` makes them."""
        if not self.groups:
            self.group("")
        small = f"<small>{escape(below)}</small>" if below else ""
        self.groups[-1][1].append(Html(f'<tr><th scope="row">{escape(head)}{small}</th>{"".join(cells)}</tr>'))

    def __bool__(self) -> bool:
        return any(rows for _, rows in self.groups)


def table(caption: str, heads: Sequence[str | tuple[str, str]], rows: Rows) -> Html:
    """A table in a box that scrolls by itself; a head may have small print. Nothing where there are no rows."""
    if not rows:
        return Html("")
    short = " short" if sum(len(lines) for _, lines in rows.groups) <= SHORT else ""
    head = "".join(
        f'<th scope="col">{escape(h)}</th>'
        if isinstance(h, str)
        else f'<th scope="col">{escape(h[0])}<small>{escape(h[1])}</small></th>'
        for h in heads
    )
    bodies = []
    for name, lines in rows.groups:
        first = ""
        if name:
            first = (
                f'<tr class="group"><th scope="rowgroup" colspan="{len(heads)}"><span>{escape(name)}</span></th></tr>\n'
            )
        bodies.append(f"<tbody>{first}{chr(10).join(lines)}</tbody>")
    return Html(
        f'<div class="wide{short}" role="region" tabindex="0" aria-label="{escape(caption[:80], quote=True)}"><table>'
        f"<caption><span>{text(caption)}</span></caption><thead><tr>{head}</tr></thead>\n{''.join(bodies)}</table></div>"
    )


def details(summary: str, content: Html) -> Html:
    """What opens on a click, and is open on paper; nothing where there is no content."""
    if not content:
        return Html("")
    return Html(f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>")


def image(svg: bytes, caption: str, alt: str) -> Html:
    """A figure with its SVG inside the page."""
    size = re.search(rb'<svg[^>]*?viewBox="\S+ \S+ ([\d.]+) ([\d.]+)"', svg)
    broad = ' class="broad"' if size and float(size[1]) > BROAD * float(size[2]) else ""
    source = base64.b64encode(svg).decode("ascii")
    return Html(
        f'<figure{broad}><img alt="{escape(alt, quote=True)}" src="data:image/svg+xml;base64,{source}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def terms(pairs: Iterable[tuple[str, str]]) -> Html:
    """Names and what there is to say of each."""
    return element("dl", join(Html(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>") for name, value in pairs))
