"""Rules of featcache.dataset.splits: the files of splits and of their repeats."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_rows import TEN, Rows, columns, datasets, rule, singles
from toys import make_dataset

from featcache.dataset import splits
from featcache.dataset.splits import TEST, Split, SplitOptions
from featcache.errors import SplitError
from featcache.features import draw_split


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
        "images": made.fold_of,
    }
    assert load(path, TEN, seed=3) == made
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_file_grows(tmp_path: Path) -> None:
    """New images are added; without any the file is left alone, also for a subset."""
    path = tmp_path / "splits-default.json"
    first = load(path, TEN)
    stamp = path.stat().st_mtime_ns
    assert load(path, TEN[1:]).fold_of == first.fold_of
    assert path.stat().st_mtime_ns == stamp
    grown = load(path, [*TEN[1:], *singles({"C": 3})])
    assert first.fold_of.items() <= grown.fold_of.items()
    assert {grown.fold_of[f"C{i}"] for i in range(3)} == {TEST, 0, 1}
    assert load(path, TEN).fold_of == grown.fold_of


def test_file_with_new_grouping(tmp_path: Path) -> None:
    """A stored split is refused once a group has come to stand in two parts."""
    path = tmp_path / "splits-default.json"
    load(path, TEN)
    merged = [(image, label, "one") for image, label, _ in TEN]
    with pytest.raises(SplitError, match="'one' in the test set and fold 0"):
        load(path, merged)


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ({"folds": 3}, "`folds=2`, `test_size=0.2`, `seed=0`"),
        ({"test_size": 0.3}, "`folds=2`, `test_size=0.2`, `seed=0`"),
        ({"seed": 7}, "`folds=2`, `test_size=0.2`, `seed=0`"),
    ],
)
def test_other_settings(tmp_path: Path, arguments: dict, flags: str) -> None:
    """A split is never read as one of other settings; the error says which it has."""
    path = tmp_path / "splits-default.json"
    load(path, TEN)
    with pytest.raises(SplitError, match=f"Use {flags}"):
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


@pytest.mark.slow
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
    return {image for image, place in split.fold_of.items() if place == TEST}


def test_repeats_differ(tmp_path: Path) -> None:
    """Each repeat has other folds than every other, and the same again when read."""
    rows = singles({"A": 40, "B": 40})
    base = load(tmp_path / "base", rows)
    repeats = [redraw(tmp_path / f"r{n}", base, rows, n) for n in (1, 2)]
    drawn = [tuple(split.fold_of.items()) for split in (base, *repeats)]
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
    assert first.fold_of.items() <= again.fold_of.items()
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
    with pytest.raises(SplitError, match="the test set of split default"):
        redraw(tmp_path / "r1", base, TEN)


@pytest.mark.parametrize("split_by", [None, "part"])
@pytest.mark.parametrize("repeat", [0, 1])
def test_a_group_stays_where_images_that_are_left_out_stand(
    tmp_path: Path, split_by: str | None, repeat: int
) -> None:
    """Drawn on one view of each patient, then on the other: one part a patient."""
    made = make_dataset(tmp_path)
    made.table["view"] = ["AP"] * 18 + ["PA", "AP"] * 36
    made.table["part"] = ["train"] * 60 + ["test"] * 30
    for left_out in (["view=AP"], ["view=PA"], []):
        options = SplitOptions(split="s", exclude=left_out, split_by=split_by)
        split = draw_split(options.narrow(made), options, repeat=repeat)
    parts = made.table["image_id"].map(split.fold_of)
    assert (parts.groupby(made.table["group"]).nunique() == 1).all()
    assert parts.nunique() == 6
