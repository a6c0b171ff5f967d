"""``featcache compare --html``: one self-contained page that needs no network."""

import base64
import hashlib
import math
import re
import shlex
import textwrap
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from featcache.commands.audit.base import named
from featcache.commands.compare import Leaderboard, LeaderboardRow
from featcache.core.io import write_text
from featcache.core.output_file import check_output
from featcache.core.text import counted, minute, percent, printable, sentence
from featcache.dataset import near_duplicates
from featcache.dataset.manifest import Manifest
from featcache.evaluation.runs import TEST, TRAIN
from featcache.report.heatmaps import drawing
from featcache.report.html import (
    dataset_section,
    freshness,
    gaps_section,
    leaderboard_section,
    provenance_section,
    summary_section,
)
from featcache.report.html.audit_section import AuditSection, read_audit
from featcache.report.html.charts import PARTS
from featcache.report.html.context import ReportContext, collect
from featcache.report.html.explain_section import MOST_RUNS, map_sections
from featcache.report.html.map_points import Points, points
from featcache.report.html.reproduce import Known, commands
from featcache.report.html.run_section import Section, section
from featcache.report.html.svg import STYLES, Svg, key, mark
from featcache.report.html.thumbs import (
    COLUMNS,
    TILE,
    TILES,
    Sheets,
    look_alikes,
    sheets,
)
from featcache.report.html.validation_section import read_sections
from featcache.report.tables import CONTROLS, TEST_ONLY_HEADING, legend, subject
from featcache.report.validation_rows import COLUMNS as VALIDATION_COLUMNS

MOST_SECTIONS = 40  # runs with a section of their own; the table has them all
OPEN_SECTIONS = 2
_MARK = '<meta name="generator" content="featcache">'  # of every page
_OVERRIDES = re.compile("[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")
_FILES = {TRAIN: "report.html", TEST: "report-test.html"}


def write(
    reports: Path,
    board: Leaderboard,
    *,
    manifest: Manifest | None = None,
    path: Path | None = None,
    force: bool = False,
    images: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Writes the report of a leaderboard as one HTML file.

    Args:
        reports: ``reports/<dataset>``, where the runs are.
        board: What ``compare`` ranked there.
        manifest: The dataset; without it the page has no map, no thumbnails and no
            files left out, and says so.
        path: The file; by default ``report.html`` in ``reports``, and
            ``report-test.html`` for a leaderboard of the test set.
        force: Replace a file that is there and no page of featcache.
        images: Show thumbnails and heat maps of images.
        tell: Is called with what to know before the page is given to others.

    Returns:
        The file.

    Raises:
        UsageError: The file is there, and must not be replaced.
    """
    path = path or reports / _FILES[board.part]
    check_path(path, force=force)
    line = freshness.mark(reports, board, manifest)
    context = collect(reports, board, manifest)
    write_text(path, render(context, images=images, tell=tell) + line)
    return path


def write_if_stale(
    reports: Path, board: Leaderboard, *, manifest: Manifest, path: Path, **options: Any
) -> bool:
    """As `write`, unless the file shows the leaderboard and all records as they are.

    Args:
        reports: As for `write`, like the next three.
        board: What is ranked.
        manifest: The dataset.
        path: The file.
        options: Further ones of `write`.

    Returns:
        Whether it was written.
    """
    if freshness.is_fresh(path, freshness.mark(reports, board, manifest)):
        return False
    write(reports, board, manifest=manifest, path=path, **options)
    return True


def check_path(path: Path, *, force: bool) -> None:
    """Refuses to write the report over a file that is no report.

    Raises:
        UsageError: The file is there, and must not be replaced.
    """
    check_output(path, "html", force=force, mark=_MARK)


def render(
    context: ReportContext,
    *,
    images: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> str:
    """The page of the records, as text; see `write`."""
    sections = _sections(context)
    map_points = points(context)
    head = _headline(context)
    audit = read_audit(context, head["best"].run_id)
    tiles, pairs = _thumbnails(context, map_points, sections, audit)
    tiles = tiles if images else Sheets(reason="left out of this page")
    most = MOST_RUNS if images else 0
    maps = map_sections(context, context.runs[: len(sections)], most=most)
    sharing = _sharing(tiles, has_maps=any(one.is_shown for one in maps.values()))
    tell(sharing)
    validations = read_sections(context)
    gaps = gaps_section.gaps(context)  # last: all above list what cannot be opened
    css, script = _text("report.css"), _text("report.js")
    return str(
        _environment()
        .get_template("report.html.jinja")
        .render(
            board=context.board,
            classes=context.best.classes,
            subject=subject(context.board),
            legend=legend(context.board),
            reference=context.board.against,
            warnings=[context.complete(line) for line in _warnings(context, audit)],
            head=head,
            controls=CONTROLS,
            test_only=TEST_ONLY_HEADING,
            part=PARTS[context.board.part],
            on_test=context.board.part == TEST,
            table=leaderboard_section.rows(context.board, len(sections)),
            gaps=gaps,
            summary=_summary(context, head["best"], gaps),
            audit=audit,
            sections=sections,
            map_sections=maps,
            validations=validations,
            validation_columns=VALIDATION_COLUMNS,
            ramp=Svg(drawing.ramp()),
            opened=OPEN_SECTIONS,
            map=map_points,
            map_json=_map_json(map_points, tiles) if map_points else None,
            sheets=tiles,
            tile=TILE,
            data=dataset_section.tables(context, pairs),
            audit_again=context.complete(
                f"featcache audit --dataset {shlex.quote(context.board.dataset)}"
            ),
            provenance=provenance_section.tables(context, audit, validations.sections),
            commands=_commands(context, len(sections)),
            machine=provenance_section.machine(),
            sharing=sharing,
            keys=[key(style, line=False) for style in range(STYLES)],
            css=css,
            script=script,
            script_digest=_digest(script),
        )
    )


def _sections(context: ReportContext) -> list[Section]:
    ranked = list(zip(context.board.scored, context.board.rows, strict=True))
    return [section(context, *one) for one in ranked[:MOST_SECTIONS]]


def _summary(
    context: ReportContext, row: LeaderboardRow, gaps: list[gaps_section.Gap]
) -> summary_section.Summary:
    (scored,) = [one for one in context.board.scored if one.run.run_id == row.run_id]
    return summary_section.summary(scored, row, gaps)


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("featcache.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_without_overrides,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "share": _share, "percent": percent, "words": _words, "p_value": _p_value,
        "minute": minute, "sentence": sentence, "with_command": _with_command,
        "unbroken": _unbroken, "breakable": _breakable, "decimals": "{:.3f}".format,
    }  # fmt: skip
    return environment


def _without_overrides(value: Any) -> Any:
    r"""Text with ``\u202e`` and its like spelled out, which turn what follows."""
    return (
        _OVERRIDES.sub(lambda m: printable(m[0]), value) if _is_text(value) else value
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not hasattr(value, "__html__")


def _text(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    """By which the page's policy of content knows its only script."""
    sha = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(sha).decode()}"


def _share(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def _breakable(name: str) -> Svg:
    """A long name that may be broken behind each + and _."""
    name = escape(_without_overrides(name))
    return Svg(re.sub(r"([+_])", r"\1<wbr>", name))


def _with_command(message: str) -> Svg:
    """A message; the command at its end, if there is one, as code."""
    text, mark, command = message.partition(": featcache ")
    markup = _unbroken(f"featcache {command}").text
    code = f":<code class=line>{markup}</code>" if mark else ""
    return Svg(_breakable(text).text + code)


def _unbroken(command: str) -> Svg:
    """A command whose options are not broken behind their dashes."""
    text = escape(_without_overrides(command))
    return Svg(re.sub(r"(?<!\S)--[\w-]+", r"<span class=option>\g<0></span>", text))


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


def _warnings(context: ReportContext, audit: AuditSection | None) -> list[str]:
    board = context.board
    warnings = [f"Not ranked: {line}" for line in board.excluded]
    if line := dataset_section.one_class_values(context):
        warnings.insert(0, line)
    if audit and audit.issues:
        issues = "; ".join(named(one.code, one.title) for one in audit.issues)
        warnings.insert(0, f"The audit found issues: {issues}")
    return [sentence(line) for line in board.warnings + warnings]


def _headline(context: ReportContext) -> dict[str, Any]:
    """The key figures at the top of the page."""
    rows, metric = context.board.rows, context.board.metric
    ranked = [row for row in rows if not row.is_baseline] or rows
    best = ranked[0]
    controls = [row for row in rows if row.is_baseline and row is not best]
    evaluated, on_test = context.evaluated, context.board.part == TEST
    if on_test:
        evaluated = evaluated[evaluated["split"] == TEST]
    return {
        "best": best,
        "value": best.score(metric),
        "ends": best.interval(metric),
        "tied": sum(bool(row.tied) for row in ranked[1:]),
        "control": controls[0] if controls else None,
        "images": len(evaluated),
        "groups": int(evaluated["group"].nunique()),
        "test_images": 0 if on_test else int((evaluated["split"] == TEST).sum()),
    }


def _thumbnails(
    context: ReportContext,
    map_points: Points | None,
    sections: list[Section],
    audit: AuditSection | None,
) -> tuple[Sheets, list[tuple[str, str]] | None]:
    """Tiles of all images on the page, and look-alikes among those of the runs."""
    if context.manifest is None:
        return Sheets(reason="the cache of the dataset is not available"), None
    paths = context.manifest.ok.set_index("image_id")["path"]
    shown_ids = [error.image_id for one in sections for error in one.errors]
    shown_ids += audit.image_ids if audit else []
    shown_ids += list(map_points.ids) if map_points else []
    known = [i for i in dict.fromkeys(shown_ids) if i in paths.index]
    tiles = sheets(context.manifest.root, paths.loc[known])
    groups = pd.Series(context.images["group"])
    pairs = look_alikes(tiles.small, groups, above=near_duplicates.CORRELATION)
    return tiles, pairs


def _sharing(tiles: Sheets, *, has_maps: bool) -> str:
    """What of the images is in the page, for who gives it to others."""
    names = "the names of image files"
    parts = [f"thumbnails of {counted(len(tiles.tiles), 'image')}"] * bool(tiles.tiles)
    parts += ["heat maps over images"] * has_maps
    contents = f"{', '.join(parts)} and {names}" if parts else names
    return f"The page contains {contents}: share it only where these may be shared."


def _map_json(map_points: Points, tiles: Sheets) -> dict[str, Any]:
    """What the script needs to draw the map."""
    return {
        "layouts": map_points.layouts,
        "colours": map_points.colours,
        "paths": map_points.paths,
        "chances": map_points.chances,
        "tiles": [tiles.tiles.get(image_id, -1) for image_id in map_points.ids],
        "columns": COLUMNS,
        "on_sheet": TILES,
        "marks": [mark(style, 4.2) for style in range(STYLES)],
    }


def _commands(context: ReportContext, sections: int) -> list[tuple[str, str, str]]:
    """Short id, id and command lines of each run that has a section."""
    known = Known(context.manifest, context.stores, context.extracts, context.members)
    rows = context.board.rows[:sections]
    return [
        (
            run.short_id,
            run.run_id,
            "\n".join(
                _folded(context.complete(line))
                for line in commands(run.record, known, repeats=row.repeats)
            ),
        )
        for run, row in zip(context.runs[:sections], rows, strict=True)
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
