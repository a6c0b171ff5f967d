"""Chest phantoms: what is promised of the pictures and of the written set."""

from collections import Counter
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from toys import Heard, stopping

from featcache.dataset.phantom import CLASSES, COLUMNS, Phantom, draw, write
from featcache.errors import DatasetError, UnknownNameError, UsageError

SIZE = 96
PATIENTS = range(12)


def shares(phantom: Phantom) -> tuple[float, float]:
    """The share of either half's lung that is abnormal."""
    halves = [np.s_[:, : SIZE // 2], np.s_[:, SIZE // 2 :]]
    return tuple(phantom.lesions[h].sum() / phantom.lungs[h].sum() for h in halves)


def corner(phantom: Phantom) -> tuple[bool, bool]:
    """Whether the marker is low, and whether it is on the right."""
    rows, columns = np.nonzero(phantom.marker)
    middle = len(phantom.marker) / 2
    return bool(rows.mean() > middle), bool(columns.mean() > middle)


@pytest.mark.parametrize("label", CLASSES)
def test_same_arguments_same_picture(label):
    """A phantom is a function of its arguments and of nothing else."""
    first = astuple(draw(label, 3, 1, size=SIZE, seed=5, shortcut=True))
    again = astuple(draw(label, 3, 1, size=SIZE, seed=5, shortcut=True))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("change", [{"patient": 4}, {"image": 2}, {"seed": 6}])
def test_every_number_matters(change):
    """Another patient, image or seed gives another picture."""
    usual = {"patient": 3, "image": 1, "seed": 5}
    one = draw("NORMAL", **usual, size=SIZE)
    other = draw("NORMAL", **(usual | change), size=SIZE)
    assert not np.array_equal(one.image, other.image)


@pytest.mark.parametrize("label", CLASSES)
def test_layers_fit(label):
    """All layers have the asked size, and the lungs are darker than the rest."""
    phantom = draw(label, 0, size=SIZE)
    assert {layer.shape for layer in astuple(phantom)} == {(SIZE, SIZE)}
    assert phantom.image.dtype == np.uint8
    assert 0.15 < phantom.lungs.mean() < 0.45
    body = phantom.image[SIZE // 3 :]
    lungs = phantom.lungs[SIZE // 3 :]
    assert np.median(body[lungs]) < np.median(body[~lungs])


def test_a_patient_keeps_the_anatomy():
    """Lungs of one patient's images overlap more than those of two patients."""
    lungs = [[draw("NORMAL", p, n, size=SIZE).lungs for n in (0, 1)] for p in PATIENTS]
    overlap = [
        [(one & two).sum() / (one | two).sum() for _, two in lungs] for one, _ in lungs
    ]
    own = np.eye(len(lungs), dtype=bool)
    assert np.mean(overlap, where=own) > np.mean(overlap, where=~own) + 0.05


@pytest.mark.parametrize("label", CLASSES)
def test_lesions_lie_within_the_lungs(label):
    """No lesion leaves the lungs, and NORMAL alone has none."""
    for patient in PATIENTS:
        phantom = draw(label, patient, size=SIZE)
        assert not (phantom.lesions & ~phantom.lungs).any()
        assert phantom.lesions.any() == (label != "NORMAL")


def test_covid_is_bilateral_and_peripheral():
    """COVID is in both lungs, and farther out than the lungs' mean."""
    for patient in PATIENTS:
        phantom = draw("COVID", patient, size=SIZE)
        assert min(shares(phantom)) > 0.05
        out = np.abs(np.arange(SIZE) - (SIZE - 1) / 2)
        lesions, lungs = phantom.lesions.sum(axis=0), phantom.lungs.sum(axis=0)
        assert np.average(out, weights=lesions) > np.average(out, weights=lungs)


def test_viral_pneumonia_is_one_sided_or_diffuse():
    """Viral Pneumonia leaves one lung clear or fills much of both; both occur."""
    pairs = [shares(draw("Viral Pneumonia", n, size=SIZE)) for n in PATIENTS]
    one_sided = [min(pair) == 0 for pair in pairs]
    assert all(a or min(p) > 0.4 for a, p in zip(one_sided, pairs, strict=True))
    assert 0 < sum(one_sided) < len(pairs)


@pytest.mark.parametrize("label", ["COVID", "Viral Pneumonia"])
def test_small_lesions_are_a_few_percent_of_one_lung(label):
    """One finding in one lung, of 2 to 4 % of the lung fields' area."""
    sides = set()
    for patient in range(30):
        phantom = draw(label, patient, size=192, small_lesions=True)
        assert 0.02 <= phantom.lesions.sum() / phantom.lungs.sum() <= 0.04
        assert not (phantom.lesions & ~phantom.lungs).any()
        columns = np.flatnonzero(phantom.lesions.any(axis=0))
        assert np.ptp(columns) < 192 / 4
        sides.add(bool(columns.mean() > 96))
    assert sides == {True, False}


def test_small_lesions_change_what_is_abnormal_alone():
    """The option draws the same healthy pictures, patients and exposures."""
    usual, small = draw("NORMAL", 3, 1), draw("NORMAL", 3, 1, small_lesions=True)
    assert np.array_equal(usual.image, small.image)
    usual, small = (
        draw("COVID", 3, 1, small_lesions=option).lungs for option in (False, True)
    )
    assert np.array_equal(usual, small)
    again = draw("COVID", 3, 1, small_lesions=True)
    assert np.array_equal(again.image, draw("COVID", 3, 1, small_lesions=True).image)


@pytest.mark.parametrize("label", CLASSES)
def test_marker_changes_its_plate_alone(label):
    """A shortcut adds a marker off the lungs; all else stays as it was."""
    for patient in PATIENTS:
        plain = draw(label, patient, size=SIZE)
        marked = draw(label, patient, size=SIZE, shortcut=True)
        changed = plain.image != marked.image
        assert changed.any()
        assert not (changed & ~marked.marker).any()
        assert not (marked.marker & marked.lungs).any()
        assert not plain.marker.any()
        assert np.array_equal(plain.lesions, marked.lesions)


def test_marker_tells_the_class_mostly():
    """Each class has a corner of its own, and sometimes another's."""
    corners = {
        label: Counter(
            corner(draw(label, n, size=64, shortcut=True)) for n in range(50)
        )
        for label in CLASSES
    }
    usual = [found.most_common(1)[0] for found in corners.values()]
    assert len({place for place, _ in usual}) == len(CLASSES)
    assert all(times >= 42 for _, times in usual)
    assert sum(times for _, times in usual) < 150


@pytest.mark.parametrize(
    ("label", "numbers", "error"),
    [
        ("Covid", {}, UnknownNameError),
        ("COVID", {"patient": -1}, UsageError),
        ("COVID", {"image": -1}, UsageError),
        ("COVID", {"seed": -1}, UsageError),
        ("COVID", {"size": 63}, UsageError),
    ],
)
def test_draw_refuses_what_it_cannot_draw(label, numbers, error):
    """A label or a number that cannot be drawn is refused."""
    with pytest.raises(error):
        draw(label, **({"patient": 0, "size": 64} | numbers))


@pytest.mark.parametrize("images", [3, 4, 11])
def test_set_has_exactly_the_asked_images(tmp_path, images):
    """A set has the asked number of images, spread evenly over the classes."""
    table = pd.read_csv(write(tmp_path / "set", images, size=64))
    sizes = table.label.value_counts()
    assert sizes.sum() == images
    assert set(sizes.index) == set(CLASSES)
    assert sizes.max() - sizes.min() <= 1
    assert len(list((tmp_path / "set").glob("*/images/*.png"))) == images


def test_set_layout(tmp_path):
    """The CSV names an image, its lung mask and its lesions as they were drawn."""
    path = write(tmp_path, 6, size=64, seed=2)
    assert path == tmp_path / "metadata.csv"
    table = pd.read_csv(path)
    assert tuple(table.columns) == COLUMNS
    assert table.path.iloc[1] == "COVID/images/COVID (2).png"
    assert set(table.shortcut) == {"none"}
    for row in table.itertuples():
        patient = int(row.patient.removeprefix("phantom-"))
        phantom = draw(row.label, patient, row.image, size=64, seed=2)
        for name, layer in [
            (row.path, phantom.image),
            (row.mask, phantom.lungs * 255),
            (row.lesion, phantom.lesions * 255),
        ]:
            with Image.open(tmp_path / name) as file:
                assert file.mode == "L"
                assert np.array_equal(np.asarray(file), layer)


def test_patients_have_one_to_three_images_of_one_class(tmp_path):
    """A patient has one class and one to three images, and all of these occur."""
    table = pd.read_csv(write(tmp_path, 45, size=64))
    patients = table.groupby("patient")
    assert (patients.label.nunique() == 1).all()
    assert set(patients.size()) == {1, 2, 3}
    assert not table.duplicated(["patient", "image"]).any()


def test_larger_set_begins_with_the_smaller(tmp_path):
    """More images add to a set; those of the smaller one stay byte for byte."""
    small, large = tmp_path / "small", tmp_path / "large"
    write(small, 5, size=64)
    write(large, 9, size=64)
    for path in small.rglob("*.png"):
        assert path.read_bytes() == (large / path.relative_to(small)).read_bytes()


def test_set_with_markers_names_their_corners(tmp_path):
    """The CSV of a set with markers says where each one is."""
    table = pd.read_csv(write(tmp_path, 9, size=64, shortcut=True))
    for row in table.itertuples():
        patient = int(row.patient.removeprefix("phantom-"))
        phantom = draw(row.label, patient, row.image, size=64, shortcut=True)
        low, right = corner(phantom)
        assert (
            row.shortcut
            == f"{'bottom' if low else 'top'}-{'right' if right else 'left'}"
        )


def test_progress_counts_to_the_total(tmp_path):
    """The callback hears of every image once."""
    heard: list[tuple[str, int, int]] = []
    write(tmp_path, 4, size=64, reporter=Heard(ticks=heard))
    assert heard == [("phantoms", done, 4) for done in (1, 2, 3, 4)]


def test_set_cut_short_has_no_csv(tmp_path):
    """The CSV is the mark that a set is whole, so it is written last."""
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 4, size=64, reporter=stopping(2))
    assert list(tmp_path.rglob("*.png"))
    assert not (tmp_path / "metadata.csv").exists()


def test_too_few_images_are_refused(tmp_path):
    """A set has every class, or is not made at all."""
    with pytest.raises(UsageError, match="at least 3"):
        write(tmp_path / "set", 2)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("taken", ["notes.txt", "set/notes.txt"])
def test_nothing_is_overwritten(tmp_path, taken):
    """A folder that holds something, or a file in its place, is left as it is."""
    path: Path = tmp_path / taken
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    folder = path if taken == "notes.txt" else path.parent
    with pytest.raises(DatasetError, match="not empty"):
        write(folder, 3, size=64)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
