"""What names the group of an image: a column, its file name, or a DICOM element."""

import re

DICOM = "dicom:"
NEAR_DUPLICATE = "near-duplicate"  # images that look the same, which scan finds
# What programs write for a value that is missing.
MISSING = frozenset({"nan", "none", "null", "na", "n/a", "<na>", "nat", "#n/a"})


def group_pattern(by: str) -> re.Pattern[str] | None:
    """The regular expression with one group that a text is; None if it is none."""
    try:
        pattern = re.compile(by)
    except re.error:
        return None
    return pattern if pattern.groups == 1 else None
