"""``audit --complete`` where the best run is, or has, a fine-tuned network."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from toys import Heard

from featcache.commands.audit import audit
from featcache.commands.ensemble import ensemble
from featcache.commands.finetune import FinetuneResult
from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import RING
from featcache.evaluation import runs
from featcache.evaluation.runs import Run
from featcache.study import completion

pytestmark = pytest.mark.slow


@pytest.fixture
def completed(
    dataset: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Run], list[str]]:
    """Completes the audit of a run, the only one; gives what was said of fine-tuning.

    In a copy of the cache, as features are added to it.
    """
    monkeypatch.setattr(completion, "ON_BASELINES", ("logreg",))

    def call(best: Run) -> list[str]:
        told: list[str] = []
        folder = tmp_path / "cache" / dataset.dataset
        shutil.copytree(dataset.folder, folder)
        copy, reports = replace(dataset, folder=folder), tmp_path / "reports"
        completion.complete(copy, reports, jobs=1, reporter=Heard(told))
        assert audit(copy, reports).run_id == best.run_id
        return [line for line in told if "fine-tuned" in line]

    return call


def made(best: Run) -> list[tuple[str, str]]:
    """Of the runs beside it, the backbones and what they were shown of the images."""
    kept = [run.record for run in runs.list_runs(best.folder.parents[1])[0]]
    blocks = [block for record in kept for block in record.features]
    shown = [(block.backbone, block.image_region.kind) for block in blocks]
    return sorted(pair for pair in shown if pair != ("toynet", "whole"))


BASELINES = [("border", "whole"), ("metadata", "whole"), ("pixels48", "whole")]


def test_a_fine_tuned_run_is_left_out(
    tune: Callable[..., FinetuneResult], completed: Callable[[Run], list[str]]
) -> None:
    """It is said once; the baselines are trained, and the audit is written."""
    (best,) = tune(calibrate=False).runs
    (line,) = completed(best)
    assert "toynet" in line
    assert best.run_id in line
    assert made(best) == BASELINES


def test_of_an_ensemble_the_frozen_network_is_covered(
    tune: Callable[..., FinetuneResult],
    cached: Callable[..., Run],
    completed: Callable[[Run], list[str]],
    tmp_path: Path,
    dataset: Manifest,
) -> None:
    """Its fine-tuned member alone is left out."""
    members = cached("logreg"), *tune(calibrate=False).runs
    reports = tmp_path / "reports" / dataset.dataset
    names = [member.run_id for member in members]
    (best,) = ensemble(reports, names, weights="equal").runs
    for member in members:
        shutil.rmtree(member.folder)  # else one of them may be the best
    assert len(completed(best)) == 1
    assert made(best) == [*BASELINES, ("toynet", RING)]
