"""Images that exported files are checked on: of the dataset, test images first."""

import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from featcache.dataset import views
from featcache.dataset.views import Resize
from featcache.deploy.bundle import golden
from featcache.deploy.bundle.open import open_bundle
from featcache.deploy.parity_images import _selected, generated, of_bundle, of_dataset
from featcache.evaluation import runs


def test_test_images_come_first_and_classes_take_turns():
    """The test set is used up, evenly over classes, before any training image."""
    rows = [
        *((f"{label}{n:02d}", label, runs.TEST) for label in "ab" for n in range(8)),
        *((f"c{n:02d}", "c", runs.TEST) for n in range(2)),
        *((f"x{label}{n:02d}", label, runs.TRAIN) for label in "abc" for n in range(9)),
    ]
    table = pd.DataFrame(rows, columns=["image_id", "label", "split"])
    shuffled = table.sample(frac=1, random_state=0)
    few = _selected(shuffled, 8)
    assert Counter(one[0] for one in few) == {"a": 3, "b": 3, "c": 2}
    many = _selected(shuffled, 24)
    assert set(many[:18]) == set(table["image_id"][:18])
    assert Counter(one[1] for one in many[18:]) == {"a": 2, "b": 2, "c": 2}
    assert _selected(table, 24) == many
    assert len(_selected(table, 99)) == len(table)


def test_images_of_the_dataset(trained, extracted, candidates):
    """They are cut as predict cuts them; few ones are made up with generated ones."""
    run = trained("logreg", views=0)
    images = of_dataset(run, extracted, [Resize(32), Resize(40)], count=12)
    assert images.text == "12 images of chest"
    assert {one.side: x.shape for one, x in images.pixels.items()} == {
        32: (12, 32, 32, 3), 40: (12, 40, 40, 3)
    }  # fmt: skip
    first = _selected(run.table, 12)[0]
    tested = run.table.loc[run.table["split"] == runs.TEST, "image_id"]
    assert first in set(tested)
    expected = views.render(candidates[first].picture.image, 40)
    np.testing.assert_array_equal(images.pixels[Resize(40)][0], expected)
    assert of_dataset(run, extracted, [Resize(32)]).text == (
        "36 images of chest and 28 generated pictures"
    )


@pytest.mark.parametrize("left", [0, 1])
def test_images_that_are_gone_are_generated(left, trained, extracted, tmp_path):
    """Without the files, or with one, generated pictures stand in, and are named."""
    run = trained("logreg", views=0)
    paths = dict(zip(extracted.ok["image_id"], extracted.ok["path"], strict=True))
    for image_id in _selected(run.table, 4)[:left]:
        (tmp_path / paths[image_id]).parent.mkdir()
        shutil.copy(extracted.root / paths[image_id], tmp_path / paths[image_id])
    moved = replace(extracted, settings=replace(extracted.settings, root=str(tmp_path)))
    images = of_dataset(run, moved, [Resize(32)], count=4)
    assert len(images.pixels[Resize(32)]) == 4
    text = {0: "4 generated pictures", 1: "1 image of chest and 3 generated pictures"}
    assert images.text == text[left]


def test_golden_cases_of_a_bundle(trained, bundled):
    """A bundle's own cases come first."""
    bundle = open_bundle(bundled(trained("logreg", views=0)))
    images = of_bundle(bundle, [Resize(32)], count=10)
    assert images.text == "8 golden cases and 2 generated pictures"
    data = next(iter(golden.files().values()))
    first = views.render(golden.candidate(data).picture.image, 32)
    np.testing.assert_array_equal(images.pixels[Resize(32)][0], first)


def test_generated_pictures_are_cut_for_each_size():
    """They are the same at every size, and at every call."""
    first, again = (generated([Resize(40), Resize(96)], 3) for _ in range(2))
    assert first.text == "3 generated pictures"
    shapes = {one.side: x.shape for one, x in first.pixels.items()}
    assert shapes == {40: (3, 40, 40, 3), 96: (3, 96, 96, 3)}
    assert all((x == again.pixels[size]).all() for size, x in first.pixels.items())
    assert first.pixels[Resize(40)].dtype == np.uint8
