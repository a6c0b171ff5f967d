"""A scheduler of one's own: plan, compute and publish from Python."""

import pickle

import pytest

import featcache
from featcache.commands.extract import computing
from featcache.errors import StoreError

WORDS = {"views": 1, "seed": 3, "batch_size": 8}


def test_parts_give_the_store_of_extract(dataset, tmp_path, monkeypatch):
    """A plan goes to workers as a pickle; each opens its networks once."""
    openings = []
    inner = computing.with_engines
    monkeypatch.setattr(
        computing, "with_engines", lambda *a: openings.append(a) or inner(*a)
    )
    plan = featcache.plan_parts(dataset, ["border", "metadata"], parts=4, **WORDS)
    assert (plan.parts, sum(plan.rows.values())) == (4, 2 * 72)
    assert plan.missing == [0, 1, 2, 3]
    rows = [
        featcache.compute_part(pickle.loads(pickle.dumps(plan)), part).rows
        for part in (2, 0)
    ]
    assert sum(rows) < 144
    assert len(openings) == 1
    assert plan.missing == [1, 3]
    assert featcache.compute_part(plan, 2) is None
    with pytest.raises(StoreError, match="--array=1,3,"):
        featcache.publish_parts(plan)
    for part in plan.missing:
        featcache.compute_part(plan, part)
    stores = featcache.publish_parts(plan)
    assert [store.rows for store in stores] == [72, 72]
    again = featcache.extract(dataset, ["border", "metadata"], **WORDS)
    assert [store.computed for store in again] == [0, 0]
    with pytest.raises(StoreError, match="a plan of parts"):
        _ = plan.missing


def test_where_nothing_is_missing_there_is_nothing_to_do(dataset):
    """A loop over the parts of an empty plan does nothing, and neither does the end."""
    featcache.extract(dataset, "border")
    plan = featcache.plan_parts(dataset, "border", part_rows=100)
    assert (plan.name, plan.parts, plan.rows, plan.missing) == ("", 0, {}, [])
    assert featcache.publish_parts(plan) == []


def test_an_unknown_argument_is_refused(dataset):
    """Before anything is planned; options of a call that computes mean nothing."""
    with pytest.raises(TypeError, match="argument 'view'"):
        featcache.plan_parts(dataset, "border", parts=2, view=3)
    with pytest.raises(TypeError, match="argument 'on'"):
        featcache.plan_parts(dataset, "border", parts=2, on="dask")
