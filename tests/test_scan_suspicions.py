"""What looks wrong in a source is told in one line, with what mends it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from toys import picture

from featcache.commands.scan import ScanResult, scan

Scan = Callable[..., ScanResult]


@pytest.fixture
def table(tmp_path: Path) -> Scan:
    """Scans a CSV of images with these labels and, if named, patients."""

    def call(
        labels: list[str], patients: list[str] | None = None, **options: object
    ) -> ScanResult:
        root = tmp_path / "s"
        root.mkdir()
        rows = ["path,label" + (",patient" if patients else "")]
        for i, label in enumerate(labels):
            picture(i, 100).save(root / f"{i}.png")
            more = f",{patients[i]}" if patients else ""
            rows.append(f'{i}.png,"{label}"{more}')
        (root / "t.csv").write_text("\n".join(rows), encoding="utf-8")
        by = "patient" if patients else "image"
        return scan(root / "t.csv", tmp_path / "c", **({"group_by": by} | options))

    return call


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("COVID", "covid"), ("A", "A\u200b"), ("0", "0.0"), ("ﬁ", "fi"),
        ("Pneumonía", "Pneumoni\u0301a"), ("viral pneumonia", "Viral  pneumonia"),
    ],
)  # fmt: skip
def test_labels_that_are_alike_are_told(table: Scan, one: str, other: str) -> None:
    """Spellings of one class are named; they stay two classes until mended."""
    result = table([one, other, "B", "C"] * 2)
    [warning] = result.warnings
    assert "differ only in their spelling" in warning
    assert ascii(one)[1:-1] in warning
    assert ascii(other)[1:-1] in warning
    assert len(result.counts) == 4


def test_labels_that_differ_are_not_told(table: Scan) -> None:
    """Another number or word is another class."""
    assert table(["1", "2", "10", "1.5", "A b", "Ab"] * 2).warnings == []


@pytest.mark.parametrize("missing", ["nan", "NaN", "None", "N/A"])
def test_a_missing_label_is_told(table: Scan, missing: str) -> None:
    """What programs write for no label is a class only with a warning."""
    [warning] = table(["A", "B", missing] * 2).warnings
    assert f"`exclude='label={missing}'`" in warning


def test_several_findings_are_told(table: Scan) -> None:
    """Each combination is a class; A|B and B|A are named as two of the same."""
    [warning] = table(["normal", "A|B", "B|A", "C|D"] * 2).warnings
    assert "3 labels hold several findings, joined by |" in warning
    assert "even A|B and B|A;" in warning


@pytest.mark.parametrize("mark", [";", ","])
def test_other_marks_join_findings_that_occur_elsewhere(table: Scan, mark: str) -> None:
    """A comma alone says nothing; that its parts are labels as well does."""
    [warning] = table(["A", "B", f"A{mark}B"] * 2).warnings
    assert f"1 label holds several findings, joined by {mark}" in warning


def test_a_comma_in_a_name_is_no_warning(table: Scan) -> None:
    """Its parts are no other labels."""
    assert table(["Pneumonia, viral", "Normal"] * 2).warnings == []


def test_a_class_of_one_is_told(table: Scan) -> None:
    """It can be in one part of a split only."""
    [warning] = table(["A", "A", "B", "B", "C"]).warnings
    assert warning.startswith("only one image of class C")
    assert "`exclude='label=C'`" in warning


def test_classes_called_train_and_test_are_told(table: Scan) -> None:
    """They are parts of a split far more often than classes."""
    [warning] = table(["train", "Testing"] * 2).warnings
    assert "look like the parts of a split" in warning


def test_groups_that_are_alike_are_told(table: Scan) -> None:
    """3 and 3.0, p007 and P007 may be one patient on both sides of a split."""
    patients = ["3", "3.0", "p007", "P007", "4", "5"]
    [warning] = table(["A", "B"] * 3, patients).warnings
    assert warning.startswith("2 groups are spelled in several ways")
    assert "'3' and '3.0', 'P007' and 'p007'" in warning


def test_one_group_for_all_is_told(table: Scan) -> None:
    """No split can be made of it, so another grouping is offered."""
    [warning] = table(["A", "B"] * 3, ["ANONYMOUS"] * 6).warnings
    assert "all 6 images are one group (by patient: group ANONYMOUS)" in warning
    assert "`group_by='image'`" in warning


def test_a_large_group_is_told(table: Scan) -> None:
    """More than a third of the images are hardly one patient."""
    patients = ["x"] * 5 + [f"p{i}" for i in range(7)]
    [warning] = table(["A", "B"] * 6, patients).warnings
    assert warning.startswith("group x has 5 of 12 images (42 %)")


@pytest.mark.parametrize("missing", ["nan", "None", "<NA>"])
def test_a_missing_group_is_a_group_alone(table: Scan, missing: str) -> None:
    """All images without a patient are not one huge patient."""
    result = table(["A", "B"] * 3, [missing] * 4 + ["p1", "p1"])
    assert result.n_groups == 5
    assert result.warnings == [
        f"4 files have no group ({missing} counts as none); each becomes a group of "
        "its own"
    ]
