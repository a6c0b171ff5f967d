"""Study files that are wrong: refused with line and key."""

import re
from pathlib import Path
from typing import Any

import pytest
from toy_study import TEXT

from featcache import study
from featcache.errors import UsageError
from featcache.study import keys
from featcache.study.keys import fits, in_words
from featcache.study.toml_lines import lines_of


def test_lines() -> None:
    """Each key has the line on which it begins, in arrays and texts of lines too."""
    text = '''# comment
[[a]]
x = """
[no.section]
y = 1
"""
[[a]]
b.c = [ # begins here
  1,
  { d = 2, e = [
    3] },
]
'''
    found = lines_of(text)
    assert found["a", 0, "x"] == 3
    assert found["a", 1] == 7
    assert found["a", 1, "b", "c"] == 8
    assert found["a", 1, "b", "c", 0] == 9
    assert found["a", 1, "b", "c", 1, "d"] == 10
    assert found["a", 1, "b", "c", 1, "e", 0] == 11
    assert ("no", "section") not in found


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (str, ["a"], [1, ["a"]]),
        (int, [1], [True, 1.5, "1"]),
        (float, [1, 0.5], [False, "0.5"]),
        (bool | None, [True], [1, "true"]),
        (int | str, [1, "all"], [True, 1.5]),
        (tuple[float, float], [[0.8, 1]], [[1], [1, 2, 3], "1,2", ["a", "b"]]),
        (keys.Names, [[], ["a"]], ["a", [1]]),
        (Path, ["a"], [1]),
    ],
)
def test_types(hint: Any, good: list[Any], bad: list[Any]) -> None:
    """A value of TOML fits a signature's type or does not; each type has words."""
    assert [value for value in good if not fits(value, hint)] == []
    assert [value for value in bad if fits(value, hint)] == []
    assert in_words(hint)


# A line of the study, what stands there instead, and words of the error.
WRONG = [
    ("seed = 1", "sead = 1", "Did you mean seed?"),
    ('name = "toy"', 'name = "a/b"', "a plain name"),
    ("[evaluation]", "[evaluaton]", "Did you mean evaluation or explain?"),
    ('name = "sizes"', 'nane = "sizes"', "Did you mean name"),
    ("folds = 3", "fold = 3", "Did you mean folds?"),
    ("folds = 3", 'folds = "three"', "a whole number for folds"),
    ("folds = 3", "folds = true", "a whole number for folds"),
    ("folds = 3", "folds = 1", "folds to be 2 or more"),
    ("folds = 3", "folds = ", "at line 20, column"),
    ("folds = 3", 'group_by = "patients"', "got 'patients'"),
    ("folds = 3", 'exclude = ["lable=x"]', "Did you mean label?"),
    ("folds = 3", 'transform = "square"', "square"),
    ("folds = 3", "test_size = 1.5", "test_size to be 0-0.9"),
    ("[report]", "[[report]]", "got [[report]]. Write [report]"),
    ('name = "trivial"', 'name = "sizes"', "a unique name"),
    ('backbones = ["metadata"]', 'backbones = ["metadat"]', "Did you mean metadata?"),
    ('backbones = ["metadata"]', 'backbones = ["no.keras"]', "no such file"),
    ('backbones = ["metadata"]', 'backbones = ["no.pt"]', "no.pt cannot be run"),
    ('backbones = ["metadata"]', "seed = 0", "a key backbones in [[extract]] 2"),
    ('backbones = ["${NET}"]', 'backbones = ["${NONET}"]', "variable NONET"),
    ('engine = "tensorflow"', 'engine = "tensorflaw"', "Did you mean tensorflow?"),
    ('engine = "tensorflow"', 'preprocess = "coffee"', "Did you mean caffe?"),
    ('engine = "tensorflow"', 'weights = "no.h5"', "no such file"),
    ('engine = "tensorflow"', 'region = "insade"', "Did you mean inside?"),
    ('engine = "tensorflow"', 'mask = "lesion"', "region of inside or outside"),
    ('engine = "tensorflow"', "brightness = [1.2, 0.8]", "LO <= HI"),
    ('engine = "tensorflow"', 'taps = "default"', "default for toynet"),
    ("input_size = [32, 48]", "input_size = [32, 8]", "input_size to be 32 or more"),
    ('source = "chest"', 'source = "chests"', "no such path"),
    (r"group_by = '(p\d{3})_'", "group_by = 'p[0-'", "expression with one group"),
    ('from = "sizes"', 'from = "size"', "Did you mean sizes?"),
    ('from = "sizes"', 'backbones = ["toynet@64"]', "Did you mean toynet@"),
    ('from = "sizes"', 'backbones = ["toynet+metadata"]', "one backbone for toynet"),
    ('from = "sizes"', 'taps = "all"', "tap of [[extract]]"),
    ('from = "sizes"', "views = 2", "at most the "),
    ('from = "sizes"', 'views = "some"', "a number of views"),
    ('heads = ["logreg"]', 'heads = ["logrek"]', "Did you mean logreg?"),
    ('heads = ["logreg"]', 'haeds = ["logreg"]', "Did you mean heads"),
    ('heads = ["logreg"]', 'heads = "logreg"', "a list of strings for heads"),
    ('name = "mean"', 'name = "both sizes"', "a unique name"),
    ('name = "mean"', 'weights = "equally"', "Did you mean equal?"),
    ('formats = ["markdown"]', 'formats = ["markdwon"]', "Did you mean markdown?"),
    ('formats = ["markdown"]', 'against = "each size/svm"', "head of each size"),
]


@pytest.mark.parametrize(("line", "wrong", "words"), WRONG)
def test_a_wrong_line_is_named(file: Path, line: str, wrong: str, words: str) -> None:
    """Whatever is wrong is refused at once, with its line, its key and a way out."""
    number = TEXT.split("\n").index(line) + 1
    file.write_text(TEXT.replace(f"{line}\n", f"{wrong}\n", 1))
    with pytest.raises(UsageError) as error:
        study.read(file)
    assert words in str(error.value)
    if "a key" in words:  # what is not there has no line; its section has
        number -= 2
    assert re.search(rf"\bline {number}\b", str(error.value))
    if "at line" not in words and "a key" not in words:
        assert wrong.strip("[]").split(" =")[0] in str(error.value)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("errors = 2\nper_class = 2", "only one of images, errors and per_class"),
        ("per_class = 0", "per_class of 1 or more"),
    ],
)
def test_what_is_explained_is_checked(file: Path, keys: str, words: str) -> None:
    """A choice of images that can never work is refused before any work."""
    file.write_text(f"{TEXT}[explain]\n{keys}\n")
    with pytest.raises(UsageError, match=rf"{words} .*\[explain\]"):
        study.read(file)


def test_a_single_table_is_no_list(file: Path) -> None:
    """[extract] instead of [[extract]] is refused, and so is what is no table."""
    for wrong in ("[extract]\nbackbones = []", 'extract = "all"'):
        file.write_text(f"name = 'x'\n{wrong}\n")
        with pytest.raises(
            UsageError, match=r"line 2, extract\).*\[\[extract\]\] above"
        ):
            study.read(file)


def test_what_is_needed(file: Path, tmp_path: Path) -> None:
    """A file without a section that is needed, or without a file, is refused."""
    file.write_text("seed = 1\n[dataset]\nsource = 'chest'\n")
    with pytest.raises(UsageError, match="a section extract"):
        study.read(file)
    with pytest.raises(UsageError, match="a study file in"):
        study.read(tmp_path / "no.toml")
    file.write_bytes(b"name = '\xff'")
    with pytest.raises(UsageError, match="TOML in"):
        study.read(file)


@pytest.mark.parametrize(
    "line", ["folds = 3", "test_size = 0.1", "seed = 7", 'split_by = "folder"']
)
def test_statistics_need_the_default_split(file: Path, line: str) -> None:
    """Features standardised on one split's training part are trained on no other."""
    text = TEXT.replace("folds = 3\n", "").replace(
        "input_size", 'preprocess = "featurewise"\ninput_size'
    )
    file.write_text(text)
    assert study.read(file).trains
    file.write_text(text.replace("[evaluation]", f"[evaluation]\n{line}"))
    with pytest.raises(
        UsageError, match=rf"default split .*line 21, {line.split()[0]} of"
    ):
        study.read(file)


def test_statistics_of_a_split_of_the_source_need_that(file: Path) -> None:
    """An extraction and a training may name the same one."""
    text = TEXT.replace("folds = 3\n", 'split_by = "folder"\n')
    kept = 'preprocess = "featurewise"\nsplit_by = "folder"\ninput_size'
    file.write_text(text.replace("input_size", kept))
    assert study.read(file).trains
