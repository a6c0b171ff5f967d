"""Images as Python has them: a path, a picture of Pillow, or an array of pixels."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featcache.dataset import images
from featcache.dataset.sources.reading import read_file
from featcache.dataset.urls import Location, Url, absolute
from featcache.errors import UnreadableImageError, UsageError


@dataclass(frozen=True, eq=False)
class ImageSource:
    """An image: a file, or a picture in memory."""

    path: Location | None = None
    picture: Image.Image | None = None

    def read(self) -> bytes:
        """The bytes of the file; of a picture, a file that holds just its pixels.

        Raises:
            UnreadableImageError: The file cannot be read.
        """
        if self.picture is not None:
            file = BytesIO()
            images.to_pixels(self.picture).save(file, "PPM")
            return file.getvalue()
        assert self.path is not None
        try:
            return read_file(self.path)
        except OSError as error:
            raise UnreadableImageError(
                f"an image in {self.path}",
                f"a file that cannot be read: {error.strerror or error}",
                "Correct the path, or leave the file out.",
            ) from error


def image_source(item: Any, number: int) -> ImageSource:
    """An image as it was passed on.

    Args:
        item: A path, a URL, a picture, or an array (H, W) or (H, W, 3) of uint8.
        number: Its place among the images, for the error.

    Raises:
        UsageError: It is none.
    """
    if isinstance(item, str | Path | Url):
        return ImageSource(path=absolute(item))
    if isinstance(item, Image.Image):
        return ImageSource(picture=item)
    got = type(item).__name__
    if isinstance(item, np.ndarray):
        pixels = item[..., 0] if item.ndim == 3 and item.shape[2] == 1 else item
        is_grey, is_colour = pixels.ndim == 2, pixels.shape[2:] == (3,)
        if pixels.dtype == np.uint8 and (is_grey or is_colour):
            picture = Image.fromarray(np.ascontiguousarray(pixels))
            return ImageSource(picture=picture)
        got = f"an array of {item.dtype}, {item.shape}"
    raise UsageError(
        "paths, pictures of Pillow, or uint8 arrays (H, W) or (H, W, 3)",
        f"{got} as image {number}",
        "Convert it, for example with PIL.Image.fromarray.",
    )
