"""``featcache audit``: could runs take shortcuts in the data?"""

import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from featcache.commands.audit import checklist as reporting
from featcache.commands.audit import (
    confounding,
    drift,
    duplicates,
    fixes,
    group_leaks,
    labels,
    shortcuts,
    source_probe,
)
from featcache.commands.audit.base import (
    FINDING,
    ISSUE,
    NOT_APPLICABLE,
    PASSED,
    TIP,
    Answer,
    Check,
    Finding,
    NotApplicable,
)
from featcache.commands.audit.context import AuditContext
from featcache.commands.audit.fixes import FixedTable
from featcache.core import io
from featcache.core.output_file import check_output
from featcache.core.progress import SILENT, Reporter
from featcache.core.registry import Registry
from featcache.dataset.manifest import Manifest
from featcache.errors import FeatcacheError, RunError
from featcache.evaluation.external.validation import FOLDER as VALIDATIONS

__all__ = [
    "CHECKS",
    "FINDING",
    "ISSUE",
    "NOT_APPLICABLE",
    "PASSED",
    "TIP",
    "AuditResult",
    "Check",
    "Finding",
    "Fixed",
    "audit",
]
SCHEMA = 1
FILE, ROWS = "audit.json", "audit"
CHECKS = Registry(
    "check",
    {
        check.code: check
        for module in (
            duplicates,
            group_leaks,
            shortcuts,
            confounding,
            source_probe,
            labels,
            drift,
        )
        for check in module.CHECKS
    },
)


@dataclass(frozen=True)
class AuditResult:
    """What the checks say of a dataset.

    Attributes:
        dataset: Its name.
        run_id: The best run, which the checks of runs are about; None without one.
        findings: One a check, in the order of the codes.
        path: The record, ``reports/<dataset>/audit.json``.
        fixed: What ``fix`` wrote.
    """

    dataset: str
    run_id: str | None
    findings: list[Finding]
    path: Path
    fixed: FixedTable | None = None

    @property
    def has_issues(self) -> bool:
        """Whether a check of severity "issue" has a finding."""
        return any(finding.is_issue for finding in self.findings)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The findings as plain values for JSON; what is not a number is None."""
        return [plain(asdict(finding)) for finding in self.findings]


def audit(
    dataset: Manifest,
    reports: Path,
    *,
    split: str | None = None,
    fix: Path | None = None,
    checklist: Path | None = None,
    force: bool = False,
    reporter: Reporter = SILENT,
) -> AuditResult:
    """Runs every check of ``CHECKS``, and writes ``reports/<dataset>/audit.json``.

    What each check looks for, and what a finding means:
    docs/explanations/audit.md. All pairs of similar images, and all label candidates,
    are written to ``audit/CODE.csv`` beside it. No image, split or run is changed.

    Args:
        dataset: Which images.
        reports: The folder of runs of all datasets.
        split: The split of the runs to look at; by default the newest with
            more than baselines and controls.
        fix: A CSV to write, without duplicates and with near-duplicates in one group.
        checklist: A markdown file to write, with topics of CLAIM 2024 and TRIPOD+AI.
        force: Replace these two where they are there.
        reporter: Hears of the checks, and of what takes time in them.

    Raises:
        RunError: No run on that split.
        UsageError: ``fix`` or ``checklist`` names a file that must not be written.
    """
    context = AuditContext(dataset, reports / dataset.dataset, reporter, split)
    if split and not context.runs:
        raise RunError(
            f"runs of {dataset.dataset} on split {split}",
            "none",
            "Leave `split` out for the newest.",
        )
    if fix is not None:
        fixes.check_path(context, fix, force=force)
    if checklist is not None:
        check_output(checklist, "checklist", force=force)
    inputs = inputs_digest(dataset, reports, split)  # what comes later is not covered
    findings = []
    with io.atomic_folder(context.reports / ROWS) as rows:
        context = replace(context, rows=rows)
        for number, check in enumerate(CHECKS.values(), 1):
            findings.append(run_check(check, context))
            reporter.progress("checks", number, len(CHECKS))
    result = AuditResult(
        dataset.dataset,
        context.best.run_id if context.best else None,
        findings,
        context.reports / FILE,
        fixes.write(context, fix) if fix is not None else None,
    )
    head = {
        "schema": SCHEMA,
        "inputs": inputs,
        "files": names_of(context.reports, fix=fix, checklist=checklist),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": result.dataset,
        "run_id": result.run_id,
    }
    if checklist is not None:
        text = reporting.markdown(context, findings)
        io.write_text(checklist, context.folders.complete(text))
    io.write_json(result.path, head | {"checks": result.rows})
    return result


def inputs_digest(dataset: Manifest, reports: Path, split: str | None = None) -> str:
    """Digest of what an audit looks at: manifest, splits, stores, runs, validations.

    Args:
        dataset: Which images.
        reports: The folder of runs of all datasets.
        split: The split of the runs that it was told to look at.
    """
    folder, home = dataset.folder, reports / dataset.dataset
    splits = {p.name: io.sha256_file(p) for p in sorted(folder.glob("splits-*.json"))}
    runs = {
        p.parent.name: io.sha256_file(p) for p in sorted(home.glob("runs/*/run.json"))
    }
    validations = {
        p.name: io.sha256_file(p) for p in home.glob(f"{VALIDATIONS}/*.json")
    }
    stores = sorted(path.name for path in folder.glob("features/*.h5"))
    table = io.sha256_file(folder / "manifest.csv")
    about = [table, splits, runs, validations, stores, version("featcache"), split]
    return io.digest(about)


def names_of(home: Path, **files: Path | None) -> dict[str, str]:
    """The files that an audit writes, by option, as paths from its record's folder.

    No digests: an author fills in a checklist, which must not be written over for it.
    """
    start = home.resolve()
    return {
        option: Path(os.path.relpath(path.resolve(), start)).as_posix()
        for option, path in files.items()
        if path is not None
    }


def is_current(dataset: Manifest, reports: Path, **files: Path | None) -> bool:
    """Whether the audit on disk is of the data as they are, and wrote these files.

    Args:
        dataset: Which images.
        reports: The folder of runs of all datasets.
        files: By option: ``fix`` and ``checklist``.
    """
    if any(path and not path.is_file() for path in files.values()):
        return False
    home = reports / dataset.dataset
    try:
        record = io.read_json(home / FILE)
    except (OSError, ValueError):
        return False
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        return False
    written, names = record.get("files"), names_of(home, **files)
    wrote_them = isinstance(written, dict) and names.items() <= written.items()
    return wrote_them and record.get("inputs") == inputs_digest(dataset, reports)


def run_check(check: Check, context: AuditContext) -> Finding:
    """Runs one check; what cannot be opened makes it not applicable, with the reason.

    Args:
        check: The check.
        context: The dataset with its splits and runs.
    """
    try:
        answer = check.run(context)
    except (NotApplicable, FeatcacheError) as reason:
        answer = Answer(NOT_APPLICABLE, str(reason))
    about = check.code, check.title, answer.severity or check.severity
    message = context.folders.complete(answer.message)
    return Finding(*about, answer.status, message, answer.evidence)


def plain(value: Any) -> Any:
    """A value made of what JSON knows; NaN and infinities become None."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
