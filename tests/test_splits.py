"""Rules of featcache.splits."""

import json
from collections import Counter
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache import splits
from featcache.errors import SplitError
from featcache.splits import TEST, Split

rule = settings(max_examples=60, deadline=None, derandomize=True, database=None)

Rows = list[tuple[str, str, str]]  # (image_id, label, group)


def columns(rows: Rows) -> tuple[list[str], list[str], list[str]]:
    ids, labels, groups = zip(*rows, strict=True)
    return list(ids), list(labels), list(groups)


def singles(per_class: dict[str, int], start: int = 0) -> Rows:
    """Images that are each a group of their own."""
    return [
        (f"{label}{i}", label, f"g-{label}{i}")
        for label, count in per_class.items()
        for i in range(start, start + count)
    ]


@st.composite
def datasets(draw: st.DrawFn) -> tuple[Rows, int, float]:
    """Groups of 1 to 5 images, some of several classes; folds; test share."""
    folds = draw(st.integers(2, 4))
    test_size = draw(st.sampled_from([0.0, 0.02, 0.2, 0.6]))
    classes = "ABC"[: draw(st.integers(2, 3))]
    label = st.sampled_from(classes)
    mixed = draw(st.lists(st.lists(label, min_size=1, max_size=4), max_size=8))
    pure = [
        [name] * draw(st.integers(1, 5))
        for name in classes
        for _ in range(folds + (test_size > 0) + draw(st.integers(0, 4)))
    ]
    rows = [
        (f"i{g}-{n}", name, f"g{g}")
        for g, group in enumerate(pure + mixed)
        for n, name in enumerate(group)
    ]
    return rows, folds, test_size


def part_counts(rows: Rows, places: dict[str, int]) -> Counter[tuple[int, str]]:
    return Counter((places[image], label) for image, label, _ in rows)


@rule
@given(datasets(), st.integers(0, 99))
def test_parts(data: tuple[Rows, int, float], seed: int) -> None:
    """No group stands in two parts, and every part has every class."""
    rows, folds, test_size = data
    places = splits.place(*columns(rows), folds=folds, test_size=test_size, seed=seed)
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
    first = splits.place(*columns(rows), folds=folds, test_size=test_size)
    assert splits.place(*columns(other), folds=folds, test_size=test_size) == first


@rule
@given(datasets(), st.data())
def test_additions(data: tuple[Rows, int, float], draw: st.DataObject) -> None:
    """New images move nobody, and join their group where it stands."""
    rows, folds, test_size = data
    old = splits.place(*columns(rows), folds=folds, test_size=test_size)
    more = draw.draw(st.lists(st.sampled_from(["g0", "g1", "new1", "new2"])))
    grown = [*rows, *((f"more{n}", "A", group) for n, group in enumerate(more))]
    new = splits.place(*columns(grown), folds=folds, test_size=test_size, known=old)
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
    places = splits.place(*columns(rows), folds=folds, test_size=test_size)
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
    places = splits.place(*columns(rows))
    large = Counter(places[f"{label}{g}-0"] for label in "AB" for g in range(15))
    assert large[TEST] == 6
    assert sorted(large.values()) == [4, 5, 5, 5, 5, 6]


def test_even_sizes() -> None:
    """What is left over of many small classes does not pile up in one fold."""
    rows = singles({f"c{i}-": 3 for i in range(10)})
    places = splits.place(*columns(rows), folds=2, test_size=0)
    assert Counter(places.values()) == {0: 15, 1: 15}


def test_seeds() -> None:
    """One seed gives one split for ever; another seed gives another."""
    rows = columns(singles({"A": 6, "B": 6}))
    first = splits.place(*rows, folds=2, test_size=0)
    assert [first[f"A{i}"] for i in range(6)] == [0, 1, 0, 1, 0, 1]
    assert splits.place(*rows, folds=2, test_size=0, seed=1) != first


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
        splits.place(*columns(rows), folds=parts, test_size=0)
        found = True
    except SplitError:
        found = False
    assert found == feasible(contents, parts)


TEN = singles({"A": 10, "B": 10})
REFUSED = {
    "one class": (singles({"A": 9}), {}, "two classes.*1: A"),
    "few groups": (singles({"A": 9, "B": 4}), {}, "6 groups.*4 of class 'B'.*folds 3 "),
    "too few for a test part": (
        singles({"A": 9, "B": 2}),
        {},
        "2 of class 'B'.*--folds 2 --test-size 0",
    ),
    "a lone group": (singles({"A": 9, "B": 1}), {}, "1 of class 'B'.*leave the class"),
    "one fold": (TEN, {"folds": 1}, "2 folds.*got 1.*--folds"),
    "a huge test part": (TEN, {"test_size": 0.95}, "0.9.*got 0.95.*--test-size"),
    "a negative test part": (TEN, {"test_size": -0.1}, "got -0.1.*--test-size"),
    "no test share": (TEN, {"test_size": float("nan")}, "got nan.*--test-size"),
    "a negative seed": (TEN, {"seed": -1}, "got -1.*--seed"),
    "an image twice": ([*TEN, TEN[0]], {}, r"21 images \(20 different\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    """What cannot be split is refused, with the flag that helps."""
    rows, arguments, message = REFUSED[case]
    with pytest.raises(SplitError, match=message):
        splits.place(*columns(rows), **arguments)


def test_incomplete_rows() -> None:
    """Unequal columns and missing labels or groups are refused."""
    ids, labels, groups = columns(TEN)
    with pytest.raises(SplitError, match=r"20 images.*19 labels"):
        splits.place(ids, labels[1:], groups)
    with pytest.raises(SplitError, match="1 images without"):
        splits.place(ids, labels, [None, *groups[1:]])


def test_known_group_in_two_parts() -> None:
    """A group whose known images stand apart is named, with the way out."""
    rows = [("A0", "A", "p"), ("A1", "A", "p"), *singles({"A": 9, "B": 9}, start=2)]
    known = {"A0": 1, "A1": TEST}
    with pytest.raises(SplitError, match=r"'p' in the test part and fold 1.*--seed"):
        splits.place(*columns(rows), known=known)


def test_known_place_outside() -> None:
    """A known place that the split does not have is refused."""
    with pytest.raises(SplitError, match="'A' in fold 7"):
        splits.place(*columns(TEN), known={"A0": 7})


def test_check() -> None:
    """The guard accepts whole groups and names one that leaks, or a missing class."""
    labels, groups = list("ABAB"), ["p", "q", "r", "s"]
    splits.check([0, 0, 1, 1], labels, groups, folds=2, test_size=0)
    with pytest.raises(SplitError, match="'p' in fold 0 and fold 1"):
        splits.check([0, 0, 1, 1], labels, ["p", "q", "p", "s"], folds=2, test_size=0)
    with pytest.raises(SplitError, match="class 'B' not in fold 1"):
        splits.check([0, 0, 1, 0], labels, groups, folds=2, test_size=0)
    with pytest.raises(SplitError, match="class 'A' not in the test part"):
        splits.check([0, 0, 1, 1], labels, groups, folds=2, test_size=0.2)


def test_assert_disjoint() -> None:
    """A group on both sides of a fit is refused by name."""
    splits.assert_disjoint(["p", "q"], ["r"])
    splits.assert_disjoint([1, 2], [])
    with pytest.raises(SplitError, match="1 shared, such as 'q'"):
        splits.assert_disjoint(["p", "q"], np.array(["q", "r"]))


def load(path: Path, rows: Rows, **arguments: object) -> Split:
    chosen = {"name": "default", "folds": 2, **arguments}
    return splits.load_or_make(path, *columns(rows), **chosen)


def test_file(tmp_path: Path) -> None:
    """The file holds what made the split, and loads as the same split."""
    path = tmp_path / "splits-default.json"
    made = load(path, TEN, seed=3)
    stored = json.loads(path.read_text())
    assert list(stored["images"]) == sorted(stored["images"])
    assert stored == {
        "schema": 1,
        "name": "default",
        "folds": 2,
        "test_size": 0.2,
        "seed": 3,
        "images": made.places,
    }
    assert load(path, TEN, seed=3) == made
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_file_grows(tmp_path: Path) -> None:
    """New images are added; without any the file is left alone, also for a subset."""
    path = tmp_path / "splits-default.json"
    first = load(path, TEN)
    stamp = path.stat().st_mtime_ns
    assert load(path, TEN[1:]).places == first.places
    assert path.stat().st_mtime_ns == stamp
    grown = load(path, [*TEN[1:], *singles({"C": 3})])
    assert first.places.items() <= grown.places.items()
    assert {grown.places[f"C{i}"] for i in range(3)} == {TEST, 0, 1}
    assert load(path, TEN).places == grown.places


def test_file_with_new_grouping(tmp_path: Path) -> None:
    """A stored split is refused once a group has come to stand in two parts."""
    path = tmp_path / "splits-default.json"
    load(path, TEN)
    merged = [(image, label, "one") for image, label, _ in TEN]
    with pytest.raises(SplitError, match="'one' in the test part and fold 0"):
        load(path, merged)


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ({"folds": 3}, "--folds 2 --test-size 0.2 --seed 0"),
        ({"test_size": 0.3}, "--folds 2 --test-size 0.2 --seed 0"),
        ({"seed": 7}, "--folds 2 --test-size 0.2 --seed 0"),
    ],
)
def test_other_settings(tmp_path: Path, arguments: dict, flags: str) -> None:
    """A split is never read as one of other settings; the error says which it has."""
    path = tmp_path / "splits-default.json"
    load(path, TEN)
    with pytest.raises(SplitError, match=f"Ask for {flags}"):
        load(path, TEN, **arguments)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "\x00",
        '{"schema": 1}',
        '{"schema": 2, "folds": 2, "test_size": 0.2, "seed": 0, "images": {}}',
        '{"schema": 1, "folds": 2, "test_size": 0.2, "seed": 0, "images": []}',
        '{"schema": 1, "folds": 2, "test_size": 0.2, "seed": 0, "images": {"A0": 5}}',
        '{"schema": 1, "folds": 2, "test_size": 0.2, "seed": 0, "images": {"A0": []}}',
        '{"schema": 1, "folds": "2", "test_size": 0.2, "seed": 0, "images": {}}',
    ],
)
def test_foreign_file(tmp_path: Path, text: str) -> None:
    """A broken or foreign file is refused and left as it is."""
    path = tmp_path / "splits-default.json"
    path.write_text(text)
    with pytest.raises(SplitError, match="damaged"):
        load(path, TEN)
    assert path.read_text() == text


def test_failed_split_leaves_nothing(tmp_path: Path) -> None:
    """A split that cannot be made leaves neither a file nor a lock."""
    with pytest.raises(SplitError):
        load(tmp_path / "splits-default.json", singles({"A": 9}))
    assert list(tmp_path.iterdir()) == []


def redraw(path: Path, base: Split, rows: Rows, repeat: int = 1) -> Split:
    name = f"{base.name}-r{repeat}"
    return splits.load_or_redraw(path, base, *columns(rows), name=name, repeat=repeat)


@rule
@given(datasets(), st.integers(1, 9))
def test_repeats(data: tuple[Rows, int, float], repeat: int) -> None:
    """A repeat keeps the test part, and its folds are folds like any other."""
    rows, folds, test_size = data
    with TemporaryDirectory() as folder:
        base = load(Path(folder, "a"), rows, folds=folds, test_size=test_size)
        again = redraw(Path(folder, "b"), base, rows, repeat)
    assert (again.repeat, again.base) == (repeat, "default")
    assert held_out(again) == held_out(base)
    splits.check(
        again.of([image for image, _, _ in rows]),
        *columns(rows)[1:],
        folds=folds,
        test_size=test_size,
    )


def held_out(split: Split) -> set[str]:
    return {image for image, place in split.places.items() if place == TEST}


def test_repeats_differ(tmp_path: Path) -> None:
    """Each repeat has other folds than every other, and the same again when read."""
    rows = singles({"A": 40, "B": 40})
    base = load(tmp_path / "base", rows)
    repeats = [redraw(tmp_path / f"r{n}", base, rows, n) for n in (1, 2)]
    drawn = [tuple(split.places.items()) for split in (base, *repeats)]
    assert len(set(drawn)) == 3
    stamp = (tmp_path / "r1").stat().st_mtime_ns
    assert redraw(tmp_path / "r1", base, rows) == repeats[0]
    assert (tmp_path / "r1").stat().st_mtime_ns == stamp


def test_a_repeat_grows_with_its_split(tmp_path: Path) -> None:
    """New images get the place in the test part that the split gives them."""
    base = load(tmp_path / "base", TEN)
    first = redraw(tmp_path / "r1", base, TEN)
    more = [*TEN, *singles({"C": 9})]
    grown = load(tmp_path / "base", more)
    again = redraw(tmp_path / "r1", grown, more)
    assert first.places.items() <= again.places.items()
    assert held_out(again) == held_out(grown) > held_out(base)


def test_a_repeat_is_told_from_a_split(tmp_path: Path) -> None:
    """Neither is read as the other, nor as a repeat with another test part."""
    base = load(tmp_path / "base", TEN)
    redraw(tmp_path / "r1", base, TEN)
    stored = json.loads((tmp_path / "r1").read_text())
    assert (stored["repeat"], stored["base"]) == (1, "default")
    with pytest.raises(SplitError, match="repeat 1 of split default"):
        load(tmp_path / "r1", TEN)
    with pytest.raises(SplitError, match="got a split of its own"):
        redraw(tmp_path / "base", base, TEN)
    (image, *_) = held_out(base)
    stored["images"][image] = 0
    (tmp_path / "r1").write_text(json.dumps(stored))
    with pytest.raises(SplitError, match="the test part of split default"):
        redraw(tmp_path / "r1", base, TEN)


def test_split_lookup() -> None:
    """Places come in the order asked."""
    split = Split("s", 2, 0.2, 0, {"a": TEST, "b": 0, "c": 1})
    assert split.of(["c", "a"]).tolist() == [1, TEST]
    assert split.of(["c", "a"]).dtype == np.int64
    with pytest.raises(SplitError, match="1 without one, the first 'z'"):
        split.of(["a", "z"])
