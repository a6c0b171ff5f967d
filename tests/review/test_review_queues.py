"""Queues: the right images in the right order, or what is missing for them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_review import FOLDS, IDS, WRONG, Y, add_audit, add_run
from toys import CLASSES, header, write_store

from featcache.commands import review
from featcache.commands.review import QUEUES, queue_of
from featcache.commands.review.informative import informative
from featcache.core.command_lines import OPTIONS
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest
from featcache.deploy.refusal import COLUMNS, held_out_reasons
from featcache.errors import DatasetError, FeatcacheError, RunError


def ids(dataset: Manifest, reports: Path, queue: str, **keywords: int) -> list[int]:
    """The numbers of a queue's images."""
    items = queue_of(dataset, reports, queue=queue, **keywords).items
    return [IDS.index(item.image_id) for item in items]


def suspects(*rows: tuple[int, str]) -> pd.DataFrame:
    """FC040.csv: numbers and labels."""
    return pd.DataFrame(
        {
            "image_id": [IDS[n] for n, _ in rows],
            "path": "x.png",
            "label": [label for _, label in rows],
            "suggested": "NORMAL",
            "probability": 0.125,
            "confident": True,
        }
    )


def test_errors_are_out_of_fold_and_surest_first(
    chest: Manifest, reports: Path
) -> None:
    """Wrong predictions by their probability; the test set is not looked at."""
    add_run(chest, reports)
    assert all(FOLDS[row] >= 0 for row in WRONG)
    assert ids(chest, reports, "errors") == [6, 7, 12]
    first = queue_of(chest, reports, queue="errors", limit=1)
    assert (len(first.items), first.total) == (1, 3)
    assert "probability of 0.900" in first.items[0].reason


def test_errors_are_of_labels_as_they_are(chest: Manifest, reports: Path) -> None:
    """A label that was put right since is no error any more."""
    add_run(chest, reports)
    chest.table.loc[6, "label"] = CLASSES[(Y[6] + 1) % 3]
    assert ids(chest, reports, "errors") == [7, 12]


def test_images_that_are_gone_are_in_no_queue(chest: Manifest, reports: Path) -> None:
    """After a scan of fewer files a run's predictions of the others do not count."""
    add_run(chest, reports)
    fewer = replace(chest, table=chest.table.drop(index=[6]).reset_index(drop=True))
    assert ids(fewer, reports, "errors") == [7, 12]


def test_labels_are_those_of_the_audit(chest: Manifest, reports: Path) -> None:
    """FC040 in its order, but for images that are gone or have another label now."""
    label = [CLASSES[Y[n]] for n in (9, 3, 5)]
    rows = suspects((9, label[0]), (3, label[1]), (5, "other"))
    gone = suspects((1, "COVID")).assign(image_id="f" * 64)
    add_audit(chest, reports, "FC040", pd.concat([rows, gone]))
    assert ids(chest, reports, "labels") == [9, 3]
    (item, _) = queue_of(chest, reports, queue="labels").items
    assert "confidently predicts NORMAL" in item.reason
    assert "0.125" in item.reason


def test_duplicates_are_both_of_each_pair(chest: Manifest, reports: Path) -> None:
    """Near-duplicates with different labels, each image once; others are left out."""
    pairs = [(0, 2), (2, 4), (6, 7)]
    table = pd.DataFrame(
        [
            {f"{name}_{side}": value[n] for side, n in zip("ab", pair, strict=True)
             for name, value in (("image_id", IDS), ("label", chest.table["label"]))}
            for pair in pairs
        ]
    )  # fmt: skip
    add_audit(chest, reports, "FC002", table)
    assert ids(chest, reports, "duplicates") == [0, 2, 4]


def test_random_is_a_control(chest: Manifest, reports: Path) -> None:
    """All images, in an order that the seed decides and the manifest does not."""
    first = ids(chest, reports, "random", limit=90)
    assert sorted(first) == list(range(90))
    other = replace(chest, table=chest.table.iloc[::-1].reset_index(drop=True))
    assert ids(other, reports, "random", limit=90) == first
    assert ids(chest, reports, "random", limit=90, seed=1) != first


def test_queues_on_features(chest: Manifest, reports: Path) -> None:
    """Most informative images are of train, each once, the least sure one first."""
    path = write_store(chest, header())
    add_run(chest, reports, store=path.name)
    rows = ids(chest, reports, "informative", limit=10)
    assert len(set(rows)) == 10
    assert all(FOLDS[row] >= 0 for row in rows)
    assert rows[0] in WRONG


def test_informative_is_uncertain_and_unlike() -> None:
    """Of images that the model is unsure of, two that are alike are not both taken."""
    X = np.array([[4, 0], [4, 0], [-4, 3], [4, 0.1], [0, -3]], np.float32)
    P = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.9, 0.1], [1, 0]])
    rows = informative(X, P, 3, 0).tolist()
    assert rows[0] == 2
    assert rows[1] in (0, 1)
    assert rows[2] == 3  # neither the copy nor what is certain
    assert sorted(informative(X, P, 99, 0)) == [0, 1, 2, 3, 4]
    assert informative(X[:0], P[:0], 3, 0).tolist() == []


def test_refused_is_unlike_the_other_folds() -> None:
    """A row that is far from all others is refused first, and told why."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(np.float32) + 3
    X[7] *= -50
    statistics = rng.normal(100, 1, (60, len(COLUMNS)))
    statistics[:, 8:] = np.abs(statistics[:, 8:])
    groups, folds = np.arange(60), np.arange(60) % 3
    order, reasons = held_out_reasons(
        X, statistics, groups, groups % 2, folds, share=0.2
    )
    assert order[0] == 7
    assert "distance" in reasons[7]
    assert all(bool(reason) == (n in order) for n, reason in enumerate(reasons))


@pytest.mark.parametrize("queue", [*QUEUES])
def test_what_a_queue_lacks(chest: Manifest, reports: Path, queue: str) -> None:
    """Without runs, audit and features a queue names the command that makes them."""
    if queue == "random":
        assert queue_of(chest, reports, queue=queue).items
        return
    with pytest.raises(RunError) as caught:
        queue_of(chest, reports, queue=queue)
    assert any(f"featcache {name} --dataset chest" in str(caught.value)
               for name in OPTIONS)  # fmt: skip


def test_refused_images_that_are_gone(chest: Manifest, reports: Path) -> None:
    """Files that cannot be measured are named, with the command that scans again."""
    add_run(chest, reports, store=write_store(chest, header()).name)
    with pytest.raises(RunError, match="featcache scan"):
        queue_of(chest, reports, queue="refused")


@pytest.mark.parametrize("queue", ["refused", "informative"])
def test_a_run_without_features(chest: Manifest, reports: Path, queue: str) -> None:
    """Features that are gone are named, with the command that extracts them."""
    add_run(chest, reports)
    with pytest.raises(RunError, match="featcache extract --dataset chest -b toy"):
        queue_of(chest, reports, queue=queue)


def test_an_empty_queue_says_so(chest: Manifest, reports: Path) -> None:
    """An audit that had nothing to report leaves an empty queue, and no error of it."""
    add_audit(chest, reports, "FC040", None)
    with pytest.raises(RunError, match="queue labels of chest is empty"):
        queue_of(chest, reports, queue="labels")


@pytest.mark.parametrize(
    ("keywords", "text"),
    [({"limit": 0}, "limit"), ({"seed": -1}, "seed"), ({"queue": "lables"}, "labels")],
)
def test_arguments_that_cannot_be(
    chest: Manifest, reports: Path, keywords: dict[str, object], text: str
) -> None:
    """A limit, a seed and the name of a queue are checked."""
    with pytest.raises(FeatcacheError, match=text):
        queue_of(chest, reports, **({"queue": "random"} | keywords))  # type: ignore[arg-type]


def test_one_class_leaves_nothing_to_answer(chest: Manifest, reports: Path) -> None:
    """A dataset of one class is refused."""
    chest.table["label"] = "COVID"
    manifest.save(chest)
    with pytest.raises(DatasetError, match="at least two classes"):
        queue_of(chest, reports, queue="random")


def test_rows_of_the_audit_edited_by_hand(chest: Manifest, reports: Path) -> None:
    """Rows without our columns, or with a probability that is none, are refused."""
    for rows in (
        pd.DataFrame({"a": [1]}),
        suspects((3, "COVID")).assign(probability="x"),
    ):
        add_audit(chest, reports, "FC040", rows)
        with pytest.raises(DatasetError, match="FC040"):
            queue_of(chest, reports, queue="labels")


def test_a_damaged_audit_is_none(chest: Manifest, reports: Path) -> None:
    """An audit.json that is none of ours asks for an audit."""
    add_audit(chest, reports, "FC040", suspects((3, "COVID")))
    (reports / "chest" / "audit.json").write_text("[]")
    with pytest.raises(RunError, match="featcache audit"):
        review.queue_of(chest, reports)
