"""From an image file to the pixels that a network is given: read, keep, cut."""

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

from featcache.dataset import images, sources, views
from featcache.dataset.images.base import unreadable
from featcache.dataset.regions import Region
from featcache.dataset.sources import Masks
from featcache.dataset.urls import Location
from featcache.dataset.views import Policy, Resize
from featcache.errors import UnreadableImageError


def read(root: Location, path: str, image_id: str) -> images.Picture:
    """Reads and decodes the image that the manifest means.

    Raises:
        UnreadableImageError: It is gone, changed, or no image.
    """
    return images.read(sources.read_scanned(root, path, image_id))


def cutter(
    image: Image.Image, policy: Policy, image_id: str
) -> Callable[[Resize, int], np.ndarray]:
    """Renders the views of an image, each once a way of resizing.

    Args:
        image: Mode "L" or "RGB"; what its region keeps of it.
        policy: The recipe of views 1 and up.
        image_id: SHA-256 of its file.

    Returns:
        A function of (resize, view) to (S, S, 3) uint8, RGB; view 0 is plain.
    """

    @cache
    def cut(resize: Resize, view: int) -> np.ndarray:
        draw = views.draw(policy, image_id, view) if view else None
        return views.render(image, resize, draw)

    return cut


def keep_region(
    image: Image.Image, image_id: str, *, root: Location, region: Region, masks: Masks
) -> Image.Image:
    """What a region keeps of an image.

    Args:
        image: Mode "L" or "RGB"; not changed.
        image_id: SHA-256 of its file.
        root: Of the dataset.
        region: Which part to keep.
        masks: Of the dataset's images, as ``sources.find_masks`` gives them.

    Raises:
        UnreadableImageError: Its mask has changed, is no mask of it, or is all or
            nothing.
    """
    if not region.needs_mask:
        return views.apply_region(image, region)
    path = masks.paths[image_id]
    try:
        data = sources.read_bytes(root, path)
        if images.content_id(data) != masks.ids[image_id]:
            raise unreadable("it has changed during the run")
        mask = images.read_mask(data, image)
        if mask.all() or not mask.any():
            raise unreadable(f"it is {'full' if mask.all() else 'empty'}")
    except (OSError, UnreadableImageError) as error:
        reason = error.got if isinstance(error, UnreadableImageError) else error
        raise unreadable(f"its mask {path} cannot be used: {reason}") from error
    return views.apply_region(image, region, mask)
