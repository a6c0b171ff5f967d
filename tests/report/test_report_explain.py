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
from report_pages import Reader, best, context, of_section, page, run_sections
from report_study import CLASSES, Study

from featcache.core.text import file_name
from featcache.evaluation import references
from featcache.report.heatmaps import records, sheets
from featcache.report.html import explain_section, gaps_section


@pytest.mark.slow
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
    assert "“Where a head looks”" in read.text
    assert CLASSES[0] in " ".join(read.values("alt"))


def test_the_pictures_are_those_of_the_sheets(study: Study) -> None:
    """A mean map is red above and blue below; an image is as grey as its file."""
    report_records.write_maps(study, best(study))
    look = explain_section.map_section(
        context(study), study.reports / "explain" / best(study).run_id
    )
    tile = look.groups[0].cards[0].tiles[1]
    assert tile.caption == "map"
    data = base64.b64decode(tile.uri.split(",")[1])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)
    assert pixels[5, 100, 0] > pixels[5, 100, 2] + 50
    assert pixels[-5, 100, 2] > pixels[-5, 100, 0] + 50
    card = look.groups[1].cards[0]
    with Image.open(study.manifest.root / card.title) as file:
        mean = np.asarray(file.convert("L")).mean()
    data = base64.b64decode(card.tiles[0].uri.split(",")[1])
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert abs(shown.mean() - mean) < 4


@pytest.mark.slow
def test_errors_come_before_classes(study: Study) -> None:
    """With an error sheet the sheets of classes are not shown."""
    report_records.write_maps(study, best(study))
    folder = report_records.write_maps(study, best(study), errors=True)
    titles = [
        group.title
        for group in explain_section.map_section(context(study), folder).groups
    ]
    assert titles == ["Mean maps: linear", "Most confident errors"]
    sheets_of_classes = [s for s in records.load(folder) if s.name != records.ERRORS]
    (folder / records.FILE).unlink()
    records.save(sheets_of_classes, folder)
    titles = [
        group.title
        for group in explain_section.map_section(context(study), folder).groups
    ]
    assert titles[1:] == [
        f"Images labelled {c}" for c in sorted(CLASSES, key=file_name)
    ]


@pytest.mark.slow
def test_the_surest_are_shown_and_the_rest_counted(study: Study) -> None:
    """Of 20 errors the 12 with the highest probability, in the order of the sheet."""
    folder = report_records.write_maps(study, best(study), errors=True, images=20)
    group = explain_section.map_section(context(study), folder).groups[1]
    ok = study.manifest.ok
    assert [card.title for card in group.cards] == list(ok["path"][8:20])
    assert group.note.endswith("8 more images are on the sheet.")


@pytest.mark.slow
def test_three_runs_are_shown_with_maps(study: Study) -> None:
    """A fourth is named with its folder."""
    contract = {"contract_id": best(study).record.contract_id}
    for wrong in (6, 7, 8):
        report_study.write_run(study, "logreg", wrong, contract)
    for run in context(study).runs[:4]:
        report_records.write_maps(study, run, images=1)
    shown = explain_section.map_sections(context(study), context(study).runs)
    assert [look.is_shown for look in shown.values()] == [True, True, True, False]
    assert list(shown)[-1] in page(study).split(", and not on this page.")[0][-200:]


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
    records_of_page = context(study)
    look = explain_section.map_section(records_of_page, folder)
    assert look.groups
    assert (look.notes, look.figures) == ([], [])
    for damaged in (b"", b"no arrays", (folder / records.FILE).read_bytes()[:5000]):
        (folder / records.FILE).write_bytes(damaged)
        assert explain_section.map_section(records_of_page, folder).groups == []
    np.savez(folder / records.FILE, maps=np.zeros((1, 9, 9)))
    assert explain_section.map_section(records_of_page, folder).groups == []
    problems = " ".join(records_of_page.missing)
    for name in ("faithfulness.json", "maps.json", "maps.npz"):
        assert f"{best(study).run_id}/{name}, which cannot be used" in problems


@pytest.mark.slow
def test_an_empty_folder_of_maps_is_only_named(study: Study) -> None:
    """As after a call that drew nothing for the page."""
    (study.reports / "explain" / best(study).run_id).mkdir(parents=True)
    text = Reader(of_section(page(study), "runs")).text
    assert f"explain/{best(study).run_id}" in text
    assert "How faithful" not in text


def test_maps_come_back_from_their_file(tmp_path: Path) -> None:
    """Values, thumbnails, scales, names in any alphabet: as they were put in."""
    values = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    image = records.ShownImage("ab", "п.png", "é <b>", "test", 1, pixels)
    maps = [records.ShownMap(image, name, "cam", 0.5, values) for name in ("a", "b")]
    records.save([records.Sheet("errors", "t", maps, {"cam": 0.25})], tmp_path)
    (sheet,) = records.load(tmp_path)
    assert (sheet.name, sheet.title, sheet.scales) == ("errors", "t", {"cam": 0.25})
    (strip,) = sheet.strips
    assert [(m.target, m.method, m.probability) for m in strip] == [
        ("a", "cam", 0.5), ("b", "cam", 0.5),
    ]  # fmt: skip
    again = strip[0].image
    assert (again.image_id, again.name, again.label, again.part, again.count) == (
        "ab", "п.png", "é <b>", "test", 1,
    )  # fmt: skip
    np.testing.assert_array_equal(strip[1].values, values)
    np.testing.assert_array_equal(again.pixels, pixels)


def test_a_later_call_replaces_the_sheets_it_draws(tmp_path: Path) -> None:
    """Sheets of other names stay as an earlier call left them."""
    image = records.ShownImage("a", "a.png", "x", "test", 1, np.zeros((2, 2), np.uint8))

    def sheet(name: str, value: float) -> records.Sheet:
        values = np.full((2, 2), value, np.float32)
        one = records.ShownMap(image, "x", "cam", 0.5, values)
        return records.Sheet(name, name, [one], {"cam": 1.0})

    records.save([sheet("errors", 1), sheet("mean-cam", 2)], tmp_path)
    records.save([sheet("errors", 3)], tmp_path)
    values = {s.name: float(s.maps[0].values.max()) for s in records.load(tmp_path)}
    assert values == {"errors": 3.0, "mean-cam": 2.0}


def test_members_of_the_best_ensemble_may_be_explained(study: Study) -> None:
    """An ensemble has no maps of its own, so those of a member close the gap."""
    member = references.find(study.reports, "softmax").run_id
    report_study.rewrite(best(study).folder, members=[member])
    gap = "Where the best run looks"
    [matching] = [g for g in gaps_section.gaps(context(study)) if g.title == gap]
    assert matching.hint == f"featcache explain --dataset chest {member}"
    (study.reports / "explain" / member).mkdir(parents=True)
    assert gap not in {g.title for g in gaps_section.gaps(context(study))}


@pytest.mark.slow
def test_pages_with_many_pictures_stay_small(study: Study) -> None:
    """Three runs with 12 images, two maps each: a few hundred kilobytes a run."""
    before = len(page(study))
    contract = {"contract_id": best(study).record.contract_id}
    for wrong in (6, 7):
        report_study.write_run(study, "logreg", wrong, contract)
    for run in context(study).runs[:3]:
        report_records.write_maps(study, run, errors=True, images=12)
    assert len(page(study)) - before < 3 * 600_000


def test_the_records_are_those_of_the_commands(study: Study) -> None:
    """What these tests write has the fields that explain writes."""
    folder = report_records.write_maps(study, best(study))
    record = json.loads((folder / sheets.ROWS).read_text())
    assert set(record) == {"notes", "maps"}
    assert all(Path(name).is_file() for row in record["maps"] for name in row["files"])
