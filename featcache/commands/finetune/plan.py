"""Which run a call asks for: a network, its images and places, its record so far."""

import tempfile
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featcache import backbones
from featcache.backbones import IMAGENET, Backbone, Network, Preprocess
from featcache.commands.finetune.checkpoint import Checkpoint
from featcache.commands.finetune.settings import TEST, FinetuneSettings
from featcache.commands.finetune.start import SourceRun, open_source_run, standardising
from featcache.core.io import digest, sha256_file
from featcache.dataset import splits
from featcache.dataset.manifest import Manifest
from featcache.dataset.splits import Split
from featcache.dataset.urls import is_gone
from featcache.errors import DatasetError, SplitError, UsageError
from featcache.evaluation import identity, references, runs
from featcache.evaluation.record import FINETUNED, HeadIdentity, RunRecord, SplitInfo

HEAD = FINETUNED  # how the names of its runs begin
REVISION = 1  # raised with any change that moves the numbers of fine-tuned networks
_LIBRARIES = ("keras", "tensorflow")


@dataclass(frozen=True, eq=False)
class RunPlan:
    """One run: a network, fine-tuned on each part of a split.

    Attributes:
        reports: ``reports/<dataset>``.
        dataset: Its images.
        network: What is fine-tuned.
        settings: How.
        source_run: The run whose head it starts from.
        statistics: The scaling of "featurewise" preprocessing.
        split: The split.
        only_test: Whether there is but one network, judged on the test part.
        calibrate: Whether its predictions are to be calibrated.
        minutes: Most that the call may take.
    """

    reports: Path
    dataset: Manifest
    network: Network
    settings: FinetuneSettings
    source_run: SourceRun | None
    statistics: Preprocess | None
    split: Split
    only_test: bool
    calibrate: bool
    minutes: float | None

    @cached_property
    def images(self) -> pd.DataFrame:
        """The usable images, one a row."""
        return self.dataset.ok.reset_index(drop=True)

    @cached_property
    def codes(self) -> np.ndarray:
        """(N,) class indices."""
        code = {label: i for i, label in enumerate(self.dataset.classes)}
        return self.images["label"].map(code).to_numpy(int)

    @cached_property
    def groups(self) -> np.ndarray:
        """(N,) groups."""
        return self.images["group"].to_numpy()

    @cached_property
    def fold_of(self) -> np.ndarray:
        """(N,) folds, or `splits.TEST`."""
        return self.split.of(self.images["image_id"].tolist())

    @property
    def parts(self) -> list[int]:
        """What a network is trained for: the folds, and last the test part."""
        folds = [] if self.only_test else [*range(self.split.folds)]
        return [*folds, splits.TEST]

    @property
    def head(self) -> str:
        """Name of the run's head."""
        if self.source_run is None:
            return HEAD
        return f"{HEAD}-from-{self.source_run.run.record.head}"

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """What decides the figures beside images and places."""
        params = self.settings.params()
        if self.source_run:
            run = self.source_run.run
            # A run may be trained again under its id; its predictions tell.
            params |= {
                "head": None,
                "init_head": run.run_id,
                "init_predictions": sha256_file(run.folder / runs.PREDICTIONS),
            }
        return {
            "revision": REVISION,
            "network": self.network.name,
            "architecture": self.network.architecture,
            "weights": backbones.weights_key(self.network),
            "preprocess": self.network.preprocess,
            "input_size": self.network.input_size,
            "resize": self.network.resize.text,
            "statistics": str(self.statistics),
            "classes": self.dataset.classes,
            "exclude": list(self.dataset.exclude),
            "params": params,
            "calibrate": self.calibrate,
        }

    @cached_property
    def evaluation_id(self) -> str:
        """Digest of the images and their folds."""
        return identity.evaluation_id(self.images, self.fold_of)

    @cached_property
    def folder(self) -> Path:
        """Of the run."""
        return self._named(None)

    @cached_property
    def short(self) -> Path:
        """Of the run, if the time limit cuts it short."""
        return self._named(self.minutes)

    def _named(self, minutes: float | None) -> Path:
        inputs = self.recipe | {
            "evaluation_id": self.evaluation_id,
            "parts": self.parts,
            "minutes": minutes,
        }
        name = identity.make_id(self.head, self.network.name, inputs)
        return self.reports / "runs" / name

    @property
    def done(self) -> Path | None:
        """The folder of the run that is there; one cut short only by this limit."""
        folders = (self.folder, self.short)
        return next((folder for folder in folders if runs.is_done(folder)), None)

    @property
    def is_recorded(self) -> bool:
        """Whether the run is there, be it broken."""
        folders = (self.folder, self.short)
        return any((folder / "run.json").is_file() for folder in folders)

    @cached_property
    def training_identity(self) -> dict[str, Any]:
        """What decides the weights.

        The time allowed is left out, so that with more of it the work goes on.
        """
        versions = {name: metadata.version(name) for name in _LIBRARIES}
        recipe = {key: v for key, v in self.recipe.items() if key != "calibrate"}
        return recipe | versions | {"evaluation_id": self.evaluation_id}

    @cached_property
    def checkpoint_key(self) -> str:
        """Digest of what decides the weights: that of checkpoints."""
        return digest(self.training_identity)

    def checkpoint(self, part: int) -> Checkpoint:
        """Of the network that never sees a part."""
        name = "test" if part == splits.TEST else str(part)
        return Checkpoint(
            self.checkpoints / f"{name}.npz", f"{self.checkpoint_key} {part}"
        )

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.reports / "checkpoints" / self.checkpoint_key[:16]

    def record(self) -> RunRecord:
        """What is known of the run before its network is built."""
        policy, file = self.settings.policy, self.network.file
        params = {**self.recipe["params"], "unfreeze": self.settings.unfreeze}
        return RunRecord(
            dataset=self.dataset.dataset,
            backbone=self.network.name,
            features=[],
            taps=list(self.source_run.taps) if self.source_run else [],
            views=self.settings.views,
            policy=None if policy.is_identity else policy.to_dict(),
            tta=self.settings.tta > 0,
            classes=self.dataset.classes,
            exclude=list(self.dataset.exclude),
            seed=self.settings.seed,
            n_images=len(self.images),
            n_groups=int(self.images["group"].nunique()),
            split=SplitInfo.of(self.split, self.dataset.settings.group_by),
            evaluation_id=self.evaluation_id,
            head=self.head,
            head_is=HeadIdentity(head=HEAD, revision=REVISION, params=params),
            recipe_id=digest(self.recipe),
            init_head=self.source_run.run.run_id if self.source_run else None,
            preprocess=self.network.preprocess,
            network_file=str(file.absolute()) if file else None,
            max_minutes=self.minutes,
            options=[
                *([f"from {self.source_run.run.run_id}"] if self.source_run else []),
                *self.settings.differing(),
            ],
        )


def plan_run(
    dataset: Manifest,
    network: Network,
    *,
    reports: Path,
    settings: FinetuneSettings,
    split: Split,
    init_head: str | None,
    named_split: str | None,
    fold: str,
    calibrate: bool,
    minutes: float | None,
) -> RunPlan:
    """Checks all that can be known before any work.

    Raises:
        FeatcacheError: Of any kind: what is asked for cannot be done.
    """
    _check(dataset, network, split, fold)
    if network.weights == IMAGENET and isinstance(network.row, Backbone):
        backbones.fetch_weights(network.row)
    base = reports / dataset.dataset
    images = dataset.ok
    fold_of = split.of(images["image_id"].tolist())
    labels, groups = images["label"].tolist(), images["group"].to_numpy()
    splits.check(
        fold_of,
        labels,
        groups,
        folds=split.folds,
        test_size=split.test_size,
        whole_test=not split.is_site,
    )
    source_run = None
    if init_head:
        evaluation_id = identity.evaluation_id(images, fold_of)
        run = _find(base, init_head, named_split)
        source_run = open_source_run(run, dataset, network, evaluation_id=evaluation_id)
    return RunPlan(
        reports=base,
        dataset=dataset,
        network=network,
        settings=settings,
        source_run=source_run,
        statistics=standardising(dataset, network, split.name),
        split=split,
        only_test=fold == TEST,
        calibrate=calibrate and fold != TEST,
        minutes=minutes,
    )


def _find(reports: Path, reference: str, split: str | None) -> runs.Run:
    """The run that is meant: what was started from it has its head's name too."""
    names = references.matching(reports, reference, split)
    cached = [name for name in names if not name.startswith(HEAD)]
    one = cached[0] if len(cached) == 1 else reference
    return references.find(reports, one, split)


def _check(dataset: Manifest, network: Network, split: Split, fold: str) -> None:
    if network.is_baseline:
        raise UsageError(
            f"{network.name} cannot be fine-tuned, because it is no network",
            "Choose a backbone with weights.",
        )
    if network.is_graph and network.file:
        raise UsageError(
            f"{network.file.name} cannot be fine-tuned: OpenVINO runs ONNX and "
            "OpenVINO files without gradients",
            "Fine-tune a network of the table, such as densenet121, or a .keras file; "
            "or train heads on the features of this one: featcache train-head.",
        )
    if len(dataset.classes) < 2:
        raise DatasetError(
            f"at least two classes in {dataset.dataset}",
            ", ".join(dataset.classes) or "none",
            "Scan a source with more classes, or exclude fewer images.",
        )
    if fold == TEST and not split.test_size:
        raise SplitError(
            "`fold='test'` needs a test set, but `test_size=0` leaves none",
            "Try `test_size=0.2`.",
        )
    if is_gone(dataset.root):
        raise DatasetError(
            f"the images of {dataset.dataset} are no longer in {dataset.root}",
            f"Scan the new folder: {dataset.scan_again()}",
        )


def try_writing(folder: Path) -> None:
    """Finds out before hours of work whether a folder can be written to.

    Raises:
        OSError: It cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
