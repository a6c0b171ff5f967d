"""The report: one file that stands alone, shows the records, and escapes all text."""

import base64
import hashlib
import io
import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import report_study
from PIL import Image
from report_study import CLASSES, IMAGES, Study
from toys import picture

from featcache import runs
from featcache.backbones import BASELINES
from featcache.cli import cli
from featcache.report import charts, html, maps, scoring, thumbs, unchecked
from featcache.report.commands import Known, commands
from featcache.report.material import collect, source_columns
from featcache.runs import Predictions


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return report_study.make(tmp_path)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the study."""
    made = report_study.make(tmp_path_factory.mktemp("report"))
    return html.write(made.reports, made.board, manifest=made.manifest).read_text()


class Reader(HTMLParser):
    """Reads a page into its tags with their attributes, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps a tag."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        """Keeps a text with the tag it follows."""
        self.texts.append((self.tags[-1][0] if self.tags else "", data))

    def of(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]

    def values(self, name: str) -> list[str]:
        """Every value of an attribute."""
        return [attributes[name] for _, attributes in self.tags if name in attributes]

    @property
    def text(self) -> str:
        """What a person reads."""
        shown = [data for tag, data in self.texts if tag not in ("script", "style")]
        return " ".join(" ".join(shown).split())


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


def test_every_run_has_a_section_in_its_order(page: str) -> None:
    """The best is first and open; each row of the leaderboard leads to its section."""
    sections = [a for a in Reader(page).of("details") if "run" in a.get("class", "")]
    assert [section["id"] for section in sections] == ["run-1", "run-2", "run-3"]
    assert [("open" in section) for section in sections] == [True, True, False]
    heads = re.findall(r'<a href="#run-\d">(.*?)</a>', page)
    assert heads == ["logreg", "softmax", "majority"]


def test_trivial_rows_stand_below_the_line(page: str) -> None:
    """Majority is in the part of the table that is headed as trivial."""
    above, below = page.split('<tbody class="below">')
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
    """No map, no thumbnails, and the box names what was not at hand."""
    text = Reader(html.write(study.reports, study.board).read_text()).text
    assert "There is no map" in text
    assert "the dataset's cache was not at hand" in text
    assert "no image" in text


def test_without_the_images_the_page_says_so(study: Study) -> None:
    """The map stays; thumbnails are missing with the reason."""
    for path in study.manifest.root.glob("*.png"):
        path.unlink()
    path = html.write(study.reports, study.board, manifest=study.manifest)
    text = Reader(path.read_text()).text
    assert f"{IMAGES} of {IMAGES} images could not be read" in text
    assert "Each mark is an image" in text
    assert "--sheet: url" not in path.read_text()


def test_a_lost_store_costs_only_the_map(study: Study) -> None:
    """Thumbnails of the errors stay, and the box names the store."""
    (study.cache / "features" / report_study.STORE).unlink()
    path = html.write(study.reports, study.board, manifest=study.manifest)
    assert "There is no map" in path.read_text()
    assert f"the features {report_study.STORE}" in path.read_text()
    assert "--sheet: url" in path.read_text()


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


def test_the_page_on_the_report_runs(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python of docs/report.md writes the report beside the runs."""
    monkeypatch.chdir(study.cache.parent.parent)
    text = (Path(__file__).parents[1] / "docs/report.md").read_text()
    [code] = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.M)
    exec(code.replace("xrays", "chest"), {})
    assert (study.reports / "report.html").is_file()


# Thumbnails


def test_a_tile_shows_its_image(tmp_path: Path) -> None:
    """Tiles lie row by row in the order of the images, each in its middle."""
    shades = (0, 100, 200)
    for shade in shades:
        Image.new("L", (50, 80), shade).save(tmp_path / f"{shade}.png")
    paths = pd.Series({str(s): f"{s}.png" for s in shades} | {"lost": "lost.png"})
    found = thumbs.sheet(tmp_path, paths)
    with Image.open(io.BytesIO(base64.b64decode(found.uri.split(",")[1]))) as file:
        sheet = np.asarray(file)
    assert found.tiles == {"0": 0, "100": 1, "200": 2}
    assert found.reason == "1 of 4 images could not be read"
    assert sheet.shape == (found.rows * thumbs.TILE, found.columns * thumbs.TILE)
    for shade, tile in zip(shades, found.tiles.values(), strict=True):
        row, column = divmod(tile, found.columns)
        middle = [int(thumbs.TILE * (k + 0.5)) for k in (row, column)]
        assert abs(int(sheet[middle[0], middle[1]]) - shade) <= 3


@pytest.mark.slow
def test_the_sheet_keeps_to_its_limit() -> None:
    """1200 pictures of coloured noise, the worst for JPEG, still fit."""
    rng = np.random.default_rng(0)
    shape = (thumbs.TILE, thumbs.TILE, 3)
    noise = [
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)) for _ in range(1200)
    ]
    assert len(thumbs._uri(thumbs._paste(noise, 35))) < 10e6


def test_look_alikes_count_across_groups_only(tmp_path: Path) -> None:
    """The same picture under two names is told where the groups differ."""
    for name, seed in (("a", 1), ("b", 1), ("c", 1), ("d", 2)):
        picture(seed, 100).save(tmp_path / f"{name}.png")
    small = thumbs.sheet(tmp_path, pd.Series({c: f"{c}.png" for c in "abcd"})).small
    groups = pd.Series({"a": "P1", "b": "P1", "c": "P2", "d": "P3"})
    pairs = thumbs.look_alikes(small, groups, above=0.99)
    assert pairs == [("a", "c"), ("b", "c")]


# Columns and maps


def test_source_columns_tell_where_images_come_from() -> None:
    """Few values are kept, many numbers cut in quarters; names and labels are none."""
    images = pd.DataFrame(
        {
            "label": ["a", "b"] * 8,
            "group": [f"P{i}" for i in range(16)],
            "mode": ["L"] * 16,
            "sex": ["F", "", "M", "M"] * 4,
            "age": list(map(str, range(1, 17))),
            "patient": [f"P{i}" for i in range(16)],
            "diagnosis": ["sick", "well"] * 8,
        }
    )
    found = source_columns(images)
    assert {name: sorted(set(values)) for name, values in found.items()} == {
        "sex": ["(not given)", "F", "M"],
        "age": [
            "over 12.25, up to 16", "over 4.75, up to 8.5", "over 8.5, up to 12.25",
            "up to 4.75",
        ],
    }  # fmt: skip
    assert Counter(found["age"]).most_common(1)[0][1] == 4


def test_a_sample_keeps_the_shares_of_the_classes() -> None:
    """Of 90 and 10 images, 50 are drawn as 45 and 5, and the same ones each time."""
    labels = pd.Series(["a"] * 90 + ["b"] * 10, index=[f"i{k}" for k in range(100)])
    drawn = maps.sample(labels, 50)
    assert Counter(labels[drawn]) == {"a": 45, "b": 5}
    assert list(drawn) == list(maps.sample(labels, 50))
    assert len(maps.sample(labels)) == 100


def test_maps_keep_clusters_apart() -> None:
    """Two far clusters are apart in every layout, and all places are in the unit."""
    rng = np.random.default_rng(0)
    X = rng.normal(0, 0.1, (60, 20)) + np.repeat([[0], [5]], 30, axis=0)
    for layout in maps.layouts(X):
        assert layout.xy.shape == (60, 2)
        assert layout.xy.min() >= 0
        assert layout.xy.max() <= 1
        one, two = layout.xy[:30], layout.xy[30:]
        apart = np.linalg.norm(one.mean(axis=0) - two.mean(axis=0))
        assert apart > 2 * max(one.std(), two.std())


# Figures and charts


def test_bins_are_means_of_their_images() -> None:
    """Ten images that are 0.7 sure and six times right lie at (0.7, 0.6)."""
    y = np.array([0] * 6 + [1] * 4)
    p = np.tile([0.7, 0.3], (10, 1))
    [found] = scoring.bins(Predictions(y, p, np.arange(10)))
    assert (found.n, found.accuracy) == (10, 0.6)
    assert found.confidence == pytest.approx(0.7)


def test_the_worst_errors_come_first() -> None:
    """Of three errors, those that give the truth the least; a right one is none."""
    table = pd.DataFrame(
        {
            "image_id": list("abcd"),
            "label": ["x", "x", "y", "y"],
            "p_x": [0.3, 0.1, 0.8, 0.0],
            "p_y": [0.7, 0.9, 0.2, 1.0],
        }
    )
    found = scoring.worst_errors(table, ["x", "y"], 2)
    assert [(row["image_id"], named) for row, named, _ in found] == [
        ("b", "y"), ("c", "x"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.0, 1.0], [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([0.31, 0.74], [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]),
        ([2.0, 2.0], [2.0]),
        ([], [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_ticks_are_round(values: list[float], ticks: list[float]) -> None:
    """The axis reaches from the round number below to the one above."""
    axis = charts.Axis.around("loss", values)
    assert [tick for tick, _ in axis.ticks] == pytest.approx(ticks)


def test_a_chart_escapes_its_words() -> None:
    """Titles and labels come from data, too."""
    axis = charts.Axis("<x>")
    text = charts.lines([], axis, axis, label='"><script>').text
    assert "<script>" not in text
    assert "&lt;x&gt;" in text


def test_a_long_curve_keeps_its_ends() -> None:
    """Thinning keeps the first and the last point."""
    points = [(k / 999, k / 999) for k in range(1000)]
    kept = charts.thin(points)
    assert len(kept) == 120
    assert (kept[0], kept[-1]) == (points[0], points[-1])


def test_a_value_left_of_the_strip_is_an_arrow() -> None:
    """A dot stands for its value; what is off the strip is not drawn at its end."""
    inside = charts.interval(0.8, (0.7, 0.9), axis=(0.5, 1.0)).text
    outside = charts.interval(0.2, (0.1, 0.3), axis=(0.5, 1.0)).text
    assert "<circle" in inside
    assert "<circle" not in outside
    assert 'class="range"' not in outside


# What was not checked


def gaps(study: Study) -> set[str]:
    found = unchecked.gaps(collect(study.reports, study.board, study.manifest))
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


SPLIT = {"name": "s", "folds": 5, "test_size": 0.2, "seed": 0}


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"split": SPLIT | {"group_by": "image"}}, "Patients were not kept together"),
        ({"split": SPLIT | {"group_by": "near-duplicate"}}, "Patients are not known"),
        ({"weights": "random"}, "Pretrained weights"),
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
        return {gap.title for gap in unchecked.gaps(material)}

    assert title not in gaps(study)
    assert title in titles()
    block = {"backbone": "net", "weights": "imagenet", "region": "outside"}
    report_study.write_run(study, "logreg", 40, block | {"features": [block]})
    assert title not in titles()


# Commands


PLAIN: dict[str, Any] = {
    "dataset": "chest", "backbone": "densenet121", "weights": "imagenet",
    "input_size": 224, "store": "one.h5", "head": "logreg", "views": 0, "seed": 3,
    "split": {
        "name": "own", "folds": 4, "test_size": 0.1, "seed": 3, "group_by": "patient",
    },
}  # fmt: skip
POLICY = {"flip": False, "brightness": [0.9, 1.1], "zoom": [1.0, 1.3], "seed": 7}
BLOCK = {"backbone": "vgg19", "weights": "random", "input_size": 320, "store": "b.h5"}
RECORDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "views": {"views": 2, "policy": POLICY, "tta": False},
    "taps": {"taps": ["pool1", "pool2:max"]},
    "tuned": {"head_is": {"params": {"tune": False, "transform": "sqrt", "pca": "50"}}},
    "narrowed": {"exclude": ["disputed", "view=AP"], "calibration": {"kept": True}},
    "baseline": {"backbone": "metadata", "weights": "none"},
    "region": {"features": [PLAIN | {"region": "outside", "mask": "lungs"}]},
    "joined": {
        "backbone": "densenet121@224+vgg19@320",
        "features": [
            PLAIN | {"tap": None}, BLOCK | {"tap": None}, BLOCK | {"tap": "block1_pool"}
        ],
    },
}  # fmt: skip


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """The command of a line, and what the command line makes of its words."""
    program, name, *words = shlex.split(line)
    assert program == "featcache"
    return name, cli.commands[name].make_context(name, words).params


@pytest.mark.parametrize("kind", RECORDS)
def test_commands_say_what_the_record_says(kind: str) -> None:
    """The command line takes each line, and its values are those of the record."""
    record = PLAIN | RECORDS[kind]
    *extracts, (name, train) = map(parsed, commands(record, Known(), repeats=2))
    assert name == "train-head"
    params = (record.get("head_is") or {}).get("params", {})
    named = ("backbones", "heads", "views", "repeats", "folds")
    assert {k: train[k] for k in named} == {
        "backbones": ("one+b" if kind == "joined" else "one",), "heads": ("logreg",),
        "repeats": 2, "views": record["views"], "folds": 4,
    }  # fmt: skip
    assert (train["seed"], train["test_size"], train["split"]) == (3, 0.1, "own")
    assert train["taps"] == (",".join(record.get("taps", [])) or "none")
    assert train["exclude"] == tuple(record.get("exclude", ()))
    assert train["calibrate"] is bool(record.get("calibration"))
    assert train["tta"] is (False if record["views"] else None)
    assert (train["tune"], train["transform"], train["pca"]) == (
        params.get("tune"), params.get("transform", "none"), params.get("pca", "none"),
    )  # fmt: skip
    stores = {block["store"] for block in record.get("features", [PLAIN])}
    assert [name for name, _ in extracts] == ["extract"] * len(stores)
    first = extracts[0][1]
    assert first["names"] == (record["backbone"].split("@")[0],)
    assert first["views"] == record["views"]
    if record["views"]:
        ranges = (tuple(POLICY[k]) for k in ("brightness", "zoom"))
        assert (first["flip"], first["brightness"], first["zoom"]) == (False, *ranges)
        assert first["seed"] == 7
    for shown in (train, first):
        asked = ("outside", "lungs") if kind == "region" else ("whole", "mask")
        assert (shown["region"], shown["mask"]) == asked
    if kind == "taps":
        assert (first["taps"], first["tap_pooling"]) == ("pool1,pool2", "avg+max")
    if kind == "joined":
        second = extracts[1][1]
        assert (second["weights"], second["input_size"]) == ("random", 320)
        assert second["taps"] == "block1_pool"


def test_an_ensemble_comes_after_its_members() -> None:
    """The members' lines, each once, and then the vote."""
    members = {name: PLAIN | {"head": name} for name in ("svm", "logreg")}
    record = PLAIN | {
        "head": "ensemble", "members": [*members],
        "head_is": {"params": {"weights": "equal", "calibrate": False}},
    }  # fmt: skip
    found = [parsed(line) for line in commands(record, Known(records=members))]
    vote = found[-1][1]
    assert [n for n, _ in found] == ["extract", "train-head", "train-head", "ensemble"]
    assert vote["members"] == ("svm", "logreg")
    assert (vote["weights"], vote["calibrate"]) == ("equal", False)


def test_the_file_of_a_network_is_looked_up() -> None:
    """The newest call of extract that used it knows its path."""
    calls = [
        {"command": ["featcache", "extract", "-b", f"/{where}/own net.keras"]}
        for where in ("old", "new")
    ]
    record = PLAIN | {"backbone": "own net", "weights": "file"}
    line, _ = commands(record, Known(extracts=calls))
    assert parsed(line)[1]["names"] == ("/new/own net.keras",)


@pytest.mark.slow
def test_the_commands_find_their_own_run(
    image_folder: Path,
    toy_network: Path,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Given again, the lines of the page find everything done."""
    words = ["extract", image_folder, "--group-by", r"(p\d{3})_", "--views", 1]
    words += ["-b", toy_network]
    monkeypatch.setattr(sys, "argv", ["featcache", *map(str, words)])  # is recorded
    assert run(*words)[0] == 0
    small = ["--preprocess", "tf", "--input-size", 48]
    assert run("extract", "--dataset", "chest", "-b", toy_network, *small)[0] == 0
    trained = [
        "train-head",
        "-b",
        "toynet@32",
        "-H",
        "logreg",
        "-H",
        "majority",
        "--no-tune",
        "--seed",
        1,
    ]
    assert run(*trained, "--folds", 3, "--test-size", 0.25)[0] == 0
    assert run("compare", "--html")[0] == 0
    page = Path("reports/chest/report.html").read_text()
    blocks = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", page, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        lines = unescape(block).replace("\\\n", " ").splitlines()
        extracted, trained_again = (run(*shlex.split(line)[1:]) for line in lines)
        assert "all cached" in extracted[1], extracted
        assert "nothing to do" in trained_again[1], trained_again
