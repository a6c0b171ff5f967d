"""Queues: which images are looked at, in which order, and why."""

from shlex import quote
from typing import Any

import numpy as np
import pandas as pd

from featcache.commands.review.base import Item, QueueKind, ReviewContext
from featcache.commands.review.informative import informative
from featcache.core.io import read_json
from featcache.core.registry import Registry
from featcache.deploy import training_images
from featcache.deploy.refusal import held_out_reasons
from featcache.errors import DatasetError, RunError

LABELS, NEAR = "FC040", "FC002"  # checks of the audit


def _suspects(context: ReviewContext, count: int) -> list[Item]:
    """FC040 as the audit has ranked them, but for labels that were changed since."""
    columns = ["image_id", "label", "suggested", "probability", "confident"]
    table = _of_audit(context, LABELS, columns)
    items = []
    for row in table.to_dict("records"):
        if context.label(row["image_id"]) != row["label"]:
            continue
        sure = " confidently" if row["confident"] == "True" else ""
        probability = f"a probability of {float(row['probability']):.3f}"
        reason = (
            f"The audit ({LABELS}): the best run{sure} predicts {row['suggested']}, "
            f"and gives the label {row['label']} {probability}."
        )
        items.append(Item(row["image_id"], reason))
    return items


def _near_duplicates(context: ReviewContext, count: int) -> list[Item]:
    """FC002: both images of each pair, once each."""
    names = [f"{name}_{side}" for name in ("image_id", "label") for side in "ab"]
    table = _of_audit(context, NEAR, names)
    reasons: dict[str, str] = {}
    for row in table.to_dict("records"):
        for one, other in ("ab", "ba"):
            image, twin = row[f"image_id_{one}"], row[f"image_id_{other}"]
            here, there = context.label(image), context.label(twin)
            if here and there and here != there:
                path = str(context.images["path"][twin])
                reasons.setdefault(
                    image,
                    f"The audit ({NEAR}): it is labelled {here}, and looks the same as "
                    f"{path}, which is labelled {there}.",
                )
    return [Item(*pair) for pair in reasons.items()]


def _errors(context: ReviewContext, count: int) -> list[Item]:
    """Wrong predictions, the one with the highest probability first."""
    table, p = context.out_of_fold()
    classes = np.array(context.run().classes)
    predicted = classes[p.argmax(axis=1)]
    rows = table.assign(predicted=predicted, probability=p.max(axis=1))
    rows = rows[rows["predicted"] != rows["label"]]
    rows = rows.sort_values(["probability", "image_id"], ascending=[False, True])
    return [
        Item(
            str(row.image_id),
            f"The best run predicts {row.predicted} with a probability of "
            f"{row.probability:.3f}; the label is {row.label}.",
        )
        for row in rows.itertuples()
    ]


def _refused(context: ReviewContext, count: int) -> list[Item]:
    """Images unlike those of the other folds, the most unlike first."""
    table, _ = context.out_of_fold()
    ids = table["image_id"].tolist()
    X = context.embeddings(ids)
    try:
        measured = training_images.measure(context.manifest, ids, context.reporter)
        order, reasons = held_out_reasons(
            X,
            measured.statistics,
            table["group"].to_numpy(str),
            table["label"].to_numpy(str),
            table["fold"].to_numpy(int),
        )
    except DatasetError as error:
        raise RunError(
            f"out-of-fold images cannot be refused here ({error.problem})",
            f"Scan them where they are now: {context.manifest.scan_again()}; or choose "
            "another `queue`.",
        ) from error
    return [Item(ids[n], f"Refused: {reasons[n]}.") for n in order]


def _informative(context: ReviewContext, count: int) -> list[Item]:
    table, p = context.out_of_fold()
    ids = table["image_id"].tolist()
    rows = informative(context.embeddings(ids), p, count, context.seed)
    return [
        Item(
            ids[n],
            "Most informative: the best run's highest probability is "
            f"{p[n].max():.3f}, and the image is unlike those before it.",
        )
        for n in rows
    ]


def _random(context: ReviewContext, count: int) -> list[Item]:
    ids = np.sort(context.images.index.to_numpy(str))
    order = np.random.default_rng(context.seed).permutation(len(ids))
    return [Item(str(ids[n]), "Drawn at random, as a control.") for n in order]


QUEUES = Registry(
    "queue",
    {
        "labels": QueueKind("labels that the audit doubts (FC040)", _suspects),
        "duplicates": QueueKind(
            "near-duplicates with different labels (FC002)", _near_duplicates
        ),
        "errors": QueueKind("the best run's most confident errors", _errors),
        "refused": QueueKind("images unlike the others (refusal)", _refused),
        "informative": QueueKind("unsure of and unlike each other", _informative),
        "random": QueueKind("drawn at random, as a control", _random),
    },
)


def _of_audit(context: ReviewContext, code: str, columns: list[str]) -> pd.DataFrame:
    """The rows of a check; none where the audit had nothing to report.

    Raises:
        RunError: There is no audit, or the check did not apply.
        DatasetError: Its rows were edited.
    """
    again = f"featcache audit --dataset {quote(context.manifest.dataset)}"
    check = _check(context, code)
    if check is None:
        raise RunError(
            f"an audit of {context.manifest.dataset}", "none", f"Run: {again}"
        )
    if check["status"] == "not-applicable":
        raise RunError(
            f"the audit has no answer to {code}: {check['message']}",
            f"Then run: {again}",
        )
    path = context.reports / "audit" / f"{code}.csv"
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table = table[columns]
        if "probability" in columns:
            table["probability"].astype(float)
    except FileNotFoundError:
        return pd.DataFrame(columns=columns)
    except (ValueError, KeyError) as error:
        raise DatasetError(
            f"the rows of {code} in {path}", f"another file ({error})", f"Run: {again}"
        ) from error
    return table


def _check(context: ReviewContext, code: str) -> dict[str, Any] | None:
    """What the audit on disk says of a check; None without one."""
    try:
        record = read_json(context.reports / "audit.json")
        of_code = {check["code"]: check for check in record["checks"]}
        return {key: str(of_code[code][key]) for key in ("status", "message")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
