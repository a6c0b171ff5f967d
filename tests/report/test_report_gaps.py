"""What was not checked: the gaps that the report reads from the records."""

from dataclasses import replace
from typing import Any

import pytest
import report_study
from records import make_record
from report_pages import parsed
from report_study import Study

from featcache.backbones import BASELINES
from featcache.evaluation import runs
from featcache.report.html import gaps_section
from featcache.report.html.context import collect


def gaps(study: Study) -> set[str]:
    found = gaps_section.gaps(collect(study.reports, study.board, study.manifest))
    for gap in found:
        if gap.way_out.startswith("featcache "):
            assert [parsed(line) for line in gap.way_out.split(" && ")]
    return {gap.title for gap in found}


def test_the_gaps_of_the_study(study: Study) -> None:
    """They are what its records lack, and no more."""
    assert gaps(study) == {
        "How far one gets without a network",
        "The test part is small",
        "Another draw of the folds",
        "Classes with few groups",
        "What in the images decides",
        "Where the best run looks",
    }


RECORD = make_record().to_json()
SPLIT, BLOCK = RECORD["split"], RECORD["features"][0]


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"split": SPLIT | {"group_by": "image"}}, "Patients were not kept together"),
        ({"split": SPLIT | {"group_by": "near-duplicate"}}, "Patients are not known"),
        ({"features": [BLOCK]}, "Pretrained weights"),
        ({"versions": {"numpy": "1"}}, "Whether versions change the figures"),
    ],
)
def test_a_gap_is_read_from_the_records(
    study: Study, changes: dict[str, Any], title: str
) -> None:
    """One changed field of the best run's record, and the gap is there."""
    assert title not in gaps(study)
    report_study.rewrite(collect_first(study).folder, **changes)
    assert title in gaps(study)


def collect_first(study: Study) -> runs.Run:
    return runs.find(study.reports, "logreg")


def test_an_audit_closes_its_gap(study: Study) -> None:
    """Where there is a record of an audit, the box no longer asks for one."""
    (study.reports / "audit.json").write_text("{}")
    assert "What in the images decides" not in gaps(study)


def test_heatmaps_of_the_best_run_close_their_gap(study: Study) -> None:
    """Those of another run do not."""
    for name, closed in (("softmax", False), ("logreg", True)):
        run_id = runs.find(study.reports, name).run_id
        (study.reports / "explain" / run_id).mkdir(parents=True)
        assert ("Where the best run looks" not in gaps(study)) is closed


def test_a_run_of_each_baseline_closes_their_gap(study: Study) -> None:
    """Only those without a run are named."""
    for i, name in enumerate(BASELINES):
        report_study.write_run(
            study, "logreg", 30 + i, {"backbone": name, "weights": "none"}
        )
    assert "How far one gets without a network" not in gaps(study)


def test_masks_ask_for_a_run_without_what_they_show(study: Study) -> None:
    """Until there is one on a region outside of them."""
    title, table = "Whether it needs what the masks show", study.manifest.table
    masked = replace(study.manifest, table=table.assign(mask="masks/all.png"))

    def titles() -> set[str]:
        material = collect(study.reports, study.board, masked)
        return {gap.title for gap in gaps_section.gaps(material)}

    assert title not in gaps(study)
    assert title in titles()
    block = {"backbone": "net", "weights": "imagenet", "region": "outside"}
    report_study.write_run(study, "logreg", 40, block | {"features": [block]})
    assert title not in titles()
