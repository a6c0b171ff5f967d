"""What an epoch sees: the cache's views, an order of its own, the usable images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_training import images

from featcache.commands.finetune.inputs import Data, order
from featcache.commands.finetune.settings import FinetuneSettings
from featcache.commands.scan import scan
from featcache.dataset import views
from featcache.dataset.manifest import Manifest
from featcache.dataset.narrowing import narrow
from featcache.dataset.views import Policy

PLAIN = Policy(flip=False, brightness=(1, 1), zoom=(1, 1))


def test_an_epoch_sees_the_views_of_the_cache(dataset: Manifest) -> None:
    """Epoch 3 trains on view 3, drawn and rendered as ``extract`` does."""
    policy, row = Policy(seed=5), 7
    one = dataset.ok.iloc[row]
    picture = Image.open(dataset.root / one["path"])
    drawn = views.draw(policy, one["image_id"], 3)
    source = images(dataset, policy=policy, batch_size=4)
    assert FinetuneSettings(policy=policy).view(3) == 3
    assert np.array_equal(source.pixels(row, 3), views.render(picture, 32, drawn))
    assert np.array_equal(source.pixels(row, 0), views.render(picture, 32))
    assert FinetuneSettings(policy=PLAIN).view(3) == 0


def test_an_epoch_has_an_order_of_its_own() -> None:
    """Each epoch takes each row once, in an order that the seed and it decide."""
    first = order(50, 0, 1)
    assert sorted(first) == list(range(50))
    assert np.array_equal(first, order(50, 0, 1))
    assert not np.array_equal(first, order(50, 0, 2))
    assert not np.array_equal(first, order(50, 1, 1))


def test_batches_are_the_images_in_order(dataset: Manifest) -> None:
    """Pixels come in the order asked with what goes with them, the last batch short."""
    source = images(dataset, batch_size=2)
    batches = list(source.batches(np.array([9, 3, 5]), 1, np.array([90, 30, 50])))
    pixels = np.concatenate([x.numpy() for x, _ in batches])
    assert np.array_equal(pixels, [source.pixels(row, 1) for row in (9, 3, 5)])
    assert [y.numpy().tolist() for _, y in batches] == [[90, 30], [50]]


def test_balanced_classes_weigh_the_same(dataset: Manifest) -> None:
    """With 3 of one class and 1 of the other, weights are 4/6 and 4/2."""
    codes = np.array([0, 0, 0, 1])
    data = Data(images(dataset, batch_size=3), codes, np.arange(4), np.arange(0), 2)
    assert data.steps == 2
    assert data.weights(FinetuneSettings()).tolist() == [1, 1]
    assert data.weights(FinetuneSettings(class_weight="balanced")) == pytest.approx(
        [2 / 3, 2]
    )


def test_excluded_images_are_not_trained_on(dataset: Manifest) -> None:
    """Rows are those of the usable images alone."""
    fewer = narrow(dataset, exclude=["label=COVID"])
    assert images(fewer, batch_size=4).pixels(0, 0).shape == (32, 32, 3)
    assert "COVID" not in fewer.ok["label"].to_numpy()


def test_unreadable_images_are_left_out(image_folder: Path, tmp_path: Path) -> None:
    """What the scan could not read is no row of what is trained on."""
    bad = image_folder / "COVID" / "broken.png"
    bad.write_bytes(b"no picture")
    found = scan(image_folder, tmp_path / "other").manifest
    source = images(found, batch_size=8)
    assert (found.table["status"] == "unreadable").sum() == 1
    assert len(found.ok) == 36
    for row in range(36):
        assert source.pixels(row, 0).shape == (32, 32, 3)
