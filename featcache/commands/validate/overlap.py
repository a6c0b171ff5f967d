"""Images of an external set that were in training, or are of the same dataset."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from featcache.core.progress import SILENT, Reporter
from featcache.dataset.manifest import EXCLUDED, Manifest
from featcache.dataset.perceptual_hashes import nearest, read_hashes
from featcache.errors import DatasetError
from featcache.evaluation.external import Overlap, OverlapImage, OwnImages

IDENTICAL, NEAR, GROUP = "identical", "near-duplicate", "group"
_REASON = "it was in training"


def without_overlap(
    manifest: Manifest,
    training_ids: frozenset[str],
    training_hashes: Mapping[str, np.ndarray],
    *,
    reporter: Reporter = SILENT,
) -> tuple[Manifest, Overlap]:
    """Leaves out what a model was trained on, and the groups of such images.

    Args:
        manifest: The external dataset.
        training_ids: Of the training images.
        training_hashes: Their perceptual hashes by id; without any, near-duplicates
            are not looked for.
        reporter: Hears of the images read.

    Returns:
        The dataset without these images, and what was left out.

    Raises:
        DatasetError: Nothing is left.
    """
    table = manifest.ok
    pairs = {i: (IDENTICAL, i, None) for i in table["image_id"] if i in training_ids}
    rows = {**_near(manifest, training_hashes, reporter), **pairs}
    groups = set(table.loc[table["image_id"].isin(list(rows)), "group"])
    out = table[table["group"].isin(groups)]
    images = [
        OverlapImage(image_id, path, *rows.get(image_id, (GROUP, "", None)))
        for image_id, path in zip(out["image_id"], out["path"], strict=True)
    ]
    if len(out) == len(table):
        raise DatasetError(
            f"every one of the {len(table)} images, or its group, was in training",
            "Validate on a dataset that the model never saw.",
        )
    marked = manifest.table.copy()
    marked.loc[out.index, ["status", "reason"]] = EXCLUDED, _REASON
    counts = Counter(image.how for image in images)
    overlap = Overlap(
        n=len(images),
        identical=counts[IDENTICAL],
        near_duplicates=counts[NEAR],
        same_group=counts[GROUP],
        near_duplicates_checked=bool(training_hashes),
        images=images,
    )
    return replace(manifest, table=marked), overlap


def own_images(
    table: pd.DataFrame, other_ids: frozenset[str] | None
) -> OwnImages | None:
    """Counts the images that are of the model's own dataset; None where not known.

    Args:
        table: The rows of a manifest that were scored.
        other_ids: Of the images of that dataset that the model was not trained on.
    """
    if other_ids is None:
        return None
    is_own = table["image_id"].isin(list(other_ids))
    is_near = table["group"].isin(set(table.loc[is_own, "group"])) & ~is_own
    return OwnImages(identical=int(is_own.sum()), same_group=int(is_near.sum()))


def _near(
    manifest: Manifest, training_hashes: Mapping[str, np.ndarray], reporter: Reporter
) -> dict[str, tuple[str, str, int | None]]:
    """How each near-duplicate of a training image is one, by image_id."""
    if not training_hashes:
        return {}
    table, names = manifest.ok, list(training_hashes)
    hashes = read_hashes(manifest.root, table["path"].tolist(), reporter=reporter)
    reference = np.stack([training_hashes[name] for name in names])
    rows, bits = nearest(hashes, reference)
    return {
        image_id: (NEAR, names[row], int(different))
        for image_id, row, different in zip(table["image_id"], rows, bits, strict=True)
        if row >= 0
    }
