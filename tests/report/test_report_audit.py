"""The report shows what audit recorded."""

import re
from pathlib import Path

import pytest
import report_records
from report_pages import Reader, best, context, of_section, page
from report_study import Study

from featcache.commands.audit import CHECKS
from featcache.evaluation import references
from featcache.report.html import audit_section
from featcache.report.html.context import collect
from featcache.report.html.page import render

DOCS = Path(__file__).parents[2] / "docs"
HTML = Path(audit_section.__file__).parent


def test_checks_stand_in_the_order_of_their_gravity(study: Study) -> None:
    """Findings of issues, then of tips, then what could not be asked, then passed."""
    report_records.write_audit(study, best(study).run_id)
    section = audit_section.read_audit(context(study), best(study).run_id)
    assert section is not None
    codes = [one.code for one in section.answers]
    issues = report_records.issues()
    assert codes[:3] == ["FC005", "FC040", "FC020"]
    assert codes[3 : 3 + len(issues) - 2] == [
        code for code in issues if code not in ("FC005", "FC020")
    ]
    assert sorted(codes) == sorted(CHECKS)
    counts = dict(section.counts)
    assert counts == {
        "issue": 1, "tip": 1, "passed": len(CHECKS) - 3, "not applicable": 1,
    }  # fmt: skip


def test_the_table_of_checks_says_all(study: Study) -> None:
    """Code, title, severity, status in words, and message, none of it as markup."""
    report_records.write_audit(study, best(study).run_id)
    section = of_section(page(study), "audit")
    text = Reader(section).text
    for check in CHECKS.values():
        assert f"{check.code} {check.title}" in text
    assert text.count("! finding") == text.count("? finding") == 1
    assert text.count("– not applicable") == 1
    assert text.count("✓ passed") == len(CHECKS) - 3
    assert text.count(report_records.MESSAGE) == len(CHECKS)
    assert "<b>something</b>" not in section


def test_only_what_was_found_has_a_severity(study: Study) -> None:
    """A check that passed is neither an issue nor a tip."""
    report_records.write_audit(study, best(study).run_id)
    lines = of_section(page(study), "audit").split("<tr ")[1:]
    severities = [re.findall(r'<td role="cell">(.*?)</td>', line) for line in lines[1:]]
    assert [cells[0] for cells in severities] == (
        ["issue", "tip"] + [""] * (len(CHECKS) - 2)
    )


def test_pages_of_the_documentation_are_named_by_their_titles() -> None:
    """Who has only the page can find them; no path leads anywhere from there."""
    titles = {path.read_text().split("\n")[0][2:] for path in DOCS.rglob("*.md")}
    sources = [p for p in HTML.rglob("*") if p.suffix in (".py", ".jinja")]
    text = " ".join(" ".join(path.read_text().split()) for path in sources)
    named = re.findall(r'[Tt]he page [\'" ]*“(.*?)” of the docum', text)
    assert len(named) == text.count("“") >= 3
    assert set(named) <= titles
    assert "docs/" not in text


@pytest.mark.slow
def test_an_audit_of_another_run_says_so(study: Study) -> None:
    """Only where its run is not the best of the page; without a run it says that."""
    other = references.find(study.reports, "softmax").run_id
    for run_id, words in (
        (best(study).run_id, "It is the best run on this page."),
        (other, "Different run:"),
        (None, "there was no run on a network to check"),
    ):
        report_records.write_audit(study, run_id)
        text = Reader(of_section(page(study), "audit")).text
        assert words in text
        assert ("Different run:" in text) is (run_id == other)


def test_the_audit_says_when_it_was_made(study: Study) -> None:
    """As its record says."""
    report_records.write_audit(study, None, created="2026-02-03T04:05:06+0000")
    assert "Made 2026-02-03 04:05 UTC" in Reader(page(study)).text


def test_issues_are_among_what_to_read_first(study: Study) -> None:
    """Tips are not."""
    report_records.write_audit(study, None)
    text = Reader(page(study)).text
    warning = text.split("Read this first")[1].split("Best run")[0]
    assert "FC005" in warning
    assert "FC040" not in warning


def test_candidates_have_their_pictures(study: Study) -> None:
    """The first 24 of 30, each with its tile, both classes, and its probabilities."""
    report_records.write_audit(study, best(study).run_id)
    audit = audit_section.read_audit(context(study), "")
    assert audit is not None
    assert (len(audit.candidates), audit.all_candidates) == (24, 30)
    table = best(study).table.set_index("image_id")
    for one in audit.candidates:
        probabilities = dict(one.chances)
        assert probabilities == {
            c: table[f"p_{c}"][one.image_id] for c in best(study).classes
        }
    section = of_section(page(study), "audit").split("Labels to look at")[1]
    named = [a["aria-label"] for a in Reader(section).of("span") if "role" in a]
    assert named[:24] == [one.path for one in audit.candidates]
    assert "no thumbnail" not in section


def test_candidates_of_a_lost_run_keep_what_is_recorded(study: Study) -> None:
    """The probability of the label is all that is known then."""
    report_records.write_audit(study, "gone")
    audit = audit_section.read_audit(context(study), "")
    assert audit is not None
    first = audit.candidates[0]
    assert first.chances == [(first.label, 0.1)]


def test_pairs_stand_once_and_the_harmful_first(study: Study) -> None:
    """Three near-duplicates; the one on both sides of a split leads both checks."""
    report_records.write_audit(study, None)
    audit = audit_section.read_audit(context(study), "")
    assert audit is not None
    ok = study.manifest.ok.reset_index(drop=True)
    firsts = [one.sides[0].image_id for one in audit.pairs]
    assert firsts == [ok["image_id"][i] for i in (2, 1, 0)]
    assert [one.codes for one in audit.pairs] == [
        ["FC005", "FC003"], ["FC003"], ["FC003"],
    ]  # fmt: skip
    assert "on both sides of train and test" in audit.pairs[0].text
    assert audit.pairs[2].text == "correlation 0.995, one group"


def test_without_an_audit_the_box_says_it_once(study: Study) -> None:
    """The section has one line that leads there; the command stands in the box."""
    text = page(study)
    assert 'href="#unchecked"' in of_section(text, "audit")
    assert Reader(text).text.count("featcache audit --dataset chest") == 1


def test_without_the_cache_the_audit_is_shown_without_pictures(study: Study) -> None:
    """Paths and probabilities stay."""
    report_records.write_audit(study, best(study).run_id)
    text = render(collect(study.reports, study.board, None))
    read = Reader(of_section(text, "audit"))
    assert read.text.count("no image") == 24 + 2 * 3
    assert "image 1.png" in read.text


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": 99}', '{"schema": 1, "run_id": "x", "checks": [1]}']
)
def test_a_broken_audit_is_told(study: Study, text: str) -> None:
    """The page is made, and the box names the file."""
    (study.reports / "audit.json").write_text(text)
    assert "Not available: audit.json, which cannot be used" in Reader(page(study)).text
