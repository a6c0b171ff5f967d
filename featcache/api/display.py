"""Results as HTML for a notebook, in the look of the report; all text is escaped."""

import re
from base64 import b64encode
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from html import escape
from pathlib import Path

from featcache.report import html as report_page

_CLASS = "featcache-out"
# The notebook decides between light and dark, and not the system behind it.
_RULES = """
.X{color-scheme:light;background:var(--card);color:var(--ink);border:1px solid
var(--rule);border-radius:10px;padding:.9rem 1.1rem;max-width:76rem;
font:14px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
[data-jp-theme-light="false"] .X,[data-vscode-theme-kind="vscode-dark"] .X{
color-scheme:dark}
.X h4{margin:0 0 .5rem;font-size:1rem;font-weight:650}
.X p{margin:.5rem 0 0;color:var(--soft);font-size:.88em}
.X p.warning{color:var(--warn)}
.X .scroll{overflow-x:auto}
.X table{border-collapse:collapse;margin:0;font-size:.92em}
.X th,.X td{color:var(--ink);text-align:left;vertical-align:top;padding:.3rem
.6rem;background:none;border:0;
border-bottom:1px solid var(--rule);font-variant-numeric:tabular-nums}
.X thead th{color:var(--soft);font-weight:500;border-bottom-color:var(--soft)}
.X tbody th{font-weight:500;color:var(--soft)}
.X .number{text-align:right;white-space:nowrap}
.X tr.line td{border-top:2px solid var(--soft)}
.X tr.bad td{color:var(--warn)}
.X .tiles{display:flex;flex-wrap:wrap;gap:.4rem 2rem;margin:0 0 .6rem}
.X .tiles b{display:block;font-size:1.7em;font-weight:650;letter-spacing:-.02em}
.X .tiles span{color:var(--soft);font-size:.88em}
.X figure{margin:.6rem 0 0}
.X img{max-width:100%;height:auto;border-radius:6px}
"""
Column = tuple[str, bool, Sequence[str]]  # heading, whether it is numeric, cells


@cache
def _style() -> str:
    """The report's colours, and our rules, for our own elements alone."""
    css = Path(report_page.__path__[0], "templates/report.css").read_text("utf-8")
    block = re.search(r":root \{(.*?)\}", css, re.DOTALL)
    colours = re.findall(r"--[\w-]+: [^;]+;", block[1] if block else "")
    rules = f".X{{{''.join(colours)}}}{_RULES}".replace("\n", " ")
    return f"<style>{rules.replace('.X', f'.{_CLASS}')}</style>"


def card(title: str, *parts: str) -> str:
    """A card with a title; the parts are HTML already."""
    inner = "".join(parts)
    return f'{_style()}<div class="{_CLASS}"><h4>{escape(title)}</h4>{inner}</div>'


def table(
    columns: Sequence[Column],
    *,
    lines_before: Collection[int] = (),
    bad: Iterable[int] = (),
) -> str:
    """A table.

    Args:
        columns: Heading, whether the column is numeric, and its cells.
        lines_before: Indices of the rows above which there is a line.
        bad: Indices of rows to mark.
    """
    marked = {*bad}
    numeric = [' class="number"' if number else "" for _, number, _ in columns]
    head = "".join(
        f"<th{side}>{escape(name)}</th>"
        for (name, _, _), side in zip(columns, numeric, strict=True)
    )
    body = []
    for row, cells in enumerate(zip(*(cells for *_, cells in columns), strict=True)):
        names = ["line"] * (row in lines_before) + ["bad"] * (row in marked)
        kind = f' class="{" ".join(names)}"' if names else ""
        inner = "".join(
            f"<td{side}>{escape(str(cell))}</td>"
            for cell, side in zip(cells, numeric, strict=True)
        )
        body.append(f"<tr{kind}>{inner}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """A table of names and values."""
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in pairs
    )
    return f"<table><tbody>{rows}</tbody></table>"


def tiles(figures: Iterable[tuple[str, str, str]]) -> str:
    """Large figures: the name, the value, and what stands beside it."""
    inner = "".join(
        f"<div><span>{escape(name)}</span><b>{escape(value)}</b>"
        f"<span>{escape(more)}</span></div>"
        for name, value, more in figures
    )
    return f'<div class="tiles">{inner}</div>'


def note(text: str, *, warning: bool = False) -> str:
    """A line of text."""
    kind = ' class="warning"' if warning else ""
    return f"<p{kind}>{escape(text)}</p>"


def picture(path: Path, caption: str) -> str:
    """A PNG file, whole within the page."""
    data = b64encode(path.read_bytes()).decode()
    return (
        f'<figure><img alt="{escape(caption, quote=True)}" '
        f'src="data:image/png;base64,{data}"><p>{escape(caption)}</p></figure>'
    )
