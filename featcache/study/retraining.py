"""``featcache review retrain``: a run again on corrected labels, beside the old one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featcache.commands.train_head import HeadOptions, train_head
from featcache.core.progress import SILENT, Reporter
from featcache.dataset import corrections
from featcache.dataset.manifest import Manifest
from featcache.dataset.views import Policy
from featcache.errors import RunError
from featcache.evaluation import metrics, references, runs
from featcache.evaluation.identity import relabelled
from featcache.evaluation.runs import TEST, TRAIN, Run
from featcache.study.completion import split_of


@dataclass(frozen=True)
class PartChange:
    """What training on corrected labels changed, on one part of the images.

    Attributes:
        part: "train" (out-of-fold predictions) or "test".
        images: On which both runs predict.
        groups: Of how many groups.
        relabelled: How many of them have another label now.
        before_old: Accuracy of the old run by the old labels.
        before: Accuracy of the old run by the labels as they are.
        after: Accuracy of the new run by the labels as they are.
        difference: ``after`` less ``before``.
        low: Lower end of its 95 % interval over groups, in pairs; NaN with one group.
        high: Its upper end.
        p: Two-sided p-value of the paired permutation test over groups.
    """

    part: str
    images: int
    groups: int
    relabelled: int
    before_old: float
    before: float
    after: float
    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Retraining:
    """A run, and the same on the labels as they are.

    Attributes:
        before: The run on the old labels.
        after: The run on the labels as they are.
        is_new: Whether it was trained by this call.
        parts: What that changed.
    """

    before: Run
    after: Run
    is_new: bool
    parts: list[PartChange]


def retrain(
    manifest: Manifest,
    reports: Path,
    *,
    reference: str | None = None,
    jobs: int | None = None,
    reporter: Reporter = SILENT,
) -> Retraining:
    """Trains a run again on the labels as they are, and holds it against the old one.

    Both have the same features, head, images, groups and folds, and both are judged by
    the labels as they are: what differs is the labels that they were trained on.

    Args:
        manifest: The dataset.
        reports: The folder of runs of all datasets.
        reference: The run, as ``references.find`` takes it; by default the best run
            before the last correction that changed labels.
        jobs: Parallel processes; by default one a core.
        reporter: Hears of the fits done.

    Raises:
        RunError: No such run; it is no head on cached features; or its labels are those
            of the dataset.
        FeatcacheError: As ``train_head``.
    """
    home = reports / manifest.dataset
    before = _run_before(manifest, home, reference)
    changed = relabelled(before, manifest.ok)
    if changed.empty:
        raise RunError(
            f"a run on labels that have changed since, of {manifest.dataset}",
            f"{before.run_id}, whose labels are those of the dataset",
            "First apply answers: featcache review apply --rule agree",
        )
    record = before.record
    if record.members or record.trainings or not all(b.store for b in record.features):
        raise RunError(
            "a run of a head on cached features",
            f"{before.run_id}, which is none",
            "Name another run, or make this one again as it was made.",
        )
    names = dict.fromkeys(Path(str(block.store)).stem for block in record.features)
    result = train_head(
        manifest,
        reports,
        backbones=["+".join(names)],
        heads=[record.head],
        options=_options(before),
        split=split_of(before, manifest),
        jobs=jobs,
        reporter=reporter,
    )
    (after,) = result.runs
    if after.failed:
        raise RunError(
            f"{after.run_id} could not be trained on the labels as they are "
            f"({after.record.reason})",
            "See the new labels: featcache dataset ls",
        )
    parts = [_part(before, after, part, len(changed)) for part in (TRAIN, TEST)]
    is_new = after.run_id in result.new_run_ids
    return Retraining(before, after, is_new, [one for one in parts if one is not None])


def _run_before(manifest: Manifest, home: Path, reference: str | None) -> Run:
    if reference is not None:
        return references.find(home, reference)
    made = [v.run_id for v in corrections.versions(manifest.folder) if v.run_id]
    for run_id in reversed(made):
        if (home / "runs" / run_id / "run.json").is_file():
            return runs.load(home / "runs" / run_id)
    ranked = references.by_rank(home)
    if not ranked:
        raise RunError(
            f"a run of {manifest.dataset} on its old labels",
            "none",
            f"Run: featcache train-head --dataset {manifest.dataset}",
        )
    return runs.load(home / "runs" / ranked[0])


def _options(run: Run) -> HeadOptions:
    """How the head of a run was trained."""
    record = run.record
    region = record.features[0].image_region
    embedding = record.head_is.embedding
    return HeadOptions(
        views=record.views,
        policy=Policy.of(record.policy) if record.views and record.policy else None,
        taps=record.taps or "none",
        region=region.kind,
        mask=region.mask,
        tta=record.tta if record.views else None,
        tune=record.head_is.params.get("tune"),
        transform=embedding.transform if embedding else "none",
        pca=embedding.pca if embedding else "none",
        calibrate=record.calibration is not None,
        seed=record.seed,
    )


def _part(before: Run, after: Run, part: str, total: int) -> PartChange | None:
    """Both runs on the images of a part that they have in common."""
    old, new = (_correct_by(run, part) for run in (before, after))
    both = old.add_suffix("_old").join(new.add_suffix("_new"), how="inner")
    if both.empty:
        return None
    label, groups = both["label_new"], both["group_new"].to_numpy(str)
    hits = [
        (both[f"predicted_{one}"] == label).to_numpy(float) for one in ("old", "new")
    ]
    sums = metrics.bootstrap_sums(
        np.stack([hits[1] - hits[0], np.ones(len(label))], axis=1), groups
    )
    value = float(hits[1].mean() - hits[0].mean())
    n_groups = len(np.unique(groups))
    (low, high), _ = metrics.difference(value, sums[:, 0] / sums[:, 1], groups=n_groups)
    return PartChange(
        part=part,
        images=len(both),
        groups=n_groups,
        relabelled=int((both["label_old"] != label).sum()),
        before_old=float((both["predicted_old"] == both["label_old"]).mean()),
        before=float(hits[0].mean()),
        after=float(hits[1].mean()),
        difference=value,
        low=low,
        high=high,
        p=metrics.sign_flip(hits[1], hits[0], groups),
    )


def _correct_by(run: Run, part: str) -> pd.DataFrame:
    """Label, group and prediction of a part's images, by image_id."""
    table = run.table[run.table["split"] == part].set_index("image_id")
    p = table[[runs.PROBABILITY + name for name in run.classes]].to_numpy(float)
    predicted = np.array(run.classes)[p.argmax(axis=1)] if len(p) else []
    return table[["label", "group"]].assign(predicted=predicted)
