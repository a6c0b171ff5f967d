"""Records of runs and stores that were never made, each field as a writer has it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featcache.core import checked
from featcache.evaluation import external, identity, runs
from featcache.evaluation.external import Validation, ValidationRecord
from featcache.evaluation.figures import Figure
from featcache.evaluation.record import RunRecord
from featcache.evaluation.runs import Predictions, Run
from featcache.features.contract import Contract

N, D, CLASSES = 90, 6, ("COVID", "NORMAL", "Viral Pneumonia")
_CONTRACT = {
    "backbone": "toy", "input_size": 32, "preprocess": "tf", "precision": "float32",
    "dtype": "float32",
}  # fmt: skip
_BLOCK = _CONTRACT | {
    "weights": "random", "contract_id": "c", "store": "toy.h5", "tap": None, "dim": D,
}  # fmt: skip
_SPLIT = {
    "name": "s", "folds": 5, "test_size": 0.2, "seed": 0, "group_by": "patient",
    "repeat": 0,
}  # fmt: skip
_TUNING = {"fold": 0, "selected": {"C": 1}, "log_loss": 0.5, "folds": 3, "tried": []}
_TRAINING = {
    "epochs": 1, "best_epoch": 1, "minutes": 0.1, "stopped": "", "start": {},
    "best_loss": None,
}  # fmt: skip
_CALIBRATION = {
    "method": "none", "parameters": {}, "folds": ["none"] * 5, "kept": False,
} | {
    f"{name}_{when}": 0.5
    for name in ("log_loss", "ece", "accuracy", "auc")
    for when in ("before", "after")
}  # fmt: skip


def make_contract(**fields: Any) -> Contract:
    """A contract as it is read from a store; 32 px unless told otherwise."""
    return Contract.from_json(_CONTRACT | fields)


def make_record(**fields: Any) -> RunRecord:
    """A record as it is read from run.json: of a head on one block of features.

    Args:
        **fields: Of run.json. Of ``features``, ``split``, ``head_is``, ``calibration``,
            ``tuning`` and ``trainings`` what is left out is filled in; fields of a
            block given here are those of every block.
    """
    record: dict[str, Any] = {
        "schema": 1, "status": "ok", "created": "2026-01-01T00:00:00.000+00:00",
        "dataset": "chest", "backbone": "toy", "taps": [], "views": 0, "policy": None,
        "tta": False, "classes": list(CLASSES), "exclude": [], "seed": 0, "n_images": N,
        "n_groups": N // 2, "evaluation_id": "e", "head": "logreg", "recipe_id": "r",
        "versions": {"numpy": "2"},
    }  # fmt: skip
    results = {
        "model": "model.skops", "fit_seconds": 1.0, "fold_seconds": [1.0] * 5,
        "predict_seconds": 0.1, "tuning": [], "calibration": None, "scores": {},
    }  # fmt: skip
    failed = fields.get("status") == "failed"
    record |= ({"reason": "no luck"} if failed else results) | fields
    split = _SPLIT | fields.get("split", {})
    head_is = {"head": record["head"], "revision": 1, "params": {}}
    head_is |= fields.get("head_is", {})
    if embedding := head_is.get("embedding"):
        head_is["embedding"] = {"revision": 1} | embedding
    own = {key: record[key] for key in _BLOCK.keys() & record.keys()}
    calibration = fields.get("calibration")
    return RunRecord.from_json(
        checked.with_digest(
            record
            | {
                "split": {"base": split["name"]} | split,
                "head_is": head_is,
                "features": [_BLOCK | own | b for b in fields.get("features", [{}])],
                "calibration": None
                if calibration is None
                else _CALIBRATION | calibration,
                "tuning": [_TUNING | one for one in fields.get("tuning", [])],
                "trainings": [_TRAINING | one for one in fields.get("trainings", [])],
            }
        )
    )


def make_run(
    reports: Path,
    run_id: str,
    table: pd.DataFrame | None = None,
    **fields: Any,
) -> Run:
    """Writes a run.

    Args:
        reports: ``reports/<dataset>``.
        run_id: Its id.
        table: Its predictions.csv; without one the run has none.
        **fields: See `make_record`; ``evaluation_id`` is that of the table, unless
            that is of the test set alone.
    """
    if table is not None and (table["fold"] >= 0).any():
        folds = table["fold"].to_numpy(int)
        fields["evaluation_id"] = identity.evaluation_id(table, folds)
    folder = reports / "runs" / run_id
    with runs.saving(folder, make_record(**fields)) as temp:
        if table is not None:
            table.to_csv(temp / runs.PREDICTIONS, index=False)
    return runs.load(folder)


def make_validation(
    reports: Path, run_id: str, classes: Sequence[str], **fields: Any
) -> ValidationRecord:
    """Keeps a validation on 60 images of 30 groups, of which one more was left out.

    Args:
        reports: ``reports/<dataset>`` of the run.
        run_id: The run.
        classes: Its classes.
        **fields: Of `Validation` that are other than usual.
    """
    rng = np.random.default_rng(0)
    y = rng.integers(len(classes), size=60)
    p = (rng.dirichlet(np.ones(len(classes)), 60) + np.eye(len(classes))[y]) / 2
    groups = np.arange(60) // 2
    scores = external.evaluate(Predictions(y, p, groups), classes)
    inside = external.evaluate(Predictions(y, np.roll(p, 1, 0), groups), classes)
    shares = [float((y == c).mean()) for c in range(len(classes))]
    sexes = np.where(groups % 2, "F", "M")
    usual = {
        "dataset": "elsewhere",
        "group_by": "patient",
        "classes": list(classes),
        "mapping": {"ill & well": classes[0]},
        "n": 60,
        "n_groups": 30,
        "images_sha256": "0" * 64,
        "unreadable": 1,
        "excluded_overlap": external.Overlap(
            n=1,
            identical=1,
            near_duplicates=0,
            same_group=0,
            near_duplicates_checked=True,
            images=[external.OverlapImage("0" * 64, "<b>.png", "identical", "0" * 64)],
        ),
        "own": external.OwnImages(identical=0, same_group=0),
        "as_found": scores,
        "prevalence_corrected": external.PrevalenceCorrected(
            training=dict.fromkeys(classes, 1 / len(classes)),
            estimated={
                name: Figure(share, share / 2, min(2 * share, 1))
                for name, share in zip(classes, shares, strict=True)
            },
            converged=True,
            scores=scores,
        ),
        "recalibrated": external.Recalibrated(
            scores=None, method=None, folds=0, reason="too few groups"
        ),
        "difference": external.differences(scores, inside),
        "subgroups": external.subgroups(
            Predictions(y, p, groups), classes, {"sex": sexes}
        ),
        "refused_share": Figure(0.1, 0.05, 0.2),
    }
    record = ValidationRecord(
        schema=external.SCHEMA,
        created="2026-01-01T00:00:00+00:00",
        run_id=run_id,
        result=Validation(**usual | fields),
    )
    external.write_validation(reports, record)
    return record


def rewrite(folder: Path, **changes: Any) -> None:
    """Changes fields of a run's record, which then names the files that are there."""
    others = [path for path in folder.iterdir() if path.name != "run.json"]
    record = json.loads((folder / "run.json").read_text())
    record |= {"files": checked.file_digests(others)} | changes
    checked.write_record(folder / "run.json", record)
