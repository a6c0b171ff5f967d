"""Pages from Python: bundles that answer, and readers who put labels right."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from featcache.api.progress import show
from featcache.api.words import (
    DatasetLike,
    listed,
    manifest_of_runs,
    reports_folder,
)
from featcache.commands import review as reviews
from featcache.commands.review import Applied, ReviewStatus
from featcache.serve import require_pages
from featcache.study import retraining
from featcache.study.retraining import Retraining


def serve_bundles(
    bundles: str | Path | Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | Path | None = None,
    allow_host: Sequence[str] = (),
    cache: str | Path | None = None,
    log_dir: str | Path | None = None,
    files: Sequence[str | Path] = (),
    progress: bool | None = None,
    **limits: Any,
) -> None:
    """Answers for images on a page and over HTTP, until it is interrupted.

    Prints the address. Nothing of an image is stored; see docs/how-to/serve.md.

    Args:
        bundles: One bundle or several with different names.
        host: Listen on this address; others than those of this machine need a token.
        port: Listen on this port; 0 takes a free one.
        token_file: Ask clients for the token in this file.
        allow_host: Answer to these names too, such as that of a proxy.
        cache: Show similar training images from the datasets of this cache; unlike
            elsewhere, None is no cache.
        log_dir: Append a line per answer to ``answers.jsonl`` there.
        files: Of networks that bundles only name.
        progress: Whether to show messages; by default in notebooks and terminals.
        **limits: ``max_mib``, ``max_files``, ``max_megapixels``, ``max_waiting`` and
            ``batch_size``, as of ``featcache serve``.

    Raises:
        BundleError: A bundle is damaged, or does not prove itself on this machine.
        UsageError: The extra ``serve`` is not installed, or the port is in use.
    """
    require_pages()
    from featcache.serve import server
    from featcache.serve.running import Listening

    paths = [Path(one) for one in listed(bundles)]
    token = Path(token_file) if token_file else None
    with show(progress) as reporter:
        server.serve(
            paths,
            Listening(host, port, token, tuple(allow_host)),
            server.ServeOptions(**limits),
            announce=print,
            cache=Path(cache) if cache else None,
            log_dir=Path(log_dir) if log_dir else None,
            files=[Path(file) for file in files],
            reporter=reporter,
        )


def review_queue(
    queue: str = "labels",
    *,
    dataset: DatasetLike = None,
    limit: int = 100,
    seed: int = 0,
    cache: str | Path | None = None,
    reports: str | Path | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Which images people should look at, in which order, and why.

    Args:
        queue: "labels", "duplicates", "errors", "refused", "informative" or "random".
        dataset: The dataset; None for the only one with runs.
        limit: The most images.
        seed: Of what is drawn.
        cache: The cache folder.
        reports: The reports folder.
        progress: Whether to show a bar; by default in notebooks and terminals.

    Returns:
        A row an image, with at least the columns ``image_id`` and ``reason``.

    Raises:
        FeatcacheError: As ``commands.review.queue_of``.
    """
    manifest = manifest_of_runs(dataset, cache, reports)
    home = reports_folder(reports, dataset)
    settings: dict[str, Any] = {"queue": queue, "limit": limit, "seed": seed}
    with show(progress) as reporter:
        images = reviews.queue_of(manifest, home, reporter=reporter, **settings)
    return pd.DataFrame([vars(item) for item in images.items])


def review_status(
    *,
    dataset: DatasetLike = None,
    cache: str | Path | None = None,
    reports: str | Path | None = None,
) -> ReviewStatus:
    """Counts the answers by reader and queue, and says how far readers agree.

    Args:
        dataset: The dataset; None for the only one with runs.
        cache: The cache folder.
        reports: The reports folder.

    Raises:
        DatasetError: There is no such dataset, or ``reviews.csv`` is damaged.
    """
    return reviews.status(manifest_of_runs(dataset, cache, reports))


def apply_reviews(
    rule: str,
    *,
    dataset: DatasetLike = None,
    dry_run: bool = False,
    ignore_gone: bool = False,
    cache: str | Path | None = None,
    reports: str | Path | None = None,
) -> Applied:
    """Writes a new manifest with the labels that readers gave; the old one is kept.

    Args:
        rule: Whose answer becomes the label: "agree", "majority" or "reader:NAME".
        dataset: The dataset; None for the only one with runs.
        dry_run: Only say what would change.
        ignore_gone: Apply the answers though some reviewed images are gone.
        cache: The cache folder.
        reports: The reports folder.

    Raises:
        FeatcacheError: As ``commands.review.apply``.
    """
    manifest = manifest_of_runs(dataset, cache, reports)
    home = reports_folder(reports, dataset)
    return reviews.apply(
        manifest, home, rule=rule, dry_run=dry_run, ignore_gone=ignore_gone
    )


def retrain(
    run: Any = None,
    *,
    dataset: DatasetLike = None,
    jobs: int | None = None,
    cache: str | Path | None = None,
    reports: str | Path | None = None,
    progress: bool | None = None,
) -> Retraining:
    """Trains a run again on the labels as they are, and compares both in pairs.

    Args:
        run: Its short id, id, or a part of its id; None for the best run before the
            last correction.
        dataset: Of the run; None where the run determines it.
        jobs: Parallel processes; by default one a core.
        cache: The cache folder.
        reports: The reports folder.
        progress: Whether to show a bar; by default in notebooks and terminals.

    Raises:
        FeatcacheError: As ``study.retraining.retrain``.
    """
    manifest = manifest_of_runs(dataset, cache, reports, [run] if run else [])
    home = reports_folder(reports, dataset)
    name = getattr(run, "run_id", run)
    with show(progress) as reporter:
        return retraining.retrain(
            manifest, home, reference=name, jobs=jobs, reporter=reporter
        )
