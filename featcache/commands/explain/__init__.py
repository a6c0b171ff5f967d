"""``featcache explain``: where a run's head finds what speaks for a class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from featcache.commands.explain import (
    class_means,
    explained_images,
    heatmaps,
    model,
)
from featcache.commands.explain.attribution.contributions import AUTO
from featcache.commands.explain.class_means import Activations, MeanMap
from featcache.commands.explain.explained_images import (
    TRAINED_ON,
    UNKNOWN,
    Finder,
    Subject,
)
from featcache.commands.explain.faithfulness import Figure, judged, summary
from featcache.commands.explain.heatmaps import (
    OCCLUSION,
    HeatMap,
    Recipe,
    Wish,
)
from featcache.commands.explain.model import Model
from featcache.core.progress import SILENT, Reporter
from featcache.dataset.manifest import Manifest
from featcache.errors import DatasetError, UnknownNameError, UsageError
from featcache.evaluation.runs import PROBABILITY, Run

__all__ = ["Activations", "ExplainResult", "Figure", "HeatMap", "MeanMap", "explain"]
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
        reporter: Hears of the maps made, and what the user should know meanwhile.

    Raises:
        RunError: The run has no head, or no features of its own.
        HeadError: A method does not suit the head.
        DatasetError: An image is nowhere to be found.
        StoreError: A store of the run is gone.
        WeightsError: A network's file is gone.
        UsageError: Arguments that contradict one another.
    """
    wanted = [heatmaps.named(name) for name in dict.fromkeys(methods)]
    _check(manifest, mean, masks)
    finder = Finder(manifest, run, source, masks)
    asked = model.of_run(run, manifest.folder, files=files, pixels=finder.pixels)
    chosen = explained_images.chosen(
        finder, images, errors=errors, per_class=per_class, reporter=reporter
    )
    wishes = _wishes(asked, chosen, of, errors is not None)
    suited = [_suited(asked, name, reporter) for name in wanted]
    recipes = [Recipe(n, patch, stride, seed) for n in dict.fromkeys(suited)]
    maps = [m for r in recipes for m in heatmaps.make(asked, wishes, r, reporter)]
    count = 0 if images else mean
    means = [class_means.means(asked, finder, r, count, reporter) for r in recipes]
    figures: list[Figure] = []
    if faithfulness:
        both = judged(asked, maps, finder, reporter=reporter)
        figures, maps = summary(both), both[: len(maps)]
    return ExplainResult(
        run,
        maps,
        [one for found in means for one in found],
        class_means.activations(asked, chosen, activations),
        figures,
        _notes(asked, chosen),
        errors is not None,
    )


def _check(manifest: Manifest, mean: int, masks: Sequence[str]) -> None:
    if mean < 0:
        raise UsageError("`mean` of 0 or more", str(mean), "0 is for none.")
    columns = [str(name) for name in manifest.table]
    unknown = sorted({*masks} - {*columns, *MASKS})
    if unknown:
        raise DatasetError(
            f"`masks` with a column of the manifest: {', '.join(columns)}",
            ", ".join(unknown),
            "Take one of them.",
        )


def _suited(asked: Model, method: str, reporter: Reporter) -> str:
    """The method, or occlusion where features are no means of maps."""
    if asked.has_maps or method == OCCLUSION:
        return method
    reporter.message(
        f"{asked.run.record.backbone} has no maps whose means are its features: "
        f"occlusion in place of {method}"
    )
    return OCCLUSION


def _wishes(
    asked: Model, chosen: Sequence[Subject], of: str | None, of_errors: bool
) -> list[Wish]:
    """Each image with each class to explain on it."""
    names = asked.classes
    if of not in (None, PREDICTED, TRUE, EVERY, *names):
        raise UnknownNameError(
            f"`of` {PREDICTED}, {TRUE}, {EVERY} or one of: {', '.join(names)}",
            repr(of),
            "Take one of them.",
        )
    said = _predicted(asked, chosen)
    wishes = []
    for subject, code in zip(chosen, said, strict=True):
        true = names.index(subject.label) if subject.label in names else None
        codes = {
            None: [code, true] if of_errors else [code],
            PREDICTED: [code],
            TRUE: [true],
            EVERY: list(range(len(names))),
        }.get(of, [names.index(of) if of in names else None])
        wishes += [(subject, c) for c in dict.fromkeys(codes) if c is not None]
    if not wishes:
        raise UsageError(
            "images whose class is known, for `of='true'`",
            "none that the manifest knows",
            "Use `of='predicted'`.",
        )
    return wishes


def _predicted(asked: Model, chosen: Sequence[Subject]) -> list[int]:
    """The class recorded for each image, or where there is none what the head says."""
    table, names = asked.run.table.set_index("image_id"), asked.classes
    columns = [PROBABILITY + name for name in names]
    recorded = table[columns].to_numpy(float).argmax(axis=1)
    known = pd.Series(recorded, index=table.index)
    codes = []
    for subject in chosen:
        if subject.image_id in known:
            codes.append(int(known[subject.image_id]))
        else:
            X = asked.features(heatmaps.shown(asked, [subject]))
            codes.append(int(asked.proba(X).argmax()))
    return codes


def _notes(asked: Model, chosen: Sequence[Subject]) -> list[str]:
    """What has to be known beside the maps."""
    record, parts = asked.run.record, [subject.part for subject in chosen]
    notes = ["explained: the saved head, refitted on all of the training part"]
    seen, unknown = parts.count(TRAINED_ON), parts.count(UNKNOWN)
    if seen:
        notes.append(
            f"{seen} of {len(parts)} images are not of a test part: this head has been "
            "trained on them"
        )
    if unknown:
        notes.append(f"{unknown} images are not of the run: they have no part in it")
    if record.calibration and record.calibration.kept:
        notes.append(
            "the run's probabilities are calibrated; scores and probabilities here are "
            "the head's own, before that"
        )
    if record.tta:
        notes.append(
            "the run's probabilities are means over views; maps are of the plain view"
        )
    for net in asked.nets:
        if net.is_int8:
            notes.append(
                f"features of {net.name} are int8; maps are of its float32 network"
            )
    return notes
