"""Applying answers: by the rule alone, with the old manifest kept, and for good."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from records import make_run
from toy_review import FOLDS, IDS, Y, add_run, final, line, write
from toys import CLASSES, header, make_dataset, train_flat, write_store

from featcache.commands.review import apply, status
from featcache.commands.review import decisions as log
from featcache.commands.review.decisions import SKIP
from featcache.commands.scan import scan
from featcache.dataset import corrections, manifest
from featcache.dataset.manifest import Manifest
from featcache.errors import DatasetError, RunError, UsageError
from featcache.evaluation import runs
from featcache.evaluation.metrics import cohen_kappa
from featcache.study.retraining import retrain

COVID, NORMAL, OTHER = CLASSES


def labels(dataset: Manifest) -> list[str]:
    """The labels on disk."""
    return manifest.load(dataset.folder).table["label"].tolist()


@pytest.fixture
def read(chest: Manifest) -> Manifest:
    """Two readers agree on 0 and 3, not on 1; one alone has answered 2; 0 is COVID."""
    write(
        chest,
        *(line(reader, 0, NORMAL) for reader in ("ann", "bob")),
        *(line(reader, 3, NORMAL) for reader in ("ann", "bob")),
        line("ann", 1, NORMAL),
        line("bob", 1, COVID),
        line("ann", 2, OTHER),
        line("cyn", 5, "", event=SKIP),
    )
    return chest


def test_agree(read: Manifest, reports: Path) -> None:
    """A label changes where two readers say the same; where they do not, it stays."""
    before = labels(read)
    assert (before[0], before[1], before[2], before[3]) == (
        COVID,
        COVID,
        NORMAL,
        NORMAL,
    )
    applied = apply(read, reports, rule="agree")
    after = labels(read)
    assert [n for n in range(90) if before[n] != after[n]] == [0]
    assert [(c.path, c.before, c.after, c.readers) for c in applied.changes] == [
        ("0.png", COVID, NORMAL, ["ann", "bob"])
    ]
    assert applied.confirmed == 1
    assert {one.path: one.why for one in applied.open} == {
        "1.png": f"ann: {NORMAL}; bob: {COVID}",
        "2.png": "only ann has answered",
    }


def test_majority(read: Manifest, reports: Path) -> None:
    """More than half of at least two decide; half do not."""
    write(read, line("cyn", 1, NORMAL))
    write(read, line("ann", 6, NORMAL), line("bob", 6, COVID))
    applied = apply(read, reports, rule="majority")
    assert [change.path for change in applied.changes] == ["0.png", "1.png"]
    assert [one.path for one in applied.open] == ["2.png", "6.png"]


def test_one_reader(read: Manifest, reports: Path) -> None:
    """The answer after the reveal counts, where there is one."""
    write(read, final("ann", 2, COVID, OTHER))
    applied = apply(read, reports, rule="reader:ann")
    assert {c.path: c.after for c in applied.changes} == {
        "0.png": NORMAL, "1.png": NORMAL, "2.png": COVID,
    }  # fmt: skip


@pytest.mark.parametrize("rule", ["reader:zoe", "reader:", "all", ""])
def test_rules_that_are_none(read: Manifest, reports: Path, rule: str) -> None:
    """An unknown reader or rule is refused with what there is; nothing is written."""
    before = labels(read)
    with pytest.raises(UsageError, match="ann, bob" if ":" in rule else "majority"):
        apply(read, reports, rule=rule)
    assert labels(read) == before


def test_the_old_manifest_is_kept(read: Manifest, reports: Path) -> None:
    """Every manifest that was replaced stays, with what was changed, and why."""
    old = (read.folder / "manifest.csv").read_bytes()
    run = add_run(read, reports)
    assert apply(read, reports, rule="agree").version == 1
    assert (read.folder / "manifests" / "0001.csv").read_bytes() == old
    assert apply(read, reports, rule="agree").version is None  # nothing is left to do
    assert apply(read, reports, rule="reader:ann").version == 2
    first, second = corrections.versions(read.folder)
    assert (first.rule, first.run_id, len(first.changes)) == ("agree", run.run_id, 1)
    assert (second.number, len(second.changes)) == (2, 2)


def test_a_dry_run_writes_nothing(read: Manifest, reports: Path) -> None:
    """It says what would be changed."""
    files = sorted(read.folder.iterdir())
    assert len(apply(read, reports, rule="agree", dry_run=True).changes) == 1
    assert sorted(read.folder.iterdir()) == files


def test_images_that_are_gone(read: Manifest, reports: Path) -> None:
    """After a scan of other files apply refuses, unless it is told to go on."""
    manifest.save(replace(read, table=read.table.iloc[1:].reset_index(drop=True)))
    with pytest.raises(DatasetError, match="scanned again"):
        apply(read, reports, rule="reader:ann")
    applied = apply(read, reports, rule="reader:ann", ignore_gone=True)
    assert applied.gone == [IDS[0]]
    assert [change.path for change in applied.changes] == ["1.png", "2.png"]


def test_an_answer_that_is_no_class(read: Manifest, reports: Path) -> None:
    """A class that was typed by hand is not applied, and is listed."""
    write(read, line("ann", 8, "flu"))
    applied = apply(read, reports, rule="reader:ann")
    (one,) = applied.open
    assert one.path == "8.png"
    assert "'flu' is no class" in one.why


def test_one_class_must_not_be_left(tmp_path: Path, reports: Path) -> None:
    """Answers that leave a single class are refused."""
    small = make_dataset(tmp_path, 4)
    write(small, line("ann", 2, COVID), line("ann", 3, COVID))
    with pytest.raises(DatasetError, match="two classes"):
        apply(small, reports, rule="reader:ann")


def test_corrections_survive_a_scan(
    dataset: Manifest, reports: Path, image_folder: Path
) -> None:
    """A scan keeps corrected labels, unless the source itself was changed since."""
    first, second = dataset.ok["image_id"].iloc[[0, 1]]
    write(dataset, line("ann", 0, NORMAL, image_id=first),
          line("ann", 0, NORMAL, image_id=second))  # fmt: skip
    apply(dataset, reports, rule="reader:ann")
    again = scan(image_folder, dataset.folder.parent, dataset=dataset.dataset)
    assert again.manifest.table["label"].iloc[:2].tolist() == [NORMAL, NORMAL]
    assert not again.changed
    assert any("2 labels as corrected by review" in text for text in again.warnings)
    # Put right in the source, to something else.
    path = image_folder / dataset.ok["path"].iloc[0]
    path.rename(image_folder / OTHER / path.name)
    again = scan(image_folder, dataset.folder.parent, dataset=dataset.dataset)
    now = again.manifest.table.set_index("image_id")["label"]
    assert (now[first], now[second]) == (OTHER, NORMAL)
    assert any("new label in the source" in text for text in again.warnings)
    (dataset.folder / "corrections.csv").unlink()
    again = scan(image_folder, dataset.folder.parent, dataset=dataset.dataset)
    assert again.manifest.table.set_index("image_id")["label"][second] == COVID


def first_as_normal(dataset: Manifest, reports: Path, root: Path) -> tuple[str, Path]:
    """The id and the file of the first image, which a review has made NORMAL."""
    image = str(dataset.ok["image_id"].iloc[0])
    write(dataset, line("ann", 0, NORMAL, image_id=image))
    apply(dataset, reports, rule="reader:ann")
    return image, root / dataset.ok["path"].iloc[0]


@pytest.mark.parametrize(
    ("source", "answer"),
    [(NORMAL, OTHER), (NORMAL, COVID), (OTHER, NORMAL), (OTHER, COVID)],
)
def test_a_review_of_a_label_that_the_source_changed_survives_a_scan(
    dataset: Manifest, reports: Path, image_folder: Path, source: str, answer: str
) -> None:
    """COVID became NORMAL by review, then another in the source; a reader answers."""
    cache, name = dataset.folder.parent, dataset.dataset
    image, path = first_as_normal(dataset, reports, image_folder)
    path.rename(image_folder / source / path.name)
    warnings = scan(image_folder, cache, dataset=name).warnings
    assert any("new label" in text for text in warnings) == (source != NORMAL)
    write(dataset, line("bob", 0, answer, image_id=image))
    apply(manifest.load(dataset.folder), reports, rule="reader:bob")
    again = scan(image_folder, cache, dataset=name)
    assert again.manifest.table.set_index("image_id")["label"][image] == answer
    assert corrections.read(dataset.folder) == {image: (source, answer)}
    assert not any("new label" in text for text in again.warnings)


def test_corrections_of_images_that_are_not_listed_are_kept(
    dataset: Manifest, reports: Path, image_folder: Path
) -> None:
    """An image that is away for one scan comes back with its corrected label."""
    cache, name = dataset.folder.parent, dataset.dataset
    image, path = first_as_normal(dataset, reports, image_folder)
    away = path.rename(image_folder.parent / path.name)
    assert image not in set(
        scan(image_folder, cache, dataset=name).manifest.ok["image_id"]
    )
    away.rename(path)
    again = scan(image_folder, cache, dataset=name)
    assert again.manifest.table.set_index("image_id")["label"][image] == NORMAL


def test_a_correction_can_be_taken_back(read: Manifest, reports: Path) -> None:
    """A label that is that of the source again is no correction any more."""
    apply(read, reports, rule="agree")
    assert corrections.read(read.folder) == {IDS[0]: (COVID, NORMAL)}
    write(read, *(line(reader, 0, COVID) for reader in ("ann", "bob")))
    apply(read, reports, rule="agree")
    assert corrections.read(read.folder) == {}
    assert labels(read)[0] == COVID


def test_corrections_edited_by_hand(read: Manifest, reports: Path) -> None:
    """A file that is none of ours stops apply before anything is replaced."""
    (read.folder / "corrections.csv").write_text("image_id,label\na,b\n")
    before = labels(read)
    with pytest.raises(DatasetError, match=r"corrections\.csv"):
        apply(read, reports, rule="agree")
    assert labels(read) == before


def test_copies_of_an_image_are_corrected_with_it(
    read: Manifest, reports: Path
) -> None:
    """A file with the same bytes gets the same label, and no second change."""
    copy = read.table.iloc[[0]].assign(path="copy.png", status="duplicate")
    manifest.save(replace(read, table=pd.concat([read.table, copy], ignore_index=True)))
    applied = apply(read, reports, rule="agree")
    assert len(applied.changes) == 1
    assert labels(read)[-1] == NORMAL


def test_status(read: Manifest) -> None:
    """Counts are by reader and queue; agreement is of the answers before the reveal."""
    write(read, final("bob", 1, NORMAL, COVID))
    write(read, final("cyn", 0, NORMAL, ""))  # given with the model in sight
    found = status(read)
    counts = {c.reader: c for c in found.counts}
    assert (counts["ann"].answered, counts["cyn"].skipped) == (4, 1)
    assert counts["cyn"].answered == 1
    assert (counts["bob"].changed, counts["bob"].contradicted) == (1, 2)
    kappas = {one.readers: one.kappa for one in found.agreements}
    kappa = kappas["ann", "bob"]
    assert kappa
    assert (kappa.images, kappa.observed) == (3, pytest.approx(2 / 3))
    assert kappas["ann", "cyn"] is None


def test_kappa_by_hand() -> None:
    """20 both yes, 15 both no, 5 and 10 of each: observed 0.7, by chance 0.5."""
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10
    a, b = zip(*[*pairs, *[("no", "no")] * 15], strict=True)
    kappa = cohen_kappa(a, b, np.arange(50))
    assert kappa.value == pytest.approx(0.4)
    assert kappa.interval[0] < 0.4 < kappa.interval[1]
    whole = cohen_kappa(a, b, np.zeros(50))
    assert np.isnan(whole.interval).all()


def test_kappa_at_its_ends() -> None:
    """Full agreement has an interval with a length; one answer alone has no kappa."""
    same = cohen_kappa(["a", "b"] * 20, ["a", "b"] * 20, np.arange(40))
    assert same.value == 1
    assert 0.5 < same.interval[0] < 1
    assert same.interval[1] == pytest.approx(1)
    alone = cohen_kappa(["a"] * 9, ["a"] * 9, np.arange(9))
    assert np.isnan(alone.value)
    assert alone.observed == 1


def test_retrain(chest: Manifest, reports: Path) -> None:
    """The same recipe on the new labels, judged by these as the old run is."""
    write_store(chest, header())
    (old,) = train_flat(chest, reports, heads=["logreg"], test_size=0, folds=3,
                        views=0, tune=False, jobs=1).runs  # fmt: skip
    with pytest.raises(RunError, match="featcache review apply"):
        retrain(chest, reports, jobs=1)
    write(chest, *(line("ann", n, CLASSES[(Y[n] + 1) % 3]) for n in (0, 1, 2)))
    apply(chest, reports, rule="reader:ann")
    fresh = manifest.load(chest.folder)
    result = retrain(fresh, reports, jobs=1)
    assert result.before.run_id == old.run_id
    assert result.after.record.recipe_id == old.record.recipe_id
    assert result.is_new
    (part,) = result.parts
    assert (part.part, part.images, part.relabelled) == ("train", 90, 3)
    assert part.before_old == pytest.approx(old.record.scores["train"]["accuracy"])
    new = result.after.record.scores["train"]["accuracy"]
    assert part.after == pytest.approx(new)
    assert part.difference == pytest.approx(part.after - part.before)
    assert part.low <= part.difference <= part.high
    assert not retrain(fresh, reports, jobs=1).is_new


def test_retrain_needs_a_head_on_features(chest: Manifest, reports: Path) -> None:
    """A run without stores is refused by name."""
    p = np.full((90, 3), 1 / 3)
    table = runs.predictions_table(chest.ok, FOLDS, p, [*CLASSES])
    make_run(reports / "chest", "mean-toy-0000000002", table, members=["a"],
             member_weights={"train": [1.0]})  # fmt: skip
    write(chest, line("ann", 0, NORMAL))
    apply(chest, reports, rule="reader:ann")
    with pytest.raises(RunError, match="mean-toy"):
        retrain(manifest.load(chest.folder), reports)


def test_answers_outlive_the_dataset(read: Manifest, tmp_path: Path) -> None:
    """A folder that is copied takes its answers along."""
    shutil.copytree(read.folder, tmp_path / "cache" / "copy")
    assert log.read(tmp_path / "cache" / "copy").readers == ["ann", "bob", "cyn"]
