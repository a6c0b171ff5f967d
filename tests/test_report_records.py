"""The report shows what audit and explain recorded, and pages of the test part."""

import base64
import io
import json
import re
from html import unescape
from inspect import signature
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import report_records
import report_study
from PIL import Image
from report_study import CLASSES, IMAGES, Study
from test_html import Reader, parsed

from featcache import runs
from featcache.audit import CHECKS
from featcache.compare import compare
from featcache.finetune import finetune
from featcache.finetune.settings import Settings
from featcache.report import audited, explained, html, panels, pictures, unchecked
from featcache.report.commands import Known, commands
from featcache.report.material import Material, collect
from featcache.report.pictures import slug
from featcache.runs import TEST
from featcache.views import Policy

DOCS = Path(__file__).parents[1] / "docs"
DEFAULTS = {name: one.default for name, one in signature(finetune).parameters.items()}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return report_study.make(tmp_path)


def best(study: Study) -> runs.Run:
    return runs.find(study.reports, "logreg")


def material(study: Study, part: str = "train") -> Material:
    board = compare(study.reports, part=part)
    return collect(study.reports, board, study.manifest)


def page(study: Study, part: str = "train") -> str:
    return html.render(material(study, part))


def of_section(text: str, name: str) -> str:
    """The markup of one section of the page."""
    return text.split(f'<section id="{name}"')[1].split("<section ")[0]


def run_sections(text: str) -> list[str]:
    """The markup of each run."""
    return re.split(r'id="run-\d"', of_section(text, "runs"))[1:]


# Audit


def test_checks_stand_in_the_order_of_their_gravity(study: Study) -> None:
    """Findings of issues, then of tips, then what could not be asked, then passed."""
    report_records.write_audit(study, best(study).run_id)
    found = audited.audited(material(study), best(study).run_id)
    assert found is not None
    codes = [one.code for one in found.answers]
    issues = report_records.issues()
    assert codes[:3] == ["FC005", "FC040", "FC020"]
    assert codes[3 : 3 + len(issues) - 2] == [
        code for code in issues if code not in ("FC005", "FC020")
    ]
    assert sorted(codes) == sorted(CHECKS)
    counts = dict(found.counts)
    assert counts == {
        "issues": 1, "tips": 1, "passed": len(CHECKS) - 3, "not applicable": 1,
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


def test_anchors_are_those_of_the_document() -> None:
    """Each check leads to a heading of docs/audit.md, as GitHub names it."""
    headings = re.findall(r"^### (.*)$", (DOCS / "audit.md").read_text(), re.M)
    known = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
    for check in CHECKS.values():
        assert audited.anchor(check.code, check.title)[1:] in known


def test_an_audit_of_another_run_says_so(study: Study) -> None:
    """Only where its run is not the best of the page; without a run it says that."""
    other = runs.find(study.reports, "softmax").run_id
    for run_id, words in (
        (best(study).run_id, "It is the best run of this page."),
        (other, "Another run:"),
        (None, "there was no run of a network to check"),
    ):
        report_records.write_audit(study, run_id)
        text = Reader(of_section(page(study), "audit")).text
        assert words in text
        assert ("Another run:" in text) is (run_id == other)


def test_the_audit_says_when_it_was_made(study: Study) -> None:
    """As its record says, else as the file does."""
    report_records.write_audit(study, None, created="2026-02-03T04:05:06+0000")
    assert "Made 2026-02-03T04:05:06+0000" in Reader(page(study)).text
    report_records.write_audit(study, None)
    assert re.search(r"Made \d{4}-\d\d-\d\d \d\d:\d\d", Reader(page(study)).text)


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
    found = audited.audited(material(study), "")
    assert found is not None
    assert (len(found.candidates), found.all_candidates) == (24, 30)
    table = best(study).table.set_index("image_id")
    for one in found.candidates:
        given = dict(one.chances)
        assert given == {c: table[f"p_{c}"][one.image_id] for c in best(study).classes}
    section = of_section(page(study), "audit").split("Labels to look at")[1]
    named = [a["aria-label"] for a in Reader(section).of("span") if "role" in a]
    assert named[:24] == [one.path for one in found.candidates]
    assert "no thumbnail" not in section


def test_candidates_of_a_lost_run_keep_what_is_recorded(study: Study) -> None:
    """The probability of the label is all that is known then."""
    report_records.write_audit(study, "gone")
    found = audited.audited(material(study), "")
    assert found is not None
    first = found.candidates[0]
    assert first.chances == [(first.label, 0.1)]


def test_pairs_stand_once_and_the_harmful_first(study: Study) -> None:
    """Three near-duplicates; the one on both sides of a split leads both checks."""
    report_records.write_audit(study, None)
    found = audited.audited(material(study), "")
    assert found is not None
    ok = study.manifest.ok.reset_index(drop=True)
    firsts = [one.sides[0].image_id for one in found.pairs]
    assert firsts == [ok["image_id"][i] for i in (2, 1, 0)]
    assert [one.codes for one in found.pairs] == [
        ["FC005", "FC003"], ["FC003"], ["FC003"],
    ]  # fmt: skip
    assert "on both sides of train and test" in found.pairs[0].text
    assert found.pairs[2].text == "correlation 0.995, one group"


def test_without_an_audit_the_box_says_it_once(study: Study) -> None:
    """The section has one line that leads there; the command stands in the box."""
    text = page(study)
    assert 'href="#unchecked"' in of_section(text, "audit")
    assert unescape(text).count("featcache audit --dataset chest") == 1


def test_without_the_cache_the_audit_is_shown_without_pictures(study: Study) -> None:
    """Paths and probabilities stay."""
    report_records.write_audit(study, best(study).run_id)
    text = html.render(collect(study.reports, study.board, None))
    read = Reader(of_section(text, "audit"))
    assert read.text.count("no image") == 24 + 2 * 3
    assert "image 1.png" in read.text


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": 99}', '{"schema": 1, "run_id": "x", "checks": [1]}']
)
def test_a_broken_audit_is_told(study: Study, text: str) -> None:
    """The page is made, and the box names the file."""
    (study.reports / "audit.json").write_text(text)
    assert "Not at hand: audit.json, which cannot be used" in Reader(page(study)).text


# Explain


def sources_of(section: str) -> list[Image.Image]:
    """The pictures of a section."""
    found = []
    for one in Reader(section).of("img"):
        kind, data = one["src"].split(",")
        assert kind == "data:image/webp;base64"
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert picture.size == (int(one["width"]), int(one["height"]))
        found.append(picture)
    return found


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
    look = explained.look(
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
    titles = [group.title for group in explained.look(material(study), folder).groups]
    assert titles == ["Mean maps: linear", "Surest errors"]
    (folder / "errors.png").unlink()
    titles = [group.title for group in explained.look(material(study), folder).groups]
    assert titles[1:] == [f"Images labelled {c}" for c in sorted(CLASSES, key=slug)]


def test_the_surest_are_shown_and_the_rest_counted(study: Study) -> None:
    """Of 20 errors the 12 with the highest probability, in the order of the sheet."""
    folder = report_records.write_maps(study, best(study), errors=True, images=20)
    group = explained.look(material(study), folder).groups[1]
    ok = study.manifest.ok
    assert [card.title for card in group.cards] == list(ok["path"][8:20])
    assert group.note.endswith("8 more are on the sheet.")


def test_three_runs_are_shown_with_maps(study: Study) -> None:
    """A fourth is named with its folder."""
    record = best(study).record
    for wrong in (6, 7, 8):
        report_study.write_run(study, "logreg", wrong, record)
    for run in material(study).runs[:4]:
        report_records.write_maps(study, run, images=1)
    shown = explained.looks(material(study), material(study).runs)
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
    look = explained.look(found, folder)
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
    panel = panels.Panel(panels.OVERLAY, (1, 2, 3, 4), "é <b>", "cam", 0.5)
    plan = panels.Plan(
        "t", {"cam": 0.25}, [panels.Strip("п.png", "", "test", 1, [panel])]
    )
    panels.save(Image.new("RGB", (9, 9)), tmp_path / "sheet.png", plan)
    with Image.open(tmp_path / "sheet.png") as image:
        assert panels.plan_of(image) == plan


def test_members_of_the_best_ensemble_may_be_explained(study: Study) -> None:
    """An ensemble has no maps of its own, so those of a member close the gap."""
    member = runs.find(study.reports, "softmax").run_id
    report_study.rewrite(best(study).folder, members=[member])
    gap = "Where the best run looks"
    [found] = [g for g in unchecked.gaps(material(study)) if g.title == gap]
    assert found.way_out == f"featcache explain {member} --errors 12"
    (study.reports / "explain" / member).mkdir(parents=True)
    assert gap not in {g.title for g in unchecked.gaps(material(study))}


@pytest.mark.slow
def test_pages_with_many_pictures_stay_small(study: Study) -> None:
    """Three runs with 12 images, two maps each: a few hundred kilobytes a run."""
    before = len(page(study))
    record = best(study).record
    for wrong in (6, 7):
        report_study.write_run(study, "logreg", wrong, record)
    for run in material(study).runs[:3]:
        report_records.write_maps(study, run, errors=True, images=12)
    assert len(page(study)) - before < 3 * 600_000


# Runs of the test part


def only_tested(study: Study) -> Path:
    """A run that is judged on the test part alone, and wrong on none of it."""
    folder = report_study.write_run(study, "finetune", 60, {"store": None})
    path = folder / runs.PREDICTIONS
    table = pd.read_csv(path, keep_default_na=False)
    table[table["split"] == TEST].to_csv(path, index=False)
    rows = [(-1, e, 1 / e, 0.5 + e / 10, 1.0, 0.5) for e in (1, 2, 3)]
    columns = ["fold", "epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "history.csv", index=False)
    return folder


def test_a_page_of_the_test_part_says_so(study: Study) -> None:
    """Ranked by it, with its figures; the run that has no other is there and best."""
    only_tested(study)
    read = Reader(page(study, TEST))
    assert (
        re.findall(r'<a href="#run-\d">(.*?)</a>', page(study, TEST))[0] == "finetune"
    )
    assert "on the test part of split" in read.text
    assert "Best run: accuracy, on the test part" in read.text
    assert "Figures are of the test part alone" in read.text
    assert "ROC, one class against the rest, test part" in read.text
    assert "A test part that nothing was chosen by" in read.text
    assert "test accuracy" not in read.text
    tested = int((best(study).table["split"] == TEST).sum())
    assert f"Judged on {tested} images" in read.text


def test_figures_of_the_test_part_are_its_own(study: Study) -> None:
    """Of `logreg`'s worst errors only those of the test part are shown."""
    [row] = [r for r in compare(study.reports, part=TEST).rows if r["head"] == "logreg"]
    table = best(study).table
    p = table[[f"p_{c}" for c in best(study).classes]].to_numpy()
    right = np.array(best(study).classes)[p.argmax(axis=1)] == table["label"]
    tested = table["split"] == TEST
    assert row["accuracy"] == pytest.approx(right[tested].mean())
    [section] = [s for s in run_sections(page(study, TEST)) if "<h3>logreg " in s]
    errors = section.split("The worst errors")[1]
    assert len(re.findall(r"taken for", errors)) == (~right[tested]).sum()
    assert "out-of-fold" not in errors


def test_data_of_the_test_part_knows_the_whole_split(study: Study) -> None:
    """Where the best run has the test part alone, another tells of the folds."""
    only_tested(study)
    found = material(study, TEST)
    assert len(found.best.table) < len(found.judged) == IMAGES


def test_a_run_of_the_test_part_has_its_curve(study: Study) -> None:
    """That of its one model, where there are no folds."""
    only_tested(study)
    sections = run_sections(page(study, TEST))
    assert "Learning: loss" in sections[0]
    assert "The one model of the test part" in sections[0]
    assert "Thick: mean over the folds" not in sections[0]
    [softmax] = [s for s in sections if "<h3>softmax " in s]
    assert "Thick: mean over the folds" in softmax


@pytest.mark.parametrize("only_test", [True, False])
def test_the_command_of_a_finetuned_run_is_finetune(only_test: bool) -> None:
    """What differs from the defaults is said, and the command line takes it."""
    settings = Settings.of(
        DEFAULTS | {"head": "mlp", "unfreeze": "last-2-blocks", "epochs": 7},
        Policy(flip=False, brightness=(0.9, 1.1), zoom=(1.0, 1.3)),
    )
    record = {
        "dataset": "chest", "backbone": "vgg19", "weights": "random",
        "input_size": 64, "preprocess": "caffe", "seed": 3, "init_head": None,
        "split": {"name": "own", "folds": 4, "test_size": 0.1, "seed": 3},
        "head": "finetune", "head_is": {"params": settings.params()},
        "policy": settings.policy.to_dict(), "max_minutes": 1.5,
        "trainings": [{"fold": k} for k in ([-1] if only_test else [0, 1, -1])],
        "calibration": None,
    }  # fmt: skip
    [line] = commands(record, Known())
    name, given = parsed(line)
    assert name == "finetune"
    assert given["names"] == ("vgg19",)
    assert (given["weights"], given["preprocess"]) == ("random", "caffe")
    assert (given["head"], given["epochs"], given["fold"]) == (
        "mlp", 7, "test" if only_test else "all",
    )  # fmt: skip
    assert (given["unfreeze"], given["max_minutes"]) == ("last-2-blocks", 1.5)
    assert (given["flip"], given["zoom"]) == (False, (1.0, 1.3))
    assert (given["seed"], given["split"], given["folds"]) == (3, "own", 4)
    assert given["calibrate"] is only_test
    for option in ("optimizer", "weight_decay", "patience", "tta"):
        assert given[option] == getattr(settings, option)
        assert option.replace("_", "-") not in line


def test_the_command_writes_a_page_of_the_test_part(study: Study, run) -> None:
    """Beside that of the folds and under a name of its own."""
    words = ("--cache", study.cache.parent, "--reports", study.reports.parent)
    for more in ((), ("--on", "test")):
        code, _, err = run("compare", *words, "--html", *more)
        assert code == 0, err
    names = {path.name for path in study.reports.glob("*.html")}
    assert names == {"report.html", "report-test.html"}
    folds = (study.reports / "report.html").read_text()
    assert "Figures are out-of-fold" in folds
    assert "Figures are of the test part" not in folds


def test_the_records_are_those_of_the_commands(study: Study) -> None:
    """What these tests write has the fields that explain writes."""
    folder = report_records.write_maps(study, best(study))
    found = json.loads((folder / pictures.ROWS).read_text())
    assert set(found) == {"notes", "maps"}
    assert all(Path(name).is_file() for row in found["maps"] for name in row["files"])
