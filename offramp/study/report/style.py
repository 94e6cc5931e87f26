"""The page's one style sheet: light and dark, wide and narrow, colours that colour-blind readers can tell apart."""

from __future__ import annotations

COLOURS = 8
"""Of series: Okabe and Ito's, lighter on a dark page."""
SHADES = 6
"""Of depth, from the first exits to the last blocks: viridis."""
LIGHT = ("#0072b2", "#d55e00", "#00805c", "#b5488a", "#8a6d00", "#2e8bc0", "#555555", "#7a4fd0")
_DARK = ("#56b4e9", "#ff8c42", "#2fd1a0", "#f29cc9", "#f0c541", "#9ad1f5", "#bbbbbb", "#b79cff")
_VIRIDIS = (
    ("#fde725", "#000"),
    ("#90d743", "#000"),
    ("#35b779", "#000"),
    ("#21918c", "#fff"),
    ("#31688e", "#fff"),
    ("#443983", "#fff"),
)

_BASE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1b1f24;--soft:#59636e;--line:#d1d9e0;--panel:#f6f8fa;--grid:#e4e8ec}
@media (prefers-color-scheme:dark){:root{--page:#0f1318;--ink:#e6e9ec;--soft:#9aa4ae;--line:#343c45;--panel:#171c22;
--grid:#262d35}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.2rem clamp(.8rem,3vw,2.5rem) 4rem;max-width:1500px;background:var(--page);
color:var(--ink);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.3rem;margin:2.6rem 0 .4rem;padding-top:.6rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:0 0 .4rem}
p{max-width:46rem;margin:.4rem 0 .8rem}
nav ul,.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1rem;margin:.4rem 0;padding:0}
a{color:inherit}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;font-size:.85rem;color:var(--soft);margin:1rem 0}
dt{font-weight:600}dd{margin:0;overflow-wrap:anywhere}
.parts{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start}
figure,.wide,details{flex:1 1 min(22rem,100%);max-width:30rem;
min-width:0;margin:0;padding:.8rem;border:1px solid var(--line);border-radius:6px;
background:var(--panel)}
.wide,details{flex-basis:100%;max-width:none}
summary{cursor:pointer;font-weight:600}details>.parts{margin-top:.8rem}
figcaption{font-weight:600;font-size:.95rem;margin-bottom:.3rem}
svg.chart{display:block;width:100%;height:auto}
svg text{fill:var(--ink);font:12px system-ui,sans-serif}
svg .tick{fill:var(--soft);font-size:11px}
svg .grid{stroke:var(--grid)}svg .axis{stroke:var(--soft)}svg .diagonal{stroke:var(--soft);stroke-dasharray:2 4}
svg .line{fill:none;stroke-width:1.8}svg .whisker{stroke-width:1.2;opacity:.65}
.legend{font-size:.82rem}.legend svg{width:2.2em;height:.9em;vertical-align:-.1em;margin-right:.35em}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums;min-width:100%}
th,td{padding:.25rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--grid)}
th{vertical-align:bottom;color:var(--soft);font-weight:600}
th:first-child,td:first-child{text-align:left}
.words{text-align:left}
.note{font-size:.82rem;color:var(--soft);max-width:60rem}
.heat{font:13px/1.75 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;margin:0}
.heat span{border-radius:2px}
.key{padding:0 .5em;border-radius:2px;border:1px solid var(--line)}
.heat .differs{text-decoration:underline wavy 1px;text-underline-offset:3px}
.empty{color:var(--soft);font-style:italic}
"""


def style() -> str:
    """The whole sheet."""
    light = "".join(f"--c{i}:{colour};" for i, colour in enumerate(LIGHT))
    dark = "".join(f"--c{i}:{colour};" for i, colour in enumerate(_DARK))
    series = "".join(
        f".c{i}{{stroke:var(--c{i})}}.f{i}{{fill:var(--c{i});stroke:var(--c{i})}}" for i in range(COLOURS)
    )
    shades = "".join(f".d{i}{{background:{back};color:{ink}}}" for i, (back, ink) in enumerate(_VIRIDIS))
    themes = f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return _BASE + themes + series + shades


def shade(depth: int, blocks: int) -> str:
    """The class of a token chosen after so many blocks; "" at full depth."""
    return "" if depth >= blocks else f"d{min(SHADES - 1, depth * SHADES // blocks)}"
