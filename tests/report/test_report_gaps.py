"""What was not checked: the gaps that the report reads from the records."""

from dataclasses import replace
from typing import Any

import pytest
import report_study
from records import make_record
from report_pages import Reader, parsed
from report_study import CLASSES, Study

from featcache.backbones import BASELINES
from featcache.evaluation import references, runs
from featcache.report.html import dataset_section, gaps_section
from featcache.report.html.context import collect
from featcache.report.html.page import render


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
        "How accurate the best run is, to within 10 points",
        "Images from elsewhere",
        "Another random draw of the folds",
        "How well the small classes are recognised",
        "Shortcuts in the images",
        "Where the best run looks",
    }


RECORD = make_record().to_json()
NEW_PATIENTS = "Whether the scores hold for new patients"
SPLIT, BLOCK = RECORD["split"], RECORD["features"][0]


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"split": SPLIT | {"group_by": "image"}}, NEW_PATIENTS),
        ({"split": SPLIT | {"group_by": "near-duplicate"}}, NEW_PATIENTS),
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


def test_a_value_with_one_class_is_a_finding_and_no_gap(study: Study) -> None:
    """20 images north are all of one class, and are named at the top of the page."""
    north = study.manifest.table["label"] == CLASSES[2]
    site = north.map({True: "north", False: "<b>south"}).to_numpy()
    split = replace(study.manifest, table=study.manifest.table.assign(site=site))
    shown = Reader(render(collect(study.reports, study.board, split))).text
    first = shown.split("Read this first")[1].split("Best run")[0]
    assert "one class only: site north (20 images, all plain)." in first
    assert "north" not in shown.split("What was not checked")[-1].split("Audit")[0]
    plain = collect(study.reports, study.board, study.manifest)
    assert dataset_section.one_class_values(plain) == ""


def test_a_source_without_columns_is_a_gap(study: Study) -> None:
    """Nobody can tell then where the images come from."""
    table = study.manifest.table.drop(columns=["view", "age", "site"])
    bare = collect(study.reports, study.board, replace(study.manifest, table=table))
    title = "Where the images come from"
    assert title not in gaps(study)
    assert title in {gap.title for gap in gaps_section.gaps(bare)}


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
