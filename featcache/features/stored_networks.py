"""The networks whose features a cache holds, and what is known of their weights."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from featcache.errors import FeatcacheError
from featcache.features import store
from featcache.features.extractions import network_words, read_extractions

# What the state of a canary means.
CANARIES = {
    "passed": "canary passed",
    "absent": "preprocessing unproven: no canary",
    None: "weights of a network of the table",
}


@dataclass(frozen=True, kw_only=True)
class StoredNetwork:
    """A network that features were extracted with.

    Attributes:
        name: Of the backbone.
        weights: Their tag: "imagenet", "random" or "file"; "none" for a baseline.
        input_size: Pixels.
        width: Of the embedding.
        words: Of a command that name it, such as ["-b", "net.onnx"].
        licence: Of the weights, as far as it is stated; else empty.
        source: Where they come from, likewise.
        canary: "passed" or "absent" for a network in a file; None for others.
        datasets: Whose features there are.
    """

    name: str
    weights: str
    input_size: int
    width: int
    words: list[str]
    licence: str
    source: str
    canary: Literal["passed", "absent"] | None
    datasets: tuple[str, ...]


def stored_networks(cache: Path) -> list[StoredNetwork]:
    """The networks of all stores in a cache, each once; damaged stores are left out.

    Args:
        cache: The cache folder.
    """
    networks: dict[tuple[str, str, int, str], StoredNetwork] = {}
    for path in sorted(cache.glob("[!.]*/features/[!.]*.h5")):
        with suppress(FeatcacheError):
            one = _of_store(path)
            key = one.name, one.weights, one.input_size, " ".join(one.words)
            known = networks.setdefault(key, one)
            datasets = tuple(dict.fromkeys([*known.datasets, *one.datasets]))
            networks[key] = replace(one, datasets=datasets)
    return list(networks.values())


def _of_store(path: Path) -> StoredNetwork:
    opened = store.open_store(path)
    header, folder = opened.header, path.parents[1]
    name = header.contract.backbone
    return StoredNetwork(
        name=name,
        weights=header.weights,
        input_size=header.contract.input_size,
        width=opened.dim,
        words=network_words(name, header.weights, read_extractions(folder)),
        licence=header.licence,
        source=header.source,
        canary=header.canary,
        datasets=(folder.name,),
    )
