"""A leaderboard as JSON, CSV, markdown, LaTeX, or text columns for a terminal."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Collection
from typing import Any

from featcache.commands.compare import (
    METRICS,
    Confusion,
    Leaderboard,
    LeaderboardRow,
)
from featcache.core.text import counted, markdown_cell, no_formula
from featcache.evaluation.record import SEVERAL
from featcache.evaluation.runs import TEST, TRAIN

Column = tuple[str, bool, Callable[[LeaderboardRow], str]]

METRIC_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "macro_f1": "macro F1",
    "auc": "AUC",
    "log_loss": "log-loss",
    "brier": "Brier",
    "ece": "ECE",
}
CONTROLS = "no network, no learning, or only part of the image"
CONTROLS_HEADING = f"Baselines and controls: {CONTROLS}"
TEST_ONLY = "test set only"
TEST_ONLY_HEADING = "Test set only: no out-of-fold predictions, so not ranked above"
DIFFERENCE_ENDS = "diff 95 %"
# What a narrow terminal does without, the least important first.
_DROP_FIRST = (
    *("McNemar", "fit s", "ECE", "Brier", "macro F1", "p repeats", "log-loss"),
    *(
        "balanced",
        "AUC",
        "accuracy",
        "preprocess",
        "aug. views",
        DIFFERENCE_ENDS,
        "test 95 %",
        "repeats",
    ),
    *("options", "ranks", "p", "P not better", "diff", "test"),
)
_USUAL = ("imagenet", "none", "")  # weights that go without saying


def drop_first(board: Leaderboard) -> list[str]:
    """Headings that a narrow terminal does without, the least important first."""
    return [name for name in _DROP_FIRST if name != METRIC_NAMES[board.metric]]


def _columns(board: Leaderboard) -> list[Column]:
    """What people read: a heading, whether it is a number, and the cell of a row."""
    metric, shared = board.metric, _shared(board)
    return [
        ("#", True, lambda row: str(row.rank)),
        ("run", False, lambda row: row.run),
        ("label", False, lambda row: row.label or ""),
        ("backbone", False, _backbone),
        ("preprocess", False, _preprocess),
        ("head", False, lambda row: row.head),
        ("options", False, lambda row: _differing(row, shared)),
        ("aug. views", True, lambda row: str(row.views or "")),
        (METRIC_NAMES[metric], True, lambda row: _share(row.score(metric))),
        ("95 %", True, lambda row: _interval(row, metric)),
        ("diff", True, lambda row: _signed(row.difference)),
        (DIFFERENCE_ENDS, True, _difference_ends),
        ("p", True, lambda row: _p(row.p_holm)),
        ("tied", False, _tied),
        ("ranks", True, _ranks),
        ("P not better", True, lambda row: _p(row.p_not_better)),
        ("McNemar", True, lambda row: _p(row.p_mcnemar)),
        *(_score(name) for name in METRICS if name not in (metric, "brier")),
        ("repeats", True, _repeats),
        ("p repeats", True, lambda row: _p(row.p_repeats)),
        ("test", True, lambda row: _share(row.test_accuracy)),
        ("test 95 %", True, lambda row: _interval(row, "test_accuracy")),
        ("fit s", True, lambda row: f"{row.fit_seconds:.1f}"),
    ]


def _what(row: LeaderboardRow) -> tuple[Any, ...]:
    return row.backbone, row.weights, row.head


def _facts(row: LeaderboardRow) -> list[tuple[Any, list[str]]]:
    """In words, what tells rows of one head on one backbone apart.

    The recipe of views is compared by itself: runs without views have none to share.
    """
    size = f"{row.input_size} px" if row.input_size else ""
    words = [size, *row.options.split(", ")]
    facts = [(_what(row), list(filter(None, words)))]
    if row.policy:
        facts.append(((*_what(row), "views"), re.split(r" (?=--)", row.policy)))
    return facts


def _shared(board: Leaderboard) -> dict[Any, set[str]]:
    """The facts that all rows of one head on one backbone have in common."""
    shared: dict[Any, set[str]] = {}
    for what, facts in (pair for row in board.all_rows for pair in _facts(row)):
        shared[what] = shared.get(what, set(facts)) & set(facts)
    return shared


def _differing(row: LeaderboardRow, shared: dict[Any, set[str]]) -> str:
    differing = [
        fact
        for what, facts in _facts(row)
        for fact in facts
        if fact not in shared[what]
    ]
    return ", ".join([*([TEST_ONLY] if row.is_test_only else []), *differing])


def _preprocess(row: LeaderboardRow) -> str:
    """The input scaling of a network; a baseline has none."""
    return "" if row.weights == "none" else row.preprocess or SEVERAL


def _backbone(row: LeaderboardRow) -> str:
    unusual = row.weights not in _USUAL
    return f"{row.backbone} ({row.weights})" if unusual else row.backbone


def _score(name: str) -> Column:
    return METRIC_NAMES[name], True, lambda row: _share(row.score(name))


def _share(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:+.3f}"


def _p(value: float | None) -> str:
    return "<0.001" if value is not None and value < 0.001 else _share(value)


def _interval(row: LeaderboardRow, name: str) -> str:
    ends = row.interval(name)
    return "-".join(map(_share, ends)) if ends else ""


def _difference_ends(row: LeaderboardRow) -> str:
    """The 95 % interval of the difference, empty where there is none."""
    ends = [_signed(row.difference_low), _signed(row.difference_high)]
    return " to ".join(ends) if all(ends) else ""


def _ranks(row: LeaderboardRow) -> str:
    if row.rank_low == row.rank_high:
        return str(row.rank_low or "")
    return f"{row.rank_low}-{row.rank_high}"


def _tied(row: LeaderboardRow) -> str:
    if row.is_test_only:
        return ""
    if row.tied is None:
        return "best" if row.rank == 1 else "this"
    return "tied" if row.tied else ""


def _repeats(row: LeaderboardRow) -> str:
    if row.repeats < 2:
        return ""
    return f"{row.accuracy_mean:.3f} ± {row.accuracy_sd:.3f} ({row.repeats})"


def columns(board: Leaderboard) -> list[tuple[str, bool, list[str]]]:
    """The columns a person reads: heading, whether numeric, and the cells.

    A column without a single entry (no test set, say) is left out.
    """
    filled = [
        (heading, numeric, [cell(row) for row in board.all_rows])
        for heading, numeric, cell in _columns(board)
    ]
    return [column for column in filled if any(column[2])]


def parts(board: Leaderboard) -> dict[int, str]:
    """Headings of the parts below the results, by the index of their first row.

    Baselines and controls have none if no result is above them.
    """
    headings = {}
    controls = [i for i, row in enumerate(board.rows) if row.is_baseline]
    if controls and controls[0]:
        headings[controls[0]] = CONTROLS_HEADING
    if board.test_only:
        headings[len(board.rows)] = TEST_ONLY_HEADING
    return headings


_PARTS = {TRAIN: "out-of-fold on", TEST: "on the test set of"}


def caption(board: Leaderboard, hidden: Collection[str] = ()) -> str:
    """What was ranked, by what, on how many images, and what the columns ask."""
    text = f"{board.dataset}: {subject(board)}; {legend(board, hidden)}"
    return f"{text}; more in docs/explanations/compare.md" if board.rows[1:] else text


def subject(board: Leaderboard) -> str:
    """What was ranked, by what, and on how many images."""
    top = board.rows[0]
    return (
        f"{counted(top.n, 'image')} of {counted(top.n_groups, 'group')}, "
        f"{_PARTS[board.part]} split {board.split}, ranked by {board.metric}"
    )


def legend(board: Leaderboard, hidden: Collection[str] = ()) -> str:
    """What the columns of a leaderboard ask, but for those that are hidden."""
    text = "95 % intervals by bootstrap over groups"
    if board.test_only:
        text += f"; {TEST_ONLY}: {len(board.test_only)} further, by test accuracy"
    if len(board.rows) < 2:
        return text
    questions = {
        "diff": f"difference to {_held_against(board)}",
        "p": "would chance alone give such a difference (paired test over groups)?",
        "tied": "Holm-adjusted p >= 0.05",
        "ranks": "which places may the run have (95 %, all runs against all, so they "
        "can overlap where p finds a difference)?",
        "P not better": "how likely is the run at least as good as "
        f"{_held_against(board)}?",
    }
    visible = [
        f"{name}: {what}" for name, what in questions.items() if name not in hidden
    ]
    return "; ".join([text, *visible])


def differences(board: Leaderboard) -> str:
    """All differences with their intervals, in a sentence."""
    each = [
        f"run {row.run} ({row.head}) {_signed(row.difference)} ({ends})"
        for row in board.rows
        if (ends := _difference_ends(row))
    ]
    name = board.metric.replace("_", " ")
    return (
        f"Difference in {name} to {_held_against(board)}, with its 95 % interval: "
        f"{'; '.join(each) or 'unknown, as there is no other run or a single group'}."
    )


def _held_against(board: Leaderboard) -> str:
    """The run that differences and tests refer to, in words."""
    if board.against == board.rows[0].run_id:
        return "the best"
    return "".join(f"run {r.run}" for r in board.rows if r.run_id == board.against)


def to_json(board: Leaderboard) -> str:
    """A list of rows; what has no value is null."""
    rows = [row.to_json() for row in board.all_rows]
    return json.dumps(rows, indent=2, allow_nan=False)


def to_csv(board: Leaderboard) -> str:
    """All fields of all rows, with a header.

    Text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(vars(board.rows[0])), lineterminator="\n")
    writer.writeheader()
    for row in board.all_rows:
        cells = {
            name: no_formula(value) if isinstance(value, str) else value
            for name, value in row.to_json().items()
        }
        writer.writerow(cells)
    return text.getvalue().rstrip("\n")


def to_markdown(board: Leaderboard) -> str:
    """A table in GitHub's markdown, with what a reader of it has to know below."""
    table = columns(board)
    lines = [
        [heading for heading, _, _ in table],
        ["---:" if numeric else "---" for _, numeric, _ in table],
        *([markdown_cell(cell) for cell in row] for row in _cells(table)),
    ]
    for line, heading in reversed(parts(board).items()):
        lines.insert(line + 2, ["", "", f"*{heading}*", *[""] * (len(table) - 3)])
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n\n".join([text, f"{markdown_cell(caption(board))}.", *_notes(board)])


def _notes(board: Leaderboard) -> list[str]:
    """The warnings and what was not ranked, as a list in markdown."""
    lines = [f"- **Warning:** {markdown_cell(one)}" for one in board.warnings]
    lines += [f"- Not ranked: {markdown_cell(one)}" for one in board.excluded]
    return ["\n".join(lines)] if lines else []


def to_latex(board: Leaderboard) -> str:
    """A table for LaTeX with the package booktabs."""
    table = columns(board)
    layout = "".join("r" if numeric else "l" for _, numeric, _ in table)
    head = " & ".join(_escape(heading) for heading, _, _ in table)
    body = [" & ".join(map(_escape, line)) + r" \\" for line in _cells(table)]
    for line in reversed(parts(board)):
        body.insert(line, r"\midrule")
    return "\n".join(
        [
            rf"% {' '.join(caption(board).split())}",
            rf"\begin{{tabular}}{{{layout}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def _escape(cell: str) -> str:
    if re.match(r"[+-]\d", cell):
        return re.sub(r"[+-][\d.]+", r"$\g<0>$", cell)
    # Only an interval's dash is a range; a name keeps its hyphens.
    text = cell.translate(_LATEX).replace("<", "$<$")
    return text.replace("-", "--") if cell[:1].isdigit() else text


def _cells(table: list[tuple[str, bool, list[str]]]) -> list[list[str]]:
    return [list(line) for line in zip(*(cells for _, _, cells in table), strict=True)]


FORMATS: dict[str, Callable[[Leaderboard], str]] = {
    "markdown": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "latex": to_latex,
}


def confusion_parts(matrix: Confusion) -> dict[str, list[list[str]]]:
    """The confusion matrices as text: class, counts, and its scores, a row each."""
    both = (("out-of-fold", matrix.train, TRAIN), ("test", matrix.test, TEST))
    parts = {
        name: (counts, matrix.scores[part])
        for name, counts, part in both
        if counts is not None
    }
    return {
        part: [
            [name, *map(str, counts[i]), *(_share(of[i]) for of in scores.values())]
            for i, name in enumerate(matrix.classes)
        ]
        for part, (counts, scores) in parts.items()
    }
