"""``featcache backbone ls``: the networks that there are."""

from dataclasses import dataclass, field
from pathlib import Path

from featcache.backbones import BACKBONES, BASELINES, FILE, NETWORKS, find_weights
from featcache.errors import WeightsError
from featcache.features.stored_networks import stored_networks

TABLE, CACHE, BASELINE = "table", "cache", "baseline"
HERE, DAMAGED, ABSENT = "here", "damaged", "not here"


@dataclass(frozen=True, kw_only=True)
class ListedBackbone:
    """A backbone as it is listed.

    Attributes:
        name: As `-b` takes it; of a file its path, with FOLDER where it is not known.
        kind: "table"; "cache" for a file whose features the cache holds; "baseline".
        input_size: Side of its input in pixels; 0 if it looks at none.
        width: Of the embedding.
        weights: "here", "not here" or "damaged"; empty for a baseline.
        licence: Of the weights, as far as it is stated; else empty.
        source: Where they come from, likewise.
        canary: "passed" or "absent" for a network in a file; None for others.
        datasets: Whose features the cache holds.
    """

    name: str
    kind: str
    input_size: int
    width: int
    weights: str = ""
    licence: str = ""
    source: str = ""
    canary: str | None = None
    datasets: list[str] = field(default_factory=list)


def list_backbones(cache: Path) -> list[ListedBackbone]:
    """The networks of the table, those in files that the cache knows, the baselines.

    Args:
        cache: The cache folder, which need not be there.
    """
    stored = stored_networks(cache)
    datasets: dict[str, list[str]] = {}
    for one in stored:
        if one.weights != FILE:
            datasets.setdefault(one.name, []).extend(one.datasets)
    of_table = [
        ListedBackbone(
            name=name,
            kind=TABLE,
            input_size=row.input_size,
            width=row.dim,
            weights=_weights(name),
            licence=row.licence,
            source=row.architecture,
            datasets=sorted({*datasets.get(name, [])}),
        )
        for name, row in NETWORKS.items()
    ]
    of_files = [
        ListedBackbone(
            name=one.words[-1] if "--weights" not in one.words else one.name,
            kind=CACHE,
            input_size=one.input_size,
            width=one.width,
            weights=HERE if Path(one.words[-1]).is_file() else ABSENT,
            licence=one.licence,
            source=one.source,
            canary=one.canary,
            datasets=sorted(one.datasets),
        )
        for one in stored
        if one.weights == FILE
    ]
    baselines = [
        ListedBackbone(
            name=name,
            kind=BASELINE,
            input_size=row.input_size,
            width=row.dim,
            datasets=sorted({*datasets.get(name, [])}),
        )
        for name, row in ((name, BACKBONES[name]) for name in BASELINES)
    ]
    return [*of_table, *of_files, *baselines]


def _weights(name: str) -> str:
    """Whether this machine has the ImageNet weights of a network."""
    try:
        return HERE if find_weights(NETWORKS[name]) else ABSENT
    except WeightsError:
        return DAMAGED
