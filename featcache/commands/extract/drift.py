"""Whether other libraries still give the numbers that are stored."""

import numpy as np

from featcache.backbones.engines.base import Engine
from featcache.commands.extract.measure import plain_views
from featcache.commands.extract.plan import ExtractRequest, Job
from featcache.errors import StoreError
from featcache.features.contract import FLOAT32
from featcache.features.keys import is_plain
from featcache.features.store import FEATURES, Header

ROWS = 8  # recomputed of each store
# Another release may round differently; a real change is far larger than this.
TOLERANCE = {"float32": 1e-3, "int8": 5e-2}


def check_drift(request: ExtractRequest, job: Job, engine: Engine) -> None:
    """Recomputes a few stored rows when libraries have changed since.

    Raises:
        StoreError: They drift beyond the tolerance; names both numbers.
    """
    if job.store is None or made_by(job.store.header) == made_by(job.header):
        return
    keys = job.store.keys[is_plain(job.store.keys)]
    keys = keys[keys["image_id"].isin(request.manifest.ok["image_id"])].head(ROWS)
    rows = keys.index.to_numpy()
    batches = list(plain_views(request, job.network, keys["image_id"].tolist()))
    if not rows.size or len(batches) < len(rows):
        return
    (outputs,) = engine.run([np.concatenate(batches)[: request.batch_size]])
    computed = outputs[FEATURES]
    stored = job.store.read(FEATURES)[rows[: len(computed)]]
    drift = float(np.abs(computed - stored).max() / max(np.abs(stored).max(), 1e-12))
    precision = job.header.contract.precision or FLOAT32
    limit = TOLERANCE[precision] + (1e-3 if request.dtype == "float16" else 0)
    if drift > limit:
        raise StoreError(
            f"stored rows of {job.path.name} to be reproduced within {limit:g}",
            f"a relative difference of {drift:.2g} ({changes(job)})",
            "Reinstall the versions used for this store, or move it away and extract "
            "again.",
        )


def made_by(header: Header) -> dict[str, str]:
    """Engine and libraries that a store's rows come from."""
    return header.versions | {"engine": header.engine}


def changes(job: Job) -> str:
    """What differs in engine and libraries between the stored rows and now."""
    assert job.store is not None
    before, now = made_by(job.store.header), made_by(job.header)
    return ", ".join(
        f"{name} {before.get(name, 'none')} before, {now.get(name, 'none')} now"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    )
