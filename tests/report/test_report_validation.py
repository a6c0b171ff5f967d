"""The report shows external validations of its runs."""

import re

import numpy as np
import pytest
from records import make_validation
from report_pages import Reader, best, of_section, page
from report_study import CLASSES, Study

from featcache.evaluation import references
from featcache.evaluation.external import OwnImages, read_validations, record_path
from featcache.report.html import svg
from featcache.report.html.svg import Axis, Series


def section(study: Study) -> str:
    return of_section(page(study), "validations")


def test_without_a_validation_the_page_says_how(study: Study) -> None:
    """It names the command, and the gap is among what was not checked."""
    assert "external validation measures it" in section(study)
    assert "Images from elsewhere" in of_section(page(study), "unchecked")


@pytest.mark.slow
def test_the_columns_stand_side_by_side(study: Study) -> None:
    """Scores with intervals, differences, prevalences, subgroups and what was left."""
    record = make_validation(study.reports, best(study).run_id, CLASSES)
    markup = section(study)
    text = Reader(markup).text
    result = record.result
    for part in (
        "elsewhere", "60 of 30 groups (by patient)", "as found",
        "prevalence corrected", "recalibrated", "as found − internal",
        f"{result.as_found.accuracy.value:.3f}", f"{result.as_found.auc.low:.3f}",
        f"{result.difference['accuracy'].value:.3f}",
        "A & B against the rest", "calibration slope",
        "1 more is left out: 1 in training.", "<b>.png: identical to training image",
        "By sex", "do they differ?", "(Holm)", "estimated without labels",
        "Recalibration is not applicable: too few groups.",
        "Share refused: 0.100 (0.050-0.200).", "1 image cannot be read.",
        "ill & well → <img src=x onerror=alert(1)>",
    ):  # fmt: skip
        assert part in text, part
    assert "nan" not in text
    assert "<b>.png" not in markup
    assert "<img" not in markup
    charts = [a["aria-label"] for a in Reader(markup).of("svg") if "aria-label" in a]
    assert charts == ["Calibration curve of each class, as found"]
    assert "Images from elsewhere" not in of_section(page(study), "unchecked")


def test_one_on_the_own_dataset_is_not_external(study: Study) -> None:
    """The gap stays, and its heading says what it is; beside an external one too."""
    own = OwnImages(identical=58, same_group=0)
    run_id = best(study).run_id
    make_validation(study.reports, run_id, CLASSES, dataset="check", own=own)
    text = page(study)
    assert "only on images of its own dataset" in of_section(text, "unchecked")
    shown = Reader(of_section(text, "validations")).text
    assert "Validation on its own dataset" in shown
    assert "External validation" not in shown
    assert "internal" in shown
    assert "58 of the 60 images are of the model's own dataset" in shown
    assert "external validation measures it" in shown
    make_validation(study.reports, run_id, CLASSES)
    text = page(study)
    assert "Images from elsewhere" not in of_section(text, "unchecked")
    shown = Reader(of_section(text, "validations")).text
    assert "External validation" in shown
    assert shown.count("· internal") == 1


def test_validations_of_other_runs_are_counted(study: Study) -> None:
    """Of a run that is not the best the gap stays; of one that is gone, the number."""
    other = references.find(study.reports, "softmax").run_id
    make_validation(study.reports, other, CLASSES)
    make_validation(study.reports, "logreg-gone-0123456789", CLASSES)
    text = page(study)
    assert other in Reader(of_section(text, "validations")).text.replace(" ", "")
    assert "1 in validations/ is of runs that" in Reader(text).text
    assert "Images from elsewhere" in of_section(text, "unchecked")


@pytest.mark.slow
def test_a_changed_record_is_named_and_not_shown(study: Study) -> None:
    """As is one that is cut short."""
    run_id = best(study).run_id
    make_validation(study.reports, run_id, CLASSES)
    path = record_path(study.reports, "elsewhere", run_id)
    whole = path.read_text()
    for broken in (whole.replace('"n": 60', '"n": 61'), whole[:100], "[]"):
        path.write_text(broken)
        records, unusable = read_validations(study.reports)
        assert (records, len(unusable)) == ([], 1)
        text = page(study)
        assert f"validations/{path.name}" in of_section(text, "unchecked")
        assert "elsewhere" not in of_section(text, "validations").split("</h2>")[1][:50]


def test_calibration_curves_have_their_intervals(study: Study) -> None:
    """A band a class, through the ends of its intervals; the note says which."""
    record = make_validation(study.reports, best(study).run_id, CLASSES)
    markup = section(study)
    bands = re.findall(r'<polygon class="s(\d)" points="([^"]+)"', markup)
    curves = [one.curve for one in record.result.as_found.per_class.values()]
    assert [style for style, _ in bands] == ["0", "1", "2"]
    assert [len(points.split()) for _, points in bands] == [2 * len(c) for c in curves]
    assert "95 % intervals at each point" in Reader(markup).text
    lines = svg.lines([Series(0, [0, 1], [0, 1], low=[0, 0.5], high=[0.5, 1])],
                      Axis("x"), Axis("y"), label="")  # fmt: skip
    (band,) = re.findall(r'<polygon class="s0" points="([^"]+)"', lines.text)
    assert band == "54.0,210.0 328.0,110.0 328.0,10.0 54.0,110.0"
    none = Series(0, [0, 1], [0, 1], low=[np.nan, 0], high=[np.nan, 1])
    assert "polygon" not in svg.lines([none], Axis("x"), Axis("y"), label="").text


def test_the_table_of_parts_has_validations(study: Study) -> None:
    """When each was made, on which dataset, of which run."""
    run = best(study)
    make_validation(study.reports, run.run_id, CLASSES)
    text = Reader(of_section(page(study), "provenance")).text
    assert "validation on elsewhere 2026-01-01 00:00 UTC" in text
    assert f"{run.short_id} {run.run_id}" in text
