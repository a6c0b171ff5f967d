"""Rules of featcache.dataset.splits: where images are placed, and what is refused."""

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_rows import TEN, Rows, columns, datasets, rule, singles

from featcache.dataset import splits
from featcache.dataset.splits import TEST, Split
from featcache.errors import SplitError


def part_counts(rows: Rows, places: dict[str, int]) -> Counter[tuple[int, str]]:
    return Counter((places[image], label) for image, label, _ in rows)


@rule
@given(datasets(), st.integers(0, 99))
def test_parts(data: tuple[Rows, int, float], seed: int) -> None:
    """No group stands in two parts, and every part has every class."""
    rows, folds, test_size = data
    places = splits.assign_folds(
        *columns(rows), folds=folds, test_size=test_size, seed=seed
    )
    assert len({(group, places[image]) for image, _, group in rows}) == len(
        {group for _, _, group in rows}
    )
    parts = [TEST] * (test_size > 0) + list(range(folds))
    assert set(part_counts(rows, places)) == {
        (part, label) for part in parts for _, label, _ in rows
    }


@rule
@given(datasets(), st.randoms(use_true_random=False))
def test_row_order(data: tuple[Rows, int, float], random: Random) -> None:
    """The order of the rows changes no place."""
    rows, folds, test_size = data
    other = list(rows)
    random.shuffle(other)
    first = splits.assign_folds(*columns(rows), folds=folds, test_size=test_size)
    assert (
        splits.assign_folds(*columns(other), folds=folds, test_size=test_size) == first
    )


@rule
@given(datasets(), st.data())
def test_additions(data: tuple[Rows, int, float], draw: st.DataObject) -> None:
    """New images move nobody, and join their group where it stands."""
    rows, folds, test_size = data
    old = splits.assign_folds(*columns(rows), folds=folds, test_size=test_size)
    more = draw.draw(st.lists(st.sampled_from(["g0", "g1", "new1", "new2"])))
    grown = [*rows, *((f"more{n}", "A", group) for n, group in enumerate(more))]
    new = splits.assign_folds(
        *columns(grown), folds=folds, test_size=test_size, existing=old
    )
    assert old.items() <= new.items()
    assert len({(group, new[image]) for image, _, group in grown}) == len(
        {group for _, _, group in grown}
    )


@rule
@given(
    st.lists(st.integers(40, 90), min_size=2, max_size=4),
    st.integers(2, 6),
    st.sampled_from([0.0, 0.1, 0.2, 0.5]),
)
def test_balance(sizes: list[int], folds: int, test_size: float) -> None:
    """Without groups, every part is within one image of its share of every class."""
    rows = singles({f"c{i}-": size for i, size in enumerate(sizes)})
    places = splits.assign_folds(*columns(rows), folds=folds, test_size=test_size)
    totals = Counter(label for _, label, _ in rows)
    for (part, label), count in part_counts(rows, places).items():
        share = test_size if part == TEST else (1 - test_size) / folds
        assert abs(count - share * totals[label]) <= 1


def test_large_groups() -> None:
    """The test part gets its share of the large groups, not all of them."""
    rows = [
        (f"{label}{g}-{n}", label, f"{label}{g}")
        for label in "AB"
        for g in range(30)
        for n in range(10 if g < 15 else 1)
    ]
    places = splits.assign_folds(*columns(rows))
    large = Counter(places[f"{label}{g}-0"] for label in "AB" for g in range(15))
    assert large[TEST] == 6
    assert sorted(large.values()) == [4, 5, 5, 5, 5, 6]


def test_even_sizes() -> None:
    """What is left over of many small classes does not pile up in one fold."""
    rows = singles({f"c{i}-": 3 for i in range(10)})
    places = splits.assign_folds(*columns(rows), folds=2, test_size=0)
    assert Counter(places.values()) == {0: 15, 1: 15}


def test_seeds() -> None:
    """One seed gives one split for ever; another seed gives another."""
    rows = columns(singles({"A": 6, "B": 6}))
    first = splits.assign_folds(*rows, folds=2, test_size=0)
    assert [first[f"A{i}"] for i in range(6)] == [0, 1, 0, 1, 0, 1]
    assert splits.assign_folds(*rows, folds=2, test_size=0, seed=1) != first


def feasible(contents: list[set[str]], parts: int) -> bool:
    """Whether any placement gives every part every class, by trying all."""
    classes = set().union(*contents)

    def rest(index: int, held: tuple[frozenset[str], ...]) -> bool:
        if index == len(contents):
            return all(part == classes for part in held)
        options = {
            tuple(
                sorted(
                    (*held[:i], held[i] | contents[index], *held[i + 1 :]), key=sorted
                )
            )
            for i in range(parts)
        }
        return any(rest(index + 1, option) for option in options)

    return rest(0, (frozenset(),) * parts)


@pytest.mark.parametrize("case", range(40))
def test_tangled_groups(case: int) -> None:
    """Where groups of several classes allow full parts at all, they are found."""
    rng = np.random.default_rng(case)
    classes, parts = list("ABCD"), int(rng.integers(2, 5))
    contents = [set(rng.choice(classes, 2, replace=False)) for _ in range(8)]
    rows = [
        (f"i{g}{label}", label, f"g{g}")
        for g, content in enumerate(contents)
        for label in content
    ]
    try:
        splits.assign_folds(*columns(rows), folds=parts, test_size=0)
        found = True
    except SplitError:
        found = False
    assert found == feasible(contents, parts)


REFUSED = {
    "one class": (singles({"A": 9}), {}, "two classes.*1: A"),
    "few groups": (singles({"A": 9, "B": 4}), {}, "6 groups.*4 of class 'B'.*folds=3`"),
    "too few for a test part": (
        singles({"A": 9, "B": 2}),
        {},
        "2 of class 'B'.*`folds=2` and `test_size=0`",
    ),
    "a lone group": (singles({"A": 9, "B": 1}), {}, "1 of class 'B'.*leave the class"),
    "one fold": (TEN, {"folds": 1}, "2 folds.*got 1.*`folds=2`"),
    "a huge test part": (TEN, {"test_size": 0.95}, "0.9.*got 0.95.*`test_size=0.2`"),
    "a negative test part": (TEN, {"test_size": -0.1}, "got -0.1.*`test_size=0.2`"),
    "no test share": (TEN, {"test_size": float("nan")}, "got nan.*`test_size=0.2`"),
    "a negative seed": (TEN, {"seed": -1}, "got -1.*`seed=0`"),
    "an image twice": ([*TEN, TEN[0]], {}, r"21 images \(20 different\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    """What cannot be split is refused, with the flag that helps."""
    rows, arguments, message = REFUSED[case]
    with pytest.raises(SplitError, match=message):
        splits.assign_folds(*columns(rows), **arguments)


def test_incomplete_rows() -> None:
    """Unequal columns and missing labels or groups are refused."""
    ids, labels, groups = columns(TEN)
    with pytest.raises(SplitError, match=r"20 images.*19 labels"):
        splits.assign_folds(ids, labels[1:], groups)
    with pytest.raises(SplitError, match="1 image without"):
        splits.assign_folds(ids, labels, [None, *groups[1:]])


def test_known_group_in_two_parts() -> None:
    """A group whose known images stand apart is named, with the way out."""
    rows = [("A0", "A", "p"), ("A1", "A", "p"), *singles({"A": 9, "B": 9}, start=2)]
    known = {"A0": 1, "A1": TEST}
    with pytest.raises(SplitError, match=r"'p' in the test set and fold 1..*`seed`"):
        splits.assign_folds(*columns(rows), existing=known)


def test_known_place_outside() -> None:
    """A known place that the split does not have is refused."""
    with pytest.raises(SplitError, match="'A' in fold 7"):
        splits.assign_folds(*columns(TEN), existing={"A0": 7})


def test_check() -> None:
    """The guard accepts whole groups and names one that leaks, or a missing class."""
    labels, groups = list("ABAB"), ["p", "q", "r", "s"]
    splits.check([0, 0, 1, 1], labels, groups, folds=2, test_size=0)
    with pytest.raises(SplitError, match="'p' in fold 0 and fold 1"):
        splits.check([0, 0, 1, 1], labels, ["p", "q", "p", "s"], folds=2, test_size=0)
    with pytest.raises(SplitError, match="class 'B' not in fold 1"):
        splits.check([0, 0, 1, 0], labels, groups, folds=2, test_size=0)
    with pytest.raises(SplitError, match="class 'A' not in the test set"):
        splits.check([0, 0, 1, 1], labels, groups, folds=2, test_size=0.2)


def test_assert_disjoint() -> None:
    """A group on both sides of a fit is refused by name."""
    splits.assert_disjoint(["p", "q"], ["r"])
    splits.assert_disjoint([1, 2], [])
    with pytest.raises(SplitError, match="1 that are, such as 'q'"):
        splits.assert_disjoint(["p", "q"], np.array(["q", "r"]))


def test_split_lookup() -> None:
    """Places come in the order asked."""
    split = Split("s", 2, 0.2, 0, {"a": TEST, "b": 0, "c": 1})
    assert split.of(["c", "a"]).tolist() == [1, TEST]
    assert split.of(["c", "a"]).dtype == np.int64
    with pytest.raises(SplitError, match="1 missing, the first 'z'"):
        split.of(["a", "z"])
