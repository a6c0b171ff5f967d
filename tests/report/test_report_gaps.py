"""What was not checked: the gaps that the report reads from the records."""

from dataclasses import replace
from typing import Any

import pytest
import report_study
from records import make_record
from report_pages import parsed
from report_study import Study

from featcache.backbones import BASELINES
from featcache.evaluation import references, runs
from featcache.report.html import gaps_section
from featcache.report.html.context import collect


def gaps(study: Study) -> set[str]:
    all_gaps = gaps_section.gaps(collect(study.reports, study.board, study.manifest))
    for gap in all_gaps:
        if gap.hint.startswith("featcache "):
            assert [parsed(line) for line in gap.hint.split(" && ")]
    return {gap.title for gap in all_gaps}


def test_the_gaps_of_the_study(study: Study) -> None:
    """They are what its records lack, and no more."""
    assert gaps(study) == {
        "What baselines without a network reach",
        "The test set is small",
        "Images from elsewhere",
        "Another random draw of the folds",
        "Classes with few groups",
        "Shortcuts in the images",
        "Where the best run looks",
    }


RECORD = make_record().to_json()
SPLIT, BLOCK = RECORD["split"], RECORD["features"][0]


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"split": SPLIT | {"group_by": "image"}}, "Patients were not kept together"),
        ({"split": SPLIT | {"group_by": "near-duplicate"}}, "Patients are unknown"),
        ({"features": [BLOCK]}, "Pretrained weights"),
        ({"versions": {"numpy": "1"}}, "Whether library versions change the scores"),
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
    return references.find(study.reports, "logreg")


def test_an_audit_closes_its_gap(study: Study) -> None:
    """Where there is a record of an audit, the box no longer asks for one."""
    (study.reports / "audit.json").write_text("{}")
    assert "Shortcuts in the images" not in gaps(study)


def test_heatmaps_of_the_best_run_close_their_gap(study: Study) -> None:
    """Those of another run do not."""
    for name, closed in (("softmax", False), ("logreg", True)):
        run_id = references.find(study.reports, name).run_id
        (study.reports / "explain" / run_id).mkdir(parents=True)
        assert ("Where the best run looks" not in gaps(study)) is closed


def test_a_run_of_each_baseline_closes_their_gap(study: Study) -> None:
    """Only those without a run are named."""
    for i, name in enumerate(BASELINES):
        report_study.write_run(
            study, "logreg", 30 + i, {"backbone": name, "weights": "none"}
        )
    assert "What baselines without a network reach" not in gaps(study)


def test_lungs_are_named_only_where_masks_are_of_lungs(study: Study) -> None:
    """Any other dataset has a region of interest."""
    table = study.manifest.table
    texts = {}
    for column in ("mask", "lungs", "lung_capacity"):
        masked = replace(study.manifest, table=table.assign(**{column: "a.png"}))
        found_gaps = gaps_section.gaps(collect(study.reports, study.board, masked))
        texts[column] = " ".join(gap.text for gap in found_gaps)
    assert ["the lungs" in text for text in texts.values()] == [False, True, False]
    assert "the region of interest" in texts["mask"]


def test_masks_ask_for_a_run_without_what_they_show(study: Study) -> None:
    """Until there is one on a region outside of them."""
    title = "Whether the best run needs the region of interest"
    table = study.manifest.table
    masked = replace(study.manifest, table=table.assign(mask="masks/all.png"))

    def titles() -> set[str]:
        context = collect(study.reports, study.board, masked)
        return {gap.title for gap in gaps_section.gaps(context)}

    assert title not in gaps(study)
    assert title in titles()
    block = {"backbone": "net", "weights": "imagenet", "region": "outside"}
    report_study.write_run(study, "logreg", 40, block | {"features": [block]})
    assert title not in titles()
