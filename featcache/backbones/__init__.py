"""Backbones: one row a network, preprocessing and weights file included.

A new backbone is a new row. Any ``.keras`` file is a backbone as well; what its
row would say is given by options or by a JSON file of the same name beside it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from featcache.backbones.base import (
    FEATUREWISE,
    FILE,
    IMAGENET,
    NONE,
    PREPROCESS,
    RANDOM,
    Backbone,
    Network,
    Preprocess,
)
from featcache.backbones.baselines import BASELINES, Baseline
from featcache.backbones.build import build, weights_digest, with_pixels
from featcache.backbones.files import check_size, existing, from_file, is_file
from featcache.backbones.table import BACKBONES, CLASSIC5, NETWORKS
from featcache.backbones.weights import fetch_weights, find_weights, weights_key
from featcache.backbones.words import own_options
from featcache.core.progress import SILENT, Reporter
from featcache.errors import UsageError

__all__ = [
    "BACKBONES",
    "BASELINES",
    "CLASSIC5",
    "COLLECTIONS",
    "FEATUREWISE",
    "FILE",
    "IMAGENET",
    "NETWORKS",
    "NONE",
    "PREPROCESS",
    "RANDOM",
    "Backbone",
    "Baseline",
    "Network",
    "Preprocess",
    "build",
    "expand",
    "fetch_weights",
    "find_weights",
    "resolve",
    "resolve_all",
    "weights_digest",
    "weights_key",
    "with_pixels",
]


COLLECTIONS = {"classic5": CLASSIC5, "baselines": BASELINES}


def resolve(
    name: str,
    weights: str = IMAGENET,
    *,
    preprocess: str = "imagenet",
    input_size: int | None = None,
    seed: int = 0,
) -> Network:
    """Turns a user's words into a network, without building anything.

    Args:
        name: A name of the table, or the path of a ``.keras`` file.
        weights: "imagenet", "random", or a weights file for a table's network.
        preprocess: "imagenet" takes the row's own; else one of ``PREPROCESS``, or
            "featurewise".
        input_size: Side in pixels; by default the row's own.
        seed: Of random weights.

    Raises:
        UnknownNameError: No such backbone; the nearest names are offered.
        WeightsError: No such file, or it is damaged.
        UsageError: A ``.keras`` file without preprocessing or input size, with
            another preprocessing than its JSON says, or with other weights; a file of
            another format; a baseline with what only networks have.
    """
    if input_size is not None:
        check_size(input_size)
    if preprocess not in (IMAGENET, FEATUREWISE, *PREPROCESS):
        raise UsageError(
            f"`preprocess` to be one of imagenet, featurewise, {', '.join(PREPROCESS)}",
            repr(preprocess),
            "Use the one that matches the weights.",
        )
    if is_file(name):
        if weights != IMAGENET and Path(name).is_file():
            raise UsageError(
                f"{name} without `weights`",
                f"`weights={weights!r}`",
                "Its weights are in the file: leave the option out.",
            )
        mode = preprocess if preprocess != IMAGENET else None
        return from_file(Path(name), mode, input_size)
    name = BACKBONES.canonical(name)
    row = BACKBONES[name]
    if isinstance(row, Baseline):
        _refuse(name, _of_networks(weights, preprocess, input_size))
        return Network(name, NONE, row.preprocess, row.input_size, row=row)
    network = Network(
        name=name,
        weights=weights if weights in (IMAGENET, RANDOM) else FILE,
        preprocess=row.preprocess if preprocess == "imagenet" else preprocess,
        input_size=input_size or row.input_size,
        row=row,
        seed=seed,
        taps=row.taps,
    )
    if network.weights == FILE:
        return replace(network, file=existing(Path(weights)))
    return network


def resolve_all(
    names: Sequence[str],
    weights: str = IMAGENET,
    *,
    preprocess: str = "imagenet",
    input_size: int | None = None,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> list[Network]:
    """Turns the names of a call into networks, each once; see ``resolve``.

    Beside networks, baselines go without the options that only networks have.

    Args:
        names: As for ``resolve``, or one of ``COLLECTIONS``; each perhaps with options
            of its own, such as ``A.keras:preprocess=caffe,size=224``.
        weights: As for ``resolve``.
        preprocess: As for ``resolve``.
        input_size: As for ``resolve``.
        seed: As for ``resolve``.
        reporter: Hears which options some of them go without.

    Raises:
        UsageError: "all", which is too many to be meant; and as ``resolve``.
    """
    if "all" in map(str.lower, names):
        raise UsageError(
            "a backbone, classic5 or baselines",
            f"'all', which could mean {len(CLASSIC5)} or {len(NETWORKS)} networks",
            f"Use classic5 for {', '.join(CLASSIC5)}; baselines for "
            f"{', '.join(BASELINES)}; or the names of networks: the {len(NETWORKS)} "
            "are listed in docs/reference/commands/extract.md.",
        )
    written = [(name, own) for text in names for name, own in [own_options(text)]]
    several = [(name, own) for text, own in written for name in expand([text])]
    baselines = [name for name, own in several if name in BASELINES and not own]
    plain = list(dict.fromkeys(baselines))
    if len(baselines) == len(several):
        plain = []  # nothing here that the options could be meant for
    options = _of_networks(weights, preprocess, input_size)
    if plain and options:
        words = ", ".join(options.values())
        reporter.message(f"{words}: ignored for {', '.join(plain)} (no network)")
    shared = {"weights": weights, "preprocess": preprocess, "input_size": input_size}
    networks = [
        resolve(name) if name in plain else resolve(name, **(shared | own), seed=seed)
        for name, own in several
    ]
    return list(dict.fromkeys(networks))


def expand(names: Iterable[str]) -> list[str]:
    """The same names as the table spells them; a collection's names in its place."""
    return [
        n
        for name in map(BACKBONES.canonical, names)
        for n in COLLECTIONS.get(name.lower(), (name,))
    ]


def _of_networks(
    weights: str, preprocess: str, input_size: int | None
) -> dict[str, str]:
    """Options that mean nothing without a network: name, and how Python gives it."""
    options = {
        "weights": weights if weights != IMAGENET else None,
        "preprocess": preprocess if preprocess != IMAGENET else None,
        "input_size": input_size,
    }
    return {name: f"`{name}={value!r}`" for name, value in options.items() if value}


def _refuse(name: str, options: dict[str, str]) -> None:
    if options:
        raise UsageError(
            f"{name} is a baseline without a network and takes no "
            + ", ".join(options.values()),
            "Omit these options.",
        )
