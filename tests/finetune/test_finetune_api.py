"""``featcache.finetune``: the words of the command, in Python."""

from pathlib import Path

import pytest
from toy_training import QUICK

import featcache
from featcache.dataset.manifest import Manifest


@pytest.mark.slow
def test_a_network_is_fine_tuned_with_the_seed(
    dataset: Manifest, toy_network: Path, tmp_path: Path
) -> None:
    """It decides the run, the views and the split; the same call finds the run."""
    home = featcache.Dataset(dataset, tmp_path / "reports")
    options = {**QUICK, "fold": "test", "calibrate": False, "epochs": 1}
    (run,) = home.finetune(toy_network, seed=3, flip=False, **options)
    assert run.record.seed == 3
    assert run.record.policy["seed"] == 3
    assert run.record.policy["flip"] is False
    assert run.record.split.seed == 3
    assert run.folder.parents[2] == tmp_path / "reports"
    again = home.finetune(toy_network, seed=3, flip=False, **options)
    assert [one.run_id for one in again] == [run.run_id]
    assert not again.new_ids
    (other,) = home.finetune(toy_network, flip=False, **options)
    assert other.run_id != run.run_id
