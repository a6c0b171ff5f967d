"""``featcache compare --html``: one self-contained page that needs no network."""

import base64
import hashlib
import math
import re
import textwrap
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from featcache.commands.compare import Leaderboard
from featcache.commands.scan.groups import NEAR_DUPLICATE_CORRELATION
from featcache.core.io import write_text
from featcache.dataset.manifest import Manifest
from featcache.evaluation.metrics import METRICS
from featcache.evaluation.runs import TEST, TRAIN
from featcache.report.heatmaps import drawing
from featcache.report.html import dataset_section, gaps_section, provenance_section
from featcache.report.html.audit_section import Audited, audited
from featcache.report.html.charts import PARTS
from featcache.report.html.context import Material, collect
from featcache.report.html.explain_section import looks
from featcache.report.html.map_points import Points, points
from featcache.report.html.reproduce import Known, commands
from featcache.report.html.run_section import Section, section
from featcache.report.html.svg import STYLES, Svg, interval, key, mark
from featcache.report.html.thumbs import TILE, Sheet, look_alikes, sheet
from featcache.report.tables import TRIVIAL, caption

MOST_SECTIONS = 40  # runs with a section of their own; the table has them all
OPEN_SECTIONS = 2
_FILES = {TRAIN: "report.html", TEST: "report-test.html"}


def write(
    reports: Path,
    board: Leaderboard,
    *,
    manifest: Manifest | None = None,
    path: Path | None = None,
) -> Path:
    """Writes the report of a leaderboard as one HTML file.

    Args:
        reports: ``reports/<dataset>``, where the runs are.
        board: What ``compare`` ranked there.
        manifest: The dataset; without it the page has no map, no thumbnails and no
            files left out, and says so.
        path: The file; by default ``report.html`` in ``reports``, and
            ``report-test.html`` for a leaderboard of the test part.

    Returns:
        The file.

    Raises:
        RunError: A run is broken.
    """
    path = path or reports / _FILES[board.part]
    write_text(path, render(collect(reports, board, manifest)))
    return path


def render(material: Material) -> str:
    """The page of the records, as text."""
    rows = material.board.rows
    sections = [
        section(material, run, row)
        for run, row in list(zip(material.runs, rows, strict=True))[:MOST_SECTIONS]
    ]
    shown = points(material)
    head = _headline(material)
    audit = audited(material, head["best"].run_id)
    tiles, pairs = _thumbnails(material, shown, sections, audit)
    look = looks(material, material.runs[: len(sections)])
    css, script = _text("report.css"), _text("report.js")
    return str(
        _environment()
        .get_template("report.html.jinja")
        .render(
            board=material.board,
            classes=material.best.classes,
            caption=caption(material.board),
            held=material.board.against,
            warnings=_warnings(material.board, audit),
            head=head,
            trivial=TRIVIAL,
            part=PARTS[material.board.part],
            on_test=material.board.part == TEST,
            table=_leaderboard(material.board, len(sections)),
            gaps=gaps_section.gaps(material),
            audit=audit,
            sections=sections,
            looks=look,
            ramp=Svg(drawing.ramp()),
            opened=OPEN_SECTIONS,
            map=shown,
            map_json=_map_json(shown, tiles) if shown else None,
            sheet=tiles,
            tile=TILE,
            data=dataset_section.tables(material, pairs),
            provenance=provenance_section.tables(material),
            commands=_commands(material, len(sections)),
            machine=provenance_section.machine(),
            keys=[key(style, line=False) for style in range(STYLES)],
            css=css,
            script=script,
            script_digest=_digest(script),
        )
    )


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("featcache.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "share": _share, "percent": _percent, "words": _words, "p_value": _p_value,
        "breakable": _breakable,
    }  # fmt: skip
    return found


def _text(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    """By which the page's policy of content knows its only script."""
    sha = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(sha).decode()}"


def _share(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _breakable(name: str) -> Svg:
    """A long name that may be broken behind each + and _."""
    return Svg(re.sub(r"([+_])", r"\1<wbr>", escape(name)))


def _p_value(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _words(name: str) -> str:
    return _NAMES.get(name, name.replace("_", " "))


_NAMES = {
    "auc": "AUC", "ece": "ECE", "macro_f1": "macro F1", "brier": "Brier score",
    "log_loss": "log-loss",
}  # fmt: skip


def _warnings(board: Leaderboard, audit: Audited | None) -> list[str]:
    told = [f"Not ranked: {line}" for line in board.left_out]
    if audit and audit.issues:
        found = "; ".join(f"{a.code} {a.title.lower()}" for a in audit.issues)
        told.insert(0, f"The audit found issues: {found}")
    return board.warnings + told


def _headline(material: Material) -> dict[str, Any]:
    """The key figures at the top of the page."""
    rows, metric = material.board.rows, material.board.metric
    ranked = [row for row in rows if not row.below_line] or rows
    best = ranked[0]
    trivial = [row for row in rows if row.below_line and row is not best]
    judged, on_test = material.judged, material.board.part == TEST
    if on_test:
        judged = judged[judged["split"] == TEST]
    return {
        "best": best,
        "value": best.score(metric),
        "ends": best.interval(metric),
        "tied": sum(bool(row.tied) for row in ranked[1:]),
        "trivial": trivial[0] if trivial else None,
        "images": len(judged),
        "groups": int(judged["group"].nunique()),
        "test_images": 0 if on_test else int((judged["split"] == TEST).sum()),
    }


def _leaderboard(board: Leaderboard, sections: int) -> dict[str, Any]:
    """Rows above and below the line, with strips on one axis."""
    metric = board.metric
    held = [row for row in board.rows if row.run_id == board.against]
    axis, band = _axis(board), (held or board.rows)[0].interval(metric)
    lines: list[dict[str, Any]] = [
        {
            "row": row,
            "anchor": f"#run-{row.rank}" if i < sections else None,
            "ends": row.interval(metric),
            "strip": interval(
                row.score(metric), row.interval(metric), axis=axis, band=band
            ),
        }
        for i, row in enumerate(board.rows)
    ]
    return {
        "above": [line for line in lines if not line["row"].below_line],
        "below": [line for line in lines if line["row"].below_line],
        "axis": axis,
        "more": [name for name in METRICS if name != metric],
        "has_test": board.part != TEST
        and any(row.test_accuracy is not None for row in board.rows),
        "held_rank": (held or board.rows)[0].rank,
        "held_run": (held or board.rows)[0].run,
        "has_difference": any(row.p_holm is not None for row in board.rows),
        "choices": {
            name: sorted({str(getattr(row, name)) for row in board.rows})
            for name in ("backbone", "head")
        },
    }


def _axis(board: Leaderboard) -> tuple[float, float]:
    """Ends of the strips: what lies far below the others becomes an arrow."""
    rows, metric = board.rows, board.metric
    found = [row.score(metric) for row in rows]
    found += [v for row in rows for v in row.interval(metric) or ()]
    known = sorted(value for value in found if math.isfinite(value)) or [0.0, 1.0]
    low, high = known[0], known[-1]
    best = rows[0].interval(metric)
    if best and METRICS[metric]:
        low = max(low, high - 4 * (best[1] - best[0]))
    low, high = math.floor(20 * low) / 20, math.ceil(20 * high) / 20
    return low, max(high, low + 0.05)


def _thumbnails(
    material: Material,
    shown: Points | None,
    sections: list[Section],
    audit: Audited | None,
) -> tuple[Sheet, list[tuple[str, str]] | None]:
    """Tiles of all images on the page, and look-alikes among those of the runs."""
    if material.manifest is None:
        return Sheet(reason="the dataset's cache was not at hand"), None
    paths = material.manifest.ok.set_index("image_id")["path"]
    wanted = [error.image_id for one in sections for error in one.errors]
    wanted += audit.image_ids if audit else []
    wanted += list(shown.ids) if shown else []
    known = [i for i in dict.fromkeys(wanted) if i in paths.index]
    found = sheet(material.manifest.root, paths.loc[known])
    groups = pd.Series(material.images["group"])
    pairs = look_alikes(found.small, groups, above=NEAR_DUPLICATE_CORRELATION)
    return found, pairs


def _map_json(shown: Points, tiles: Sheet) -> dict[str, Any]:
    """What the script needs to draw the map."""
    return {
        "layouts": shown.layouts,
        "colours": shown.colours,
        "paths": shown.paths,
        "chances": shown.chances,
        "tiles": [tiles.tiles.get(image_id, -1) for image_id in shown.ids],
        "columns": tiles.columns,
        "marks": [mark(style, 4.2) for style in range(STYLES)],
    }


def _commands(material: Material, sections: int) -> list[tuple[str, str, str]]:
    """Short id, id and command lines of each run that has a section."""
    known = Known(
        material.manifest, material.stores, material.extracts, material.members
    )
    rows = material.board.rows[:sections]
    return [
        (
            run.short_id,
            run.run_id,
            "\n".join(
                _folded(line)
                for line in commands(run.record, known, repeats=row.repeats)
            ),
        )
        for run, row in zip(material.runs[:sections], rows, strict=True)
    ]


def _folded(line: str) -> str:
    """A command line broken at spaces, as a shell takes it."""
    # Not within quotes: a break there would be part of the word.
    if "'" in line:
        return line
    # An option stays with its value.
    kept = re.sub(r" (--?[\w-]+) (?=[^-])", r" \1\0", line)
    lines = textwrap.wrap(kept, 90, break_long_words=False, break_on_hyphens=False)
    return " \\\n    ".join(lines).replace("\0", " ")
