"""Networks that nothing shows to see images as they were trained to."""

from collections.abc import Iterable

from featcache.core.text import some
from featcache.evaluation.record import RunRecord


def unproven(record: RunRecord) -> list[str]:
    """The networks of a run that come from files without a canary, each once."""
    names = [one.backbone for one in record.features if one.canary == "absent"]
    return list(dict.fromkeys(names))


def warnings(records: Iterable[RunRecord]) -> list[str]:
    """One line that names all of them, or none.

    Args:
        records: Of the runs of a leaderboard.
    """
    names = dict.fromkeys(name for record in records for name in unproven(record))
    if not names:
        return []
    return [
        f"preprocessing unproven: {some(list(names))} (from files without a canary: "
        "nothing shows that images are prepared as in training)"
    ]
