"""Review from Python: queue, status, labels and training, as the command has them."""

from pathlib import Path

import pytest
from toy_review import IDS, WRONG, add_run, line, write
from toys import CLASSES, header, train_flat, write_store

import featcache
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest
from featcache.errors import UnknownNameError


def test_a_queue_is_a_table(chest: Manifest, reports: Path) -> None:
    """Images that the run is wrong on, the surest first, with the reason."""
    add_run(chest, reports)
    data = featcache.Dataset(chest, reports)
    table = featcache.review_queue("errors", dataset=data)
    surest = sorted(WRONG, key=WRONG.__getitem__, reverse=True)
    assert table["image_id"].tolist() == [IDS[row] for row in surest]
    assert table["reason"].str.len().gt(0).all()
    assert len(featcache.review_queue("errors", dataset=data, limit=1)) == 1
    with pytest.raises(UnknownNameError, match="errors"):
        featcache.review_queue("error", dataset=data)


def test_from_answers_to_a_comparison(chest: Manifest, reports: Path) -> None:
    """A dry run changes nothing; training on applied labels is held against before."""
    write_store(chest, header())
    options = {"test_size": 0, "folds": 3, "views": 0, "tune": False, "jobs": 1}
    (old,) = train_flat(chest, reports, heads=["logreg"], **options).runs
    write(chest, line("ann", 0, CLASSES[1]))
    data = featcache.Dataset(chest, reports)
    assert [one.reader for one in featcache.review_status(dataset=data).counts] == [
        "ann"
    ]
    rule = "reader:ann"
    planned = featcache.apply_reviews(rule, dataset=data, dry_run=True)
    assert [one.after for one in planned.changes] == [CLASSES[1]]
    assert manifest.load(chest.folder).table["label"][0] == CLASSES[0]
    featcache.apply_reviews(rule, dataset=data)
    assert manifest.load(chest.folder).table["label"][0] == CLASSES[1]
    fresh = featcache.Dataset(manifest.load(chest.folder), reports)
    result = featcache.retrain(dataset=fresh, jobs=1)
    assert result.before.run_id == old.run_id
    assert result.parts[0].relabelled == 1
