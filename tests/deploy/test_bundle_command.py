"""featcache bundle, as a user types it."""

import json
import shutil

import pytest

from featcache.errors import FeatcacheError


@pytest.fixture
def words(extracted, reports, toy_network):
    """Options that name the folders and the network."""
    return [
        *("--cache", extracted.folder.parent, "--reports", reports),
        *("-b", toy_network),
    ]


def test_make_show_and_verify(trained, words, run, tmp_path):
    """A run becomes a file; elsewhere it shows its card and passes all stages."""
    short = trained("logreg").short_id
    code, out, err = run("bundle", "make", short, "-o", "model.fcb", *words)
    assert (code, err.count("299 groups")) == (0, 1)
    assert "verified with its golden cases" in out
    shutil.move(tmp_path / "model.fcb", tmp_path / "other.fcb")
    code, out, _ = run("bundle", "show", "other.fcb")
    assert code == 0
    for text in (
        "# Model card: logreg",
        "Research only",
        "no audit was made",
        "SHA-256",
    ):
        assert text in out
    code, out, _ = run("bundle", "verify", "other.fcb", "--json")
    assert code == 0
    assert all(stage["passed"] for stage in json.loads(out))
    assert "PASS" in run("bundle", "verify", "other.fcb")[1]


def test_an_existing_file_is_kept(trained, words, run, tmp_path):
    """Only --force replaces it, and never a record of a run."""
    made = trained("logreg")
    (tmp_path / "model.fcb").write_text("mine")
    code, _, err = run("bundle", "make", made.short_id, "-o", "model.fcb", *words)
    assert (code, err.count("\n")) == (FeatcacheError.exit_code, 1)
    assert (tmp_path / "model.fcb").read_text() == "mine"
    record = made.folder / "run.json"
    before = record.read_bytes()
    code, _, err = run("bundle", "make", made.short_id, "-o", record, "--force", *words)
    assert code == FeatcacheError.exit_code
    assert record.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "none.fcb"], "cannot be read: No such file"),
        (["verify", "text.fcb"], "no bundle, or cut short"),
        (["make", "nothing", "-o", "m.fcb"], "'nothing'"),
        (["make", "RUN", "-o", "no/such/m.fcb"], "a folder that exists"),
        (["make", "RUN", "-o", "m.fcb", "--sensitivity", "2"], "sensitivity"),
    ],
)
def test_a_wrong_call_is_one_line(arguments, message, trained, words, run, tmp_path):
    """What is wrong and what to do; exit code 1; nothing is written."""
    run_id = trained("logreg").run_id
    arguments = [run_id if word == "RUN" else word for word in arguments]
    (tmp_path / "text.fcb").write_text("hello")
    places = words if arguments[0] == "make" else []
    code, _, err = run("bundle", *arguments, *places)
    assert (code, err.count("\n")) == (FeatcacheError.exit_code, 1), err
    assert message in err
    assert not (tmp_path / "m.fcb").exists()
