"""What a store was measured on, and whether a split tests on it."""

from featcache.core.text import counted
from featcache.dataset.manifest import EXCLUDED, Manifest
from featcache.dataset.splits import TEST, Split
from featcache.features.store import Header


def is_measured(header: Header) -> bool:
    """Whether features hang on images that were looked at before, not on each alone."""
    return bool(header.contract.statistics or header.notes.get("calibration"))


def leak(header: Header, dataset: Manifest, split: Split) -> str:
    """How features were measured on other images than a split trains on.

    Args:
        header: Of their store.
        dataset: The images that are split, as `narrow` returns them.
        split: On which heads are trained.

    Returns:
        In words that follow "were"; empty where nothing is known to leak.
    """
    statistics = header.contract.statistics
    if statistics and statistics.split != split.name:
        return (
            f"standardised on the training images of split {statistics.split}, not of "
            f"split {split.name}"
        )
    calibrated = {*header.notes.get("calibration", [])}
    if calibrated and (tested := calibrated & _tested(dataset, split)):
        return (
            f"calibrated on {counted(len(tested), 'image')} of the test set of split "
            f"{split.name}, or of its patients"
        )
    return ""


def _tested(dataset: Manifest, split: Split) -> set[str]:
    """The images of the test set, and those that are left out but of its groups."""
    used, table = dataset.ok, dataset.table
    tests = used[used["image_id"].map(split.fold_of) == TEST]
    out = (table["status"] == EXCLUDED) & table["group"].isin(tests["group"])
    return {*tests["image_id"], *table.loc[out, "image_id"]}
