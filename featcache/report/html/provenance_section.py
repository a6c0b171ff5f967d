"""Where the figures come from: contracts, digests, versions and machines."""

import platform
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from featcache.backbones import NONE, RANDOM
from featcache.core.io import sha256_file
from featcache.core.text import NOT_STATED, counted, minute
from featcache.evaluation.record import FeatureBlock
from featcache.evaluation.runs import newest_first
from featcache.report.heatmaps.sheets import ROWS
from featcache.report.html.audit_section import AuditSection
from featcache.report.html.context import ReportContext, without_folders
from featcache.report.html.dataset_section import Table
from featcache.report.html.explain_section import FOLDER as EXPLAIN
from featcache.report.html.validation_section import ValidationSection


def tables(
    context: ReportContext,
    audit: AuditSection | None,
    validations: Sequence[ValidationSection],
) -> list[Table]:
    """Parts of the page, stores, digests, versions and machines as tables."""
    made = [_parts(context, audit, validations), _networks(context), _stores(context)]
    candidates = [*made, _digests(context), _versions(context), _calls(context)]
    return [table for table in candidates if table.rows]


def _parts(
    context: ReportContext,
    audit: AuditSection | None,
    validations: Sequence[ValidationSection],
) -> Table:
    """When what each part shows was made, and of which runs."""
    in_order = newest_first(context.runs)
    dates = [minute(run.record.created) for run in (in_order[-1], in_order[0])]
    runs_text = counted(len(context.runs), "run")
    between = " to ".join(dict.fromkeys(dates))
    best = f"{context.best.short_id} {context.best.run_id}"
    rows = [["leaderboard, runs, data", between, f"{runs_text}, the best: {best}"]]
    if audit:
        newer = audit.newer_runs
        seen = f"{counted(newer, 'run')} of this page made since" if newer else ""
        about = audit.run_id or "no run"
        rows.append(
            ["audit", minute(audit.created), "; ".join(filter(None, [about, seen]))]
        )
    for run in context.runs:
        file = context.reports / EXPLAIN / run.run_id / ROWS
        if file.is_file():
            made = datetime.fromtimestamp(file.stat().st_mtime, UTC)
            stamp = made.isoformat()
            rows.append(["heat maps", minute(stamp), f"{run.short_id} {run.run_id}"])
    rows += [_validation(one) for one in validations]
    head = ["part", "made", "of"]
    return Table("When each part was made, and of which runs", head, rows)


def _validation(section: ValidationSection) -> list[str]:
    record = section.record
    about = f"{section.short_id} {record.run_id}"
    if record.bundle_sha256:
        about += f", as the bundle {record.bundle_sha256[:12]}"
    part = f"validation on {record.result.dataset}"
    return [part, minute(record.created), about]


def _networks(context: ReportContext) -> Table:
    """Where the weights come from, and whether their preprocessing is proven."""
    blocks = [one for run in context.runs for one in run.record.features]
    rows = [
        [
            f"{one.backbone}, {one.input_size} px",
            one.weights,
            one.licence or NOT_STATED,
            one.source or NOT_STATED,
            one.canary or "not needed",
            _weights(context, one),
        ]
        for one in blocks
        if one.weights not in (NONE, RANDOM)
    ]
    rows = [list(row) for row in dict.fromkeys(map(tuple, rows))]
    head = [
        "network",
        "weights",
        "licence",
        "source",
        "canary",
        "digest of the weights",
    ]
    return Table("Networks", head, rows)


def _weights(context: ReportContext, block: FeatureBlock) -> str:
    """The digest of their values, by which a file is known without its folder."""
    features = context.stores.get(str(block.store))
    return (features and features.header.contract.weights_digest) or NOT_STATED


def _stores(context: ReportContext) -> Table:
    rows = []
    for name, one in context.stores.items():
        contract = one.header.contract.to_json()
        rows.append([
            name,
            ", ".join(f"{k} {_short(v)}" for k, v in sorted(contract.items())),
            one.header.contract_id,
            f"{len(one.keys)} x {one.dim}",
            one.header.engine,
            minute(one.created),
        ])  # fmt: skip
    head = ["store", "contract", "contract_id", "rows x width", "engine", "created"]
    return Table("Feature stores", head, rows)


def _short(value: Any) -> str:
    text = str(value)
    is_digest = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return f"{text[:12]}..." if is_digest else text


def _digests(context: ReportContext) -> Table:
    rows = []
    record = context.best.record
    if context.manifest is not None:
        folder = context.manifest.folder
        files = (
            folder / "manifest.csv",
            folder / f"splits-{record.split.name}.json",
        )
        rows += [[f.name, sha256_file(f)] for f in files if f.is_file()]
    rows.append(
        ["evaluation_id: images, labels, groups and folds", record.evaluation_id]
    )
    return Table("Digests (SHA-256)", ["of", "digest"], rows)


def _versions(context: ReportContext) -> Table:
    """Versions of the libraries: of the runs, of the stores, and of this page."""
    used: dict[str, dict[str, set[str]]] = {}
    kinds = {
        "runs": [run.record.versions for run in context.runs],
        "features": [one.header.versions for one in context.stores.values()],
        "this page": [_here()],
    }
    for kind, records in kinds.items():
        for versions in records:
            for name, version in versions.items():
                used.setdefault(name, {}).setdefault(kind, set()).add(str(version))
    rows = [
        [name, *(", ".join(sorted(by.get(kind, ()))) or "-" for kind in kinds)]
        for name, by in sorted(used.items())
    ]
    return Table("Versions", ["library", *kinds], rows)


def _here() -> dict[str, str]:
    names = ("featcache", "numpy", "pandas", "scikit-learn", "jinja2", "pillow")
    return {name: metadata.version(name) for name in names}


def _calls(context: ReportContext) -> Table:
    rows = [
        [
            minute(record.started),
            record.status,
            record.host,
            f"{record.seconds:.0f} s",
            without_folders(shlex.join(["featcache", *record.command[1:]])),
        ]
        for record in context.extracts
    ]
    head = ["started", "status", "machine", "took", "command"]
    return Table("Extraction runs", head, rows)


def machine() -> str:
    """Where and when this page was made."""
    return (
        f"{time.strftime('%Y-%m-%d %H:%M %Z')} on {platform.system()} "
        f"{platform.machine()}, Python {sys.version.split()[0]}, "
        f"featcache {metadata.version('featcache')}"
    )
