"""Validation: labels are mapped, not guessed; what was in training is left out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from records import CLASSES
from toy_external import predictions
from toys import make_dataset

from featcache.cli import output
from featcache.cli.validation_tables import print_validation
from featcache.commands.scan import scan
from featcache.commands.validate import Answers, Validation, validate
from featcache.core.progress import Reporter
from featcache.dataset.manifest import Manifest
from featcache.dataset.perceptual_hashes import (
    BITS,
    BYTES,
    FARTHEST,
    nearest,
    perceptual_hash,
    read_hashes,
)
from featcache.dataset.phantom import CLASSES as PHANTOMS
from featcache.dataset.phantom import draw
from featcache.errors import DatasetError, UnknownNameError, UsageError
from featcache.evaluation.external import OwnImages
from featcache.evaluation.operating_points import OperatingPoint, operating_points
from featcache.evaluation.runs import Predictions
from featcache.report import validation_blocks
from featcache.report.validation_rows import notes, point_rows


@dataclass
class ToyModel:
    """A model that is right in about two images of three."""

    classes: Sequence[str] = tuple(CLASSES)
    training_ids: frozenset[str] = frozenset()
    other_ids: frozenset[str] | None = frozenset()
    training_hashes: Mapping[str, np.ndarray] = field(default_factory=dict)
    training_shares: Sequence[float] = (0.5, 0.3, 0.2)
    internal: Predictions | None = None
    points: Sequence[OperatingPoint] = ()
    n_unreadable: int = 0
    refuses: int | None = 0

    def score(self, manifest: Manifest, *, reporter: Reporter) -> Answers:
        """Probabilities about the true class; the first images are not read."""
        table = manifest.ok.iloc[self.n_unreadable :]
        y = [CLASSES.index(CLASSES[0] if label == "covid" else label)
             for label in table["label"]]  # fmt: skip
        p = np.random.default_rng(0).dirichlet(np.ones(3), size=len(y))
        p = (p + np.eye(3)[y]) / 2
        of = None if self.refuses is None else np.arange(len(y)) < self.refuses
        return Answers(table["image_id"].tolist(), p, of)


def with_internal(**settings: object) -> ToyModel:
    """The same with out-of-fold predictions and operating points."""
    data = predictions(0, 60)
    points = operating_points(data.y, data.p, data.groups, data.groups % 5, CLASSES)
    return ToyModel(internal=data, points=points.points, **settings)  # type: ignore[arg-type]


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    """Images of patients with two images each, without files."""
    return make_dataset(tmp_path)


@pytest.fixture
def scanned(image_folder: Path, tmp_path: Path) -> Manifest:
    """36 real files of 18 patients."""
    return scan(image_folder, tmp_path / "cache", group_by=r"(p\d+)").manifest


def test_keys(dataset: Manifest) -> None:
    """The record is JSON with a column each, and every figure has its interval."""
    result = validate(with_internal(refuses=6), dataset, by=["ward"])
    record = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert set(record) == {
        "dataset", "group_by", "classes", "mapping", "n", "n_groups",
        "images_sha256", "unreadable",
        "excluded_overlap", "own", "as_found", "prevalence_corrected", "recalibrated",
        "difference", "subgroups", "refused_share", "without_refused",
    }  # fmt: skip
    assert (record["n"], record["excluded_overlap"]["n"]) == (len(dataset.ok), 0)
    assert {"value", "low", "high"} <= set(record["as_found"]["accuracy"])
    assert record["refused_share"]["value"] == pytest.approx(6 / record["n"])
    assert record["without_refused"]["n"] == record["n"] - 6
    assert set(record["difference"]["auc"]) >= {"value", "low", "high"}
    (ward,) = record["subgroups"]
    assert ward["levels"][-1]["value"] in ("(empty)", "(other)")
    estimated = record["prevalence_corrected"]["estimated"]
    assert sum(one["value"] for one in estimated.values()) == pytest.approx(1)
    assert record["recalibrated"]["scores"]["n"] == record["n"]


def test_columns_are_not_mixed(dataset: Manifest) -> None:
    """As found is what the model says; no other column changes it."""
    one = validate(ToyModel(training_shares=(0.8, 0.1, 0.1)), dataset)
    other = validate(ToyModel(), dataset)
    assert one.as_found == other.as_found
    assert one.prevalence_corrected.scores != other.prevalence_corrected.scores
    assert one.difference == {}


def renamed(dataset: Manifest, label: str, name: str) -> Manifest:
    table = dataset.table.copy()
    table["label"] = table["label"].replace(label, name)
    return replace(dataset, table=table)


def test_mapping(dataset: Manifest) -> None:
    """A label that is mapped counts as its class."""
    other = renamed(dataset, CLASSES[0], "covid")
    mapped = validate(ToyModel(), other, mapping={"covid": CLASSES[0]})
    assert mapped.mapping == {"covid": CLASSES[0]}
    assert mapped.as_found == validate(ToyModel(), dataset).as_found


@pytest.mark.parametrize(
    ("name", "mapping", "error", "text"),
    [
        ("covid", {}, DatasetError, "Did you mean `mapping='covid=COVID'`?"),
        ("Covid ", {}, DatasetError, "Did you mean `mapping='Covid =COVID'`?"),
        ("fracture", {}, DatasetError, "`exclude='label=fracture'`"),
        ("COVID", {"covid": "COVID"}, UnknownNameError, "Did you mean COVID?"),
        ("x", {"x": "Covid"}, UnknownNameError, "Did you mean COVID?"),
    ],
)
def test_labels_are_not_guessed(
    dataset: Manifest,
    name: str,
    mapping: dict[str, str],
    error: type[Exception],
    text: str,
) -> None:
    """A label that is no class is an error that offers the nearest."""
    with pytest.raises(error) as info:
        validate(ToyModel(), renamed(dataset, "COVID", name), mapping=mapping)
    assert text in str(info.value)


def test_unknown_column(dataset: Manifest) -> None:
    """A column that is not there is an error that offers the nearest."""
    with pytest.raises(DatasetError, match="Did you mean ward"):
        validate(ToyModel(), dataset, by=["Ward"])


def test_planted_overlap(scanned: Manifest, tmp_path: Path) -> None:
    """Same bytes, a near-duplicate, and the images of both patients are left out."""
    table = scanned.ok
    same, near = table.iloc[0], table.iloc[20]
    picture = Image.open(scanned.root / near["path"]).resize((80, 64))
    picture.point(lambda grey: grey * 0.9 + 10).save(tmp_path / "other.png")
    (known,) = read_hashes(tmp_path, ["other.png"])
    model = ToyModel(
        training_ids=frozenset([same["image_id"], "0" * 64]),
        training_hashes={"0" * 64: known},
    )
    result = validate(model, scanned)
    overlap = result.excluded_overlap
    counts = (overlap.identical, overlap.near_duplicates, overlap.same_group)
    assert (overlap.n, counts) == (4, (1, 1, 2))
    assert overlap.near_duplicates_checked
    assert (result.n, result.n_groups) == (len(table) - 4, 16)
    by_id = {image.image_id: image for image in overlap.images}
    assert by_id[same["image_id"]].training_id == same["image_id"]
    assert by_id[near["image_id"]].training_id == "0" * 64
    assert by_id[near["image_id"]].bits <= FARTHEST
    groups = table.set_index("image_id").loc[list(by_id), "group"]
    assert set(groups) == {same["group"], near["group"]}


def test_images_of_the_own_dataset_are_counted(dataset: Manifest) -> None:
    """With their groups; a validation on more of them than half is internal."""
    ids, n = dataset.ok["image_id"].tolist(), len(dataset.ok)

    def validated(other_ids: frozenset[str] | None, trained: int = 0) -> Validation:
        known = frozenset(ids[:trained])
        return validate(ToyModel(training_ids=known, other_ids=other_ids), dataset)

    one = validated(frozenset(ids[:1]))
    assert one.own == OwnImages(identical=1, same_group=1)
    assert one.is_external
    assert f"2 of the {n} images are of the model's own dataset" in one.own_in_words
    assert "internal" not in one.own_in_words
    most = validated(frozenset(ids[: n // 2 + 7]), trained=4)
    assert not most.is_external
    assert "this validation is internal" in most.own_in_words
    none = validated(frozenset(["f" * 64]))
    assert (none.is_external, none.own_in_words) == (True, "")


def test_without_ids_of_the_own_dataset_the_overlap_tells(dataset: Manifest) -> None:
    """Where more was in training than is left, the rest is hardly from elsewhere."""
    ids, n = dataset.ok["image_id"].tolist(), len(dataset.ok)
    for trained, is_external in ((2, True), (n // 2 + 4, False)):
        known = frozenset(ids[:trained])
        result = validate(ToyModel(training_ids=known, other_ids=None), dataset)
        assert (result.own, result.is_external) == (None, is_external)
        assert ("is internal" in result.own_in_words) == (not is_external)
        assert result.own_in_words.startswith("It is not known whether")


def test_every_image_was_in_training(dataset: Manifest) -> None:
    """Nothing left to score is an error, as is nothing that can be read."""
    ids = frozenset(dataset.ok["image_id"])
    with pytest.raises(DatasetError, match="was in training"):
        validate(ToyModel(training_ids=ids), dataset)
    with pytest.raises(DatasetError, match="can be read"):
        validate(ToyModel(n_unreadable=len(ids)), dataset)
    result = validate(ToyModel(n_unreadable=2), dataset)
    assert (result.unreadable, result.n) == (2, len(ids) - 2)
    assert not result.excluded_overlap.near_duplicates_checked


@pytest.mark.parametrize("case", ["one class", "no groups", "three images"])
def test_poor_sets(dataset: Manifest, case: str) -> None:
    """One class, one group or three images are answered, with widths or reasons."""
    table = dataset.table.copy()
    if case == "one class":
        table = table[table["label"] == CLASSES[0]]
    elif case == "no groups":
        table["group"] = "all"
    else:
        table = table.iloc[[0, 2, 4]]
    poor = replace(dataset, table=table.reset_index(drop=True))
    result = validate(with_internal(refuses=1), poor, by=["ward"])
    assert isinstance(result, Validation)
    json.dumps(result.to_json(), allow_nan=False)
    assert result.recalibrated.scores is None
    assert result.recalibrated.reason
    assert result.as_found.accuracy.known


def test_nearest_by_hand() -> None:
    """The fewest different bits; what has no hash is near to none."""
    reference = np.zeros((3, BYTES), np.uint8)
    reference[1], reference[2] = 0b10101010, 0b11110000
    hashes = np.stack([reference[2], reference[1], reference[0]])
    hashes[1, :2] ^= 0b00000111
    rows, bits = nearest(hashes, reference)
    assert rows.tolist() == [2, 1, -1]
    assert bits.tolist() == [0, 6, BITS]
    assert nearest(hashes, reference[:0])[0].tolist() == [-1] * 3


def test_nearest_equals_brute_force() -> None:
    """Up to 64 different bits none is missed, and of level ones the first is meant."""
    rng = np.random.default_rng(0)
    reference = rng.integers(256, size=(400, BYTES), dtype=np.uint8)
    reference[200:210] = reference[:10]
    flips = np.arange(300)[:, None] > 2 * rng.permuted(
        np.tile(np.arange(BITS), (300, 1)), axis=1
    )
    hashes = np.packbits(np.unpackbits(reference[:300], axis=1) ^ flips, axis=1)
    apart = np.bitwise_count(hashes[:, None] ^ reference).sum(axis=2, dtype=int)
    rows, bits = nearest(hashes, reference)
    near = apart.min(axis=1) <= FARTHEST
    assert 0 < near.sum() < len(hashes)
    assert rows.tolist() == np.where(near, apart.argmin(axis=1), -1).tolist()
    assert bits.tolist() == np.where(near, apart.min(axis=1), BITS).tolist()


def test_the_same_picture_is_known_by_its_hash(tmp_path: Path) -> None:
    """In another format, size and brightness; other chests and flat ones are not."""
    chests = [draw(PHANTOMS[n % 3], patient=n).image for n in range(12)]
    for number, chest in enumerate(chests):
        picture = Image.fromarray(chest)
        picture.save(tmp_path / f"{number}.png")
        small = picture.resize((200, 200)).point(lambda grey: grey * 0.8 + 20)
        small.save(tmp_path / f"{number}.jpg", quality=70)
    n = len(chests)
    own = read_hashes(tmp_path, [f"{i}.png" for i in range(n)])
    again = read_hashes(tmp_path, [f"{i}.jpg" for i in range(n)])
    rows, bits = nearest(again, own)
    assert rows.tolist() == list(range(n))
    assert bits.max() <= FARTHEST
    for i in range(n):
        assert nearest(own[i : i + 1], np.delete(own, i, axis=0))[0] == -1
    assert not perceptual_hash(Image.new("L", (64, 64), 7)).any()
    assert not read_hashes(tmp_path, ["none.png"]).any()


def test_tables(dataset: Manifest, capsys: pytest.CaptureFixture[str]) -> None:
    """The terminal shows the three columns side by side, and what was left out."""
    ids = frozenset(dataset.ok["image_id"][:1])
    model = with_internal(refuses=2, training_ids=ids)
    print_validation(validate(model, dataset, by=["ward"]))
    out = capsys.readouterr().out
    for text in (
        "left out: 1 in training, 1 in the group",
        "near-duplicates were not looked for, because the training images could not",
        "as found",
        "prevalence corrected", "recalibrated", "calibration slope",
        "COVID against the rest", "COVID at the frozen operating points",
        "heterogeneity", "Share refused: ", "within 5 points",
    ):  # fmt: skip
        assert text in out
    poor = replace(dataset, table=dataset.table.iloc[[4, 6]].reset_index(drop=True))
    print_validation(validate(ToyModel(), poor))
    out = capsys.readouterr().out
    assert "n/a" in out
    assert "Recalibration is not applicable: " in out
    assert "nan" not in out


def test_tables_on_a_narrow_terminal(
    dataset: Manifest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At 80 columns the three columns are side by side, and no number is folded."""
    model = with_internal(refuses=2, training_shares=(0.98, 0.01, 0.01))
    result = validate(model, dataset, by=["ward"])
    for width in (80, 120):
        monkeypatch.setattr(output, "terminal_width", lambda width=width: width)
        print_validation(result)
        lines = capsys.readouterr().out.splitlines()
        notes = next(i for i, line in enumerate(lines) if line.startswith("Recalibr"))
        assert max(map(len, lines[1:notes])) <= width
        heads = [line for line in lines if "recalibrated" in line and "found" in line]
        assert len(heads) == 1 + len(result.as_found.per_class)
        row = next(line for line in lines if line.startswith(" balanced accuracy  "))
        assert row.count("(") == row.count(")") == (3 if width == 80 else 4)
        assert all(line.count("(") == line.count(")") for line in lines[1:notes])


def test_files(dataset: Manifest, tmp_path: Path) -> None:
    """JSON as it is printed, a row a figure, or the tables; all by the ending."""
    result = validate(with_internal(), dataset, by=["ward"])
    for ending in validation_blocks.FORMATS:
        path = tmp_path / f"result{ending}"
        validation_blocks.check_file(path, force=False)
        validation_blocks.write(result, path)
        with pytest.raises(UsageError, match="exists"):
            validation_blocks.check_file(path, force=False)
        validation_blocks.check_file(path, force=True)
    for name in ("result.txt", "no/result.json"):
        with pytest.raises(UsageError, match=r"\.json, \.csv"):
            validation_blocks.check_file(tmp_path / name, force=True)
    assert json.loads((tmp_path / "result.json").read_text()) == result.to_json()
    table = pd.read_csv(tmp_path / "result.csv")
    accuracy = result.as_found.accuracy
    row = table.query("row == 'accuracy' and column == 'as found'").iloc[0]
    assert (row["value"], row["low"]) == pytest.approx((accuracy.value, accuracy.low))
    assert set(table["table"]) == {b.title for b in validation_blocks.blocks(result)}
    text = (tmp_path / "result.md").read_text()
    assert f"| accuracy | {accuracy} |" in text
    assert "- Share refused: " in text


def test_notes_on_recalibration(dataset: Manifest) -> None:
    """They name the method, or say that none is an improvement."""
    result = validate(ToyModel(), dataset)
    for method, text in (("sigmoid", "Recalibrated by sigmoid on the other of 5 folds"),
                         ("none", "no method is an improvement")):  # fmt: skip
        recalibrated = replace(result.recalibrated, method=method, folds=5)
        lines = notes(replace(result, recalibrated=recalibrated))
        assert any(text in line for line in lines)


def test_operating_points_are_in_the_order_of_the_classes(dataset: Manifest) -> None:
    """Those of a class stand together."""
    result = validate(with_internal(), dataset)
    points = result.as_found.points
    mixed = replace(result.as_found, points=[*points[::2], *points[1::2]])
    rows = point_rows(replace(result, as_found=mixed))
    names = [row.class_name for row in rows]
    assert names == sorted(names, key=CLASSES.index)
    assert len(names) == len(points)


def test_without_a_rule_no_share_is_refused(dataset: Manifest) -> None:
    """It is not known what would be, which is not the same as none."""
    result = validate(ToyModel(refuses=None), dataset)
    assert (result.refused_share.known, result.without_refused) == (False, None)
    assert "Share refused: n/a (no rule at hand)." in notes(result)
    assert validate(ToyModel(), dataset).refused_share.value == 0
