"""Which runs a call asks for: heads x features x splits, each with its record."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featcache import features, heads
from featcache.backbones import NONE, expand
from featcache.commands.train_head.leaks import without_leaks
from featcache.core.io import digest
from featcache.core.progress import SILENT, Reporter
from featcache.core.text import some
from featcache.dataset import sources, splits
from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import MASK, WHOLE, Region
from featcache.dataset.splits import Split
from featcache.dataset.views import Policy
from featcache.errors import DatasetError, UsageError
from featcache.evaluation import identity
from featcache.evaluation.record import (
    UNTRAINED,
    FeatureBlock,
    HeadIdentity,
    RunRecord,
    SplitInfo,
)
from featcache.features import FeatureSet, Selection
from featcache.features.contract import FLOAT32
from featcache.features.selection import Block
from featcache.features.store import FEATURES
from featcache.heads import HEADS

if TYPE_CHECKING:
    from featcache.heads.base import Head

ALL = "all"
ON_BASELINES = ("logreg", "xgboost")  # of all heads, those that baselines get


@dataclass(frozen=True)
class HeadOptions:
    """How heads are trained, whatever the features and the split.

    Attributes:
        views: Augmented views to train on: a number, or "all" that are stored.
        policy: Their recipe; by default the newest that is stored.
        taps: Inner layers to append to the embedding: "none", "all" that are
            stored, or names with commas between.
        region: What the network was shown of each image: "whole", "inside", "outside"
            or "ring"; see ``regions.Region``.
        mask: Column of the manifest that names the masks of "inside" and "outside".
        tta: Predict held-out images as the mean over their views; by default
            where views were trained on.
        tune: Choose the head's settings by inner folds; by default as the head says.
        transform: Of the features: "none", "sqrt", "l2", or "tune" to choose.
        pca: Principal components to keep: "none", a number, or "tune" to choose.
        calibrate: Calibrate the probabilities on the out-of-fold predictions.
        seed: Of the heads.

    Raises:
        UsageError: Views or a region that there cannot be.
    """

    views: int | str = ALL
    policy: Policy | None = None
    taps: str | Sequence[str] = "none"
    region: str = WHOLE
    mask: str = MASK
    tta: bool | None = None
    tune: bool | None = None
    transform: str = "none"
    pca: int | str = "none"
    calibrate: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.views != ALL and (not isinstance(self.views, int) or self.views < 0):
            raise UsageError(
                "`views` of 0 or more, or all", str(self.views), "Try all."
            )
        Region.of_options(self.region, self.mask)

    @property
    def image_region(self) -> Region:
        """The region that the network was shown."""
        return Region(self.region, self.mask)

    def head(self, name: str, blocks: Sequence[int] = ()) -> "Head":
        """An unfitted head for features of these widths."""
        return heads.make(name, **self._options(blocks))

    def describe(self, name: str, blocks: Sequence[int]) -> HeadIdentity:
        """The identity of that head."""
        return HeadIdentity.from_json(heads.describe(name, **self._options(blocks)))

    def _options(self, blocks: Sequence[int]) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "tune": self.tune,
            "blocks": tuple(blocks),
            "transform": self.transform,
            "pca": self.pca,
        }


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Features and labels that several heads are trained on.

    Attributes:
        backbone: Name of the features, with the region.
        features: What a run record says of their blocks.
        selection: Their rows, which are read when they are needed.
        images: One row an image.
        codes: (images,) class indices.
        masks: Digest of the masks of a region that needs them.
    """

    backbone: str
    features: list[FeatureBlock]
    selection: Selection
    images: pd.DataFrame
    codes: np.ndarray
    masks: str | None

    @cached_property
    def groups(self) -> np.ndarray:
        """(images,) groups."""
        return self.images["group"].to_numpy()


@dataclass(frozen=True, eq=False)
class RunPlan:
    """One run: a head on features, on a split.

    Attributes:
        folder: Of the run.
        options: How it is trained.
        record: What is known of the run before it is trained.
        data: What it is trained on.
        fold_of: (images,) folds, or `splits.TEST`.
        calibrate: Whether its predictions are to be calibrated.
    """

    folder: Path
    options: HeadOptions
    record: RunRecord
    data: TrainingData
    fold_of: np.ndarray
    calibrate: bool

    @property
    def name(self) -> str:
        """Of the head."""
        return self.record.head

    @property
    def parts(self) -> list[int]:
        """The folds, and last the refit on all of train (`splits.TEST`)."""
        return [*range(self.record.split.folds), splits.TEST]


def head_names(names: Iterable[str], options: HeadOptions) -> list[str]:
    """The heads that a user names, each once.

    Raises:
        UnknownNameError: No such head.
        HeadError: It cannot serve, or not with these options.
    """
    every = [
        n
        for name in map(HEADS.canonical, names)
        for n in (HEADS if name.lower() == ALL else [name])
    ]
    for name in every:
        options.head(name)
    return list(dict.fromkeys(every))


def baseline_heads(names: Sequence[str], heads: Sequence[str]) -> list[str]:
    """The heads for features without a network: of "all", only two that learn much.

    Args:
        names: As a user gave them.
        heads: The heads that they name.
    """
    if ALL not in names:
        return list(heads)
    return [name for name in heads if name in (*ON_BASELINES, *names)]


def plan_runs(
    dataset: Manifest,
    folder: Path,
    backbones: Sequence[str],
    heads: Sequence[str],
    options: HeadOptions,
    repeats: Sequence[Split],
    on_baselines: Sequence[str] | None = None,
    reporter: Reporter = SILENT,
) -> Iterator[RunPlan]:
    """Yields the runs that are asked for.

    Args:
        dataset: Whose images.
        folder: Of all its runs.
        backbones: As a user names feature sets.
        heads: Their names, see ``head_names``.
        options: How they are trained.
        repeats: Of one split, the first of which is repeat 0.
        on_baselines: The heads for features without a network; by default the same.
        reporter: Hears which features are left out.

    Raises:
        FeatcacheError: Features, taps, views or folds are not there.
    """
    names = expand(backbones)
    feature_sets = features.find_sets(dataset, names)
    if ALL in map(str.lower, names):  # that have the region at all
        feature_sets = [
            one for one in feature_sets if one.shows(options.image_region)
        ] or feature_sets
    feature_sets = without_leaks(feature_sets, dataset, backbones, repeats[0], reporter)
    taps = features.find_taps(
        [s for one in feature_sets for s in one.stores], options.taps
    )
    masks = _masks(dataset, options.image_region)
    for one in feature_sets:
        data = _training_data(dataset, one, options, taps, masks)
        is_baseline = all(block.weights == NONE for block in data.features)
        of_set = heads if on_baselines is None or not is_baseline else on_baselines
        for split in repeats:
            yield from _plans(dataset, folder, data, of_set, options, split)


def _masks(dataset: Manifest, region: Region) -> Mapping[str, str]:
    """By image_id, the digest of its mask; nothing where the region needs none.

    Raises:
        DatasetError: An image has no mask.
    """
    if not region.needs_mask:
        return {}
    masks = sources.find_masks(dataset, region)
    if masks.missing:
        raise DatasetError(
            f"`region={region.kind!r}` needs a mask for each image in column "
            f"{region.mask}, but {len(masks.missing)} of {len(dataset.ok)} have none, "
            f"such as {some(masks.missing, 1)}",
            "Exclude these images, also from the runs to compare with: "
            f"`exclude='{region.mask}='`.",
        )
    return masks.ids


def _training_data(
    dataset: Manifest,
    feature_set: FeatureSet,
    options: HeadOptions,
    taps: Sequence[str],
    masks: Mapping[str, str],
) -> TrainingData:
    selection = feature_set.select(
        dataset,
        views=options.views,
        policy=options.policy,
        taps=taps,
        region=options.image_region,
        masks=masks,
    )
    images = selection.meta[selection.meta["view"] == 0].reset_index(drop=True)
    code = {label: i for i, label in enumerate(dataset.classes)}
    codes = images["label"].map(code).to_numpy(int)
    return TrainingData(
        feature_set.text + options.image_region.suffix,
        list(map(_feature_block, selection.blocks)),
        selection,
        images,
        codes,
        digest(masks) if masks else None,
    )


def _feature_block(block: Block) -> FeatureBlock:
    header, contract = block.store.header, block.store.header.contract
    return FeatureBlock(
        backbone=contract.backbone,
        weights=header.weights,
        input_size=contract.input_size,
        preprocess=contract.preprocess,
        precision=contract.precision or FLOAT32,
        dtype=header.dtype.name,
        contract_id=header.contract_id,
        store=block.store.path.name,
        tap=None if block.matrix == FEATURES else block.matrix,
        dim=block.dim,
        resize=contract.resize,
        canary=header.canary,
        licence=header.licence,
        source=header.source,
        **block.region.to_dict(),
    )


def _plans(
    dataset: Manifest,
    folder: Path,
    data: TrainingData,
    heads: Sequence[str],
    options: HeadOptions,
    split: Split,
) -> Iterator[RunPlan]:
    fold_of = split.of(data.images["image_id"].tolist())
    splits.check(
        fold_of,
        data.images["label"].tolist(),
        data.groups,
        folds=split.folds,
        test_size=split.test_size,
        whole_test=not split.is_site,
    )
    evaluation_id = identity.evaluation_id(data.images, fold_of)
    for name in heads:
        head_is = options.describe(name, data.selection.dims)
        # An untrained head that is calibrated has been trained.
        calibrated = options.calibrate and name not in UNTRAINED
        recipe = _recipe(dataset, data, options, head_is) | {"calibrate": calibrated}
        inputs = recipe | {"evaluation_id": evaluation_id}
        run_id = identity.make_id(name, data.backbone.replace(":", "-"), inputs)
        record = RunRecord(
            dataset=dataset.dataset,
            backbone=data.backbone,
            features=data.features,
            taps=data.selection.taps,
            views=data.selection.views,
            policy=data.selection.recipe,
            tta=_averages_views(data, options),
            classes=dataset.classes,
            exclude=list(dataset.exclude),
            seed=options.seed,
            n_images=len(data.images),
            n_groups=int(data.images["group"].nunique()),
            split=SplitInfo.of(split, dataset.settings.group_by),
            evaluation_id=evaluation_id,
            head=name,
            head_is=head_is,
            recipe_id=digest(recipe),
        )
        yield RunPlan(folder / run_id, options, record, data, fold_of, calibrated)


def _averages_views(data: TrainingData, options: HeadOptions) -> bool:
    return data.selection.views > 0 and options.tta is not False


def _recipe(
    dataset: Manifest, data: TrainingData, options: HeadOptions, head_is: HeadIdentity
) -> dict[str, Any]:
    """What decides a run's figures beside the images, their labels and their places."""
    recipe: dict[str, Any] = {
        "views": data.selection.views,
        "policy": data.selection.recipe,
        "tta": _averages_views(data, options),
        "classes": dataset.classes,
        "exclude": list(dataset.exclude),
        "head_is": head_is.to_json(),
        "blocks": [[block.contract_id, block.tap] for block in data.features],
    }
    if region := options.image_region.to_dict():
        recipe |= region | {"masks": data.masks}
    return recipe
