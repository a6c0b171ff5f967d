"""What is kept of training images is used again, unless other code measured it."""

import numpy as np
import pytest
from toys import write_images

from featcache.commands.scan import scan
from featcache.core import checked
from featcache.core.io import read_json
from featcache.deploy import training_images


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Measures two images with a given hash, and says with which they are known."""
    dataset = scan(write_images(tmp_path / "chest"), tmp_path / "cache").manifest

    def call(value):
        new = np.full(72, value, np.uint8)
        monkeypatch.setattr(training_images, "perceptual_hash", lambda _: new)
        known = training_images.measure(dataset, dataset.ok["image_id"][:2].tolist())
        return int(known.hashes[0, 0])

    call.record = dataset.folder / "picture-statistics.json"
    return call


@pytest.mark.parametrize("part", ["statistics", "headers", "hashes", None])
def test_rows_of_other_code_are_measured_anew(measured, part):
    """Each of the three facts has its version; of 0.1.0 all were as they are now."""
    assert [measured(1), measured(2)] == [1, 1]
    fields = read_json(measured.record)
    version = fields["version"] | {part: []} if part else 1
    checked.write_record(measured.record, fields | {"version": version})
    assert measured(3) == (3 if part else 1)
