"""Where the figures come from: contracts, digests, versions and machines."""

import platform
import shlex
import sys
import time
from importlib import metadata
from typing import Any

from featcache.core.io import sha256_file
from featcache.report.html.context import Material
from featcache.report.html.dataset_section import Table


def tables(material: Material) -> list[Table]:
    """Stores, digests, versions and machines as tables."""
    found = [_stores(material), _digests(material), _versions(material)]
    return [table for table in [*found, _calls(material)] if table.rows]


def _stores(material: Material) -> Table:
    rows = []
    for name, one in material.stores.items():
        contract = one.header.contract.to_json()
        rows.append([
            name,
            ", ".join(f"{k} {_short(v)}" for k, v in sorted(contract.items())),
            one.header.contract_id,
            f"{len(one.keys)} x {one.dim}",
            one.header.engine,
            one.created,
        ])  # fmt: skip
    head = ["store", "contract", "contract_id", "rows x width", "engine", "made"]
    return Table("Feature stores", head, rows)


def _short(value: Any) -> str:
    text = str(value)
    is_digest = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return f"{text[:12]}..." if is_digest else text


def _digests(material: Material) -> Table:
    rows = []
    record = material.best.record
    if material.manifest is not None:
        folder = material.manifest.folder
        files = (
            folder / "manifest.csv",
            folder / f"splits-{record.split.name}.json",
        )
        rows += [[f.name, sha256_file(f)] for f in files if f.is_file()]
    rows.append(["evaluation_id: who is judged on what", record.evaluation_id])
    return Table("Digests (SHA-256)", ["of", "digest"], rows)


def _versions(material: Material) -> Table:
    """Versions of the libraries: of the runs, of the stores, and of this page."""
    used: dict[str, dict[str, set[str]]] = {}
    kinds = {
        "runs": [run.record.versions for run in material.runs],
        "features": [one.header.versions for one in material.stores.values()],
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


def _calls(material: Material) -> Table:
    rows = [
        [
            record.get("started", ""),
            record.get("status", ""),
            record.get("host", ""),
            f"{record.get('seconds', 0):.0f} s",
            shlex.join(["featcache", *map(str, record.get("command", [""])[1:])]),
        ]
        for record in material.extracts
    ]
    head = ["started", "status", "machine", "took", "command"]
    return Table("Calls of extract", head, rows)


def machine() -> str:
    """Where and when this page was made."""
    return (
        f"{time.strftime('%Y-%m-%d %H:%M %Z')} on {platform.system()} "
        f"{platform.machine()}, Python {sys.version.split()[0]}, "
        f"featcache {metadata.version('featcache')}"
    )
