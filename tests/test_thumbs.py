"""Many small pictures are resized at once as each of them by itself."""

import numpy as np
import pytest
from PIL import Image

from featcache.dataset.thumbs import resize_all


@pytest.mark.parametrize(
    ("own", "side", "cut"),
    [
        (48, 32, (0, 0, 0, 0)),
        (32, 32, (1, 0, 0, 0)),
        (32, 32, (0, 1, 1, 0)),
        (32, 32, (1, 1, 1, 1)),
        (32, 32, (0, 0, 0, 0)),
        (8, 32, (0, 2, 0, 1)),
    ],
)
@pytest.mark.parametrize("count", [0, 1, 9])
def test_each_is_resized_as_by_itself(
    own: int, side: int, cut: tuple[int, int, int, int], count: int
) -> None:
    """To the last bit, and in order."""
    rng = np.random.default_rng(own)
    pictures = rng.integers(0, 256, (count, own * own), np.uint8)
    box = (cut[0], cut[1], own - cut[2], own - cut[3])
    expected = [
        Image.fromarray(one.reshape(own, own))
        .resize((side, side), Image.Resampling.BILINEAR, box=box)
        .tobytes()
        for one in pictures
    ]
    resized = resize_all(pictures, side, cut=cut)
    assert resized.shape == (count, side * side)
    assert [row.tobytes() for row in resized] == expected
