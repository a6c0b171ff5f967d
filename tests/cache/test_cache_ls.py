"""Stores are listed, found and told of, the damaged ones too."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from test_store import HEADER, damage_keys, fill, keys, rows
from toy_stores import FOLDER, ONE, PATH, REPORTS, Run, images, record, with_views

from featcache.commands import cache
from featcache.errors import StoreError
from featcache.features import store


def test_ls_tells_what_a_store_holds(run: Run) -> None:
    """Rows, images, views, width, runs and waiting parts are counted."""
    with_views(3, ONE)
    store.seal(PATH, HEADER, {"features": rows(3, 1)}, keys(3, 1))
    record("logreg-toy-1")
    (entry,) = json.loads(run("cache", "ls", "--json")[1])
    expected = {
        "dataset": "toy", "store": PATH.name, "status": "ok", "backbone": "toy",
        "weights": "random", "input_size": 32, "dtype": "float32", "rows": 6,
        "images": 3, "views": 1, "dim": 5, "taps": [], "parts": 1, "locked_by": "",
        "runs": ["logreg-toy-1"],
    }  # fmt: skip
    assert entry | expected == entry
    code, out, _ = run("cache", "ls")
    assert (code, "toy (random)" in out, "Stores: 1" in out) == (0, True, True)


def test_ls_of_a_dataset_leaves_the_others_out() -> None:
    """With a name, only that dataset's stores are listed."""
    images(0)
    fill(PATH, (0, 1))
    fill(Path("cache/other/features") / PATH.name, (0, 1))
    assert [e.dataset for e in cache.ls(Path("cache"), REPORTS)] == ["other", "toy"]
    assert len(cache.ls(Path("cache"), REPORTS, dataset="toy")) == 1


def test_ls_lists_what_is_damaged(run: Run) -> None:
    """A damaged store is a line with the reason, never an error."""
    fill(PATH, (0, 3))
    damage_keys(PATH)
    code, out, _ = run("cache", "ls")
    assert code == 0
    assert "damaged: keys with another checksum" in out


def test_ls_lists_what_is_not_published_yet() -> None:
    """Sealed parts without a store wait for the next extract; they are no rows."""
    store.seal(PATH, HEADER, {"features": rows(0, 2)}, keys(0, 2))
    (entry,) = cache.ls(Path("cache"), REPORTS)
    assert (entry.status, entry.rows, entry.parts) == ("waiting", 0, 1)
    assert entry.backbone == "toy"


def test_ls_tells_the_living_from_the_dead() -> None:
    """A lock says who holds it while it is held, and nobody after a crash."""
    fill(PATH, (0, 1))
    with store.writing(PATH):
        (entry,) = cache.ls(Path("cache"), REPORTS)
        assert f"pid {os.getpid()} on" in entry.locked_by
    PATH.with_suffix(".lock").write_text("pid 1 on nowhere")
    (entry,) = cache.ls(Path("cache"), REPORTS)
    assert entry.locked_by == ""


def test_an_empty_cache_lists_nothing(run: Run) -> None:
    """No store is no error; stderr says how to make one."""
    assert run("cache", "ls", "--json")[:2] == (0, "[]\n")
    code, out, err = run("cache", "ls")
    assert (code, out, "featcache extract" in err) == (0, "", True)


def test_a_store_is_found_by_what_only_it_has() -> None:
    """Path, file name or a unique part will do; others are named."""
    fill(PATH, (0, 1))
    other = fill(FOLDER / "toy-file-12345678.h5", (0, 1)).path
    for reference in (str(PATH), PATH.name, PATH.stem, "random"):
        assert cache.find(Path("cache"), reference) == PATH
    assert cache.find(Path("cache"), "toy-file") == other
    with pytest.raises(
        StoreError, match=r"'toy-', which matches 2 of 2 stores: toy/fea"
    ):
        cache.find(Path("cache"), "toy-")
    with pytest.raises(StoreError, match="none of 2"):
        cache.find(Path("cache"), "vgg")


def test_info_tells_all(run: Run) -> None:
    """Contract, policies, notes, rows by view, taps, coverage and runs."""
    images(1, 2, 3)
    header = replace(HEADER, policies=[ONE], notes={"drift": {"mean_cosine": 0.99}})
    both = {"features": rows(0, 2), "fire4:max": rows(0, 2)[:, :2]}
    store.seal(PATH, header, both, keys(0, 2))
    store.seal(PATH, header, {"features": rows(2, 1)}, keys(2, 1))
    store.seal(PATH, header, {"features": rows(0, 1)}, keys(0, 1, view=1, policy=0))
    store.publish(PATH, header)
    record("logreg-toy-1")
    found = json.loads(run("cache", "info", "toy", "--json")[1])
    assert found["contract"] == HEADER.contract.to_json()
    assert found["contract_id"] == HEADER.contract_id
    assert found["rows_by_view"] == [
        {"policy": -1, "view": 0, "rows": 3},
        {"policy": 0, "view": 1, "rows": 1},
    ]
    assert found["filled"] == [{"layer": "fire4:max", "dim": 2, "rows": 2}]
    assert found["coverage"] == {"with_rows": 2, "without_rows": 1, "left_over": 2}
    assert found["runs"] == ["logreg-toy-1"]
    code, out, _ = run("cache", "info", "toy")
    assert code == 0
    for text in ("contract: input_size", "mean_cosine 0.99", "fire4:max", "logreg-toy"):
        assert text in out


def test_info_without_a_manifest(run: Run) -> None:
    """A store alone is shown; its coverage is unknown."""
    fill(PATH, (0, 1))
    assert json.loads(run("cache", "info", str(PATH), "--json")[1])["coverage"] is None
    assert "no manifest next to it" in run("cache", "info", str(PATH))[1]
