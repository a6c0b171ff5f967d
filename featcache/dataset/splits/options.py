"""How a split is drawn, and of which images."""

from collections.abc import Sequence
from dataclasses import dataclass

from featcache.core.text import check_name
from featcache.dataset.manifest import Manifest
from featcache.dataset.narrowing import JOIN, VAL_PARTS, narrow
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
            the source brings, and that its scan or ``split_by`` keeps, takes its place.
        split_by: Keep the split that the source brings: "folder", or a column whose
            values are train, val and test; "none" draws one; by default as its scan
            says.
        test_where: COLUMN=VALUE: test on these images, such as those of one hospital,
            and train on the others. Classes may be missing among them.
        val_part: The val of the source's split: "join" it with train, or keep it as
            one "fold".
        repeats: How often the folds are drawn; the test set stays.
        seed: Of the draw.
        split: Name of the split; by default made of how it is drawn.

    Raises:
        UsageError: No repeat at all, no such ``val_part``, or a name that no file can
            have.
    """

    exclude: Sequence[str] = ()
    group_by: str | None = None
    folds: int = 5
    test_size: float = 0.2
    split_by: str | None = None
    test_where: str | None = None
    val_part: str = JOIN
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
        if self.val_part not in VAL_PARTS:
            expected = f"`val_part` to be {' or '.join(VAL_PARTS)}"
            raise UsageError(expected, repr(self.val_part), "Choose one.")
        if self.split is not None:
            check_name(self.split, "split")

    def narrow(self, manifest: Manifest) -> Manifest:
        """The images that are split, with their groups and the test set of the source.

        Raises:
            DatasetError: No such column or value, or an image in no part.
            UsageError: Options that exclude each other.
        """
        return narrow(
            manifest,
            exclude=self.exclude,
            group_by=self.group_by,
            split_by=self.split_by,
            test_where=self.test_where,
            val_part=self.val_part,
        )
