"""Names of files made of labels: other labels, other files, on any file system."""

import unicodedata
from itertools import product

import pytest
from records import make_record

from featcache.cli.output import features_text
from featcache.core.io import parse_json
from featcache.core.text import cut_bytes, file_name
from featcache.evaluation.identity import make_id

ODD = ["<50", ">50", "50", "é" * 120, "e\u0301", "\u00e9", "", "-", ".", "..", "a/b",
       "a b", "a-b", "COVID", "covid", "Covid", "x" * 80, "x" * 81, "nul\0", "\udcff",
       "con", "ß", "ss", "SS", "K", "\u212a", "k"]  # fmt: skip


def test_other_texts_have_other_names_without_regard_to_case() -> None:
    """Names differ after case folding and normalisation, which file systems do."""
    texts = [*ODD, *("".join(one) for one in product("aA<-_", repeat=4))]
    texts += [file_name(text) for text in texts if file_name(text) != text]
    names = {
        unicodedata.normalize("NFKC", file_name(text)).casefold() for text in {*texts}
    }
    assert len(names) == len({*texts})


@pytest.mark.parametrize("text", ODD)
def test_a_name_is_a_short_file_name(text: str) -> None:
    """At most 89 bytes, no dot, no separator, and never empty."""
    name = file_name(text)
    assert 0 < len(name.encode()) <= 89
    assert not set(name) & set("./\\:\0 ")


def test_plain_texts_stay_as_they_are() -> None:
    """What any file system keeps apart needs no digits; the rest stays readable."""
    assert file_name("viral_pneumonia") == "viral_pneumonia"
    assert file_name("grad-cam++") == "grad-cam++"
    assert file_name("Viral Pneumonia/é").startswith("Viral-Pneumonia-é-")


def test_the_id_of_a_run_fits_a_file_name() -> None:
    """Long names of letters of several bytes are cut; the digest tells them apart."""
    one, two = (make_id("é" * 300, "頭" * 300, {"n": n}) for n in (1, 2))
    assert one != two
    assert len(one.encode()) <= 255 - 40
    assert cut_bytes("éé", 3) == "é"


def test_a_result_line_names_sizes_and_taps() -> None:
    """Runs on two sizes of a backbone, or on taps, are told apart where printed."""
    blocks = [
        {"backbone": "vgg19", "input_size": 224},
        {"backbone": "vgg19", "input_size": 320},
        {"backbone": "vgg19", "input_size": 320, "tap": "block3"},
        {"backbone": "metadata", "input_size": 0},
    ]
    text = features_text(make_record(features=blocks))
    assert text == "vgg19 224 px + vgg19 320 px + metadata, taps block3"
    assert features_text(make_record(members=["a", "b"])) == "2 members"


def test_json_that_python_cannot_hold_is_a_value_error() -> None:
    """Depth, bytes and length are one kind of error for whoever reads."""
    for text in (b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"", b"9" * 5000):
        with pytest.raises(ValueError, match=r"\w"):
            parse_json(text)
