"""int8 features with taps: the network that made them is found and used."""

import shutil

import numpy as np
import pytest
from toys import train_flat

from featcache import backbones
from featcache.commands.bundle import make_bundle
from featcache.commands.extract import extract
from featcache.dataset import images
from featcache.deploy.bundle.open import open_bundle
from featcache.deploy.bundle.verify import verify
from featcache.deploy.model import Candidate
from featcache.deploy.of_run import ModelSource, of_run
from featcache.errors import StoreError
from featcache.evaluation.runs import PROBABILITY, TEST
from featcache.features import store

pytestmark = pytest.mark.slow
OPTIONS = {"jobs": 1, "tune": False}


@pytest.fixture
def networks(toy_network):
    return backbones.resolve_all([str(toy_network)])


def quantised(dataset, networks, **options):
    """Extracts in int8."""
    return extract(dataset, networks, precision="int8", batch_size=8, **options)[0]


def answers(dataset, run):
    """The images of the test set, and what the run says of them."""
    table = run.table[run.table["split"] == TEST]
    paths = dataset.ok.set_index("image_id").loc[table["image_id"], "path"]
    some = [
        Candidate(image_id, images.read((dataset.root / path).read_bytes()))
        for image_id, path in paths.items()
    ]
    return some, table[[PROBABILITY + name for name in run.classes]].to_numpy(float)


def test_a_run_that_uses_fewer_taps_than_were_extracted(
    dataset, networks, toy_network, tmp_path
):
    """Its model and its bundle say what the run says, by whichever taps it uses."""
    quantised(dataset, networks, taps="conv2d_1,conv2d", pooling="avg+max")
    source = ModelSource(dataset.folder, files=[toy_network])
    for number, taps in enumerate(({}, {"taps": "conv2d"}, {"taps": "all"})):
        reports = tmp_path / f"reports{number}"
        (run,) = train_flat(dataset, reports, heads=["logreg"], **OPTIONS, **taps).runs
        some, expected = answers(dataset, run)
        got = of_run(run, source).predict_proba(some)
        np.testing.assert_allclose(got, expected, atol=1e-5)
    made = tmp_path / "model.fcb"
    make_bundle(dataset, run, made, files=[toy_network])
    assert all(stage.passed for stage in verify(open_bundle(made)))


def test_more_rows_without_the_taps(dataset, networks):
    """The network of the store computes them, and is quantised once."""
    first = quantised(dataset, networks, views=0, pooling="avg+max")
    folder = dataset.folder.parent / "openvino"
    before = sorted(folder.iterdir())
    second = quantised(dataset, networks, views=1)
    assert (second.path, second.computed) == (first.path, len(dataset.ok))
    assert sorted(folder.iterdir()) == before
    assert store.open_store(second.path).read("features").shape[0] == second.rows


def test_other_poolings_are_refused_for_what_they_are(dataset, networks):
    """Nothing was lost: the network is another with them."""
    first = quantised(dataset, networks)
    content = first.path.read_bytes()
    with pytest.raises(StoreError, match=r"with these taps and poolings.*in one call"):
        quantised(dataset, networks, pooling="avg+grid2")
    assert first.path.read_bytes() == content
    shutil.rmtree(dataset.folder.parent / "openvino")
    with pytest.raises(StoreError, match="it was lost"):
        quantised(dataset, networks, pooling="avg+grid2")


def test_a_network_that_is_gone(dataset, networks, toy_network, tmp_path):
    """What the error says to do helps."""
    result = quantised(dataset, networks)
    (run,) = train_flat(dataset, tmp_path / "r", heads=["logreg"], **OPTIONS).runs
    shutil.rmtree(dataset.folder.parent / "openvino")
    assert quantised(dataset, networks).computed == 0  # so that alone does not help
    source = ModelSource(dataset.folder, files=[toy_network])
    some, expected = answers(dataset, run)
    with pytest.raises(StoreError, match=r"it is gone\. Move .* away") as told:
        of_run(run, source).predict_proba(some)
    assert str(result.path) in str(told.value)
    result.path.unlink()
    quantised(dataset, networks)
    got = of_run(run, source).predict_proba(some)
    np.testing.assert_allclose(got, expected, atol=1e-5)
