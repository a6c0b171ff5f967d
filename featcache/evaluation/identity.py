"""Identity: the ids of runs and of evaluations, and in what two runs differ."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featcache.core.io import digest
from featcache.core.text import file_part

if TYPE_CHECKING:
    from featcache.evaluation.runs import Run

SHORT, SHORTEST = 6, 4  # digits of a short id: as it is shown, and as it may be given


def make_id(head: str, backbone: str, inputs: dict[str, Any]) -> str:
    """A run's id: readable words, then 10 digits of the digest of all its inputs."""
    words = "".join(c if c.isalnum() or c in "-._" else "-" for c in head)
    # A file name has at most 255 bytes; the digest tells apart what is cut off.
    names = f"{file_part(words, 80)}-{file_part(backbone, 120)}"
    return f"{names}-{digest(inputs)[:10]}"


def short_id(folder: Path) -> str:
    """The short id of a run: six digits of its id's digest, more if another has them.

    Args:
        folder: Of the run, beside those of the other runs of its dataset.

    Returns:
        The digits; the whole id where these do not tell it apart.
    """
    digits = digest_of(folder.name)
    others = [digest_of(name) for name in ids_in(folder.parent) if name != folder.name]
    for length in range(SHORT, len(digits) + 1):
        if not any(other.startswith(digits[:length]) for other in others):
            return digits[:length]
    return folder.name


def digest_of(run_id: str) -> str:
    """The digits that end a run's id."""
    return run_id.rpartition("-")[2]


def ids_in(folder: Path) -> list[str]:
    """The ids of all runs in a folder of runs, broken ones included."""
    return sorted(path.name for path in folder.glob("[!.]*") if path.is_dir())


def evaluation_id(images: pd.DataFrame, folds: np.ndarray) -> str:
    """Digest of what runs are evaluated on: image, label, group and fold of each.

    Args:
        images: (N) rows with image_id, label and group.
        folds: (N,) folds, or `splits.TEST`.

    Returns:
        64 hex digits; runs with equal ones can be compared, with others they cannot.
    """
    columns = (images["image_id"], images["label"], images["group"], folds)
    rows = zip(*columns, strict=True)
    text = "\n".join(sorted("\t".join(map(str, row)) for row in rows))
    return hashlib.sha256(text.encode()).hexdigest()


def relabelled(run: "Run", images: pd.DataFrame) -> pd.DataFrame:
    """The images of a run that have another label now.

    Args:
        run: The run, with the labels that it was made on.
        images: Rows with image_id and label; those that are gone do not count.

    Returns:
        Columns image_id, before and now, in the order of the run.
    """
    before = run.table.set_index("image_id")["label"].rename("before")
    now = images.set_index("image_id")["label"].rename("now").reindex(before.index)
    table = pd.concat([before, now], axis=1).reset_index()
    return table[now.notna().to_numpy() & (now != before).to_numpy()]


def differences(one: "Run", two: "Run", *, folds: bool = True) -> list[str]:
    """What differs in how two runs were evaluated, and for how many images.

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
    counts = {"images": len(a.index.symmetric_difference(b.index))}
    shared = a.index.intersection(b.index)
    for column in ("label", "group", "split", *(["fold"] if folds else [])):
        differ = a.loc[shared, column] != b.loc[shared, column]
        counts[f"the {column} of images"] = int(differ.sum())
    return [f"{what} ({count})" for what, count in counts.items() if count]
