"""The picture that a canary's embedding is of."""

import hashlib

import numpy as np

from featcache.backbones import canary


def test_the_picture_is_the_same_everywhere() -> None:
    """Its bytes never change: embeddings of it are written down elsewhere."""
    pixels = np.asarray(canary.picture())
    assert pixels.shape == (265, 331, 3)
    assert pixels.dtype == np.uint8
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    assert digest == "9cc17d7411821e793f97ef0ee81b0faf78e32a5b569e41cf827fc6f6ad17d225"


def test_the_picture_shows_what_is_done_to_it() -> None:
    """Channels, sides, the middle and single pixels all differ."""
    pixels = np.asarray(canary.picture()).astype(int)

    def differs(other: np.ndarray) -> bool:
        return bool(np.abs(pixels - other).mean() > 20)

    assert differs(pixels[..., ::-1])
    assert differs(pixels[:, ::-1])
    assert differs(pixels[::-1])
    assert np.abs(np.diff(pixels, axis=1)).mean() > 10
    assert (pixels.min(), pixels.max()) == (0, 255)
