"""Rules of times: the moment counts, not how it is written."""

from pathlib import Path

import pytest
from records import make_record

from featcache.core.times import instant
from featcache.evaluation import runs
from featcache.evaluation.runs import Run


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2026-06-01T12:30:00.000+02:00", "2026-06-01T11:00:00+00:00"),
        ("2026-06-01T12:30:00+0200", "2026-06-01T11:00:00"),
        ("yesterday", "0001-01-02T00:00:00"),
        ("", "2026-06-01"),
    ],
)
def test_what_was_later_is_newer(earlier: str, later: str) -> None:
    """In other zones, without one, and what is no time before all."""
    assert instant(earlier) < instant(later)
    first, second = (
        Run(Path(text), make_record(created=text)) for text in (earlier, later)
    )
    assert runs.newest_first([first, second]) == [second, first]
