"""Networks and a policy of their words, for the functions that run them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from featcache.api.progress import show
from featcache.api.words import DatasetLike, manifest_of, texts
from featcache.backbones import resolve_all
from featcache.dataset.regions import Region
from featcache.dataset.views import Policy

Paths = str | Path | Sequence[str | Path]


def on_networks(
    function: Callable[..., Any],
    dataset: DatasetLike,
    backbones: Paths,
    *,
    weights: str | Path = "imagenet",
    preprocess: str = "imagenet",
    input_size: int | None = None,
    flip: bool = True,
    brightness: tuple[float, float] = (0.8, 1.25),
    zoom: tuple[float, float] = (1.0, 1.2),
    region: str = "whole",
    mask: str = "mask",
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Any:
    """Calls a function of ``commands`` with the networks and policy of these words."""
    policy = Policy(flip, brightness, zoom, seed, Region.of_options(region, mask))
    with show(progress) as reporter:
        networks = resolve_all(
            texts(backbones),
            str(weights),
            preprocess=preprocess,
            input_size=input_size,
            seed=seed,
            reporter=reporter,
        )
        return function(
            manifest_of(dataset, cache),
            networks,
            policy=policy,
            reporter=reporter,
            **options,
        )
