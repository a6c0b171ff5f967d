"""A cache of toy stores, made by hand, for the tests of the commands on it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from records import make_run
from test_store import HEADER, fill, flip_byte, keys, rows

from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest, Settings
from featcache.dataset.views import Policy
from featcache.features import store

FOLDER = Path("cache/toy/features")
PATH = FOLDER / "toy-random-12345678.h5"
REPORTS = Path("reports")
ONE, TWO = Policy().to_dict(), Policy(flip=False).to_dict()
Run = Callable[..., tuple[int, str, str]]


def images(*numbers: int) -> Manifest:
    """Makes the manifest of images whose ids are their numbers."""
    table = keys(0, 1 + max(numbers)).iloc[list(numbers)][["image_id", "path"]]
    table = table.reindex(columns=manifest.COLUMNS, fill_value="").assign(
        label=[f"class {n % 2}" for n in numbers],
        group=[f"patient {n}" for n in numbers],
        status=manifest.OK,
        **dict.fromkeys(("width", "height", "bytes"), 1),
    )
    found = Manifest(FOLDER.parent, Settings("xrays", "xrays", "patient"), table)
    manifest.save(found)
    return found


def with_views(count: int, *policies: dict[str, object]) -> store.Store:
    """A store of plain rows, and of one view by each policy."""
    fill(PATH, (0, count))
    for number, _ in enumerate(policies):
        header = replace(HEADER, policies=list(policies))
        views = keys(0, count, view=1, policy=number)
        store.seal(PATH, header, {"features": rows(0, count)}, views)
        store.publish(PATH, header)
    return store.open_store(PATH)


def record(name: str, policy: dict[str, object] | None = None) -> None:
    """A run that used the store, and another one beside it."""
    blocks = [{"contract_id": contract} for contract in (HEADER.contract_id, "other")]
    make_run(REPORTS / "toy", name, features=blocks, policy=policy)


def left() -> set[str]:
    """Names of all files and folders with the store."""
    return {path.name for path in FOLDER.rglob("*")}


def damage_matrix(path: Path) -> None:
    flip_byte(path, rows(1000, 1).tobytes())
