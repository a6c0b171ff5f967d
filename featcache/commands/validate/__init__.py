"""Validation: a frozen model on a dataset that it never saw, so that it is not fooled.

`labels` maps external labels to classes, `overlap` leaves out what was in training,
`base` has what is needed of a model; the statistics and the record are those of
``evaluation.external``.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from featcache.commands.validate.base import Model
from featcache.commands.validate.labels import map_labels, near_names
from featcache.commands.validate.overlap import own_images, without_overlap
from featcache.core.io import digest
from featcache.core.progress import SILENT, Reporter
from featcache.core.text import check_name
from featcache.dataset.manifest import Manifest
from featcache.deploy.trained import Answers, TrainedModel
from featcache.errors import DatasetError
from featcache.evaluation import external
from featcache.evaluation.external import (
    SCHEMA,
    Overlap,
    OverlapImage,
    PrevalenceCorrected,
    Recalibrated,
    Scores,
    Validation,
    ValidationRecord,
)
from featcache.evaluation.figures import Figure, shares
from featcache.evaluation.operating_points import OperatingPoint
from featcache.evaluation.runs import Predictions

__all__ = [
    "Answers",
    "Model",
    "Overlap",
    "OverlapImage",
    "PrevalenceCorrected",
    "Recalibrated",
    "Validation",
    "ValidationRecord",
    "keep",
    "validate",
]


def validate(
    model: Model,
    manifest: Manifest,
    *,
    mapping: Mapping[str, str] | None = None,
    by: Sequence[str] = (),
    reporter: Reporter = SILENT,
) -> Validation:
    """Scores a frozen model on an external dataset.

    Images that were in training, near-duplicates of these, and the groups of both are
    left out first; other images of the model's own dataset are counted. All figures
    have intervals over groups.

    Args:
        model: The model.
        manifest: The external dataset, as it was scanned or narrowed.
        mapping: Its labels that are named otherwise than the model's classes: label
            to class.
        by: Columns of the manifest whose values are subgroups.
        reporter: Hears of progress.

    Raises:
        UnknownNameError: A mapping or column that does not exist.
        DatasetError: A label that is no class, or no image to score.
    """
    mapping, classes = dict(mapping or {}), list(model.classes)
    map_labels(manifest.ok["label"].tolist(), classes, mapping)
    _check_columns(manifest, by)
    rest, overlap = without_overlap(
        manifest, model.training_ids, model.training_hashes, reporter=reporter
    )
    answers = model.score(rest, reporter=reporter)
    table = _answered(rest, answers)
    y = map_labels(table["label"].tolist(), classes, mapping)
    data = Predictions(y, np.asarray(answers.p, float), table["group"].to_numpy(str))
    as_found = external.evaluate(data, classes, model.points)
    is_known = np.full(len(y), answers.refused is not None)
    refused = np.zeros(len(y), bool) if answers.refused is None else answers.refused
    (refused_share,) = shares(
        refused[:, None], is_known[:, None], data.groups, reasons=["no rule at hand"]
    )
    return Validation(
        dataset=manifest.dataset,
        group_by=manifest.settings.group_by,
        classes=classes,
        mapping=mapping,
        n=as_found.n,
        n_groups=as_found.n_groups,
        images_sha256=digest(sorted(table["image_id"])),
        unreadable=len(rest.ok) - len(table),
        excluded_overlap=overlap,
        own=own_images(table, model.other_ids),
        as_found=as_found,
        prevalence_corrected=_prevalence_corrected(data, model),
        recalibrated=_recalibrated(data, classes, model.points),
        difference=_difference(as_found, data, model),
        subgroups=external.subgroups(
            data, classes, {name: table[name].to_numpy() for name in by}
        ),
        refused_share=refused_share,
        without_refused=_without(refused, data, model),
    )


def keep(result: Validation, model: TrainedModel, reports: Path) -> Path:
    """Keeps a validation among the reports of the dataset that a model is from.

    Args:
        result: The validation.
        model: What was validated.
        reports: The folder of runs of all datasets.

    Returns:
        The file: ``<dataset>/validations/<external dataset>-<short id>.json`` there.
        An earlier one is replaced.

    Raises:
        UsageError: A bundle names its dataset as no folder can be named.
    """
    check_name(model.dataset, "dataset")
    record = ValidationRecord(
        schema=SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        run_id=model.name,
        bundle_sha256=model.bundle_sha256,
        result=result,
    )
    return external.write_validation(reports / model.dataset, record)


def _check_columns(manifest: Manifest, by: Sequence[str]) -> None:
    columns = list(manifest.table.columns)
    for name in by:
        if name not in columns:
            near = near_names(name, columns)
            raise DatasetError(
                f"`by` to name a column of the manifest: {', '.join(columns)}",
                repr(name),
                f"Did you mean {' or '.join(near)}?" if near else "Choose one of them.",
            )


def _answered(manifest: Manifest, answers: Answers) -> pd.DataFrame:
    """The rows of the images that the model could read, in the order of its answers."""
    if not len(answers.image_ids):
        raise DatasetError(
            f"none of the {len(manifest.ok)} images of {manifest.dataset} can be read",
            "Scan the source at its current location.",
        )
    table: pd.DataFrame = manifest.ok.set_index("image_id", drop=False)
    return table.loc[list(answers.image_ids)]


def _prevalence_corrected(data: Predictions, model: Model) -> PrevalenceCorrected:
    correction = external.correct_priors(data.p, data.groups, model.training_shares)
    corrected = Predictions(data.y, correction.p, data.groups)
    classes = list(model.classes)
    return PrevalenceCorrected(
        training=dict(zip(classes, correction.training.tolist(), strict=True)),
        estimated=dict(zip(classes, correction.estimated, strict=True)),
        converged=correction.converged,
        scores=external.evaluate(corrected, classes, model.points),
    )


def _recalibrated(
    data: Predictions, classes: Sequence[str], points: Sequence[OperatingPoint]
) -> Recalibrated:
    result = external.recalibrate(data)
    if result.p is None or result.record is None:
        return Recalibrated(scores=None, method=None, folds=0, reason=result.reason)
    recalibrated = Predictions(data.y, result.p, data.groups)
    return Recalibrated(
        scores=external.evaluate(recalibrated, classes, points),
        method=result.record.method,
        folds=result.folds,
    )


def _difference(as_found: Scores, data: Predictions, model: Model) -> dict[str, Figure]:
    if model.internal is None or not np.isin(model.internal.y, data.y).any():
        return {}
    internal = external.internal_scores(
        model.internal, data, model.classes, model.points
    )
    return external.differences(as_found, internal)


def _without(refused: np.ndarray, data: Predictions, model: Model) -> Scores | None:
    if refused.all() or not refused.any():
        return None
    kept = Predictions(data.y[~refused], data.p[~refused], data.groups[~refused])
    return external.evaluate(kept, model.classes, model.points)
