"""The leaderboard's table: results, controls, and runs of the test set alone."""

import math
from typing import Any

from featcache.commands.compare import Leaderboard
from featcache.evaluation.metrics import METRICS
from featcache.evaluation.runs import TEST
from featcache.report.html.svg import interval


def rows(board: Leaderboard, sections: int) -> dict[str, Any]:
    """Rows of results and of controls, with strips on one axis."""
    metric = board.metric
    references = [row for row in board.rows if row.run_id == board.against]
    reference = (references or board.rows)[0]
    axis, band = _axis(board), reference.interval(metric)
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
        "results": [line for line in lines if not line["row"].is_baseline],
        "controls": [line for line in lines if line["row"].is_baseline],
        "test_only": [
            {"row": row, "anchor": None, "ends": None, "strip": ""}
            for row in board.test_only
        ],
        "axis": axis,
        "more": [name for name in METRICS if name != metric],
        "has_test": board.part != TEST
        and any(row.test_accuracy is not None for row in board.all_rows),
        "reference_rank": reference.rank,
        "reference_run": reference.run,
        "has_difference": any(row.p_holm is not None for row in board.rows),
        "choices": {
            name: sorted({str(getattr(row, name)) for row in board.all_rows})
            for name in ("backbone", "head")
        },
    }


def _axis(board: Leaderboard) -> tuple[float, float]:
    """Ends of the strips: what lies far below the others becomes an arrow."""
    metric = board.metric
    values = [row.score(metric) for row in board.rows]
    values += [v for row in board.rows for v in row.interval(metric) or ()]
    finite = sorted(value for value in values if math.isfinite(value)) or [0.0, 1.0]
    low, high = finite[0], finite[-1]
    best = board.rows[0].interval(metric)
    if best and METRICS[metric]:
        low = max(low, high - 4 * (best[1] - best[0]))
    low, high = math.floor(20 * low) / 20, math.ceil(20 * high) / 20
    return low, max(high, low + 0.05)
