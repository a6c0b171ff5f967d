"""A dataset with a run, an audit and answers."""

from pathlib import Path

import numpy as np
import pandas as pd
from records import make_run
from toys import CLASSES, N, image_ids

from featcache.commands.review import decisions as log
from featcache.commands.review.decisions import ANSWER, FINAL, Decision
from featcache.core.io import write_json
from featcache.dataset.manifest import Manifest
from featcache.evaluation import runs

IDS = image_ids()
Y = np.array([i // 2 % 3 for i in range(N)])  # the classes of toys.make_dataset
FOLDS = np.arange(N) // 2 // 3 % 5 - 1  # whole patients; the first part is the test set
WRONG = {6: 0.9, 12: 0.6, 7: 0.8}  # images of train, and how sure the run is of another


def add_run(dataset: Manifest, reports: Path, **fields: object) -> runs.Run:
    """A run that is wrong on `WRONG`, and right and sure of itself on all others."""
    p = np.full((N, 3), 0.01)
    p[np.arange(N), Y] = 0.98
    for row, share in WRONG.items():
        p[row] = (1 - share) / 2
        p[row, (Y[row] + 1) % 3] = share
    table = runs.predictions_table(dataset.ok, FOLDS, p, [*CLASSES])
    return make_run(reports / dataset.dataset, "logreg-toy-0000000001", table, **fields)


def add_audit(
    dataset: Manifest, reports: Path, code: str, rows: pd.DataFrame | None
) -> None:
    """What an audit leaves of one check."""
    home = reports / dataset.dataset
    checks = [
        {"code": one, "status": "passed", "message": ""} for one in ("FC002", "FC040")
    ]
    write_json(home / "audit.json", {"checks": checks})
    if rows is not None:
        (home / "audit").mkdir(exist_ok=True)
        rows.to_csv(home / "audit" / f"{code}.csv", index=False)


def line(reader: str, row: int, answer: str, **fields: object) -> Decision:
    """An answer to an image, before the model was shown."""
    values: dict[str, object] = {
        "reader": reader,
        "time": "2026-01-01T00:00:00.000+00:00",
        "image_id": IDS[row],
        "queue": "random",
        "event": ANSWER,
        "model_shown": False,
        "label": CLASSES[Y[row]],
        "before": answer,
    }
    return Decision(**(values | fields))  # type: ignore[arg-type]


def final(reader: str, row: int, answer: str, before: str) -> Decision:
    """An answer after the model was shown."""
    fields = {"event": FINAL, "model_shown": True, "after": answer}
    return line(reader, row, before, **fields)


def write(dataset: Manifest, *lines: Decision) -> None:
    """Appends answers."""
    with log.appending(dataset.folder) as appender:
        appender.append(lines)
