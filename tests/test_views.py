"""Rules of views: what is drawn, from what alone, and how it is rendered."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featcache.dataset.regions import Region
from featcache.dataset.views import Draw, Policy, Resize, draw, render
from featcache.errors import UsageError

IMAGE = "0" * 64
STILL = Policy(flip=False, brightness=(1.0, 1.0), zoom=(1.0, 1.0))
PLAIN = Draw(flip=False, brightness=1.0, zoom=1.0, x=0.5, y=0.5)


def noise(*shape: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(values)


def square(width: int, height: int, side: int) -> Image.Image:
    """A white square in the middle of a black picture."""
    picture = np.zeros((height, width), np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    picture[top : top + side, left : left + side] = 255
    return Image.fromarray(picture)


def test_a_draw_never_changes() -> None:
    """These numbers made features that are stored: they hold for every release."""
    assert draw(Policy(seed=2021), "ab" * 32, 1) == Draw(
        flip=True,
        brightness=1.1424038759879769,
        zoom=1.126199256821795,
        x=0.30004259615157325,
        y=0.6629185967305183,
    )


def test_another_process_draws_the_same() -> None:
    """Nothing but (policy, seed, image_id, view) has a say: no state, no hash seed."""
    code = (
        "from featcache.dataset.views import Policy, draw\n"
        f"print(repr(draw(Policy(seed=3), {IMAGE!r}, 7)))"
    )
    drawn = [
        subprocess.check_output([sys.executable, "-c", code], text=True).strip()
        for _ in range(2)
    ]
    np.random.seed(5)
    assert drawn == [repr(draw(Policy(seed=3), IMAGE, 7))] * 2


@pytest.mark.parametrize(
    "other",
    [
        (Policy(), IMAGE, 2),
        (Policy(), "1" + IMAGE[1:], 1),
        (Policy(seed=1), IMAGE, 1),
        (Policy(zoom=(1.0, 1.3)), IMAGE, 1),
    ],
    ids=["view", "image", "seed", "policy"],
)
def test_view_image_seed_and_policy_each_change_the_draw(
    other: tuple[Policy, str, int],
) -> None:
    """Whatever of the four differs, everything that is drawn does."""
    one, two = draw(Policy(), IMAGE, 1), draw(*other)
    assert one.brightness != two.brightness
    assert one.zoom != two.zoom
    assert (one.x, one.y) != (two.x, two.y)


def test_equal_policies_draw_equal_views() -> None:
    """1 and 1.0, tuple and list, numpy's numbers and Python's are one policy."""
    one = Policy(True, (1.0, 2.0), (1.0, 1.5), 4)
    for two in (
        Policy(True, (1, 2), (1, 1.5), 4),
        Policy(np.bool_(True), [1.0, np.float64(2)], [1, 1.5], np.int64(4)),  # type: ignore[arg-type]
        Policy(**one.to_dict()),
    ):
        assert two == one
        assert hash(two) == hash(one)
        assert draw(two, IMAGE, 1) == draw(one, IMAGE, 1)


def test_draws_are_uniform_and_flips_are_fair() -> None:
    """Of 4000 draws each fifth of each range holds 20 % and half are flipped."""
    drawn = [draw(Policy(), f"{i:064x}", v) for i in range(1000) for v in (1, 2, 3, 4)]
    ranges = {"brightness": (0.8, 1.25), "zoom": (1, 1.2), "x": (0, 1), "y": (0, 1)}
    for name, bounds in ranges.items():
        values = [getattr(d, name) for d in drawn]
        assert bounds[0] <= min(values)
        assert max(values) <= bounds[1]
        share = np.histogram(values, bins=5, range=bounds)[0] / len(values)
        assert np.abs(share - 0.2).max() < 0.03
    assert abs(np.mean([d.flip for d in drawn]) - 0.5) < 0.03


def test_what_is_switched_off_leaves_the_rest_of_the_draw() -> None:
    """Without flips no view is flipped, and a range of one value is that value."""
    drawn = [
        draw(replace(Policy(), flip=False, zoom=(1.1, 1.1)), IMAGE, v)
        for v in range(1, 50)
    ]
    assert not any(d.flip for d in drawn)
    assert {d.zoom for d in drawn} == {1.1}
    assert len({d.brightness for d in drawn}) == len(drawn)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40, 3), (1, 1), (3, 200)])
@pytest.mark.parametrize("size", [32, 7])
def test_a_policy_that_changes_nothing_gives_view_0(
    shape: tuple[int, ...], size: int
) -> None:
    """No flip, brightness 1 and zoom 1 render the plain view, bit for bit."""
    image = noise(*shape)
    plain = render(image, size)
    assert STILL.is_identity
    for view in range(1, 6):
        assert np.array_equal(render(image, size, draw(STILL, IMAGE, view)), plain)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy(False),
        replace(STILL, zoom=(1, 1.1)),
        replace(STILL, brightness=(0.9, 1)),
        replace(STILL, flip=True),
    ],
)
def test_only_a_policy_that_changes_nothing_is_the_identity(policy: Policy) -> None:
    """One thing that may change is enough."""
    assert not policy.is_identity


@pytest.mark.parametrize("shape", [(40, 30), (30, 40, 3)])
def test_a_view_is_rgb_bytes_and_the_image_stays(shape: tuple[int, ...]) -> None:
    """(size, size, 3) uint8; the decoded picture is not changed by its views."""
    image = noise(*shape)
    before = np.asarray(image).copy()
    for drawn in (None, Draw(True, 1.2, 1.1, 0.3, 0.6)):
        view = render(image, 24, drawn)
        assert (view.shape, view.dtype) == ((24, 24, 3), np.uint8)
    assert image.size == (shape[1], shape[0])
    assert np.array_equal(np.asarray(image), before)


def test_grey_is_repeated_to_three_channels() -> None:
    """A grey picture and the same in RGB render alike, in every view."""
    grey = noise(40, 30)
    for view in range(5):
        drawn = draw(Policy(), IMAGE, view) if view else None
        expected = render(grey.convert("RGB"), 16, drawn)
        assert np.array_equal(render(grey, 16, drawn), expected)


def test_a_flip_mirrors_left_and_right() -> None:
    """The flipped view is the plain one read from right to left."""
    image = noise(40, 30, 3)
    flipped = render(image, 16, replace(PLAIN, flip=True))
    assert np.array_equal(flipped, render(image, 16)[:, ::-1])


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(1.25, [0, 125, 250, 255, 255]), (0.8, [0, 80, 160, 168, 204]), (0, [0] * 5)],
)
def test_brightness_is_a_factor_on_the_pixels(
    factor: float, expected: list[int]
) -> None:
    """0, 100, 200, 210, 255 are multiplied, and cut off at 255, in every channel."""
    for shade, bright in zip([0, 100, 200, 210, 255], expected, strict=True):
        for image in (
            Image.new("L", (4, 4), shade),
            Image.new("RGB", (4, 4), (shade,) * 3),
        ):
            view = render(image, 4, replace(PLAIN, brightness=factor))
            assert (view == bright).all()


def test_brightness_leaves_each_channel_its_own() -> None:
    """Red, green and blue are not mixed up."""
    view = render(
        Image.new("RGB", (4, 4), (10, 100, 240)), 4, replace(PLAIN, brightness=2)
    )
    assert view[0, 0].tolist() == [20, 200, 255]


def test_zoom_magnifies_by_one_factor_for_both_axes() -> None:
    """A centred square of 20 px grows to 40 at zoom 2, and stays a square."""
    image = square(80, 80, 20)
    for zoom, side in ((1.0, 20), (2.0, 40)):
        white = render(image, 80, replace(PLAIN, zoom=zoom))[:, :, 0] > 127
        assert white.any(axis=0).sum() == side
        assert white.any(axis=1).sum() == side


def test_zoom_keeps_the_aspect_of_the_picture() -> None:
    """In a picture twice as wide as high both axes are magnified alike."""
    for zoom, width, height in ((1.0, 10, 20), (2.0, 20, 40)):
        view = render(square(160, 80, 20), 80, replace(PLAIN, zoom=zoom))
        white = view[:, :, 0] > 127
        assert white.any(axis=0).sum() == width
        assert white.any(axis=1).sum() == height


def test_the_window_is_cut_before_the_resize() -> None:
    """At zoom 2 a corner's window is the corner's quarter, at full sharpness."""
    image = noise(64, 64)
    corners = {(0, 0): (0, 0), (1, 0): (32, 0), (0, 1): (0, 32), (1, 1): (32, 32)}
    for (x, y), (left, top) in corners.items():
        view = render(image, 32, replace(PLAIN, zoom=2.0, x=float(x), y=float(y)))
        quarter = image.crop((left, top, left + 32, top + 32))
        assert np.array_equal(view[:, :, 0], np.asarray(quarter))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 5),
    zoom=st.floats(1, 10),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
)
def test_the_window_never_leaves_the_image(
    width: int, height: int, zoom: float, x: float, y: float
) -> None:
    """Any size, zoom and place can be rendered, and white never meets a border."""
    image = Image.new("L", (width, height), 255)
    assert (render(image, 3, Draw(False, 1.0, zoom, x, y)) == 255).all()


@pytest.mark.parametrize(
    "asked",
    [
        {"brightness": (1.2, 0.8)},
        {"brightness": (-0.1, 1.0)},
        {"brightness": (0.5, float("inf"))},
        {"brightness": (float("nan"), 1.0)},
        {"brightness": (1.0, float("nan"))},
        {"zoom": (0.9, 1.2)},
        {"zoom": (1.2, 1.1)},
        {"zoom": (1.0,)},
        {"zoom": (1.0, 1.1, 1.2)},
        {"zoom": 1.1},
        {"zoom": ("a", "b")},
    ],
    ids=str,
)
def test_a_range_that_cannot_be_drawn_from_is_refused(asked: dict[str, object]) -> None:
    """The error names the option, its bounds and what came."""
    [(name, value)] = asked.items()
    with pytest.raises(UsageError) as caught:
        Policy(**asked)  # type: ignore[arg-type]
    assert f"`{name}` LO,HI" in caught.value.expected
    assert caught.value.got == str(value)


def test_a_record_gives_the_policy_again() -> None:
    """What a store or a run keeps of a policy is enough to draw its views again."""
    for policy in (Policy(), Policy(False, (1, 1.5), seed=3, region=Region("inside"))):
        record = json.loads(json.dumps(policy.to_dict()))
        assert Policy.of(record) == policy
        assert Policy.of(record).to_dict() == policy.to_dict()


def test_a_thread_of_an_image_does_not_fill_the_memory() -> None:
    """Of an image of 1 x 60000 pixels no more is resized than is near the square."""
    tall = Image.new("RGB", (1, 60_000))
    tall.putdata([(row % 251, row % 241, row % 239) for row in range(60_000)])
    near = tall.crop((0, 29_980, 1, 30_020))
    resize = Resize(64, "shortest_edge", 64, "bicubic")
    difference = render(tall, resize).astype(int) - render(near, resize)
    assert np.abs(difference).max() <= 1
