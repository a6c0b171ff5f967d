"""Rules of refusal without a network: the header's facts, plain statistics."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from toy_refusal import CHESTS, chest, column, fit, measured, training_set

from featcache.dataset import images
from featcache.dataset.images.dicom import header_facts
from featcache.deploy.refusal import COLUMNS, Refusal, picture_statistics
from featcache.deploy.refusal.rules import RULES, PlainRules, header_reason
from featcache.deploy.refusal.rules import single_facts as facts

RULES_OF_CHESTS = PlainRules.fit(CHESTS.astype(float))
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
X_RAY = {"modality": "CR/DX", "body part": "CHEST", "view": "PA"}


def number(image: Image.Image, name: str) -> float:
    return float(measured(image)[column(name)])


def radiograph(**elements: Any) -> bytes:
    pytest.importorskip("pydicom")
    from test_dicom import radiograph as made

    return made(np.zeros((4, 4), np.uint8), **elements)


# Statistics


def test_statistics_by_hand() -> None:
    """Half black, half white, 64 x 32 pixels: every number can be worked out."""
    grey = np.zeros((32, 64), np.uint8)
    grey[:, 32:] = 255
    picture = images.Picture("PNG", "L", Image.fromarray(grey))
    row = dict(zip(COLUMNS, picture_statistics(picture, 1024).tolist(), strict=True))
    assert row["short_side"] == 5
    assert row["aspect"] == 1
    assert row["bytes_per_pixel"] == -1
    assert row["saturation"] == 0
    assert row["grey_mean"] == row["grey_spread"] == 127.5
    assert row["flat_share"] == 0.5
    step = 255 / 63 / 2  # between columns; none between rows
    assert row["sharpness"] == pytest.approx(np.log2((step + 0.5) / 128), abs=1e-6)
    assert row["thumb_0"] == pytest.approx(-1 / 16)
    assert row["thumb_255"] == pytest.approx(1 / 16)


def test_saturation() -> None:
    """Pure red has 1, any grey 0, in whatever mode the file is."""
    assert number(Image.new("RGB", (8, 8), (255, 0, 0)), "saturation") == 1
    assert number(Image.new("RGB", (8, 8), (90, 90, 90)), "saturation") == 0
    assert number(Image.new("L", (8, 8), 90), "saturation") == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (3000, 2), (16, 16)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_statistics_are_finite(size: tuple[int, int], mode: str) -> None:
    """Pictures of one pixel, one line and one grey have statistics too."""
    row = picture_statistics(images.Picture("PNG", mode, Image.new(mode, size)), 0)
    assert row.shape == (len(COLUMNS),)
    assert row.dtype == np.float32
    assert np.isfinite(row).all()


def test_blur_and_noise_move_sharpness() -> None:
    """A reduced and enlarged picture is less sharp, one of noise sharper."""
    plain = chest(0)
    soft = plain.resize((8, 8)).resize((64, 64), Image.Resampling.BICUBIC)
    sharp = Image.fromarray(NOISE)
    values = [number(image, "sharpness") for image in (soft, plain, sharp)]
    assert values == sorted(values)
    assert np.diff(values).min() > 0.5


# Rules


def changed(name: str) -> Image.Image:
    plain = chest(1000)
    return {
        "colour": ImageOps.colorize(plain, "black", "orange"),
        "blank": Image.new("L", (64, 64), 90),
        "inverted": ImageOps.invert(plain),
        "quarter": plain.transpose(Image.Transpose.ROTATE_90),
        "upside down": plain.transpose(Image.Transpose.ROTATE_180),
        "noise": Image.fromarray(NOISE),
        "wide": plain.resize((128, 64)),
        "tall": plain.resize((64, 128)),
        "dark": plain.point([i // 3 for i in range(256)]),
        "faint": plain.point([100 + i // 20 for i in range(256)]),
    }[name]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("colour", "colour picture; the training images are grey"),
        ("blank", "blank: 100 % of the picture"),
        ("inverted", "inverted in its greys"),
        ("quarter", "rotated by 90 degrees"),
        ("upside down", "upside down"),
        ("wide", "wider than the training images: width is 2.00 of the height"),
        ("tall", "narrower than the training images: width is 0.50 of the height"),
        ("dark", "darker than the training images"),
        ("faint", "much of one shade of grey: "),
        ("noise", "noisier or sharper than the training images"),
    ],
)
def test_each_rule_says_why(name: str, reason: str) -> None:
    """What is wrong with a picture is named, and the plain one is in range."""
    row, plain = (measured(i).astype(float) for i in (changed(name), chest(1000)))
    assert RULES_OF_CHESTS.scores(plain[None]).max() < 2 < 3
    assert RULES_OF_CHESTS.scores(row[None]).max() > 3
    assert RULES_OF_CHESTS.reason(row, 3.0).startswith(reason)


def test_a_much_smaller_picture() -> None:
    """One of a sixteenth of the training images' side is refused for that."""
    row = CHESTS[0].astype(float)
    row[column("short_side")] -= 4
    reason = RULES_OF_CHESTS.reason(row, 3.0)
    assert reason.startswith(
        "smaller than the training images: 4 pixels on the shorter"
    )


def test_a_larger_file_is_no_reason() -> None:
    """Ten times the pixels or bytes of the training images are refused by no rule."""
    row = CHESTS[:1].astype(float)
    before = RULES_OF_CHESTS.scores(row)[0]
    row[0, [column("short_side"), column("bytes_per_pixel")]] += np.log2(10)
    after = dict(zip(RULES, RULES_OF_CHESTS.scores(row)[0], strict=True))
    assert after["short_side"] == after["bytes_per_pixel"] == 0
    assert max(after.values()) <= before.max()


def test_grey_pictures_among_coloured_ones() -> None:
    """Where all training images are in colour, a grey picture is what is refused."""
    rows = CHESTS.astype(float)
    rows[:, column("saturation")] = np.linspace(0.3, 0.5, len(rows))
    grey = rows[0].copy()
    grey[column("saturation")] = 0
    reason = PlainRules.fit(rows).reason(grey, 1.5)
    assert reason == "grey picture; the training images are in colour"


def test_constant_statistics_have_some_room() -> None:
    """Training images that are all alike refuse another like them only slightly off."""
    rules = PlainRules.fit(np.repeat(CHESTS[:1], 50, axis=0).astype(float))
    assert rules.scores(CHESTS[:1].astype(float)).max() < 1e-9
    near = CHESTS[:1].astype(float)
    near[0, column("grey_mean")] += 4
    assert 0 < rules.scores(near).max() < 1


# Headers


def test_header_facts() -> None:
    """Modality, body part and view, in capitals; names of one thing are one name."""
    data = radiograph(Modality="DX", BodyPartExamined="THORAX", ViewPosition="PA")
    assert header_facts(data) == X_RAY
    data = radiograph(Modality="CT", ViewPosition="LL", PatientID="secret")
    assert header_facts(data) == {"modality": "CT", "view": "LATERAL"}


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_facts_that_break_the_rules_of_dicom() -> None:
    """Small letters are read as capitals; what a terminal obeys is escaped."""
    data = radiograph(Modality="dx", BodyPartExamined=" the  hand", ViewPosition="\x1b")
    assert header_facts(data) == {
        "modality": "CR/DX",
        "body part": "THE HAND",
        "view": "\\x1b",
    }


def test_files_without_a_header() -> None:
    """Other files, broken ones and empty ones state nothing."""
    buffer = io.BytesIO()
    chest(0).save(buffer, "PNG")
    broken = radiograph(Modality="DX")[:140]
    for data in (buffer.getvalue(), broken, b"", bytes(128) + b"DICM" + b"\xff" * 64):
        assert header_facts(data) == {}


def test_a_fact_counts_where_training_had_one_kind() -> None:
    """Two values, or one that half of the images do not state, are no rule."""
    assert facts([X_RAY] * 3) == X_RAY
    assert facts([X_RAY, X_RAY | {"view": "AP"}]) == {
        "modality": "CR/DX",
        "body part": "CHEST",
    }
    assert facts([X_RAY, {}]) == X_RAY
    assert facts([X_RAY, {}, {}]) == {}


def test_header_reason() -> None:
    """Another value is refused; none at all, as of a PNG, is no opinion."""
    assert header_reason(X_RAY, X_RAY) == header_reason(X_RAY, {}) == ""
    assert header_reason({}, X_RAY) == ""
    reason = header_reason(X_RAY, X_RAY | {"modality": "CT", "view": "AP"})
    assert reason == "modality CT; the training images are CR/DX"


# Their order


@pytest.fixture(scope="module")
def refusal() -> Refusal:
    return fit(training_set() | {"headers": [X_RAY] * 400})


def test_reasons_come_in_order(refusal: Refusal) -> None:
    """The header before the statistics, these before the distance."""
    far = np.full((4, 40), 30.0, np.float32)
    near = training_set()["X"][:1]
    colour, plain = measured(changed("colour")), CHESTS[0]
    hand = {"body part": "HAND"}
    scores = refusal.score(
        np.concatenate([far, near]),
        np.stack([colour, colour, plain, plain, plain]),
        [hand, {}, {}, hand, X_RAY],
    )
    assert scores.part == ["header", "statistics", "distance", "header", ""]
    assert scores.refused.tolist() == [True] * 4 + [False]
    assert scores.reasons[0] == "body part HAND; the training images are CHEST"
    assert scores.reasons[1] == "colour picture; the training images are grey"
    assert scores.reasons[2].startswith("unlike the training images: Mahalanobis")
    assert scores.reasons[4] == ""
