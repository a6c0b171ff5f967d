"""What the report draws: thumbnails, maps, figures and charts."""

import base64
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from toys import picture

from featcache.evaluation.runs import Predictions
from featcache.report.html import embedding_map, scoring, svg, thumbs
from featcache.report.html.context import source_columns

# Thumbnails


def test_a_tile_shows_its_image(tmp_path: Path) -> None:
    """Tiles lie row by row in the order of the images, each in its middle."""
    shades = (0, 100, 200)
    for shade in shades:
        Image.new("L", (50, 80), shade).save(tmp_path / f"{shade}.png")
    paths = pd.Series({str(s): f"{s}.png" for s in shades} | {"lost": "lost.png"})
    tiles = thumbs.sheets(tmp_path, paths)
    with Image.open(io.BytesIO(base64.b64decode(tiles.uris[0].split(",")[1]))) as file:
        sheet = np.asarray(file)
    assert tiles.tiles == {"0": 0, "100": 1, "200": 2}
    assert tiles.reason == "1 of 4 images could not be read"
    assert sheet.shape == (thumbs.TILE, thumbs.COLUMNS * thumbs.TILE)
    for shade, tile in zip(shades, tiles.tiles.values(), strict=True):
        _, column, row = tiles.position(tile)
        middle = [int(thumbs.TILE * (k + 0.5)) for k in (row, column)]
        assert abs(int(sheet[middle[0], middle[1]]) - shade) <= 3


def test_tiles_go_on_on_further_sheets() -> None:
    """Tile 256 is the first of the second sheet, which is as high as it must be."""
    assert thumbs.Sheets().position(255) == (0, 15, 15)
    assert thumbs.Sheets().position(256 + 17) == (1, 1, 1)
    plain = [Image.new("L", (thumbs.TILE, thumbs.TILE), 99) for _ in range(257)]
    sizes = [sheet.size for sheet in thumbs._pasted(plain)]
    assert sizes == [(1536, 1536), (1536, 96)]


def test_the_sheets_keep_to_their_limit() -> None:
    """1200 pictures of coloured noise, the worst for JPEG, still fit."""
    rng = np.random.default_rng(0)
    shape = (thumbs.TILE, thumbs.TILE, 3)
    noise = [
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)) for _ in range(1200)
    ]
    assert sum(map(len, thumbs._uris(noise))) < 10e6


def test_look_alikes_count_across_groups_only(tmp_path: Path) -> None:
    """The same picture under two names is told where the groups differ."""
    for name, seed in (("a", 1), ("b", 1), ("c", 1), ("d", 2)):
        picture(seed, 100).save(tmp_path / f"{name}.png")
    small = thumbs.sheets(tmp_path, pd.Series({c: f"{c}.png" for c in "abcd"})).small
    groups = pd.Series({"a": "P1", "b": "P1", "c": "P2", "d": "P3"})
    pairs = thumbs.look_alikes(small, groups, above=0.99)
    assert pairs == [("a", "c"), ("b", "c")]


# Columns and maps


def test_source_columns_tell_where_images_come_from() -> None:
    """Of few values or of quarters of numbers; names, labels and splits are none."""
    images = pd.DataFrame(
        {
            "label": ["a", "b"] * 8,
            "group": [f"P{i}" for i in range(16)],
            "mode": ["L"] * 16,
            "sex": ["F", "", "M", "M"] * 4,
            "age": list(map(str, range(1, 17))),
            "patient": [f"P{i}" for i in range(16)],
            "diagnosis": ["sick", "well"] * 8,
            "split": ["train"] * 8 + ["test"] * 8,
            "part": ["Training", "", "", "test_set"] * 4,
        }
    )
    columns = source_columns(images)
    assert {name: sorted(set(values)) for name, values in columns.items()} == {
        "sex": ["(not given)", "F", "M"],
        "age": [
            "over 12.25, up to 16", "over 4.75, up to 8.5", "over 8.5, up to 12.25",
            "up to 4.75",
        ],
    }  # fmt: skip
    assert Counter(columns["age"]).most_common(1)[0][1] == 4


def test_a_sample_keeps_the_shares_of_the_classes() -> None:
    """Of 90 and 10 images, 50 are drawn as 45 and 5, and the same ones each time."""
    labels = pd.Series(["a"] * 90 + ["b"] * 10, index=[f"i{k}" for k in range(100)])
    sampled = embedding_map.sample(labels, 50)
    assert Counter(labels[sampled]) == {"a": 45, "b": 5}
    assert list(sampled) == list(embedding_map.sample(labels, 50))
    assert len(embedding_map.sample(labels)) == 100


def test_maps_keep_clusters_apart() -> None:
    """Two far clusters are apart in every layout, and all places are in the unit."""
    rng = np.random.default_rng(0)
    X = rng.normal(0, 0.1, (60, 20)) + np.repeat([[0], [5]], 30, axis=0)
    for layout in embedding_map.layouts(X):
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
    [one] = scoring.bins(Predictions(y, p, np.arange(10)))
    assert (one.n, one.accuracy) == (10, 0.6)
    assert one.confidence == pytest.approx(0.7)


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
    errors = scoring.worst_errors(table, ["x", "y"], 2)
    assert [(row["image_id"], named) for row, named, _ in errors] == [
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
    axis = svg.Axis.around("loss", values)
    assert [tick for tick, _ in axis.ticks] == pytest.approx(ticks)


def test_a_chart_escapes_its_words() -> None:
    """Titles and labels come from data, too."""
    axis = svg.Axis("<x>")
    text = svg.lines([], axis, axis, label='"><script>').text
    assert "<script>" not in text
    assert "&lt;x&gt;" in text


def test_a_long_curve_keeps_its_ends() -> None:
    """Thinning keeps the first and the last point."""
    points = [(k / 999, k / 999) for k in range(1000)]
    kept = svg.thin(points)
    assert len(kept) == 120
    assert (kept[0], kept[-1]) == (points[0], points[-1])


def test_a_value_left_of_the_strip_is_an_arrow() -> None:
    """A dot stands for its value; what is off the strip is not drawn at its end."""
    inside = svg.interval(0.8, (0.7, 0.9), axis=(0.5, 1.0)).text
    outside = svg.interval(0.2, (0.1, 0.3), axis=(0.5, 1.0)).text
    assert "<circle" in inside
    assert "<circle" not in outside
    assert 'class="range"' not in outside
