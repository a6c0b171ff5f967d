"""The report: one file that stands alone, shows the records, and escapes all text."""

import base64
import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import report_records
import report_study
from records import make_record
from report_pages import Reader, best, context
from report_study import CLASSES, IMAGES, Study

from featcache.evaluation import metrics, references
from featcache.report.html import page as html_page
from featcache.report.html import provenance_section, summary_section
from featcache.report.html.context import without_folders


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the study."""
    made = report_study.make(tmp_path_factory.mktemp("report"))
    return html_page.write(made.reports, made.board, manifest=made.manifest).read_text()


def test_the_page_stands_alone(page: str) -> None:
    """No address in it leads anywhere but into the page; its policy allows no other."""
    read = Reader(page)
    assert {tag for tag, _ in read.tags} & {"img", "iframe", "object", "base"} == set()
    links = read.values("href")
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert read.values("src") == []
    assert all(url.startswith("data:") for url in re.findall(r"url\((.{5})", page))
    assert "@import" not in page
    [policy] = [m["content"] for m in read.of("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_only_our_script_may_run(page: str) -> None:
    """The policy names the digest of the one script, so that no other runs."""
    blocks = re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL)
    [script] = [body for attributes, body in blocks if "json" not in attributes]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert not [name for _, a in Reader(page).tags for name in a if name[:2] == "on"]


def test_text_of_the_data_is_never_markup(page: str) -> None:
    """A class named as a tag, and a path with quotes and tags, are text everywhere."""
    read = Reader(page)
    assert CLASSES[0] in read.text
    assert 'odd "0" <b>.png' in read.text
    assert "<img" not in page
    assert "<b>.png" not in page


def test_no_text_turns_what_is_behind_it() -> None:
    """An override is spelled out; markup stays as it is."""
    template = html_page._environment().from_string("{{ name }}{{ name|breakable }}")
    assert template.render(name="a\u202eb_") == r"a\u202eb_a\u202eb_<wbr>"
    assert template.render(name="é\u200d") == "é\u200d" * 2


def test_commands_are_escaped_and_their_options_whole() -> None:
    """A break behind a dash would be read as an option of another name."""
    template = html_page._environment().from_string(
        "{{ x|unbroken }}{{ x|with_command }}"
    )
    shown = template.render(x="a: featcache x '<b>--y' --tap-pooling=2 -b c--d \u202e")
    assert shown.count("<span class=option>--tap-pooling</span>=2 -b c--d") == 2
    assert shown.count("&lt;b&gt;--y") == 2
    assert "\u202e" not in shown


def test_the_first_screen_is_short_and_in_words(page: str) -> None:
    """Nothing of the leaderboard's terms is above it, and names have an end."""
    first = page[page.index("<h1>") : page.index('id="leaderboard"')]
    assert "In short" in first
    assert "No model was tested on images of a" in first
    assert "Holm" not in first
    assert "Holm" in page
    assert len(summary_section._short("L" * 300)) == 40


def test_every_run_has_a_section_in_its_order(page: str) -> None:
    """The best is first and open; each row of the leaderboard leads to its section."""
    sections = [a for a in Reader(page).of("details") if "run" in a.get("class", "")]
    assert [section["id"] for section in sections] == ["run-1", "run-2", "run-3"]
    assert [("open" in section) for section in sections] == [True, True, False]
    heads = re.findall(r'<a href="#run-\d">(.*?)</a>', page)
    assert heads == ["logreg", "softmax", "majority"]


def test_controls_have_a_part_of_the_table(page: str) -> None:
    """Majority is in the part of the table that is headed as controls."""
    above, below = page.split('<tbody role="rowgroup" class="below">')
    assert ">majority</a>" not in above
    assert ">majority</a>" in below


def test_the_page_can_be_read_by_machines(page: str) -> None:
    """Tables have captions and scopes, controls names, ids are unique, links lead."""
    read = Reader(page)
    counts = Counter(tag for tag, _ in read.tags)
    assert counts["caption"] == counts["table"] > 10
    assert all("scope" in heading for heading in read.of("th"))
    assert all("aria-label" in a for a in read.of("svg") if a.get("role"))
    assert all("aria-hidden" in a or "role" in a for a in read.of("svg"))
    ids = read.values("id")
    assert len(ids) == len(set(ids))
    assert {h[1:] for h in read.values("href") if h.startswith("#")} <= set(ids)
    assert {name for a in read.values("aria-labelledby") for name in a.split()} <= {
        *ids
    }
    assert counts["h1"] == 1
    assert [a["lang"] for a in read.of("html")] == ["en"]


def test_the_figures_are_those_of_the_predictions(page: str) -> None:
    """Each fifth image is wrong: 12 of 60, and so off the diagonals of `logreg`."""
    section = page.split('id="run-1"')[1].split('id="run-2"')[0]
    cells = re.findall(r'class="number (hit|miss)"[^>]*><b>(\d+)</b>', section)
    wrong = sum(int(count) for kind, count in cells if kind == "miss")
    assert sum(int(count) for _, count in cells) == IMAGES
    assert wrong == IMAGES / 5


def test_learning_curves_are_shown_where_there_are_some(page: str) -> None:
    """Only the head with a history has them."""
    sections = re.split(r'id="run-\d"', page)[1:]
    assert ["Learning: loss" in one for one in sections] == [False, True, False]


def test_without_the_cache_the_page_says_so(study: Study) -> None:
    """No map, no thumbnails, and the box names what was not available."""
    text = Reader(html_page.write(study.reports, study.board).read_text()).text
    assert "No map: the features" in text
    assert "Not available: the cache of the dataset" in text
    assert "no image" in text


def test_without_the_images_the_page_says_so(study: Study) -> None:
    """The map stays; thumbnails are missing with the reason."""
    for path in study.manifest.root.glob("*.png"):
        path.unlink()
    path = html_page.write(study.reports, study.board, manifest=study.manifest)
    text = Reader(path.read_text()).text
    assert f"{IMAGES} of {IMAGES} images could not be read" in text
    assert "Each mark is an image" in text
    assert ".sheet-0 {" not in path.read_text()


def test_a_lost_store_costs_only_the_map(study: Study) -> None:
    """Thumbnails of the errors stay, and the box names the store."""
    (study.cache / "features" / report_study.STORE).unlink()
    path = html_page.write(study.reports, study.board, manifest=study.manifest)
    assert "No map: the features" in path.read_text()
    assert f"the features {report_study.STORE}" in path.read_text()
    assert ".sheet-0 {" in path.read_text()


def test_the_points_of_the_map_are_the_images(page: str) -> None:
    """Each image has a place in every layout, its class, and a tile."""
    [text] = re.findall(r'id="points">(.*?)</script>', page, re.DOTALL)
    points = json.loads(text)
    assert len(points["paths"]) == IMAGES
    assert sorted(points["tiles"]) == list(range(IMAGES))
    assert [one["name"] for one in points["layouts"]][:2] == ["PCA", "t-SNE"]
    assert {len(one["xy"]) for one in points["layouts"]} == {2 * IMAGES}
    colours = {one["name"]: one for one in points["colours"]}
    assert [*colours] == [
        "class", "predicted", "outcome", "part of the split", "view", "age",
    ]  # fmt: skip
    wrong = colours["outcome"]["values"].index("wrong")
    assert colours["outcome"]["codes"].count(wrong) == IMAGES / 5


def test_compare_writes_the_report(
    study: Study, run: Callable[..., tuple[int, str, str]]
) -> None:
    """Without FILE it goes beside the runs; what is printed stays the same."""
    words = [
        "compare",
        "--cache",
        study.cache.parent,
        "--reports",
        study.reports.parent,
    ]
    plain = run(*words)
    code, out, err = run(*words, "--html")
    assert (code, out) == plain[:2]
    assert (study.reports / "report.html").is_file()
    assert f"Report: {study.reports / 'report.html'}" in err
    assert run(*words, "--html", "own.html")[0] == 0
    assert Path("own.html").read_text().startswith("<!doctype html>")
    assert run(*words, "--html", "own.html")[0] == 0


@pytest.mark.slow
def test_compare_names_a_page_that_is_stale(
    study: Study, run: Callable[..., tuple[int, str, str]]
) -> None:
    """Records newer than the page, or gone, are told of until it is made anew."""
    words = ["compare", "--cache", study.cache.parent]
    words += ["--reports", study.reports.parent]
    stale = f"{study.reports / 'report.html'} is older than the runs, audit or maps"
    assert stale not in run(*words)[2]
    run(*words, "--html")
    assert stale not in run(*words)[2]
    report_records.write_audit(study, "another-run")
    assert stale in run(*words)[2]
    run(*words, "--html")
    assert stale not in run(*words)[2]
    gone = references.find(study.reports, "softmax")
    shutil.rmtree(gone.folder)
    assert stale in run(*words)[2]
    run(*words, "--html")
    assert gone.run_id not in (study.reports / "report.html").read_text()
    shutil.rmtree(study.reports / "runs")
    code, _, err = run(*words)
    assert code == 1
    assert f"{study.reports / 'report.html'} shows runs that are gone." in err


@pytest.mark.slow
def test_the_page_says_when_its_parts_were_made(study: Study) -> None:
    """Each part has a date and its runs; runs newer than the audit are counted."""
    report_records.write_audit(study, "another-run")
    path = study.reports / "audit.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"created": "2000-01-01T00:00:00+00:00"}))
    report_records.write_maps(study, best(study))
    text = Reader(
        html_page.write(study.reports, study.board, manifest=study.manifest).read_text()
    ).text
    parts = text.split("When each part was made, and of which runs")[-1]
    assert "heat maps 20" in parts
    assert "3 runs of this page made since" in parts
    assert "3 of the runs on this page were made after this audit" in text


def test_compare_replaces_only_a_report(
    study: Study, run: Callable[..., tuple[int, str, str]]
) -> None:
    """Another file stays without --force, and is named before anything is ranked."""
    words = ["compare", "--cache", study.cache.parent, "--html", "own.html"]
    words += ["--reports", study.reports.parent]
    Path("own.html").write_text("mine")
    code, out, err = run(*words)
    assert (code, out, "own.html, which exists" in err) == (1, "", True)
    assert Path("own.html").read_text() == "mine"
    assert run(*words, "--force")[0] == 0
    assert "generator" in Path("own.html").read_text()


def test_the_page_on_the_report_runs(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python of docs/explanations/report.md writes the report beside the runs."""
    monkeypatch.chdir(study.cache.parent.parent)
    text = (Path(__file__).parents[2] / "docs/explanations/report.md").read_text()
    [code] = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.M)
    exec(code.replace("xrays", "chest"), {})
    assert (study.reports / "report.html").is_file()


def test_the_page_draws_no_resample_of_the_board_again(
    study: Study, monkeypatch
) -> None:
    """Out-of-fold draws come from the leaderboard; only the test set is drawn anew."""
    materials = context(study)
    sizes: list[int] = []
    bootstrap = metrics.bootstrap

    def counted(y: Any, *data: Any) -> metrics.Draws:
        sizes.append(len(y))
        return bootstrap(y, *data)

    monkeypatch.setattr(metrics, "bootstrap", counted)
    html_page.render(materials)
    test_images = int((best(study).table["split"] == "test").sum())
    assert sizes == [test_images] * 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("scan /home/ann/x.csv --by P", "scan FOLDER/x.csv --by P"),
        ("-b '/home/ann b/net.keras' --size 2", "-b 'FOLDER/net.keras' --size 2"),
        ("-b=/home/ann/net.keras:size=224", "-b=FOLDER/net.keras:size=224"),
        (r"C:\Users\ann\net.onnx 'C:/Ann B/x.csv'", "FOLDER/net.onnx 'FOLDER/x.csv'"),
        ("file:///home/ann/x.zip", "FOLDER/x.zip"),
        ("https://h.org/a/b s3://b/c/d x/y/z ../a/b", None),
        ("TP/N - FP/N x t / (1 - t)", None),
    ],
)  # fmt: skip
def test_no_absolute_path_is_shown(text: str, shown: str | None) -> None:
    """Folders of this machine are left out; URLs and relative paths stay."""
    assert without_folders(text) == (shown or text)


def test_the_page_names_no_folder_of_this_machine(study: Study) -> None:
    """Neither in the commands nor in what the audit says; the commands are there."""
    report_records.write_audit(study, best(study).run_id)
    path = study.reports / "audit.json"
    again = f"Run: featcache extract -b {study.cache}/net.keras"
    path.write_text(path.read_text().replace(report_records.MESSAGE, again))
    shown = html_page.render(context(study))
    assert str(study.cache.parent.parent) not in shown
    assert "docs/" not in Reader(shown).text  # who has the page alone has no such file
    assert "-b FOLDER/net.keras" in shown
    assert "featcache extract FOLDER/metadata.csv --dataset chest" in shown


@pytest.mark.slow
def test_pictures_can_be_left_out(
    study: Study, run: Callable[..., tuple[int, str, str]]
) -> None:
    """Who writes a page is told what is in it; --no-images leaves file names alone."""
    report_records.write_maps(study, best(study))
    words = ["compare", "--cache", study.cache.parent, "--html", "own.html"]
    words += ["--reports", study.reports.parent]
    err = run(*words)[2]
    contents = f"thumbnails of {IMAGES} images, heat maps over images and the names of"
    assert f"The page contains {contents} image files" in err
    assert "--no-images leaves pictures out." in err
    assert contents in Reader(Path("own.html").read_text()).text
    code, _, err = run(*words, "--no-images")
    assert code == 0
    assert "The page contains the names of image files: share it only" in err
    page = Path("own.html").read_text()
    assert not re.findall(r"data:image/\w+", page)
    assert "Thumbnails: left out of this page." in Reader(page).text
    assert "image 7.png" in page
    code, _, err = run("compare", "--no-images", *words[5:])
    assert (code, "--html" in err) == (1, True)


def test_networks_are_listed_with_their_licences() -> None:
    """Licence, source and canary of each network once; random ones have none."""
    blocks = [
        {"backbone": "net", "weights": "file", "licence": "MIT", "source": "a ward",
         "canary": "passed"},
        {"backbone": "vgg16", "weights": "imagenet"},
        {"backbone": "vgg16", "weights": "random"},
    ]  # fmt: skip
    record = make_record(features=[*blocks, *blocks])
    context = SimpleNamespace(runs=[SimpleNamespace(record=record)], stores={})
    table = provenance_section._networks(context)
    assert table.rows == [
        ["net, 32 px", "file", "MIT", "a ward", "passed", "not stated"],
        [
            "vgg16, 32 px",
            "imagenet",
            "not stated",
            "not stated",
            "not needed",
            "not stated",
        ],
    ]
