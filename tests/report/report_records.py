"""Records of audit and explain, made by hand, for the tests of the report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from report_study import Study

from featcache.commands.audit import (
    CHECKS,
    FINDING,
    ISSUE,
    NOT_APPLICABLE,
    PASSED,
    SCHEMA,
)
from featcache.commands.explain import ExplainResult, Figure, HeatMap, MeanMap
from featcache.commands.explain.explained_images import ExplainedImage
from featcache.commands.explain.frame import Frame
from featcache.commands.explain.heatmaps import SIDE
from featcache.dataset import sources
from featcache.evaluation.runs import Run
from featcache.report.heatmaps import sheets

CANDIDATES = 30
MESSAGE = "found <b>something</b> & more"


def write_audit(study: Study, run_id: str | None, **changes: Any) -> Path:
    """An audit: FC005 and FC040 find something, FC020 cannot be asked, others pass.

    FC040 has 30 candidates; of three near-duplicates two lie in two groups.
    """
    ok = study.manifest.ok.reset_index(drop=True)
    candidates = [
        {"image_id": row.image_id, "path": row.path, "label": row.label,
         "suggested": "plain", "probability": 0.1, "confident": True}
        for row in ok.head(CANDIDATES).itertuples()
    ]  # fmt: skip
    near = [pair(ok, 0, 3), pair(ok, 1, 40), pair(ok, 2, 41)]
    parted = near[2] | {"split": "s", "place_a": 0, "place_b": -1, "part": "test"}
    answers = {
        "FC003": (PASSED, near), "FC005": (FINDING, [parted]),
        "FC020": (NOT_APPLICABLE, []), "FC040": (FINDING, candidates),
    }  # fmt: skip
    checks = []
    for code, check in CHECKS.items():
        status, evidence = answers.get(code, (PASSED, []))
        checks.append({
            "code": code, "title": check.title, "severity": check.severity,
            "status": status, "message": MESSAGE, "evidence": evidence,
        })  # fmt: skip
    path = study.reports / "audit.json"
    head = {"schema": SCHEMA, "created": "2026-01-01", "dataset": "chest"}
    head |= {"run_id": run_id, "checks": checks}
    path.write_text(json.dumps(head | changes))
    return path


def pair(ok: Any, a: int, b: int) -> dict[str, Any]:
    """Evidence of a near-duplicate."""
    row: dict[str, Any] = {"correlation": 0.995}
    for side, at in (("a", a), ("b", b)):
        for name in ("image_id", "path", "label", "group"):
            row[f"{name}_{side}"] = ok[name][at]
    return row


def issues() -> list[str]:
    """Codes of severity issue, which come first among equal answers."""
    return [code for code, check in CHECKS.items() if check.severity == ISSUE]


def write_maps(
    study: Study, run: Run, *, errors: bool = False, images: int = 6
) -> Path:
    """What `explain` draws: a map of two methods for each image, means and figures.

    The surer, the later the image. Masks were there, so there are figures of them.
    """
    ok = study.manifest.ok.reset_index(drop=True)
    maps = []
    for n, row in enumerate(ok.head(images).itertuples()):
        data = sources.read_bytes(study.manifest.root, row.path)
        subject = ExplainedImage(
            row.image_id, row.path, row.label, row.group, "test", data
        )
        code = run.classes.index(row.label)
        for method in ("linear", "cam"):
            maps.append(HeatMap(
                subject, row.label, code, method, 1.0, 0.0, 0.5 + n / 100, row.label,
                hill(), Frame((0, 0, *subject.picture.size)), ((7, 7),),
            ))  # fmt: skip
    grey = np.full((SIDE, SIDE), 128, np.uint8)
    means = [MeanMap(name, "linear", 4, "test", hill(), grey) for name in run.classes]
    figures = [
        Figure(run.classes[0], method, name, 6, 4, 0.25, 0.125, 0.5)
        for method in ("linear", "chance")
        for name in ("deletion", "insertion", "inside mask", "pointing mask")
    ]
    result = ExplainResult(run, maps, means, [], figures, ["a <note>"], errors)
    folder = study.reports / "explain" / run.run_id
    sheets.write(result, folder)
    return folder


def hill() -> np.ndarray:
    """A map with evidence in the upper half, and against it in the lower."""
    rows = np.linspace(1, -1, SIDE)[:, None]
    return np.repeat(rows, SIDE, axis=1) / SIDE**2
