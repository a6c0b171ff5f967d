"""The report shows what explain recorded."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
import report_records
import report_study
from PIL import Image
from report_pages import Reader, best, material, of_section, page, run_sections
from report_study import CLASSES, Study

from featcache.evaluation import runs
from featcache.report.heatmaps import layout, sheets
from featcache.report.heatmaps.sheets import slug
from featcache.report.html import explain_section, gaps_section


def test_maps_stand_in_the_section_of_their_run(study: Study) -> None:
    """Means of each class, six images with two maps each; other runs have none."""
    report_records.write_maps(study, best(study))
    sections = run_sections(page(study))
    assert ["Where it looks" in one for one in sections] == [True, False, False]
    read = Reader(sections[0])
    assert len(read.of("img")) == 2 * 3 + 3 * 6
    assert all(one["alt"] for one in read.of("img"))
    assert "Mean maps: linear" in read.text
    assert "a <note>" in read.text
    assert "docs/explain.md" in read.text
    assert CLASSES[0] in " ".join(read.values("alt"))


def test_the_pictures_are_those_of_the_sheets(study: Study) -> None:
    """A mean map is red above and blue below; an image is as grey as its file."""
    report_records.write_maps(study, best(study))
    look = explain_section.look(
        material(study), study.reports / "explain" / best(study).run_id
    )
    tile = look.groups[0].cards[0].tiles[1]
    assert tile.caption == "map"
    data = base64.b64decode(tile.uri.split(",")[1])
    drawn = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)
    assert drawn[5, 100, 0] > drawn[5, 100, 2] + 50
    assert drawn[-5, 100, 2] > drawn[-5, 100, 0] + 50
    card = look.groups[1].cards[0]
    with Image.open(study.manifest.root / card.title) as file:
        mean = np.asarray(file.convert("L")).mean()
    data = base64.b64decode(card.tiles[0].uri.split(",")[1])
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert abs(shown.mean() - mean) < 4


def test_errors_come_before_classes(study: Study) -> None:
    """With an error sheet the sheets of classes are not shown."""
    report_records.write_maps(study, best(study))
    folder = report_records.write_maps(study, best(study), errors=True)
    titles = [
        group.title for group in explain_section.look(material(study), folder).groups
    ]
    assert titles == ["Mean maps: linear", "Surest errors"]
    (folder / "errors.png").unlink()
    titles = [
        group.title for group in explain_section.look(material(study), folder).groups
    ]
    assert titles[1:] == [f"Images labelled {c}" for c in sorted(CLASSES, key=slug)]


def test_the_surest_are_shown_and_the_rest_counted(study: Study) -> None:
    """Of 20 errors the 12 with the highest probability, in the order of the sheet."""
    folder = report_records.write_maps(study, best(study), errors=True, images=20)
    group = explain_section.look(material(study), folder).groups[1]
    ok = study.manifest.ok
    assert [card.title for card in group.cards] == list(ok["path"][8:20])
    assert group.note.endswith("8 more are on the sheet.")


def test_three_runs_are_shown_with_maps(study: Study) -> None:
    """A fourth is named with its folder."""
    same_store = {"contract_id": best(study).record.contract_id}
    for wrong in (6, 7, 8):
        report_study.write_run(study, "logreg", wrong, same_store)
    for run in material(study).runs[:4]:
        report_records.write_maps(study, run, images=1)
    shown = explain_section.looks(material(study), material(study).runs)
    assert [look.shown for look in shown.values()] == [True, True, True, False]
    assert list(shown)[-1] in page(study).split("sheets of three runs")[0][-200:]


def test_faithfulness_is_a_table_a_method(study: Study) -> None:
    """A row a class and method, a column a figure with its interval."""
    report_records.write_maps(study, best(study))
    text = Reader(of_section(page(study), "runs")).text
    assert "class method images deletion insertion inside mask pointing mask" in text
    for method in ("linear", "chance"):
        cells = f"{best(study).classes[0]} {method} 6 " + " ".join(
            ["0.250 0.125–0.500"] * 4
        )
        assert cells in text
    assert "Pointing: how often" in text
    assert "Area:" not in text


def test_broken_records_of_maps_cost_only_themselves(study: Study) -> None:
    """Each is named in the box; the others are shown."""
    folder = report_records.write_maps(study, best(study))
    (folder / "faithfulness.json").write_text("{")
    (folder / "maps.json").write_text("[]")
    Image.new("L", (9, 9)).save(folder / "mean-linear.png")
    (folder / "mean-cam.png").write_bytes(b"no picture")
    found = material(study)
    look = explain_section.look(found, folder)
    assert look.groups
    assert (look.notes, look.figures) == ([], [])
    told = " ".join(found.lacking)
    for name in ("faithfulness.json", "maps.json", "mean-linear.png", "mean-cam.png"):
        assert f"{best(study).run_id}/{name}, which cannot be used" in told


def test_an_empty_folder_of_maps_is_only_named(study: Study) -> None:
    """As after a call that drew nothing for the page."""
    (study.reports / "explain" / best(study).run_id).mkdir(parents=True)
    text = Reader(of_section(page(study), "runs")).text
    assert f"explain/{best(study).run_id}" in text
    assert "How faithful" not in text


def test_a_plan_comes_back_from_its_file(tmp_path: Path) -> None:
    """Boxes, names in any alphabet, scales: as they were put in."""
    panel = layout.Panel(layout.OVERLAY, (1, 2, 3, 4), "é <b>", "cam", 0.5)
    plan = layout.Plan(
        "t", {"cam": 0.25}, [layout.Strip("п.png", "", "test", 1, [panel])]
    )
    layout.save(Image.new("RGB", (9, 9)), tmp_path / "sheet.png", plan)
    with Image.open(tmp_path / "sheet.png") as image:
        assert layout.plan_of(image) == plan


def test_members_of_the_best_ensemble_may_be_explained(study: Study) -> None:
    """An ensemble has no maps of its own, so those of a member close the gap."""
    member = runs.find(study.reports, "softmax").run_id
    report_study.rewrite(best(study).folder, members=[member])
    gap = "Where the best run looks"
    [found] = [g for g in gaps_section.gaps(material(study)) if g.title == gap]
    assert found.way_out == f"featcache explain {member} --errors 12"
    (study.reports / "explain" / member).mkdir(parents=True)
    assert gap not in {g.title for g in gaps_section.gaps(material(study))}


@pytest.mark.slow
def test_pages_with_many_pictures_stay_small(study: Study) -> None:
    """Three runs with 12 images, two maps each: a few hundred kilobytes a run."""
    before = len(page(study))
    same_store = {"contract_id": best(study).record.contract_id}
    for wrong in (6, 7):
        report_study.write_run(study, "logreg", wrong, same_store)
    for run in material(study).runs[:3]:
        report_records.write_maps(study, run, errors=True, images=12)
    assert len(page(study)) - before < 3 * 600_000


def test_the_records_are_those_of_the_commands(study: Study) -> None:
    """What these tests write has the fields that explain writes."""
    folder = report_records.write_maps(study, best(study))
    found = json.loads((folder / sheets.ROWS).read_text())
    assert set(found) == {"notes", "maps"}
    assert all(Path(name).is_file() for row in found["maps"] for name in row["files"])
