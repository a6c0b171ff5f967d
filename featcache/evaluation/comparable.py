"""Which runs may be put side by side."""

from featcache.evaluation.runs import Run


def differences(one: Run, two: Run, *, folds: bool = True) -> list[str]:
    """What differs in how two runs were judged, and for how many images.

    Args:
        one: A run.
        two: Another.
        folds: Whether the folds count too; those of repeats always differ.

    Raises:
        RunError: The predictions of one cannot be read.
    """
    if one.classes != two.classes:
        return [f"classes ({', '.join(one.classes)}; {', '.join(two.classes)})"]
    a, b = (run.table.set_index("image_id") for run in (one, two))
    told = {"images": len(a.index.symmetric_difference(b.index))}
    shared = a.index.intersection(b.index)
    for column in ("label", "group", "split", *(["fold"] if folds else [])):
        differ = a.loc[shared, column] != b.loc[shared, column]
        told[f"the {column} of images"] = int(differ.sum())
    return [f"{what} ({count})" for what, count in told.items() if count]


def base_split(run: Run) -> str:
    """Name of the split that the run's is a repeat of; its own for repeat 0."""
    return run.record.split.base


def repeat(run: Run) -> int:
    """Which repeat of its split a run was trained on; the first is 0."""
    return run.record.split.repeat


def recipe(run: Run) -> str:
    """What repeats of one recipe have in common."""
    return run.record.recipe_id
