"""What a bundle says of the training data and the evaluation of its model."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featcache.core.io import read_json
from featcache.evaluation import runs
from featcache.evaluation.runs import Run

AUDIT = "audit.json"  # in ``reports/<dataset>``, written by ``featcache audit``
_SCORES = ("accuracy", "accuracy_low", "accuracy_high", "auc", "log_loss", "ece")


def training_facts(run: Run) -> dict[str, Any]:
    """Counts, split, scores and audit findings of a run, for a model card."""
    record, table = run.record, run.table
    facts: dict[str, Any] = {
        "images": record.n_images,
        "groups": record.n_groups,
        "grouped by": record.split.group_by,
        "images by class": dict(sorted(Counter(table["label"]).items())),
        "split": record.split.name,
        "head": record.head,
    }
    for part, name in ((runs.TRAIN, "out-of-fold scores"), (runs.TEST, "test scores")):
        if part in record.scores:
            facts[name] = _rounded(record.scores[part])
    facts["audit"] = audit_findings(run.folder.parents[1])
    return facts


def _rounded(scores: Mapping[str, float]) -> dict[str, float]:
    """Those of a card, without what is not a number."""
    known = {key: scores[key] for key in _SCORES if key in scores}
    return {key: round(value, 4) for key, value in known.items() if value == value}


def audit_findings(reports: Path) -> list[str]:
    """The questions that the last audit of a dataset answers with yes, a line each.

    Its messages stay behind: they may name files and groups.

    Args:
        reports: ``reports/<dataset>``.
    """
    try:
        record = read_json(reports / AUDIT)
        checks = [one for one in record["checks"] if one["status"] == "finding"]
        checks = [one for one in checks if one["severity"] == "issue"]
        lines = [f"{one['code']} {one['title']} Yes." for one in checks]
    except FileNotFoundError:
        return ["no audit was made"]
    except (OSError, ValueError, KeyError, TypeError):
        return ["the audit's record cannot be read"]
    return lines or ["no issues"]
