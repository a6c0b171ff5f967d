"""Features that were measured on images of the test set are not trained on."""

from collections.abc import Sequence

from featcache.backbones import expand
from featcache.core.progress import Reporter
from featcache.dataset.manifest import Manifest
from featcache.dataset.splits import Split
from featcache.errors import StoreError
from featcache.features import FeatureSet, find_sets, measured


def without_leaks(
    feature_sets: Sequence[FeatureSet],
    dataset: Manifest,
    names: Sequence[str],
    split: Split,
    reporter: Reporter,
) -> list[FeatureSet]:
    """Leaves out what leaks, as long as each name still stands for something.

    Args:
        feature_sets: Found by the names.
        dataset: Whose images.
        names: As a user gave them.
        split: On which heads are trained.
        reporter: Hears what is left out, and why.

    Raises:
        StoreError: All that a name stands for leaks, such as a store named exactly.
    """
    leaks = {_files(one): _leak(one, dataset, split) for one in feature_sets}
    if not any(leaks.values()):
        return list(feature_sets)
    for name in names:
        keys = map(_files, find_sets(dataset, expand([name])))
        texts = [leaks[files] for files in keys if files in leaks]
        if texts and all(texts):
            raise StoreError(
                f"the features in {texts[0]}",
                "Train on the split that they were extracted for, or name other "
                "features with `backbone`: extracted with the `seed` of this split, "
                "if it is the default one, or float32 and not featurewise.",
            )
    for text in filter(None, leaks.values()):
        reporter.message(f"Not trained on: the features in {text}.")
    return [one for one in feature_sets if not leaks[_files(one)]]


def _files(feature_set: FeatureSet) -> tuple[str, ...]:
    return tuple(one.path.name for one in feature_set.stores)


def _leak(feature_set: FeatureSet, dataset: Manifest, split: Split) -> str:
    """The store of a set that leaks, and how; empty if none does."""
    for one in feature_set.stores:
        if text := measured.leak(one.header, dataset, split):
            return f"{one.path.name} were {text}"
    return ""
