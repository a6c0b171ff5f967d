"""``featcache explain``: where on images a run's head finds evidence for classes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from featcache.commands.explain import (
    class_means,
    explained_images,
    heatmaps,
    model,
)
from featcache.commands.explain.attribution import CAMS
from featcache.commands.explain.attribution.contributions import AUTO, Sampling
from featcache.commands.explain.class_means import Activations, MeanMap
from featcache.commands.explain.explained_images import (
    TRAINED_ON,
    UNKNOWN,
    ExplainedImage,
    ImageLoader,
)
from featcache.commands.explain.faithfulness import Figure, evaluated, summary
from featcache.commands.explain.heatmaps import (
    OCCLUSION,
    HeatMap,
    Recipe,
    Target,
)
from featcache.commands.explain.model import Model
from featcache.commands.explain.pace import WORTH_TELLING
from featcache.core.progress import SILENT, Reporter
from featcache.core.text import counted, some
from featcache.dataset import images as image_files
from featcache.dataset.manifest import Manifest
from featcache.deploy.model import Candidate
from featcache.deploy.of_run import ModelSource, of_run
from featcache.errors import DatasetError, UnknownNameError, UsageError
from featcache.evaluation.runs import PROBABILITY, Run

__all__ = [
    "MASKS",
    "Activations",
    "ExplainResult",
    "Figure",
    "HeatMap",
    "MeanMap",
    "explain",
]
PREDICTED, TRUE, EVERY = "predicted", "true", "all"
METHODS = list(heatmaps.ALL)
MASKS = ("mask", "lesion")  # columns that need not be there


@dataclass(frozen=True, eq=False)
class ExplainResult:
    """What a call found.

    Attributes:
        run: The run.
        maps: One an image, class and method.
        means: Mean map of each class and method.
        activations: Strongest channels, one an image and layer.
        figures: Faithfulness by class and method, with that of noise ("chance").
        notes: What a reader of the maps has to know.
        of_errors: Whether the images are those of the surest errors.
    """

    run: Run
    maps: list[HeatMap]
    means: list[MeanMap]
    activations: list[Activations]
    figures: list[Figure]
    notes: list[str]
    of_errors: bool = False


def explain(
    manifest: Manifest,
    run: Run,
    *,
    images: Sequence[str] = (),
    errors: int | None = None,
    per_class: int | None = None,
    of: str | None = None,
    methods: Sequence[str] = (AUTO,),
    patch: int = 32,
    stride: int = 16,
    mean: int = 100,
    activations: str = "none",
    faithfulness: bool = False,
    masks: Sequence[str] = MASKS,
    files: Sequence[Path] = (),
    source: Path | None = None,
    seed: int = 0,
    keep: Callable[[ExplainResult], object] = lambda result: None,
    reporter: Reporter = SILENT,
) -> ExplainResult:
    """Maps where on images a run's saved head finds evidence for classes.

    Args:
        manifest: The dataset that the run was trained on.
        run: The run.
        images: Image files, paths of the manifest, or beginnings of image ids; none
            for a choice by ``errors`` or ``per_class``.
        errors: The so many wrong predictions that are surest.
        per_class: So many images of each class (3 if nothing is said).
        of: Which class to explain: "predicted", "true", "all", or a label. By default
            the predicted one; for errors that and the true one.
        methods: Of ``METHODS``; "auto" splits the margin over channels as suits the
            head.
        patch: Side of the patch of occlusion, in pixels of the largest input.
        stride: Step between patches.
        mean: Images a class in the mean maps; 0 for none. None are made where
            ``images`` are named.
        activations: Layers whose strongest channels to show: "none", "default", or
            names with commas between.
        faithfulness: Measure deletion and insertion, and the share inside masks.
        masks: Columns of the manifest that name masks, for faithfulness.
        files: Files of weights, where those of the extraction have moved.
        source: A folder to look for images in that have moved.
        seed: Of Shapley sampling.
        keep: Called with all but the mean maps, where these may take long.
        reporter: Hears of the maps made, and what the user should know meanwhile.

    Raises:
        RunError: The run has no head, or no features of its own.
        HeadError: A method does not suit the head.
        DatasetError: An image is nowhere to be found.
        StoreError: A store of the run is gone.
        WeightsError: A network's file is gone.
        UsageError: Arguments that contradict one another.
    """
    requested = [heatmaps.checked_method(name) for name in dict.fromkeys(methods)]
    _check(manifest, mean, masks)
    loader = ImageLoader(manifest, run, source, masks)
    explained = model.of_run(run, manifest.folder, files=files, pixels=loader.pixels)
    selected = explained_images.select(
        loader, images, errors=errors, per_class=per_class, reporter=reporter
    )
    answers = _answers(run, selected, ModelSource(manifest.folder, files, reporter))
    targets = _targets(explained, selected, answers, of, errors is not None)
    resolved = [_resolve_method(explained, name, reporter) for name in requested]
    sampling = Sampling(seed)
    recipes = [Recipe(n, patch, stride, sampling) for n in dict.fromkeys(resolved)]
    started = time.monotonic()
    maps = [m for r in recipes for m in heatmaps.make(explained, targets, r, reporter)]
    seconds = (time.monotonic() - started) / len(targets)
    figures: list[Figure] = []
    if faithfulness:
        both = evaluated(explained, maps, loader, reporter=reporter)
        figures, maps = summary(both), both[: len(maps)]
    result = ExplainResult(
        run,
        [_answered(one, answers) for one in maps],
        [],
        class_means.activations(explained, selected, activations),
        figures,
        _notes(explained, selected),
        errors is not None,
    )
    recipes = [one for one in recipes if one.method != OCCLUSION]
    count = 0 if images or not recipes else mean
    of_means = class_means.images_of_means(loader, count, reporter)
    if seconds * len(of_means) >= WORTH_TELLING:
        keep(result)
        reporter.ended(
            f"{counted(len(maps), 'map')} made; the mean maps are next, over "
            f"{counted(len(of_means), 'image')}"
        )
    means = [class_means.means(explained, of_means, r, reporter) for r in recipes]
    return replace(result, means=[one for of_method in means for one in of_method])


def _check(manifest: Manifest, mean: int, masks: Sequence[str]) -> None:
    if mean < 0:
        raise UsageError("`mean` of 0 or more", str(mean), "Use 0 for no mean maps.")
    columns = [str(name) for name in manifest.table]
    unknown = sorted({*masks} - {*columns, *MASKS})
    if unknown:
        raise DatasetError(
            f"`masks` with a column of the manifest: {', '.join(columns)}",
            ", ".join(unknown),
            "Choose one of them.",
        )


def _resolve_method(explained: Model, method: str, reporter: Reporter) -> str:
    """The method, or occlusion where features are no means of maps."""
    graphs = [net.name for net in explained.nets if net.is_graph]
    if method in CAMS and graphs:
        raise UsageError(
            f"`methods` without {method} for {some(graphs)}",
            "a network in an ONNX or OpenVINO file, which OpenVINO runs without "
            "gradients",
            "Use auto or cam, which need gradients of the head at most, or occlusion.",
        )
    if explained.has_maps or method == OCCLUSION:
        return method
    reporter.message(
        f"{explained.run.record.backbone} has no maps that pool into its features: "
        f"using occlusion in place of {method}"
    )
    return OCCLUSION


def _targets(
    explained: Model,
    selected: Sequence[ExplainedImage],
    answers: pd.DataFrame,
    of: str | None,
    of_errors: bool,
) -> list[Target]:
    """Each image with each class to explain on it."""
    names = explained.classes
    if of not in (None, PREDICTED, TRUE, EVERY, *names):
        raise UnknownNameError(
            f"`of` {PREDICTED}, {TRUE}, {EVERY} or one of: {', '.join(names)}",
            repr(of),
            "Choose one of them.",
        )
    predicted = _predicted(explained, selected, answers)
    targets = []
    for image, code in zip(selected, predicted, strict=True):
        true = names.index(image.label) if image.label in names else None
        codes = {
            None: [code, true] if of_errors else [code],
            PREDICTED: [code],
            TRUE: [true],
            EVERY: list(range(len(names))),
        }.get(of, [names.index(of) if of in names else None])
        targets += [(image, c) for c in dict.fromkeys(codes) if c is not None]
    if not targets:
        raise UsageError(
            "images with a known label, for `of='true'`",
            "no image in the manifest",
            "Use `of='predicted'`.",
        )
    return targets


def _answers(
    run: Run, selected: Sequence[ExplainedImage], source: ModelSource
) -> pd.DataFrame:
    """What the run's model says of each image: calibrated, and the mean over views.

    Rows are images by their ids, columns the classes: as ``featcache predict`` answers.
    """
    candidates = [
        Candidate(one.image_id, image_files.read(one.data)) for one in selected
    ]
    p = of_run(run, source).predict_proba(candidates)
    return pd.DataFrame(p, [one.image_id for one in selected], run.classes)


def _answered(one: HeatMap, answers: pd.DataFrame) -> HeatMap:
    """A map with the probability that the model gives its class."""
    p = answers.loc[one.image.image_id].to_numpy(float)
    names = [str(name) for name in answers.columns]
    probability = float(p[names.index(one.label)])
    return replace(one, probability=probability, predicted=names[int(p.argmax())])


def _predicted(
    explained: Model, selected: Sequence[ExplainedImage], answers: pd.DataFrame
) -> list[int]:
    """The class recorded for each image, or where there is none the model's answer."""
    table, names = explained.run.table.set_index("image_id"), explained.classes
    recorded = table[[PROBABILITY + name for name in names]]
    recorded = recorded.set_axis(names, axis=1)
    codes = []
    for image in selected:
        known = recorded if image.image_id in recorded.index else answers[names]
        codes.append(int(known.loc[image.image_id].to_numpy(float).argmax()))
    return codes


def _notes(explained: Model, selected: Sequence[ExplainedImage]) -> list[str]:
    """What a reader of the maps has to know."""
    record, parts = explained.run.record, [image.part for image in selected]
    notes = ["the maps explain the saved head, refitted on the whole training set"]
    seen, unknown = parts.count(TRAINED_ON), parts.count(UNKNOWN)
    if seen:
        notes.append(
            f"{seen} of {len(parts)} images are not in the test set: this head was "
            "trained on them"
        )
    if unknown:
        notes.append(f"{unknown} images do not belong to the run")
    if record.calibration and record.calibration.kept:
        notes.append(
            "probabilities are calibrated, as featcache predict gives them; scores are "
            "margins before calibration"
        )
    if record.tta:
        notes.append(
            "probabilities are means over the augmented views; scores and maps are of "
            "the plain image"
        )
    for net in explained.nets:
        if explained.has_maps and not all(part.has_places for part in net.parts):
            notes.append(
                f"the class token of {net.name} has no place: its evidence is spread "
                "evenly over the maps, and counts as such in even_share"
            )
        if net.is_int8:
            notes.append(
                f"the features of {net.name} are int8; the maps show its float32 "
                "network"
            )
    return notes
