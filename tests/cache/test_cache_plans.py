"""Plans that are done or outdated go; those that somebody may work on stay."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from toys import picture

from featcache import backbones
from featcache.commands.cache import prune
from featcache.commands.extract import (
    compute_parts,
    extract,
    idle_plans,
    plan_parts,
    publish_parts,
    publishing,
    stale,
)
from featcache.commands.scan import scan
from featcache.core import checked
from featcache.dataset.manifest import Manifest
from featcache.errors import ContractError, StoreError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def planned(dataset: Manifest) -> Path:
    """A plan of one baseline in 4 parts."""
    networks = backbones.resolve_all(["border"])
    path = plan_parts(dataset, networks, parts=4, batch_size=4).path
    assert path
    return path


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing counts as used just now."""
    monkeypatch.setattr(stale, "IDLE_SECONDS", -1)


def states(dataset: Manifest) -> list[tuple[str, bool]]:
    """What is said of each idle plan, and whether it can go."""
    return [
        (plan.reason, plan.remove is not None) for plan in idle_plans(dataset.folder)
    ]


def test_a_plan_that_waits_for_its_parts_stays(
    dataset: Manifest, planned: Path, idle: None
) -> None:
    """It can still be computed, however old it is."""
    compute_parts(dataset, [1])
    assert states(dataset) == []


def test_a_plan_whose_rows_are_in_the_stores_goes(
    dataset: Manifest, planned: Path, idle: None, run: Run
) -> None:
    """An undivided call has computed them; first shown, then done."""
    compute_parts(dataset, [1])
    extract(dataset, backbones.resolve_all(["border"]))
    code, out, _ = run("cache", "prune", "--json")
    (shown,) = json.loads(out)["removals"]
    assert (code, shown["kind"], Path(shown["path"]).name) == (0, "plan", planned.name)
    assert "all in the stores" in shown["what"]
    assert shown["before"] > 1000
    assert planned.exists()
    assert "Freed" in run("cache", "prune", "--yes")[1]
    assert not planned.parent.exists()


def test_images_without_rows_do_not_keep_a_plan(
    dataset: Manifest,
    planned: Path,
    idle: None,
    image_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A publication that was killed at its end, of parts with an unreadable image."""
    (image_folder / "COVID" / "p000_COVID (1).png").write_bytes(b"no image")
    compute_parts(dataset, range(4))
    monkeypatch.setattr(publishing, "remove", None)
    with pytest.raises(TypeError):
        publish_parts(dataset, max_bad=1)
    assert states(dataset) == [("a plan whose rows are all in the stores", True)]


def test_a_plan_of_other_images_goes_but_not_what_was_computed(
    dataset: Manifest, planned: Path, idle: None, image_folder: Path, run: Run
) -> None:
    """Computed parts can be published, and the line says how; then nothing is left."""
    picture(999, 50).save(image_folder / "COVID" / "new.png")
    grown = scan(image_folder, dataset.folder.parent).manifest
    ((reason, is_stale),) = states(grown)
    assert is_stale
    assert "its images have changed" in reason
    compute_parts(dataset, [2])
    _, out, err = run("cache", "prune", "--yes")
    command = f"featcache extract --dataset chest --publish --plan {planned.name}"
    assert "1 part can be published" in " ".join((out + err).split())
    assert command in " ".join((out + err).split())
    assert planned.exists()
    publish_parts(grown)
    assert states(grown) == []


def test_a_plan_of_another_network_goes(
    dataset: Manifest, planned: Path, idle: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts can be neither finished nor published, but all of them could."""

    def refuse(*arguments: object) -> None:
        raise ContractError("border as in plan", "another decoder", "Plan again.")

    monkeypatch.setattr(stale, "refuse_other_networks", refuse)
    ((reason, is_stale),) = states(dataset)
    assert (is_stale, "another decoder" in reason) == (True, True)
    monkeypatch.undo()
    compute_parts(dataset, range(4))
    monkeypatch.setattr(stale, "IDLE_SECONDS", -1)
    monkeypatch.setattr(stale, "refuse_other_networks", refuse)
    ((reason, is_stale),) = states(dataset)
    assert (is_stale, "4 parts can be published" in reason) == (False, True)


@pytest.mark.parametrize("ahead", [0, 3600])
def test_a_plan_that_was_written_to_within_a_day_is_in_use(
    dataset: Manifest, planned: Path, ahead: int
) -> None:
    """One new file of a part keeps it, also where its clock is ahead of ours."""
    extract(dataset, backbones.resolve_all(["border"]))
    old, now = time.time() - 2 * stale.IDLE_SECONDS, time.time() + ahead
    for path in [planned, *planned.rglob("*")]:
        os.utime(path, (old, old))
    (plan,) = idle_plans(dataset.folder)
    (planned / "reference" / "x").touch()
    os.utime(planned / "reference" / "x", (now, now))
    assert states(dataset) == []
    assert plan.remove
    with pytest.raises(StoreError, match="in nobody's use"):
        plan.remove()


def test_what_is_not_ours_stays(dataset: Manifest, planned: Path, idle: None) -> None:
    """Other folders, links, and plans that cannot be read; leftovers go."""
    record = checked.read_record(planned / "plan.json")
    checked.write_record(planned / "plan.json", record | {"schema": 99})
    plans = planned.parent
    (plans / "notes").mkdir()
    (plans / ("a" * 12)).symlink_to(planned)
    (plans / ".new.123_0a1b2c3d_x.tmp").mkdir()
    (plans / f".{planned.name}.123_0a1b2c3d_done.old").mkdir()
    pruned = prune(dataset.folder.parent, Path("reports"), yes=True, plans=idle_plans)
    assert [removal.kind for removal in pruned.removals] == ["plan", "plan"]
    assert len(pruned.excluded) == 1
    assert "schema 99, not 1" in pruned.excluded[0]
    names = sorted(path.name for path in plans.iterdir())
    assert names == sorted([planned.name, "notes", "a" * 12])
