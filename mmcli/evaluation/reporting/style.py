"""The page's style sheet. Figures keep white paper behind them in the dark, so that they stay readable."""

CSS = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #555; --paper: #fff; --line: #e2e2e2; --rule: #1b1b1b;
  --box: #f5f5f3; --warn: #8a3b00; --warnbox: #fff4e8; --link: #0b57a4; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #ececec; --soft: #b4b4b4; --paper: #17181a; --line: #36383b; --rule: #c8c8c8; --box: #222427;
    --warn: #ffc48a; --warnbox: #35261a; --link: #8cc0ff; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 76rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 3rem 0 .5rem; padding-top: .75rem;
  border-top: 2px solid var(--rule); }
h3 { font-size: 1.05rem; line-height: 1.3; margin: 2rem 0 .5rem; }
h1, h2, h3 { overflow-wrap: anywhere; }
p, dl, li { max-width: 46rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; }
a { color: var(--link); }
nav ul { list-style: none; margin: 1rem 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
.note, figcaption, caption { color: var(--soft); font-size: .875rem; }
.warning { color: var(--warn); background: var(--warnbox); border-left: 4px solid currentColor; padding: .5rem .75rem;
  font-weight: 600; }
.paste { background: var(--box); padding: .75rem 1rem; border-radius: 4px; }
.wide { overflow-x: auto; margin: 1rem 0 1.5rem; container-type: inline-size; }
table { border-collapse: collapse; font-size: .8125rem; line-height: 1.35; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; }
caption span { display: block; position: sticky; left: 0; width: fit-content;
  max-width: min(46rem, 100cqw); }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; vertical-align: top; white-space: nowrap; }
thead th { white-space: normal; vertical-align: bottom;
  border-top: 2px solid var(--rule); border-bottom: 1px solid var(--rule); }
thead th:first-child, tbody th[scope=row] { position: sticky; left: 0; background: var(--paper); white-space: normal;
  min-width: 7rem; max-width: 16rem; overflow-wrap: anywhere; }
tbody th { font-weight: 600; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
tbody:last-child tr:last-child > * { border-bottom: 2px solid var(--rule); }
tr.group th { padding-top: .8rem; border-bottom: 1px solid var(--rule); white-space: normal; }
tr.group span { position: sticky; left: 0; }
small { display: block; color: var(--soft); font-size: .75rem; font-weight: 400; }
thead small { white-space: nowrap; }
td.worst { font-weight: 700; }
td.long { white-space: normal; min-width: 16rem; max-width: 40rem; overflow-wrap: anywhere; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--link); font-weight: 600; padding: .35rem 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1.5rem; }
figure { margin: 0; break-inside: avoid; }
figure img { display: block; width: 100%; max-width: 26rem; height: auto; background: #fff; border-radius: 4px; }
figure.broad { grid-column: 1 / -1; } figure.broad img { max-width: 46rem; }
figcaption { max-width: 26rem; margin-top: .3rem; overflow-wrap: anywhere; }
dt { font-weight: 600; margin-top: .6rem; }
dd { margin: 0; }
@media print {
  @page { size: A4; margin: 14mm; }
  html { font-size: 11.5px; }
  body { max-width: none; padding: 0; }
  nav, summary { display: none; }
  h2 { margin-top: 2rem; } h3 { margin-top: 1.25rem; }
  p, dl, li { max-width: none; }
  details { margin: 0; }
  details::details-content { content-visibility: visible; display: block; block-size: auto; }
  .wide { overflow: visible; margin: .5rem 0 1rem; }
  .short { break-inside: avoid; }
  table { font-size: 7pt; line-height: 1.25; } th, td { padding: .2rem .55rem .2rem 0; } small { font-size: 6pt; }
  caption span { max-width: 182mm; }
  thead { display: table-header-group; break-inside: avoid; break-after: avoid; }
  thead th:first-child, tbody th[scope=row], tr.group span { position: static; }
  thead th:first-child, tbody th[scope=row] { min-width: 20mm; max-width: 30mm; }
  tr, figure, .warning, .paste { break-inside: avoid; }
  tr.group, h1, h2, h3, caption { break-after: avoid; }
  td.long { min-width: 0; max-width: 125mm; }
  section.task + section.task, section.items { break-before: page; }
  .figures { display: block; } figure { display: inline-block; width: 47%; margin: 0 2% 1rem 0; vertical-align: top; }
  figure.broad { width: 98%; }
}
"""
