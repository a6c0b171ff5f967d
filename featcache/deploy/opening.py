"""Opening a trained model by the name of a run, or by the file of a bundle."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from featcache.core.progress import SILENT, Reporter
from featcache.core.versions import installed_versions
from featcache.dataset import manifest as manifests
from featcache.dataset.manifest import Manifest
from featcache.dataset.narrowing import narrow
from featcache.dataset.own_split import NO_SPLIT
from featcache.deploy import finetuned, training_images
from featcache.deploy.bundle.memo import prove
from featcache.deploy.bundle.open import open_bundle
from featcache.deploy.bundle.trained import of_bundle
from featcache.deploy.model import FeatureNetwork, Model
from featcache.deploy.of_run import ModelSource, of_run
from featcache.deploy.points import points_of
from featcache.deploy.refusal import SHARE, Refusal
from featcache.deploy.storage import stored
from featcache.deploy.trained import RefusalRule, TrainedModel, TrainingSet
from featcache.errors import DatasetError, StoreError, UsageError
from featcache.evaluation import references, runs
from featcache.evaluation.runs import Run
from featcache.features.keys import is_plain

SUFFIX = ".fcb"


@dataclass(frozen=True)
class Place:
    """Where runs and their features are.

    Attributes:
        cache: The cache folder.
        reports: The folder of runs of all datasets.
        dataset: Name of the dataset; None where the run determines it.
        files: ``.keras`` and weights files to look for networks in.
        split: Name of the split whose runs are meant; None for any.
    """

    cache: Path
    reports: Path
    dataset: str | None = None
    files: Sequence[Path] = ()
    split: str | None = None

    def folder_of(self, reference: str) -> Path:
        """The folder in the cache of the dataset that a run is of.

        Raises:
            DatasetError: No such dataset, none at all, or several to choose from.
        """
        names = [reference]
        return references.find_dataset(self.cache, self.reports, self.dataset, names)


@contextmanager
def open_model(
    reference: str,
    place: Place,
    *,
    refuse: float | None = None,
    needs_refusal: bool = True,
    with_hashes: bool = False,
    reporter: Reporter = SILENT,
) -> Iterator[TrainedModel]:
    """Opens a run or a bundle; what it computes of new images is kept in the cache.

    Args:
        reference: The file of a bundle, or a run's rank, short id or part of its id.
        place: Where the runs are.
        refuse: Share of images of the training set's own kind that may be refused; by
            default 1 %, or what the bundle was made with.
        needs_refusal: Whether refusal must be at hand; else the model may come
            without.
        with_hashes: Have perceptual hashes of a run's training images, so that
            near-duplicates of them are known, even if nothing else needs these images;
            a bundle has the hashes.
        reporter: Hears what the user should know.

    Raises:
        BundleError: The bundle is damaged, or does not prove itself here.
        RunError: No such run, or it has no model.
        DatasetError: The training images are not where they were; or the dataset of
            the run is not certain.
        UsageError: A share that cannot be; or for a bundle, another than its own.
    """
    if is_bundle(reference):
        yield _opened_bundle(Path(reference), place.files, refuse, reporter)
        return
    dataset = manifests.load(place.folder_of(reference))
    run = references.find(place.reports / dataset.dataset, reference, place.split)
    source = ModelSource(dataset.folder, place.files, reporter)
    with (
        manifests.in_use(dataset) as check,
        stored(of_run(run, source), place.cache, reporter) as plain,
    ):
        _report_other_versions(plain, reporter)
        rule = None
        try:
            share = SHARE if refuse is None else refuse
            rule = rule_of(run, plain, dataset, share, reporter)
        except DatasetError as error:
            check()
            if needs_refusal:
                raise
            reporter.message(f"no image is refused: {error.problem}")
        # With a rule they are at hand: measured with what it was learned from.
        training = training_set(
            run, dataset, with_hashes=with_hashes or rule is not None, reporter=reporter
        )
        yield TrainedModel(plain, points_of(run), rule, training, dataset.dataset)


def _opened_bundle(
    path: Path, files: Sequence[Path], refuse: float | None, reporter: Reporter
) -> TrainedModel:
    """The model of a bundle that has proved itself on this machine."""
    bundle = open_bundle(path, files=files)
    prove(bundle, reporter)
    model = replace(of_bundle(bundle), bundle_sha256=bundle.archive.sha256)
    own = model.rule.refusal.calibration.share if model.rule else None
    if refuse not in (None, own):
        raise UsageError(
            f"the bundle's own `refuse`, {own}",
            f"{refuse:g}",
            "Leave it out, or make the bundle again with that share.",
        )
    return model


def is_bundle(reference: str) -> bool:
    """Whether a reference is the file of a bundle, and not the name of a run."""
    path = Path(reference)
    return path.is_file() or path.suffix == SUFFIX


def _report_other_versions(model: Model, reporter: Reporter) -> None:
    """Features of new images are computed by what is installed now."""
    for network in model.networks:
        versions = network.store.header.versions if network.store else {}
        now = installed_versions([*versions])
        changed = [
            f"{name} {then} then, {now.get(name, 'none')} now"
            for name, then in versions.items()
            if now.get(name) != then
        ]
        if changed:
            reporter.message(
                f"the features of {network.name} were made with other libraries "
                f"({', '.join(changed)}); run featcache extract, which checks whether "
                "they agree"
            )


def rule_of(
    run: Run,
    model: Model,
    dataset: Manifest,
    share: float = SHARE,
    reporter: Reporter = SILENT,
) -> RefusalRule | None:
    """Learns which images a run's model refuses; None where it cannot be learned.

    Thresholds are out-of-fold, on the folds of the run's own split.

    Raises:
        DatasetError: The training images are not where they were.
        StoreError: Their features are gone.
        UsageError: A share that cannot be.
    """
    table = run.table[run.table["split"] == runs.TRAIN]
    number = next((n for n, one in enumerate(model.networks) if one.store), None)
    if table["fold"].nunique() < 2 or number is None:
        reporter.message(
            f"{run.run_id} refuses no image: it has no out-of-fold predictions, or "
            "no stored features of its backbone to compare with"
        )
        return None
    network = model.networks[number]
    output = network.outputs[0]
    ids = table["image_id"].tolist()
    try:
        X = _plain_features(network, output, ids)
    except StoreError as error:
        if not finetuned.is_finetuned(run):  # whose head needs none of them
            raise
        reporter.message(f"{run.run_id} refuses no image: {error.problem}")
        return None
    known = training_images.measure(dataset, ids, reporter)
    refusal = Refusal.fit(
        X,
        known.statistics,
        known.headers,
        table["group"].to_numpy(),
        table["label"].to_numpy(),
        ids,
        table["fold"].to_numpy(np.int64),
        share=share,
    )
    if note := refusal.calibration.note:
        reporter.message(note)
    return RefusalRule(refusal, number, output)


def _plain_features(
    network: FeatureNetwork, output: str, ids: Sequence[str]
) -> np.ndarray:
    """The stored output (N, width) of the plain views of images."""
    assert network.store is not None
    keys = network.store.keys
    rows = np.flatnonzero(is_plain(keys) & network.store.has(output))
    row_of = dict(zip(keys["image_id"].to_numpy()[rows], rows, strict=True))
    if missing := sum(one not in row_of for one in ids):
        raise StoreError(
            f"features of the {len(ids)} training images in {network.store.path.name}",
            f"none of {missing} of them",
            "Extract the dataset again with the same options.",
        )
    network.store.verify()
    return network.store.rows(output, np.array([row_of[one] for one in ids]))


def training_set(
    run: Run,
    dataset: Manifest,
    *,
    with_hashes: bool = False,
    reporter: Reporter = SILENT,
) -> TrainingSet:
    """What a run was trained on: all images of its dataset but the test set.

    Args:
        run: The run.
        dataset: As it was when the run was made.
        with_hashes: Have their perceptual hashes, where the images can be read.
        reporter: Hears of the images read.
    """
    known = run.table[run.table["split"] == runs.TRAIN]
    internal = None if known.empty else run.predictions(runs.TRAIN)
    if known.empty:  # only its test set was predicted
        ok = narrow(dataset, exclude=run.record.exclude, split_by=NO_SPLIT).ok
        known = ok[~ok["image_id"].isin(run.table["image_id"])]
    ids = known["image_id"].tolist()
    hashes = _hashes(dataset, ids, reporter) if with_hashes else {}
    every = {*dataset.table["image_id"], *run.table["image_id"]} - {""}
    return TrainingSet(
        image_ids=frozenset(ids),
        counts={str(k): int(n) for k, n in known["label"].value_counts().items()},
        internal=internal,
        hashes=hashes,
        other_ids=frozenset(every.difference(ids)),
    )


def _hashes(
    dataset: Manifest, ids: Sequence[str], reporter: Reporter
) -> dict[str, np.ndarray]:
    try:
        known = training_images.measure(dataset, ids, reporter)
    except DatasetError as error:
        reporter.message(f"near-duplicates are not looked for: {error.problem}")
        return {}
    return dict(zip(ids, known.hashes, strict=True))
