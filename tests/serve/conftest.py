"""A service of the model of brightness, and of a bundle."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from toy_brightness import Brightness

from featcache.serve.app import ServeLimits, Service
from featcache.serve.batching import Batcher
from featcache.serve.security import Guard, Limits, host_names
from featcache.serve.served import Served
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
            {"toy": Served("toy", model, one)},  # type: ignore[arg-type]
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
