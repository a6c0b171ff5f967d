"""Regions: which part of a picture a network is shown; the rest is black."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from featcache.errors import UsageError

WHOLE, INSIDE, OUTSIDE, RING = "whole", "inside", "outside", "ring"
KINDS = (WHOLE, INSIDE, OUTSIDE, RING)
MASK = "mask"  # the column that a scan fills
WIDTH = 12  # a ring is a twelfth of the side wide, as `border` is


@dataclass(frozen=True)
class Region:
    """What is shown of a picture.

    Attributes:
        kind: "whole"; "inside", what the mask shows; "outside", all but that; or
            "ring", the outer twelfth of width and height, which needs no mask.
        mask: The manifest's column that names the masks; empty where none is needed.

    Raises:
        UsageError: No such kind.
    """

    kind: str = WHOLE
    mask: str = MASK

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(
                f"`region` to be one of {', '.join(KINDS)}",
                repr(self.kind),
                "Choose one of them.",
            )
        if not self.needs_mask:
            object.__setattr__(self, "mask", "")

    @classmethod
    def of_options(cls, kind: str, mask: str) -> Self:
        """The region that a user asks for.

        Raises:
            UsageError: No such kind, or one for which a mask would be ignored.
        """
        region = cls(kind, mask)
        if not region.needs_mask and mask not in ("", MASK):
            raise UsageError(
                f"`region` of inside or outside with `mask={mask!r}`",
                kind,
                "Leave the mask out, or name the region that it is for.",
            )
        return region

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """The region of a policy, or of a block of features, as records keep it."""
        return cls(record.get("region", WHOLE), record.get("mask", MASK))

    @property
    def needs_mask(self) -> bool:
        """Whether each image has to have a mask."""
        return self.kind in (INSIDE, OUTSIDE)

    @property
    def suffix(self) -> str:
        """What follows a backbone's name, such as ``:inside``; empty for all."""
        parts = ["", self.kind, *([self.mask] if self.mask not in ("", MASK) else [])]
        return "" if self.kind == WHOLE else ":".join(parts)

    @property
    def options(self) -> list[str]:
        """The words of a command that ask for it."""
        words = [] if self.kind == WHOLE else ["--region", self.kind]
        return words + (["--mask", self.mask] if self.mask not in ("", MASK) else [])

    def to_dict(self) -> dict[str, str]:
        """The region as records keep it; a whole image has no entry."""
        if self.kind == WHOLE:
            return {}
        how = {"mask": self.mask} if self.needs_mask else {"width": f"1/{WIDTH}"}
        return {"region": self.kind, **how}


WHOLE_PICTURE = Region()
