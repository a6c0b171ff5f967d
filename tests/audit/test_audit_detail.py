"""Candidates that look the same when small are compared in detail."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from audit_toys import of, planted
from PIL import Image

from featcache.commands.audit import audit, detail
from featcache.commands.audit.detail import DETAIL, correlation
from featcache.commands.scan import scan
from featcache.dataset import phantom
from featcache.dataset.near_duplicates import CORRELATION, unit
from featcache.dataset.similar_pairs import Pairs
from featcache.dataset.thumbs import read_thumbs

PATIENTS = ((614, 1), (872, 1))  # of 2,400 phantoms, 0.9906 at 32x32


def drawn_patient(patient: int, image: int) -> Image.Image:
    return Image.fromarray(
        phantom.draw("NORMAL", patient, image, size=128, seed=11).image
    )


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


@pytest.fixture(scope="module")
def patients() -> list[Image.Image]:
    """Two phantoms of different patients."""
    return [drawn_patient(*one) for one in PATIENTS]


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "resized": lambda image: image.resize((122, 122)),
    "small": lambda image: image.resize((100, 100)),
    "dark": lambda image: image.point(lambda grey: round(grey * 0.75)),
    "jpeg": lambda image: jpeg(image, 30),
    "cropped": lambda image: image.crop((4, 4, 124, 124)),
    "cropped at a side": lambda image: image.crop((4, 0, 128, 128)),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=[*COPIES])
def test_a_copy_is_the_same(
    patients: list[Image.Image], change: Callable[[Image.Image], Image.Image]
) -> None:
    """Whatever was done to it, and whichever of the two comes first."""
    copy = change(patients[0])
    assert correlation(patients[0], copy) > DETAIL
    assert correlation(copy, patients[0]) > DETAIL


def test_two_patients_that_look_alike_are_no_finding(
    patients: list[Image.Image], tmp_path: Path, reports: Path
) -> None:
    """They correlate above the threshold when small; the audit says how many do."""
    root = tmp_path / "x"
    for label, image in zip("ab", patients, strict=True):
        (root / label).mkdir(parents=True)
        image.save(root / label / f"{label}.png")
    first, last = unit(read_thumbs(root, ["a/a.png", "b/b.png"]))
    assert first @ last > CORRELATION
    dataset = scan(root, tmp_path / "cache", group_by="image").manifest
    answer = of(audit(dataset, reports), "FC003")
    assert answer.status == "passed"
    assert answer.message.startswith("0 pairs look the same")
    assert "1 more pair looks the same only when small" in answer.message


def test_the_least_alike_are_compared(
    tmp_path: Path, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit pairs stay, and the message says how many."""
    monkeypatch.setattr(detail, "MOST", 4)
    dataset = scan(
        planted(tmp_path / "x"), tmp_path / "cache", group_by="image"
    ).manifest
    answer = of(audit(dataset, reports), "FC003")
    assert "6 pairs were not compared in detail" in answer.message
    unknown = [np.isnan(row["detail"]) for row in answer.evidence]
    assert unknown == [True] * 6 + [False] * 4


def test_a_lost_image_keeps_its_pairs(tmp_path: Path) -> None:
    """What cannot be compared is not dropped."""
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    pairs = Pairs(np.array([0]), np.array([1]), np.array([0.995]))
    table = detail.confirmed([pairs], tmp_path, ["a.png", "lost.png"])
    assert (table.dropped, table.unconfirmed) == (0, 1)


def test_a_picture_of_one_grey_is_like_no_other() -> None:
    """It has no detail; nor do pictures of a pixel fail."""
    sizes = [(1, 1), (3, 500), (300, 300)]
    greys = [Image.new("L", size, 9) for size in sizes]
    assert [correlation(one, greys[-1]) for one in greys] == [0, 0, 0]
