"""``featcache serve``: bundles behind a page and an API."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from featcache.core.progress import SILENT, Reporter
from featcache.deploy.answers import BATCH_SIZE
from featcache.errors import UsageError
from featcache.serve import openapi
from featcache.serve.answer_log import AnswerLog
from featcache.serve.app import ASSETS, ServeLimits, Service
from featcache.serve.batching import MOST_WAITING
from featcache.serve.running import Listening, bind, run
from featcache.serve.security import Limits
from featcache.serve.served import (
    TrainingPictures,
    open_bundles,
    refuse_equal_names,
    training_pictures,
)
from featcache.serve.tokens import read_token

_MOST_THREADS = 8  # that decode


@dataclass(frozen=True)
class ServeOptions:
    """How much clients may ask for.

    Attributes:
        max_mib: Size of one request in MiB.
        max_files: Files in one request.
        max_megapixels: Of one image.
        max_waiting: Images that may wait for a model.
        batch_size: Most images in one call of a model.
    """

    max_mib: float = 64.0
    max_files: int = 32
    max_megapixels: float = 50.0
    max_waiting: int = MOST_WAITING
    batch_size: int = BATCH_SIZE

    def check(self) -> None:
        """Refuses what would let nothing through.

        Raises:
            UsageError: A value is not above 0.
        """
        for name, value in vars(self).items():
            if not value > 0:
                hint = "Leave it out for the default."
                raise UsageError(f"`{name}` above 0", f"{value:g}", hint)


def serve(
    bundles: Sequence[Path],
    listening: Listening,
    options: ServeOptions,
    *,
    announce: Callable[[str], None],
    cache: Path | None = None,
    log_dir: Path | None = None,
    files: Sequence[Path] = (),
    reporter: Reporter = SILENT,
) -> None:
    """Answers over HTTP until Ctrl-C.

    Args:
        bundles: Files of bundles with different names.
        listening: Where, and for whom.
        options: How much clients may ask for.
        announce: Hears the address.
        cache: Folder of the datasets of the bundles, for pictures of training images.
        log_dir: Folder for a line per answer; without, nothing is kept.
        files: Of networks that bundles only name.
        reporter: Hears what the user should know.

    Raises:
        BundleError: A bundle is damaged or does not prove itself; or see
            `open_bundles`.
        UsageError: The port is in use, or an option that cannot be.
    """
    options.check()
    refuse_equal_names(bundles)
    token = read_token(listening.token_file)
    with (  # what needs no time first
        bind(listening.host, listening.port) as sock,
        prepared(
            bundles, options, cache=cache, log_dir=log_dir, files=files,
            reporter=reporter,
        ) as service,
    ):  # fmt: skip
        body = int(options.max_mib * 2**20)
        run(
            service.app(),
            listening,
            sock,
            token,
            announce=announce,
            report=reporter.message,
            limits=Limits(body_bytes=body, waiting_bytes=max(8 * body, 2**29)),
            answered=partial(_count, service),
        )


@contextmanager
def prepared(
    bundles: Sequence[Path],
    options: ServeOptions,
    *,
    cache: Path | None = None,
    log_dir: Path | None = None,
    files: Sequence[Path] = (),
    reporter: Reporter = SILENT,
) -> Iterator[Service]:
    """The service of bundles; see `serve`."""
    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    limits = ServeLimits(options.max_files, int(options.max_megapixels * 1e6))
    sizes = {"batch_size": options.batch_size, "most_waiting": options.max_waiting}
    log = AnswerLog(log_dir) if log_dir else None
    try:
        with (
            open_bundles(bundles, files=files, reporter=reporter, **sizes) as served,
            ThreadPoolExecutor(threads, "uploads") as pool,
        ):
            pictures = TrainingPictures()
            if cache:
                pictures = training_pictures(served, cache, reporter)
            service = Service(served, pool, limits, pictures, log)
            for name, one in served.items():
                one.batcher.heard = partial(service.metrics.batch, name)
            yield service
    finally:
        if log:
            log.close()


def _count(service: Service, path: str, status: int, seconds: float) -> None:
    known = path in ASSETS or path in openapi.document()["paths"]
    path = "/images" if path.startswith("/images/") else path if known else "other"
    service.metrics.answered(path, status, seconds)
