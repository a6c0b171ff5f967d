"""``featcache bundle``: a trained model as one file, and its proof."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featcache.core.output_file import check_output
from featcache.core.progress import SILENT, Reporter
from featcache.dataset.manifest import Manifest
from featcache.deploy.bundle.make import INTENDED_USE, make
from featcache.deploy.bundle.open import open_bundle, read_bundle
from featcache.deploy.bundle.record import BundleRecord
from featcache.deploy.bundle.verify import Stage, verify
from featcache.deploy.facts import training_facts
from featcache.deploy.of_run import ModelSource, of_run
from featcache.deploy.opening import rule_of, training_set
from featcache.deploy.points import points_of
from featcache.deploy.refusal import SHARE
from featcache.deploy.trained import TrainedModel
from featcache.errors import UsageError
from featcache.evaluation.runs import Run


@dataclass(frozen=True)
class BundleResult:
    """A bundle that was made.

    Attributes:
        path: The file.
        bytes: Its size.
        record: What its manifest.json says.
    """

    path: Path
    bytes: int
    record: BundleRecord


def make_bundle(
    dataset: Manifest,
    run: Run,
    output: Path,
    *,
    reference: bool = False,
    sensitivity: float = 0.95,
    refuse: float = SHARE,
    intended_use: str = INTENDED_USE,
    files: Sequence[Path] = (),
    force: bool = False,
    reporter: Reporter = SILENT,
) -> BundleResult:
    """Writes a run as one file that answers elsewhere, and proves itself there.

    It appears once its golden cases have given what the run gives.

    Args:
        dataset: On which the run was trained.
        run: A head on cached features, a fine-tuned network, or an ensemble.
        output: The file to write.
        reference: Name the networks by their digests instead of carrying them.
        sensitivity: At which the operating points have the highest specificity.
        refuse: Share of images of the training set's own kind that may be refused.
        intended_use: What the model may be used for, in your words.
        files: ``.keras`` and weights files to look for its networks in.
        force: Replace a file that is there.
        reporter: Hears what the user should know.

    Raises:
        RunError: It has no model, or is damaged.
        StoreError: One of its stores is gone.
        WeightsError: One of its networks cannot be found.
        BundleError: A head of a class that is not featcache's own; or the bundle does
            not give what the run gives.
        UsageError: The file must not be written.
    """
    check_output(output, "output", force=force)
    if output.is_dir() or not output.parent.is_dir():
        raise UsageError(
            "`output` a file in a folder that exists",
            f"{output}, a folder" if output.is_dir() else f"no folder {output.parent}",
            "Name a file." if output.is_dir() else "Make the folder first.",
        )
    source = ModelSource(dataset.folder, files, reporter)
    model = of_run(run, source)
    points = points_of(run, sensitivity)
    if points is None:
        reporter.message(
            f"{run.run_id} has no out-of-fold predictions, so no operating points"
        )
    rule = rule_of(run, model, dataset, refuse, reporter)
    training = training_set(run, dataset, with_hashes=True, reporter=reporter)
    record = make(
        output,
        TrainedModel(model, points, rule, training, dataset.dataset),
        run,
        source,
        training=training_facts(run),
        intended_use=intended_use,
        reference=reference,
    )
    return BundleResult(output, output.stat().st_size, record)


def show_bundle(path: Path) -> BundleRecord:
    """What a bundle says of itself.

    Raises:
        BundleError: It is damaged, changed, or of another format.
    """
    return read_bundle(path)


def verify_bundle(path: Path, *, files: Sequence[Path] = ()) -> list[Stage]:
    """Runs the golden cases of a bundle; see ``bundle.verify``.

    Args:
        path: The bundle.
        files: Of networks that it only names.

    Raises:
        BundleError: It is damaged, changed, or of another format.
    """
    return verify(open_bundle(path, files=files))
