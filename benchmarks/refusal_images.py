"""Images that a model of chest X-rays must refuse, made or at hand."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from featcache.dataset import images, phantom
from featcache.errors import UnreadableImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".tif")


def encode(image: Image.Image) -> bytes:
    """A JPEG like those of the training set."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _cropped(image: Image.Image, share: float) -> Image.Image:
    """The middle of a picture."""
    width, height = image.size
    left, top = width * (1 - share) / 2, height * (1 - share) / 2
    box = tuple(map(round, (left, top, left + width * share, top + height * share)))
    return image.crop(box)


def _corner(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((0, 0, round(0.4 * width), round(0.4 * height)))


def _tinted(image: Image.Image, factors: tuple[float, float, float]) -> Image.Image:
    grey = np.asarray(image.convert("L"), np.float32)[..., None]
    return Image.fromarray((grey * factors).round().astype(np.uint8))


def _noisy(image: Image.Image) -> Image.Image:
    grey = np.asarray(image.convert("L"), np.float32)
    noise = np.random.default_rng(int(grey.sum()) % 2**32).normal(0, 50, grey.shape)
    return Image.fromarray((grey + noise).clip(0, 255).astype(np.uint8))


def _gamma(image: Image.Image, power: float) -> Image.Image:
    return image.convert("L").point(
        [round(255 * (i / 255) ** power) for i in range(256)]
    )


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "only encoded again": lambda image: image,
    "inverted greys": lambda image: ImageOps.invert(image.convert("L")),
    "rotated by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "upside down": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "flipped left to right": ImageOps.mirror,
    "tinted strongly": lambda image: _tinted(image, (1, 0.8, 0.6)),
    "tinted slightly": lambda image: _tinted(image, (1, 0.97, 0.94)),
    "middle, 70 % of each side": lambda image: _cropped(image, 0.7),
    "middle, 40 % of each side": lambda image: _cropped(image, 0.4),
    "upper corner, 40 % of each side": _corner,
    "blurred": lambda image: image.filter(
        ImageFilter.GaussianBlur(0.02 * min(image.size))
    ),
    "noise added (deviation 50)": _noisy,
    "darker (gamma 2.5)": lambda image: _gamma(image, 2.5),
    "brighter (gamma 0.4)": lambda image: _gamma(image, 0.4),
}


def blank() -> list[Image.Image]:
    """Pictures of one grey, or nearly so."""
    rng = np.random.default_rng(0)
    greys = [Image.new("L", (320, 384), shade) for shade in (0, 32, 64, 128, 192, 255)]
    faint = [rng.normal(shade, 2, (384, 320)) for shade in (20, 90, 128, 230)]
    return greys + [Image.fromarray(f.clip(0, 255).astype(np.uint8)) for f in faint]


def noise() -> list[Image.Image]:
    """Uniform, normal and coarse noise."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(5):
        made.append(Image.fromarray(rng.integers(0, 256, (384, 320), np.uint8)))
        normal = rng.normal(128, 60, (384, 320)).clip(0, 255).astype(np.uint8)
        made.append(Image.fromarray(normal))
        coarse = Image.fromarray(rng.integers(0, 256, (12, 10), np.uint8))
        made.append(coarse.resize((320, 384), Image.Resampling.BICUBIC))
    return made


def phantoms(count: int = 60) -> list[Image.Image]:
    """Generated chests."""
    labels = phantom.CLASSES
    return [
        Image.fromarray(phantom.draw(labels[i % len(labels)], i, size=384).image)
        for i in range(count)
    ]


def photographs() -> list[Image.Image]:
    """Sample pictures of scikit-learn, and of scikit-image where it is installed."""
    return list(_photographs())


def _photographs() -> Iterator[Image.Image]:
    for package in ("sklearn.datasets.images", "skimage.data"):
        for path in _files(package):
            try:
                picture = images.decode(path.read_bytes())
            except UnreadableImageError:
                continue
            if min(picture.size) >= 100:
                yield picture


def _files(package: str) -> list[Path]:
    from importlib import import_module

    try:
        module = import_module(package)
    except ImportError:
        return []
    return sorted(
        path for path in Path(module.__path__[0]).iterdir() if path.suffix in SUFFIXES
    )


def patches(pictures: list[Image.Image], side: int = 200) -> list[Image.Image]:
    """Grey patches from the middle and the corners of larger pictures."""
    made = []
    for picture in pictures:
        width, height = picture.size
        corners = [(0, 0), (width - side, height - side)]
        for left, top in [*corners, ((width - side) // 2, (height - side) // 2)]:
            if min(width, height) > side:
                patch = picture.crop((left, top, left + side, top + side))
                made.append(patch.convert("L"))
    return made
