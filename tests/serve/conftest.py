"""A service of the model of brightness, and of a bundle."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from toy_brightness import Brightness
from toys import train_flat, write_images

from featcache import backbones
from featcache.commands.bundle import make_bundle
from featcache.commands.extract import extract
from featcache.commands.scan import scan
from featcache.dataset.manifest import Manifest
from featcache.serve import running
from featcache.serve.app import ServeLimits, Service
from featcache.serve.batching import Batcher
from featcache.serve.explaining import Explainer
from featcache.serve.security import Guard, Limits, host_names
from featcache.serve.served import Served
from featcache.serve.server import ServeOptions, prepared
from featcache.serve.tokens import Door


@dataclass
class Setting:
    """A guarded service."""

    guard: Guard
    service: Service
    model: Brightness


@pytest.fixture
def setting() -> Iterator[Callable[..., Setting]]:
    """Makes a service behind a guard."""
    ends = []

    def make(
        *, limits: Any = None, batcher: Any = None, guard: Any = None, log: Any = None
    ) -> Setting:
        model = Brightness()
        one: Any = Batcher(model, **(batcher or {}))
        ends.append(one.__enter__())
        pool = ThreadPoolExecutor(2)
        service = Service(
            {"toy": Served("toy", model, one, Explainer(None))},  # type: ignore[arg-type]
            pool,
            ServeLimits(**(limits or {})),
            log=log,
        )
        names = host_names("127.0.0.1")
        shield = Guard(service.app(), names, Door(None), Limits(**(guard or {})))
        return Setting(shield, service, model)

    yield make
    for one in ends:
        one.__exit__()


@pytest.fixture(scope="session")
def dataset_and_bundles(
    toy_network: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Manifest, dict[str, Path]]:
    """36 images, and bundles of two heads on a small network."""
    home = tmp_path_factory.mktemp("serve")
    dataset = scan(
        write_images(home / "chest"), home / "cache", group_by=r"(p\d{3})_"
    ).manifest
    extract(dataset, [backbones.resolve(str(toy_network), input_size=32)], views=0)
    options: Any = {"folds": 2, "test_size": 0.3, "jobs": 1, "tune": False, "views": 0}
    bundles = {}
    for head in ("logreg", "mlp"):
        run = train_flat(dataset, home / "reports", heads=[head], **options).runs[0]
        bundles[head] = home / f"{head}.fcb"
        make_bundle(dataset, run, bundles[head], files=[toy_network], refuse=0.5)
    return dataset, bundles


@pytest.fixture(scope="session")
def bundle_service(
    dataset_and_bundles: tuple[Manifest, dict[str, Path]],
) -> Iterator[Service]:
    """A service of both bundles, with the pictures of their cache."""
    dataset, bundles = dataset_and_bundles
    cache = dataset.folder.parent
    with prepared(list(bundles.values()), ServeOptions(), cache=cache) as service:
        yield service


@pytest.fixture
def served(bundle_service: Service) -> Guard:
    """The same behind a guard."""
    return Guard(bundle_service.app(), host_names("127.0.0.1"), Door(None))


@pytest.fixture(scope="session")
def address(bundle_service: Service) -> Iterator[str]:
    """A server in a thread."""
    sock = running.bind("127.0.0.1", 0)
    ready = threading.Event()
    guard = Guard(bundle_service.app(), host_names("127.0.0.1"), Door(None))
    server = running._Server(running._config(guard), ready.set)
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()
    ready.wait(10)
    yield f"http://127.0.0.1:{sock.getsockname()[1]}/"
    server.should_exit = True
    thread.join()
