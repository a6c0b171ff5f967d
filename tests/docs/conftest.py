"""Shared fixtures: no setting of the machine reaches a test of the documents."""

import pytest


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEATCACHE_CACHE", raising=False)
