"""Rules of what a bundle keeps of a refusal: arrays and a record, and no trust."""

import copy
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from toy_refusal import fit, training_set

from featcache.deploy.refusal import Refusal
from featcache.errors import RunError

DATA = training_set(count=60) | {"headers": [{"modality": "CT"}] * 60}
REFUSAL = fit(DATA, share=0.1)


def through_files(refusal: Refusal) -> tuple[Any, dict[str, np.ndarray]]:
    """Record and arrays as a file gives them back."""
    record, arrays = refusal.to_arrays()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    buffer.seek(0)
    return json.loads(json.dumps(record)), dict(np.load(buffer, allow_pickle=False))


def test_written_and_read_it_says_the_same() -> None:
    """Scores, thresholds, reasons and neighbours are those of what was fitted."""
    again = Refusal.from_arrays(*through_files(REFUSAL))
    rows = DATA["X"] * 1.3, DATA["statistics"], DATA["headers"]
    first, second = REFUSAL.score(*rows), again.score(*rows)
    assert again.calibration == REFUSAL.calibration
    assert again.facts == {"modality": "CT"}
    assert first.refused.any()
    assert first.reasons == second.reasons
    assert first.similar == second.similar
    for name, values in first.scores.items():
        assert np.array_equal(values, second.scores[name])


Change = Callable[[Any, dict[str, Any]], Any]


@pytest.mark.parametrize(
    "change",
    [
        lambda r, a: r.pop("facts"),
        lambda r, a: r.update(more=1),
        lambda r, a: r.update(version=2),
        lambda r, a: r.update(statistics_version=2),
        lambda r, a: r.update(facts={"patient": "x"}),
        lambda r, a: r.update(facts={"view": 1}),
        lambda r, a: r.update(facts=["view"]),
        lambda r, a: r["ids"].pop(),
        lambda r, a: r.update(ids="a" * 60),
        lambda r, a: r.update(ids=["a" * 2000] * 60),
        lambda r, a: r.update(labels=[1] * 60),
        lambda r, a: r.update(calibration=None),
        lambda r, a: r["calibration"].update(share=float("nan")),
        lambda r, a: r["calibration"].update(share="0.01"),
        lambda r, a: r["calibration"].update(groups=1.5),
        lambda r, a: r["calibration"].update(groups=10**400),
        lambda r, a: r["calibration"].update(groups=True),
        lambda r, a: r["calibration"]["thresholds"].update(statistics=float("inf")),
        lambda r, a: r["calibration"]["thresholds"].update(statistics=-1),
        lambda r, a: r["calibration"]["thresholds"].update(statistics=None),
        lambda r, a: r["calibration"]["thresholds"].pop("neighbours"),
        lambda r, a: a.pop("mean"),
        lambda r, a: a.update(more=np.zeros(3)),
        lambda r, a: a.update(mean=a["mean"].astype(object)),
        lambda r, a: a.update(mean=a["mean"].tolist()),
        lambda r, a: a.update(mean=a["mean"][:-1]),
        lambda r, a: a["mean"].fill(np.nan),
        lambda r, a: a["variances"].fill(0),
        lambda r, a: a.update(variances=a["variances"][1:]),
        lambda r, a: a.update(directions=a["directions"] * 2),
        lambda r, a: a.update(directions=np.repeat(a["directions"], 9, axis=0)),
        lambda r, a: a.update(directions=a["directions"][:0]),
        lambda r, a: a.update(reference=a["reference"][:, :-1]),
        lambda r, a: a.update(reference=a["reference"] * np.float16(3)),
        lambda r, a: a.update(reference=a["reference"][:-1]),
        lambda r, a: a.update(reference=np.repeat(a["reference"], 100, axis=0)),
        lambda r, a: a.update(rule_ranges=a["rule_ranges"][::-1].copy()),
        lambda r, a: a.update(rule_thumb=a["rule_thumb"] * 2),
        lambda r, a: a.update(rule_thumb=a["rule_thumb"].reshape(16, 16)),
    ],
)
def test_what_was_edited_is_refused(change: Change) -> None:
    """Any key, type, shape or value that was not written is an error of ours."""
    record, arrays = copy.deepcopy(through_files(REFUSAL))
    change(record, arrays)
    with pytest.raises(RunError, match="as they were written"):
        Refusal.from_arrays(record, arrays)


@pytest.mark.parametrize("record", [None, [], "record", 3, {}])
def test_what_is_no_record_is_refused(record: object) -> None:
    """Neither text nor lists are taken for a record."""
    with pytest.raises(RunError, match="as they were written"):
        Refusal.from_arrays(record, REFUSAL.to_arrays()[1])
