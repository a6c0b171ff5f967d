"""From what a store says of itself to the options of a command that ask for it."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featcache.core.taps import AVG, FEATURES, split_tap

if TYPE_CHECKING:
    from featcache.evaluation.record import FeatureBlock
    from featcache.features.contract import Contract


def network_options(contract: "Contract | FeatureBlock", weights: str) -> list[str]:
    """The words that ask for a network as a contract, or a run's record, has it.

    Args:
        contract: What it does not say is not asked for.
        weights: Their tag; a file has to be named beside.
    """
    if weights == "none":  # a baseline has no options
        return []
    words = ["--weights", "random"] if weights == "random" else []
    for name in ("preprocess", "input_size", "precision", "dtype"):
        value = getattr(contract, name)
        if value not in (None, "float32"):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def seed_options(weights_key: str) -> list[str]:
    """The words that ask for the seed of random weights, by a header's key."""
    seed = re.match(r"random seed (\d+)", weights_key)
    return ["--seed", seed[1]] if seed else []


def tap_options(names: Sequence[str]) -> list[str]:
    """The words that ask for inner layers, by the names of their matrices."""
    pairs = [split_tap(name) for name in names]
    last = dict.fromkeys(kind for layer, kind in pairs if layer == FEATURES)
    layers = dict.fromkeys(layer for layer, _ in pairs if layer != FEATURES)
    kinds = dict.fromkeys(kind for layer, kind in pairs if layer != FEATURES)
    words = ["--pooling", "+".join(last)] if last else []
    words += ["--taps", ",".join(layers)] if layers else []
    return words + (["--tap-pooling", "+".join(kinds)] if {*kinds} - {AVG} else [])


def recipe_options(recipe: Mapping[str, Any]) -> list[str]:
    """The words that ask for a recipe of views, one of ``Header.policies``.

    A region has words of its own: ``Region.options``.
    """
    words = [] if recipe.get("flip", True) else ["--no-flip"]
    for name in ("brightness", "zoom"):
        if name in recipe:
            words += [f"--{name}", ",".join(f"{v:g}" for v in recipe[name])]
    return words + (["--seed", str(recipe["seed"])] if "seed" in recipe else [])
