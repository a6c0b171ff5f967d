"""Masks of a dataset's images, named by the content of their files."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import Region
from featcache.dataset.sources.reading import read_bytes
from featcache.errors import DatasetError


@dataclass(frozen=True)
class Masks:
    """What is needed to show a region of images.

    Attributes:
        ids: By image_id, the SHA-256 of the mask's bytes, 64 hex digits; empty texts
            for a region that needs no masks. Only images whose region can be shown.
        paths: By image_id, where the mask is, below the dataset's root.
        missing: Paths of the images without a mask.
        lost: From an image's path to the reason why its mask cannot be read.
    """

    ids: Mapping[str, str]
    paths: Mapping[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    lost: Mapping[str, str] = field(default_factory=dict)


def find_masks(dataset: Manifest, region: Region) -> Masks:
    """Finds the masks that a region of a dataset's usable images needs.

    Raises:
        DatasetError: The manifest has no such column, or an empty one.
    """
    images = dataset.ok
    if not region.needs_mask:
        return Masks(dict.fromkeys(images["image_id"], ""))
    named = images.get(region.mask, images["path"].str[:0]).str.strip()
    if not named.any():
        raise DatasetError(
            f"masks for `region={region.kind!r}`, in column {region.mask}",
            f"none in the manifest of {dataset.dataset}",
            "Put masks with the images' file names into masks/ beside images/ and scan "
            "again, or name the CSV column that lists them as `mask`.",
        )
    where = images["image_id"][named != ""]
    paths = dict(zip(where, named[named != ""], strict=True))
    with ThreadPoolExecutor() as pool:
        identified = list(
            pool.map(lambda path: _content_id(dataset, path), paths.values())
        )
    ids = {i: text for i, (text, _) in zip(paths, identified, strict=True) if text}
    reasons = zip(images["path"][named != ""], identified, strict=True)
    lost = {path: reason for path, (_, reason) in reasons if reason}
    return Masks(ids, paths, images["path"][named == ""].tolist(), lost)


def _content_id(dataset: Manifest, path: str) -> tuple[str, str]:
    """SHA-256 of a mask's bytes, or why there are none."""
    try:
        return hashlib.sha256(read_bytes(dataset.root, path)).hexdigest(), ""
    except OSError as error:
        return "", f"its mask {path} cannot be read: {error.strerror or error}"
