"""Which runs a call asks for: heads x features x splits, each with its record."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from featcache import features, heads
from featcache.backbones import expand
from featcache.core.io import digest
from featcache.core.text import some
from featcache.dataset import sources, splits
from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import Region
from featcache.dataset.splits import Split
from featcache.errors import DatasetError, StoreError
from featcache.evaluation import outcome, runs
from featcache.features import FeatureSet, Selection
from featcache.heads import HEADS

if TYPE_CHECKING:
    from featcache.heads.base import Head

ALL = "all"
# What decides a run's figures beside the images, their labels and their places.
_RECIPE = ("views", "policy", "tta", "classes", "exclude", "head_is")


@dataclass(frozen=True)
class Choice:
    """How heads are to be trained, whatever the features and the split.

    The attributes are the arguments of ``train_head``.
    """

    heads: tuple[str, ...]
    views: int | str
    policy: int | None
    taps: str
    tta: bool | None
    tune: bool | None
    transform: str
    pca: int | str
    calibrate: bool
    seed: int
    region: Region

    def of(self, names: Iterable[str]) -> Self:
        """The same choice for the heads that a user names.

        Raises:
            UnknownNameError: No such head.
            HeadError: It cannot serve, or not with these options.
        """
        chosen = [n for name in names for n in (HEADS if name == ALL else [name])]
        for name in chosen:
            self.head(name)
        return replace(self, heads=tuple(dict.fromkeys(chosen)))

    def head(self, name: str, blocks: Sequence[int] = ()) -> "Head":
        """An unfitted head for features of these widths."""
        return heads.make(name, **self._options(blocks))

    def describe(self, name: str, blocks: Sequence[int]) -> dict[str, Any]:
        """The identity of that head."""
        return heads.describe(name, **self._options(blocks))

    def _options(self, blocks: Sequence[int]) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "tune": self.tune,
            "blocks": tuple(blocks),
            "transform": self.transform,
            "pca": self.pca,
        }


@dataclass(frozen=True, eq=False)
class Material:
    """Features and labels that several heads are trained on.

    Attributes:
        about: What a run record says of the features.
        selection: Their rows, which are read when they are needed.
        images: One row an image.
        codes: (images,) class indices.
        masks: Digest of the masks of a region that needs them.
    """

    about: dict[str, Any]
    selection: Selection
    images: pd.DataFrame
    codes: np.ndarray
    masks: str | None

    @cached_property
    def groups(self) -> np.ndarray:
        """(images,) groups."""
        return self.images["group"].to_numpy()


@dataclass(frozen=True, eq=False)
class Job:
    """One run: a head on features, on a split.

    Attributes:
        folder: Of the run.
        choice: How it is trained.
        record: What is known of the run before it is trained.
        material: What it is trained on.
        places: (images,) folds, or `splits.TEST`.
        calibrate: Whether its predictions are to be calibrated.
    """

    folder: Path
    choice: Choice
    record: dict[str, Any]
    material: Material
    places: np.ndarray
    calibrate: bool

    @property
    def name(self) -> str:
        """Of the head."""
        return str(self.record["head"])

    @property
    def parts(self) -> list[int]:
        """The folds, and last the refit on all of train (`splits.TEST`)."""
        return [*range(self.record["split"]["folds"]), splits.TEST]


def plan(
    dataset: Manifest,
    folder: Path,
    backbones: Sequence[str],
    choice: Choice,
    drawn: Sequence[Split],
) -> Iterator[Job]:
    """Yields the runs that are asked for.

    Args:
        dataset: Whose images.
        folder: Of all its runs.
        backbones: As a user names feature sets.
        choice: How the heads are trained.
        drawn: Repeats of one split, the first of which is repeat 0.

    Raises:
        FeatcacheError: Features, taps, views or folds are not there.
    """
    names = expand(backbones)
    found = features.find_sets(dataset, names)
    if ALL in names:  # that have the region at all
        found = [one for one in found if one.shows(choice.region)] or found
    taps = features.find_taps([s for one in found for s in one.stores], choice.taps)
    masks = _masks(dataset, choice.region)
    for one in found:
        _refuse_statistics(one, drawn[0])
        material = _material(dataset, one, choice, taps, masks)
        for split in drawn:
            yield from _jobs(dataset, folder, material, choice, split)


def _masks(dataset: Manifest, region: Region) -> Mapping[str, str]:
    """By image_id, the digest of its mask; nothing where the region needs none.

    Raises:
        DatasetError: An image has no mask.
    """
    if not region.needs_mask:
        return {}
    found = sources.find_masks(dataset, region)
    if found.missing:
        raise DatasetError(
            f"a mask of each image in column {region.mask}, for --region {region.kind}",
            f"none of {len(found.missing)} of {len(dataset.ok)}, such as "
            f"{some(found.missing, 1)}",
            f"Leave them out, here and of the runs to compare with: --exclude "
            f"{region.mask}=",
        )
    return found.ids


def _refuse_statistics(found: FeatureSet, split: Split) -> None:
    """Features standardised on other images than the training part's would leak."""
    for one in found.stores:
        given = one.header.contract.get("statistics", {})
        made_on = given.get("split", split.name)
        if made_on != split.name:
            raise StoreError(
                f"features of {one.path.name} standardised on the training images of "
                f"split {split.name}",
                f"split {made_on or '(all images)'}",
                "Train with the options of that split, or extract again.",
            )


def _material(
    dataset: Manifest,
    found: FeatureSet,
    choice: Choice,
    taps: Sequence[str],
    masks: Mapping[str, str],
) -> Material:
    chosen = found.select(
        dataset,
        views=choice.views,
        policy=choice.policy,
        taps=taps,
        region=choice.region,
        masks=masks,
    )
    images = chosen.meta[chosen.meta["view"] == 0].reset_index(drop=True)
    code = {label: i for i, label in enumerate(dataset.classes)}
    blocks = [block.describe() for block in chosen.blocks]
    about = {
        "dataset": dataset.dataset,
        "backbone": found.text + choice.region.suffix,
        **runs.of_features(blocks),
        "taps": chosen.taps,
        "views": chosen.views,
        "policy": chosen.recipe,
        "tta": chosen.views > 0 and choice.tta is not False,
        "classes": dataset.classes,
        "exclude": list(dataset.exclude),
        "seed": choice.seed,
        "n_images": len(images),
        "n_groups": int(images["group"].nunique()),
    }
    codes = images["label"].map(code).to_numpy(int)
    return Material(about, chosen, images, codes, digest(masks) if masks else None)


def _jobs(
    dataset: Manifest, folder: Path, material: Material, choice: Choice, split: Split
) -> Iterator[Job]:
    places = split.of(material.images["image_id"].tolist())
    splits.check(
        places,
        material.images["label"].tolist(),
        material.groups,
        folds=split.folds,
        test_size=split.test_size,
    )
    judged = outcome.judged_on(
        material.images, places, split=split, group_by=dataset.settings.group_by
    )
    for name in choice.heads:
        about = material.about | judged | {"head": name}
        about["head_is"] = choice.describe(name, material.selection.dims)
        # An untrained head that is calibrated has been trained.
        calibrated = choice.calibrate and name not in outcome.UNTRAINED
        recipe = {key: about[key] for key in _RECIPE} | {
            "blocks": [[b["contract_id"], b["tap"]] for b in about["features"]],
            "calibrate": calibrated,
        }
        if region := choice.region.to_dict():
            recipe |= region | {"masks": material.masks}
        inputs = recipe | {"evaluation_id": about["evaluation_id"]}
        about["recipe_id"] = digest(recipe)
        run_id = runs.make_id(name, about["backbone"].replace(":", "-"), inputs)
        yield Job(folder / run_id, choice, about, material, places, calibrated)
