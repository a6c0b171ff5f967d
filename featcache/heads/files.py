"""Model files that are safe to read: skops, never a pickle."""

import json
from pathlib import Path
from typing import Any

from featcache.errors import HeadError

RECORD = "head.json"
TRUSTED = frozenset({"sklearn", "numpy", "scipy"})
_ONLY_SAFE = "Models are never pickled: use a classifier without such parts."


def read_record(folder: Path) -> dict[str, Any]:
    """Reads the record beside a saved model file.

    Raises:
        HeadError: There is none.
    """
    try:
        text = (folder / RECORD).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise HeadError(
            f"a saved head in {folder}", f"no {RECORD}", "Retrain the head."
        ) from None
    record: dict[str, Any] = json.loads(text)
    return record


def write_model(model: Any, path: Path, trusted: frozenset[str] = TRUSTED) -> None:
    """Writes a fitted estimator.

    Args:
        model: The estimator.
        path: Where to.
        trusted: Packages whose types it may be made of.

    Raises:
        HeadError: It has parts that no safe file can hold.
    """
    import skops.io
    from skops.io.exceptions import UnsupportedTypeException

    try:
        data = skops.io.dumps(model)
    except UnsupportedTypeException as error:
        raise HeadError(
            "a model that skops can write", str(error), _ONLY_SAFE
        ) from error
    _check_types(data, trusted)
    path.write_bytes(data)


def read_model(path: Path, trusted: frozenset[str] = TRUSTED) -> Any:
    """Reads what `write_model` wrote.

    Raises:
        HeadError: The file holds types of other packages.
    """
    import skops.io

    data = path.read_bytes()
    return skops.io.loads(data, trusted=_check_types(data, trusted))


def _check_types(data: bytes, trusted: frozenset[str]) -> list[str]:
    import skops.io

    types = skops.io.get_untrusted_types(data=data)
    foreign = [t for t in types if t.partition(".")[0] not in trusted]
    if foreign:
        raise HeadError(
            f"a model with only types from {', '.join(sorted(trusted))}",
            f"{', '.join(foreign)}",
            _ONLY_SAFE,
        )
    return list(types)
