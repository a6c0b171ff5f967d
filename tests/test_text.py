"""Rules of texts: nothing hidden is shown, and no name leads elsewhere."""

from pathlib import Path

import pytest

from featcache.core.text import (
    LONGEST_NAME,
    check_name,
    counted,
    file_part,
    markdown_cell,
    minute,
    no_formula,
    percent,
    printable,
    sentence,
    spelling_key,
)
from featcache.dataset.splits import SplitOptions
from featcache.errors import FeatcacheError, UsageError
from featcache.evaluation.record import SplitInfo

CLI = Path(__file__).parents[1] / "featcache" / "cli"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("COVID", "COVID"), ("Neumonía viral", "Neumonía viral"), ("肺炎", "肺炎"),
        ("two\nlines\tand more", "two\nlines\tand more"),
        ("\x1b[2J", r"\x1b[2J"), ("a\rb", r"a\rb"), ("\x9b31m", r"\x9b31m"),
        ("gnp.\u202efdp", r"gnp.\u202efdp"), ("COVID\u200b", r"COVID\u200b"),
        ("\ud800", r"\ud800"), ("a\u2028b", r"a\u2028b"), ("\x7f", r"\x7f"),
    ],
)  # fmt: skip
def test_a_terminal_gets_nothing_that_it_obeys(text: str, shown: str) -> None:
    """Controls, overrides of direction and invisible characters are spelled out."""
    assert printable(text) == shown


def test_the_command_line_has_one_door() -> None:
    """Two modules of the command line print, and these spell out what is hidden."""
    printing = {p.name for p in CLI.glob("*.py") if "click.echo(" in p.read_text()}
    assert printing == {"output.py", "__init__.py"}


BAD = (
    "", ".", "..", ".hidden", "-x", "a/b", "a\\b", "../x", "/x", "C:x", "a\0", "a\nb",
    "a\u202eb", " a", "a ", "*", "x" * (LONGEST_NAME + 1), "é" * LONGEST_NAME,
)  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_becomes_a_file_name_is_checked(name: str) -> None:
    """A name that leads elsewhere, hides or is too long is refused everywhere."""
    with pytest.raises(UsageError, match="plain name"):
        check_name(name, "dataset")
    with pytest.raises(UsageError, match="`split`"):
        SplitOptions(split=name)
    with pytest.raises(ValueError, match="split"):
        SplitInfo(
            name=name,
            folds=2,
            test_size=0,
            seed=0,
            group_by="image",
            repeat=0,
            base="x",
        )


@pytest.mark.parametrize("name", ["xrays", "Röntgen 2024", "a+b,c=(1)", "v1.2_x"])
def test_plain_names_pass(name: str) -> None:
    """Letters of any script, digits, spaces and the usual signs."""
    assert check_name(name, "dataset") == name


def test_a_part_of_a_file_name_is_short_and_plain() -> None:
    """Bytes count, and no letter is cut in two."""
    assert file_part("a/b:c", 80) == "a-b-c"
    assert file_part("é" * 10, 5) == "éé"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("COVID", "covid", True), ("COVID", "COVID\u200b", True), ("3", "3.0", True),
        ("Pneumonía", "Pneumoni\u0301a", True), ("a  b", " a b", True),
        ("３", "3", True), ("3.5", "3.0", False), ("P1", "P2", False),
        ("10", "1", False), ("1.10", "1.1", False),
    ],
)  # fmt: skip
def test_spellings_of_one_thing(one: str, other: str, same: bool) -> None:
    """Case, form, invisible characters, spaces and .0 do not make another name."""
    assert (spelling_key(one) == spelling_key(other)) is same


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a|b", r"a\|b"), ("<img src=x>", "&lt;img src=x>"), ("0.9 [0.8, 1] <0.1",) * 2,
        ("[a](b)", r"[a]\(b)"), ("two\nlines", "two lines"), ("`x`", r"\`x\`"),
    ],
)  # fmt: skip
def test_markdown_has_no_foreign_markup(text: str, cell: str) -> None:
    """A cell stays a cell, and what looks like HTML is text."""
    assert markdown_cell(text) == cell


@pytest.mark.parametrize("text", ["=1+1", "-x", "+x", "@x", "\tx", "\rx", "-1-1", "-"])
def test_a_cell_that_a_spreadsheet_would_compute_has_an_apostrophe(text: str) -> None:
    """Numbers and other texts stay as they are."""
    assert no_formula(text) == f"'{text}"
    for plain in ("", "a=1", "-1.5", "+3", "-2e-05", "1", "'=1"):
        assert no_formula(plain) == plain


def test_one_thing_is_not_several() -> None:
    """A number agrees with its noun and verb."""
    words = [counted(n, "image") for n in (0, 1, 2)]
    assert words == ["0 images", "1 image", "2 images"]
    assert counted(1, "class is", "classes are") == "1 class is"
    assert counted(3, "class is", "classes are") == "3 classes are"


def test_sentences_of_errors_end_once() -> None:
    """A problem that is a sentence brings no second full stop; dots stay."""
    assert str(FeatcacheError("It is gone.", "Run it.")) == "It is gone. Run it."
    assert str(FeatcacheError("a", "b.", "Go.")) == "expected a; got b. Go."
    assert FeatcacheError("cut...", "Go.").problem == "cut..."


def test_percent() -> None:
    """With a space, as in the tables; digits if told."""
    assert (percent(0.857), percent(0.0133, 1)) == ("86 %", "1.3 %")


def test_times_and_sentences_for_people() -> None:
    """To the minute, in UTC; a capital letter, and one full stop or question mark."""
    stamp = "2026-11-28T23:40:30.950+00:00"
    assert minute(stamp) == "2026-11-28 23:40 UTC"
    assert minute("2026-11-28") == "2026-11-28"
    texts = ["the best run", "It is.", "is it?", ""]
    assert [*map(sentence, texts)] == ["The best run.", "It is.", "Is it?", "."]
