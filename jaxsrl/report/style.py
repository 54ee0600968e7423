"""The page's style sheet: light and dark, wide and narrow, screen and paper.

Stage colours are Okabe and Ito's hues, darkened on white and lightened on black until small text in them is readable.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --card: #ffffff; --ink: #1d1e20; --soft: #5b5e63; --line: #e4e1d9; --grid: #ebe9e2;
  --mark: #d5ebd8; --mark-ink: #12391d; --other: #b3541e; --alarm: #fdf1dc; --alarm-line: #c98a1b; --shade: #0003;
  --s0: #0067a5; --s1: #b84a00; --s2: #00785a; --s3: #98327d; --s4: #766000; --s5: #45607a; --start: #6d6f73;
}
@media (prefers-color-scheme: dark) { :root {
  --paper: #141517; --card: #1b1c1f; --ink: #e9e8e4; --soft: #a5a7ab; --line: #303236; --grid: #292b2f;
  --mark: #1f4a2c; --mark-ink: #d3f2da; --other: #f0a070; --alarm: #2d2516; --alarm-line: #d09a35; --shade: #fff3;
  --s0: #6ab7f2; --s1: #f39a5b; --s2: #4fcca3; --s3: #e79fd4; --s4: #dcbf5c; --s5: #a9bccf; --start: #a5a7ab;
} }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 2.2rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 84rem; background: var(--paper);
  color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", "DejaVu Sans", sans-serif;
    font-variant-numeric: tabular-nums; }
h1, h2, h3, h4 { line-height: 1.2; letter-spacing: -0.01em; text-wrap: balance; }
h1 { margin: 0; font-size: clamp(1.7rem, 4vw, 2.4rem); font-weight: 650; overflow-wrap: anywhere; }
h2 { margin: 0 0 .4rem; font-size: 1.35rem; font-weight: 650; }
h3 { margin: 1.6rem 0 .7rem; font-size: 1.02rem; font-weight: 650; }
h4 { margin: 1.4rem 0 .5rem; font-size: .92rem; font-weight: 600; color: var(--soft); }
small { display: block; font-size: .76rem; font-weight: 400; color: var(--soft); line-height: 1.35; }
.kicker { margin: 0 0 .2rem; color: var(--soft); font-size: .85rem; }
.lead { margin: .4rem 0 0; color: var(--soft); overflow-wrap: anywhere; max-width: 75ch; }
.how { margin: 0 0 1rem; max-width: 88ch; color: var(--soft); font-size: .87rem; }
.empty, .calm { color: var(--soft); }
.aside { color: var(--soft); font-size: .8em; }
.facts-grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0; margin: 1.5rem 0 0;
  border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); }
.facts-grid div { padding: .7rem 1rem .7rem 0; }
.facts-grid dt { color: var(--soft); font-size: .82rem; }
.facts-grid dd { margin: 0; }
.facts-grid b { font-size: 1.5rem; font-weight: 600; line-height: 1.25; letter-spacing: -0.01em; }
nav { position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap; gap: 0 1.3rem; padding: .55rem 0;
  background: var(--paper);
  border-bottom: 1px solid var(--line); font-size: .88rem; }
a { color: var(--s0); text-decoration: none; }
a:hover { text-decoration: underline; }
:focus-visible { outline: 2px solid var(--s0); outline-offset: 2px; }
main > section { padding-top: 2.4rem; scroll-margin-top: 1.2rem; }
.alarms { margin: 0; padding: 0; list-style: none; display: grid; gap: .4rem; max-width: 88ch; }
header .alarms { margin-top: .8rem; }
.alarms li { padding: .45rem .8rem; background: var(--alarm); border-left: 3px solid var(--alarm-line);
  overflow-wrap: anywhere; }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); }
.s4 { --c: var(--s4); } .s5 { --c: var(--s5); } .start { --c: var(--start); }
table { border-collapse: collapse; width: 100%; font-size: .87rem; }
th, td { padding: .42rem .7rem .42rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { font-weight: 500; color: var(--soft); font-size: .8rem; vertical-align: bottom; }
tbody th { font-weight: 500; }
.n { text-align: right; white-space: nowrap; }
.n small { white-space: nowrap; }
/* What is wider than the window scrolls, and a shadow at an edge says that there is more beyond it. */
.scroll { overflow-x: auto; background:
  linear-gradient(to right, var(--paper) 40%, transparent) left / 2.5rem 100% no-repeat local,
  linear-gradient(to left, var(--paper) 40%, transparent) right / 2.5rem 100% no-repeat local,
  linear-gradient(to right, var(--shade), transparent) left / .8rem 100% no-repeat scroll,
  linear-gradient(to left, var(--shade), transparent) right / .8rem 100% no-repeat scroll; }
.scroll.more::before { content: "scrolls sideways \\2192"; position: sticky; left: 0; color: var(--soft);
  font-size: .76rem; }
caption { text-align: left; padding: .7rem 0 .2rem; font-weight: 600; font-size: .87rem; }
caption small { display: inline; padding-left: .5rem; }
.stage { white-space: nowrap; }
.chip { width: .72rem; height: .72rem; margin-right: .45rem; overflow: visible; }
.stage small { padding-left: 1.17rem; }
.stages td { min-width: 5.5rem; }
.stages .n small { white-space: normal; }
.results td, .results thead th { padding: .42rem .55rem .42rem .45rem; }
.results td:first-child, .results thead th:first-child { padding-left: 0; }
.results strong { font-weight: 700; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1rem;
  margin-bottom: 1.2rem; }
.panels.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 32rem), 1fr)); }
.panels.four { grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); }
.panel { margin: 0; padding: .8rem .9rem .6rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px;
  display: flex; flex-direction: column; break-inside: avoid; min-width: 0; }
.panel figcaption { margin-bottom: .45rem; line-height: 1.35; overflow-wrap: anywhere; }
.panel figcaption b { font-weight: 600; font-size: .9rem; display: block; }
.panel figcaption span { font-size: .78rem; color: var(--soft); }
.panel svg { width: 100%; height: auto; margin-top: auto; overflow: visible; font-size: 11px; }
svg text { fill: var(--soft); }
svg .name { paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round; }
svg .name, svg .figure { fill: var(--c, var(--ink)); font-weight: 600; }
svg .grid { stroke: var(--grid); } svg .base { stroke: var(--soft); stroke-opacity: .55; }
svg .line { fill: none; stroke: var(--c); stroke-width: 1.9; stroke-linejoin: round; }
svg .dashed .line { stroke-dasharray: 5 3; }
svg .raw { stroke: var(--c); stroke-width: 2.4; stroke-linecap: round; stroke-opacity: .27; fill: none; }
svg .band { fill: var(--c); fill-opacity: .13; }
svg .mark { fill: var(--c); }
svg .whisker { stroke: var(--c); stroke-width: 2.2; stroke-opacity: .55; stroke-linecap: round; }
svg .baseline { stroke: var(--soft); stroke-dasharray: 3 3; }
svg .hair { stroke: var(--soft); stroke-opacity: .6; fill: none; }
.tip { position: fixed; z-index: 3; pointer-events: none; padding: .35rem .6rem; background: var(--card);
  border: 1px solid var(--line);
  border-radius: 4px; font-size: .8rem; box-shadow: 0 2px 10px rgb(0 0 0 / .14); }
.tip div { color: var(--c); font-weight: 600; }
details { margin: .3rem 0 .8rem; }
summary { cursor: pointer; color: var(--s0); font-size: .88rem; padding: .25rem 0; }
details > .panels, details > .scroll { margin-top: .6rem; }
pre { max-height: 32rem; overflow: auto; padding: .9rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px;
  font: .78rem/1.5 ui-monospace, "SF Mono", "Liberation Mono", monospace; }
[hidden] { display: none !important; }
.browser { display: flex; flex-wrap: wrap; gap: .6rem 1rem; align-items: end; margin: 0 0 1rem; font-size: .8rem; }
.browser label { display: grid; gap: .15rem; color: var(--soft); }
.browser select, .browser input, #more { max-width: 17rem; padding: .3rem .5rem; background: var(--card);
  color: var(--ink); border: 1px solid var(--line); border-radius: 4px; font: inherit; font-size: .86rem; }
.browser select, .browser input { height: 2rem; }
.browser input { width: 7rem; }
.browser output { padding: .35rem 0; color: var(--soft); }
#more { margin-top: 1rem; cursor: pointer; }
.groups { display: grid; gap: .7rem; }
.group { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .2rem 1rem;
  min-width: 0; margin: 0; }
.group > summary { color: inherit; padding: .45rem 0; }
.group .facts { display: inline-flex; flex-wrap: wrap; gap: .1rem .9rem; font-size: .84rem; color: var(--soft);
  overflow-wrap: anywhere; width: calc(100% - 1.3rem); vertical-align: top; }
.group ol { margin: 0; padding-left: 1.6rem; }
.observation { color: var(--soft); padding-left: .8rem; border-left: 2px solid var(--line); }
.stage-name { color: var(--c); font-weight: 650; }
.kept, .dropped { margin-left: auto; }
.kept { color: var(--s2); font-weight: 600; }
.expert { margin: .5rem 0 .2rem; display: grid; grid-template-columns: 5.5rem minmax(0, 1fr); gap: .7rem;
  align-items: baseline; }
.text { font: .82rem/1.55 ui-monospace, "SF Mono", "Liberation Mono", "DejaVu Sans Mono", monospace;
  white-space: pre-wrap;
  overflow-wrap: anywhere; unicode-bidi: isolate; min-width: 0; }
.group tr:last-child td { border-bottom: 0; }
.group .wide { width: 100%; }
.group td.wide, .group th.wide { padding-left: .5rem; padding-right: 0; }
.action { display: block; }
.thought { color: var(--soft); opacity: .85; }
mark { background: var(--mark); color: var(--mark-ink); border-radius: 2px; box-decoration-break: clone;
  -webkit-box-decoration-break: clone; }
.other { color: var(--other); text-decoration: underline dotted 1px; text-underline-offset: 3px; }
.badge { display: inline-block; margin: 0 .4rem .2rem 0; padding: 0 .45rem; border: 1px solid var(--alarm-line);
  border-radius: 3px;
  font-size: .74rem; background: var(--alarm); }
@media (max-width: 38rem) {
  .stages td:nth-child(2), .stages td:nth-child(3) { min-width: 10rem; }
  .group thead { position: absolute; clip-path: inset(50%); height: 1px; overflow: hidden; }
  .group tr { display: flex; flex-wrap: wrap; gap: 0 1rem; padding: .5rem 0; border-bottom: 1px solid var(--line); }
  .group tr:last-child { border-bottom: 0; }
  .group td { border: 0; padding: 0; }
  .group td[data-label]::before { content: attr(data-label) " "; color: var(--soft); font-size: .76rem; }
  .group td.wide { flex-basis: 100%; padding: .2rem 0 0; }
  .results tbody th, .results thead th:first-child, .stages tbody th { position: sticky; left: 0;
    background: var(--paper); padding-right: .6rem; }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
@media print {
  :root { --paper: #fff; --card: #fff; --ink: #111; --soft: #555; --line: #ccc; --grid: #e5e5e5; --mark: #d5ebd8;
    --mark-ink: #12391d;
    --other: #b3541e; --alarm: #fff; --s0: #0067a5; --s1: #b84a00; --s2: #00785a; --s3: #98327d; --s4: #766000;
      --s5: #45607a; --start: #6d6f73; }
  body { padding: 0; font-size: 10pt; max-width: none; }
  nav, .browser, #more, .tip { display: none; }
  .panels { grid-template-columns: repeat(2, 1fr); }
  .group, tr, .alarms li { break-inside: avoid; }
  h2, h3, .how { break-after: avoid; }
  .scroll { overflow: visible; }
  .results { font-size: 7.2pt; }
  .results small { font-size: 6.4pt; }
  .results td, .results thead th { padding: .2rem .3rem; }
  mark { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""
