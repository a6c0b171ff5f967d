"""How a split is drawn, and of which images."""

from collections.abc import Sequence
from dataclasses import dataclass

from featcache.core.text import check_name
from featcache.errors import UsageError


@dataclass(frozen=True)
class SplitOptions:
    """How images are divided into a test set and folds; shared by all that trains.

    Attributes:
        exclude: Leave out images, by COLUMN (whose value is 1, true or yes) or
            COLUMN=VALUE of the manifest.
        group_by: What stays together in place of the manifest's groups: a column,
            or "image".
        folds: Cross-validation folds.
        test_size: Share of the images in the test set; 0 for none. A test set that
            the source brings, and that its scan keeps, takes its place.
        repeats: How often the folds are drawn; the test set stays.
        seed: Of the draw.
        split: Name of the split; by default made of how it is drawn.

    Raises:
        UsageError: No repeat at all, or a name that no file can have.
    """

    exclude: Sequence[str] = ()
    group_by: str | None = None
    folds: int = 5
    test_size: float = 0.2
    repeats: int = 1
    seed: int = 0
    split: str | None = None

    def __post_init__(self) -> None:
        exclude = [self.exclude] if isinstance(self.exclude, str) else self.exclude
        object.__setattr__(self, "exclude", tuple(exclude))
        if self.repeats < 1:
            raise UsageError(
                "`repeats` of 1 or more", str(self.repeats), "Leave it out."
            )
        if self.split is not None:
            check_name(self.split, "split")
