"""The commands as functions, with the same words.

A dataset is a name, a `Dataset` or a manifest; None is the only one of the cache. Text
is taken wherever there are paths, and one name where there may be several.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featcache.api.networks import Paths, on_networks
from featcache.api.progress import show
from featcache.api.results import AuditResult, Explanation, Leaderboard, Runs
from featcache.api.words import (
    DatasetLike,
    listed,
    manifest_if_there,
    manifest_of,
    manifest_of_runs,
    reference,
    reports_folder,
    texts,
    with_options_of,
)
from featcache.backbones import Network
from featcache.commands import audit as auditing
from featcache.commands import compare as comparing
from featcache.commands import ensemble as ensembles
from featcache.commands import explain as explaining
from featcache.commands import extract as extracting
from featcache.commands import finetune as finetuning
from featcache.commands import train_head as training
from featcache.commands.extract import StoreResult
from featcache.core.options import arguments
from featcache.dataset.manifest import Manifest
from featcache.dataset.views import Policy
from featcache.errors import UsageError
from featcache.evaluation import references, runs
from featcache.report.heatmaps import sheets


@with_options_of(on_networks, extracting.extract, without=["policy"])
def extract(
    dataset: DatasetLike = None,
    backbones: Paths = "densenet121",
    *,
    cache: str | Path | None = None,
    progress: bool | None = None,
    **options: Any,
) -> list[StoreResult]:
    """Runs frozen backbones over a dataset's images, and keeps the embeddings.

    Only what is missing is computed; a call for what is there builds no network.

    Args:
        dataset: Which; see ``featcache.open`` and ``featcache.scan``.
        backbones: One or several: names, "classic5", "baselines", or paths of
            ``.keras`` files.
        weights: "imagenet", "random", or a file.
        preprocess: "imagenet" is the scaling that belongs to the backbone.
        input_size: Side of the input in pixels; by default the backbone's own.
        flip: Augmented views may be mirrored.
        brightness: Range of the factor by which they are brightened.
        zoom: Range of the factor by which they are magnified.
        region: What is shown of each image: "whole", "inside", "outside" or "ring".
        mask: Column of the manifest that names the masks.
        seed: Of the views, and of random weights.
        cache: The cache folder; by default the dataset's, ``$FEATCACHE_CACHE``, or
            ``cache``.
        progress: Whether to show a bar; by default in notebooks and terminals.
        options: views, taps, tap_pooling, pooling, engine, precision, dtype,
            batch_size, max_bad, split_by and on, as in
            docs/reference/commands/extract.md.

    Raises:
        FeatcacheError: As ``commands.extract.extract``.
    """
    results: list[StoreResult] = on_networks(
        extracting.extract,
        dataset,
        backbones,
        cache=cache,
        progress=progress,
        **options,
    )
    return results


@with_options_of(training.train_head)
def train_head(
    dataset: DatasetLike = None,
    heads: Any = "all",
    backbones: Paths = "all",
    *,
    cache: str | Path | None = None,
    reports: str | Path | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Runs:
    """Trains heads on stored features, fold by fold, and records every run.

    Args:
        dataset: Which; see ``featcache.open``.
        heads: One or several: names of heads, "all", ``module:Class`` of a
            scikit-learn classifier, or a classifier itself. Of that a copy is trained,
            on scaled features, and its class and arguments are recorded.
        backbones: One or several stored feature sets; joined by ``+``, one of both.
        cache: The cache folder.
        reports: The reports folder; by default the dataset's, or ``reports``.
        progress: Whether to show a bar; by default in notebooks and terminals.
        options: views, policy, taps, region, mask, tta, tune, transform, pca,
            calibrate, exclude, group_by, folds, test_size, repeats, seed, split, jobs,
            on and force, as in docs/reference/commands/train-head.md.

    Raises:
        HeadError: A classifier cannot be imported by its name, or cannot serve.
        FeatcacheError: As ``commands.train_head.train_head``.
    """
    with show(progress) as reporter:
        words = {
            "manifest": manifest_of(dataset, cache),
            "reports": reports_folder(reports, dataset),
            "heads": _heads(heads),
            "backbones": texts(backbones),
            "reporter": reporter,
        }
        result = training.train_head(**arguments(training.train_head, options | words))
    return Runs(result.runs, result.new_run_ids)


def _heads(heads: Any) -> list[str]:
    """Names of heads; of an estimator, its class and arguments as text."""
    from featcache.heads.estimators import to_text

    return [head if isinstance(head, str) else to_text(head) for head in listed(heads)]


@with_options_of(on_networks, finetuning.finetune, without=["policy", "region", "mask"])
def finetune(
    dataset: DatasetLike = None,
    backbones: Paths = "densenet121",
    *,
    cache: str | Path | None = None,
    reports: str | Path | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Runs:
    """Trains whole networks end to end on the splits of the heads.

    Args:
        dataset: Which; see ``featcache.open``.
        backbones: One or several: names, or paths of ``.keras`` files.
        weights: What they start from: "imagenet", "random", or a file.
        preprocess: As for ``featcache.extract``.
        input_size: As for ``featcache.extract``.
        flip: Views may be mirrored.
        brightness: Range of the factor by which they are brightened.
        zoom: Range of the factor by which they are magnified.
        seed: Of the split, the head, the views and the order of the images.
        cache: The cache folder.
        reports: The reports folder.
        progress: Whether to show a bar; by default in notebooks and terminals.
        options: epochs, head, unfreeze, learning_rate and the others of
            docs/reference/commands/finetune.md.

    Raises:
        FeatcacheError: As ``commands.finetune.finetune``.
    """
    result = on_networks(
        _finetune,
        dataset,
        backbones,
        cache=cache,
        progress=progress,
        reports=reports_folder(reports, dataset),
        **options,
    )
    return Runs(result.runs, result.new_run_ids)


def _finetune(
    manifest: Manifest, networks: list[Network], *, policy: Policy, **options: Any
) -> finetuning.FinetuneResult:
    """The seed of the views is that of the whole call."""
    words = {
        "manifest": manifest,
        "networks": networks,
        "policy": policy,
        "seed": policy.seed,
    }
    return finetuning.finetune(**arguments(finetuning.finetune, options | words))


def ensemble(
    dataset: DatasetLike = None,
    members: Any = "all",
    *,
    weights: str = "fitted",
    calibrate: bool = True,
    split: str | None = None,
    force: bool = False,
    cache: str | Path | None = None,
    reports: str | Path | None = None,
) -> Runs:
    """Averages the probabilities of runs, and records that as a run.

    Args:
        dataset: Which; see ``featcache.open``.
        members: Runs, their short ids, parts of their ids, or "all".
        weights: "fitted" on out-of-fold predictions, or "equal".
        calibrate: Calibrate the averages.
        split: Name of the split to take "all" of; by default the newest run's.
        force: Make again what is there.
        cache: The cache folder.
        reports: The reports folder.

    Raises:
        RunError: Fewer than two members, or members that cannot be compared.
    """
    result = ensembles.ensemble(
        _folder(dataset, cache, reports),
        [reference(member) for member in listed(members)],
        weights=weights,
        calibrate=calibrate,
        split=split,
        force=force,
    )
    return Runs(result.runs, result.new_run_ids)


def _folder(
    dataset: DatasetLike, cache: str | Path | None, reports: str | Path | None
) -> Path:
    """``reports/<dataset>``; the runs of a named dataset need no cache."""
    home = reports_folder(reports, dataset)
    if isinstance(dataset, str) and (home / dataset / "runs").is_dir():
        return home / dataset
    return home / manifest_of(dataset, cache).dataset


def compare(
    dataset: DatasetLike = None,
    *,
    metric: str = "accuracy",
    split: str | None = None,
    against: Any = None,
    part: str = "train",
    cache: str | Path | None = None,
    reports: str | Path | None = None,
) -> Leaderboard:
    """Ranks the runs of a dataset, with intervals and paired tests, best first.

    Args:
        dataset: Which; see ``featcache.open``.
        metric: "accuracy", "balanced_accuracy", "macro_f1", "auc", "log_loss",
            "brier" or "ece".
        split: Name of the split; by default the newest run's.
        against: The run that all others are tested against; by default the best.
        part: "train" for out-of-fold predictions, or "test".
        cache: The cache folder.
        reports: The reports folder.

    Raises:
        RunError: There is nothing to rank.
    """
    folder = _folder(dataset, cache, reports)
    board = comparing.compare(
        folder,
        metric=metric,
        split=split,
        against=None if against is None else reference(against),
        part=part,
        manifest=(manifest := manifest_if_there(dataset, cache)),
    )
    return Leaderboard.of(board, folder, manifest)


@with_options_of(explaining.explain, without=["keep"])
def explain(
    dataset: DatasetLike = None,
    run: Any = None,
    images: Paths = (),
    *,
    methods: str | Sequence[str] = "auto",
    cells: bool = False,
    split: str | None = None,
    files: Paths = (),
    source: str | Path | None = None,
    cache: str | Path | None = None,
    reports: str | Path | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Explanation:
    """Maps where on images a run finds evidence for classes, and draws the maps.

    Args:
        dataset: Which; see ``featcache.open``.
        run: A run, its rank or short id, or a part of its id; by default the best.
        images: Files, paths of the manifest, or beginnings of image ids; none for a
            choice by ``errors`` or ``per_class``.
        methods: One or several, such as "auto", "grad-cam" or "occlusion".
        cells: Draw the cells behind each map.
        split: Name of the split whose runs ``run`` may name.
        files: Files of backbones that have moved.
        source: A folder to look for images in that have moved.
        cache: The cache folder.
        reports: The reports folder.
        progress: Whether to show a bar; by default in notebooks and terminals.
        options: errors, per_class, of, patch, stride, mean, activations, faithfulness,
            masks and seed, as in docs/reference/commands/explain.md.

    Raises:
        FeatcacheError: As ``commands.explain.explain``.
    """
    manifest = manifest_of_runs(dataset, cache, reports, [] if run is None else [run])
    home = reports_folder(reports, dataset) / manifest.dataset
    if run is None:
        run = compare(manifest, split=split, reports=home.parent).best
    resolved = (
        run if isinstance(run, runs.Run) else references.find(home, str(run), split)
    )
    folder = home / "explain" / resolved.run_id
    with show(progress) as reporter:
        result = explaining.explain(
            manifest,
            resolved,
            images=texts(images),
            methods=listed(methods),
            files=[Path(file) for file in texts(files)],
            source=Path(source) if source else None,
            keep=lambda first: sheets.write(first, folder, cells=cells),
            reporter=reporter,
            **options,
        )
    return Explanation(result, sheets.write(result, folder, cells=cells), folder)


def audit(
    dataset: DatasetLike = None,
    *,
    split: str | None = None,
    complete: bool = False,
    backbones: Paths = (),
    jobs: int | None = None,
    fix: str | Path | None = None,
    checklist: str | Path | None = None,
    force: bool = False,
    cache: str | Path | None = None,
    reports: str | Path | None = None,
    progress: bool | None = None,
) -> AuditResult:
    """Checks a dataset, its splits and its runs for what makes figures too good.

    Args:
        dataset: Which; see ``featcache.open``.
        split: The split of the runs to look at; by default the newest.
        complete: First compute what checks lack: runs of a network, of the baselines,
            and of parts of the images.
        backbones: With ``complete``: one or several networks, as for ``extract``, to
            extract and train on as well.
        jobs: With ``complete``: parallel processes for the heads.
        fix: A CSV to write, without duplicates.
        checklist: A markdown file to write.
        force: Replace these two where they are there.
        cache: The cache folder.
        reports: The reports folder.
        progress: Whether to show a bar; by default in notebooks and terminals.

    Raises:
        RunError: There is no run on that split.
        UsageError: Options of ``complete`` without it, or no network for it; ``fix``
            or ``checklist`` names a file that must not be written.
    """
    if not complete and (texts(backbones) or jobs is not None):
        raise UsageError("`complete=True`", "backbones or jobs alone", "Add it.")
    with show(progress) as reporter:
        manifest = manifest_of_runs(dataset, cache, reports)
        folder = reports_folder(reports, dataset)
        if complete:
            from featcache.study import completion

            names = texts(backbones)
            completion.complete(
                manifest, folder, names, split=split, jobs=jobs, reporter=reporter
            )
        result = auditing.audit(
            manifest,
            folder,
            split=split,
            fix=Path(fix) if fix else None,
            checklist=Path(checklist) if checklist else None,
            force=force,
            reporter=reporter,
        )
    return AuditResult(**vars(result))
