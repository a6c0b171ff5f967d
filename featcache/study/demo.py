"""``featcache demo``: a study of generated chest phantoms."""

import shutil
from dataclasses import dataclass
from os.path import abspath
from pathlib import Path

from featcache.backbones import BACKBONES, IMAGENET, RANDOM, Backbone, fetch_weights
from featcache.commands.compare import Leaderboard
from featcache.core.progress import SILENT, Reporter
from featcache.dataset import phantom
from featcache.errors import RunError, WeightsError
from featcache.study.parser import read
from featcache.study.runner import run

FILE = Path(__file__).with_name("demo.toml")
DATASET = "demo"
BACKBONE = "densenet121"


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
    small_lesions: bool = False,
    seed: int = 0,
    jobs: int | None = None,
    reporter: Reporter = SILENT,
) -> DemoResult:
    """Writes phantoms and runs the study of demo.toml on them.

    Every step does only what is missing, so a second demo takes seconds.

    Args:
        cache: The cache folder; phantoms go there too.
        reports: The reports folder.
        images: Phantoms, over three classes.
        shortcut: Plant a corner marker that gives the class away.
        small_lesions: Draw findings as small patches in one lung.
        seed: Of phantoms, views, split and heads.
        jobs: Parallel processes for the heads.
        reporter: Hears of each step and how far it is, and what the user should know.

    Raises:
        FeatcacheError: As the steps do.
    """
    name = f"phantoms-{images}-seed{seed}" + ("-shortcut" if shortcut else "")
    name += "-small" if small_lesions else ""
    folder = cache / DATASET / name
    if not (folder / "metadata.csv").is_file():
        shutil.rmtree(folder, ignore_errors=True)  # an interrupted demo's
        kind = {"shortcut": shortcut, "small_lesions": small_lesions}
        phantom.write(folder, images, seed=seed, **kind, reporter=reporter)
    weights = _weights(reporter)
    variables = {"PHANTOMS": abspath(folder), "WEIGHTS": weights}
    study = read(FILE, variables=variables, seed=seed)
    result = run(study, cache, reports=reports, jobs=jobs, reporter=reporter)
    if result.failures:
        raise RunError(
            f"the demo failed: {'; '.join(result.failures)}",
            "Run featcache doctor; finished work is kept.",
        )
    return DemoResult(folder, weights, result.boards[0])


def _weights(reporter: Reporter) -> str:
    """ImageNet weights where they can be had; only a demo may do without."""
    row = BACKBONES[BACKBONE]
    assert isinstance(row, Backbone)
    try:
        fetch_weights(row)
    except WeightsError as error:
        reporter.message(
            "*** RANDOM WEIGHTS: the demo continues with an untrained network, because "
            "the ImageNet weights are not available here "
            f"({error.problem}). Its figures say nothing about pretrained features. ***"
        )
        return RANDOM
    return IMAGENET
