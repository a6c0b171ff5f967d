"""The words of a split that a source brings: its parts, and the column for them."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from featcache.core.text import some
from featcache.errors import DatasetError

# Its column in the manifest, its parts, and how it is named where it is one of folders.
PART, PARTS, FOLDER = "split", ("train", "val", "test"), "folder"
NO_SPLIT = "none"  # as `split_by`: splits are drawn
_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_NAME = re.compile(rf"({'|'.join(_NAMES)})([\W_]*(set|data|images?|imgs|split|part))?")


def part_of(name: str) -> str:
    """The part that a name such as ``Train`` or ``test_set`` says; or empty."""
    match = _NAME.fullmatch(name.strip().lower())
    return _NAMES[match[1]] if match else ""


def is_split(name: str, values: Iterable[str]) -> bool:
    """Whether a column of the manifest is a split: by its name, or by all its values.

    Such a column says how images are used, and nothing of where they come from.

    Args:
        name: Of the column.
        values: Of the images; empty ones say nothing.
    """
    parts = {part_of(value) for value in {*values} if value.strip()}
    return name == PART or (len(parts) > 1 and "" not in parts)


def check_parts(
    paths: Sequence[str], values: Sequence[str], parts: Sequence[str], split_by: str
) -> None:
    """Refuses a split with images in no part, or with nothing but train.

    Args:
        paths: Of the images, (N,).
        values: What the source says of each, (N,).
        parts: The part of each, or empty, (N,).
        split_by: The column, or "folder".

    Raises:
        DatasetError: Names the values that are no part, and the way out.
    """
    rows = zip(paths, values, parts, strict=True)
    without = [(path, value.strip()) for path, value, part in rows if not part]
    if without:
        counts = Counter(value or "empty" for _, value in without)
        listed = some([f"{value} ({count})" for value, count in counts.items()], 4)
        where = f"{listed}, such as {without[0][0]}"
        raise DatasetError(
            f"train, val or test for every image, for `split_by={split_by!r}`",
            f"none for {len(without)} of {len(paths)}: {where}",
            "Correct them, choose another column, hold out one value with "
            "`test_where='COLUMN=VALUE'`, or draw a split with `split_by='none'`.",
        )
    if {*parts} == {PARTS[0]}:
        raise DatasetError(
            f"a part test or val for `split_by={split_by!r}`",
            "train alone",
            "Draw a split with `split_by='none'`.",
        )
