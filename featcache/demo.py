"""``featcache demo``: a complete run on generated chest phantoms."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from featcache import backbones, phantom
from featcache.backbones import BACKBONES, IMAGENET, RANDOM
from featcache.compare import Leaderboard, compare
from featcache.errors import WeightsError
from featcache.extract import extract
from featcache.scan import scan
from featcache.train_head import train_head
from featcache.views import Policy

DATASET = "demo"
BACKBONE = "densenet121"
_VIEWS = 1


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        images: The folder of phantoms.
        weights: "imagenet", or "random" where those could not be had.
        board: The leaderboard.
    """

    images: Path
    weights: str
    board: Leaderboard


def demo(
    cache: Path,
    reports: Path,
    *,
    images: int = 360,
    shortcut: bool = False,
    seed: int = 0,
    jobs: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    message: Callable[[str], None] | None = None,
) -> DemoResult:
    """Writes phantoms, extracts features, trains all heads, ranks them.

    Every step does only what is missing, so a second demo takes seconds.

    Args:
        cache: The cache folder; phantoms go there too.
        reports: The reports folder.
        images: Phantoms, over three classes.
        shortcut: Plant a corner marker that gives the class away.
        seed: Of phantoms, views, split and heads.
        jobs: Parallel processes for the heads.
        progress: Called with (step, done, total).
        message: Called with what the user should know.

    Raises:
        FeatcacheError: As the steps do.
    """
    tell = message or (lambda text: None)
    step = progress or (lambda name, done, total: None)
    name = f"phantoms-{images}-seed{seed}" + ("-shortcut" if shortcut else "")
    folder = cache / DATASET / name
    if not (folder / "metadata.csv").is_file():
        shutil.rmtree(folder, ignore_errors=True)  # an interrupted demo's
        phantom.write(
            folder,
            images,
            seed=seed,
            shortcut=shortcut,
            progress=lambda done, total: step("phantoms", done, total),
        )
    found = scan(
        folder / "metadata.csv",
        cache,
        dataset=DATASET,
        group_by="patient",
        progress=lambda done, total: step("scan", done, total),
    )
    weights = _weights(tell)
    network = backbones.resolve(BACKBONE, weights, seed=seed)
    extract(
        found.manifest,
        [network],
        views=_VIEWS,
        policy=Policy(seed=seed),
        progress=step,
        message=tell,
    )
    train_head(
        found.manifest,
        reports,
        backbones=[f"{BACKBONE}-{weights}"],
        seed=seed,
        jobs=jobs,
        progress=lambda _, done, total: step("fits", done, total),
    )
    return DemoResult(folder, weights, compare(reports / DATASET))


def _weights(tell: Callable[[str], None]) -> str:
    """ImageNet weights where they can be had; only a demo may do without."""
    try:
        backbones.fetch_weights(BACKBONES[BACKBONE])
    except WeightsError as error:
        tell(f"{error}")
        tell(
            "*** RANDOM WEIGHTS: the ImageNet weights cannot be had here, so the demo "
            "goes on with an untrained network. Its figures say nothing about "
            "pretrained features. ***"
        )
        return RANDOM
    return IMAGENET
