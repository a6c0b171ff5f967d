"""Maps of runs on networks in files: they add up, and lie where the network looked."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_graphs import SIDE, map_network, token_network, vector_network
from toys import Heard, slow_but, train_flat

from featcache.backbones import resolve
from featcache.commands.explain import (
    ExplainResult,
    attribution,
    explain,
    heatmaps,
    model,
)
from featcache.commands.explain.frame import Area, Frame
from featcache.commands.extract import extract
from featcache.dataset.manifest import Manifest
from featcache.dataset.views import Resize, window
from featcache.errors import UsageError
from featcache.evaluation.runs import Run
from featcache.report.heatmaps import records

CROP = {"resize": "shortest_edge", "resize_to": 36, "input_size": SIDE}
SCALED: dict[str, Any] = {"range": [0, 1], "mean": [0.5], "std": [0.5]}
OPTIONS: dict[str, Any] = {"folds": 2, "test_size": 0.3, "jobs": 1, "tune": False}
NETWORKS: dict[str, Callable[[Path], Path]] = {
    "map": lambda path: map_network(path, **SCALED, **CROP),
    "vector": lambda path: vector_network(path, **SCALED),
    "tokens": lambda path: token_network(path, **SCALED, **CROP, pooling="mean"),
    "class token and mean": lambda path: token_network(
        path, **SCALED, pooling="cls+mean"
    ),
    "maximum": lambda path: map_network(path, **SCALED, **CROP, pooling="max"),
}


@pytest.fixture
def trained(dataset: Manifest, tmp_path: Path) -> Callable[..., Run]:
    """A head on the features of networks of `NETWORKS`, or of files."""

    def call(*words: str, pooling: str = "avg", **options: Any) -> Run:
        names = []
        for number, word in enumerate(words):
            path = NETWORKS[word](tmp_path / f"net{number}.onnx")
            extract(dataset, [resolve(str(path))], pooling=pooling, **options)
            names.append(path.stem)
        taps = "all" if pooling != "avg" or options else "none"
        keywords = OPTIONS | {"backbones": ["+".join(names)], "taps": taps}
        reports = tmp_path / "reports"
        (run,) = train_flat(dataset, reports, heads=["logreg"], **keywords).runs
        return run

    return call


def look(dataset: Manifest, run: Run, **options: Any) -> ExplainResult:
    """Explains an image of each class, without mean maps."""
    return explain(dataset, run, **{"mean": 0, "per_class": 1} | options)


@pytest.mark.parametrize("word", slow_but(NETWORKS, "map", "class token and mean"))
def test_a_map_adds_up_to_the_score(
    word: str, trained: Callable[..., Run], dataset: Manifest
) -> None:
    """Of means of maps and of tokens, and of vectors that are such a mean."""
    run = trained(word)
    explained = model.of_run(run, dataset.folder)
    result = look(dataset, run, methods=["auto", "cam"])
    assert {one.method for one in result.maps} == {"linear", "cam"}
    for one in result.maps:
        X = explained.features(heatmaps.render(explained, [one.image]))
        margin = explained.margins(X)[0, one.code]
        assert one.score == pytest.approx(margin, abs=1e-4)
        assert one.map_sum == pytest.approx(one.score - one.base, abs=1e-4)
        assert one.values.std() > 0
        assert set(one.grids) - {(1, 1)} == {(4, 4)}
    is_partly_even = word == "class token and mean"
    assert any("has no place" in note for note in result.notes) == is_partly_even
    maps = explained.maps(heatmaps.render(explained, [one.image]))
    np.testing.assert_allclose(explained.pooled(maps), X, atol=1e-4)


def test_regions_and_inner_layers_add_up(
    trained: Callable[..., Run], dataset: Manifest
) -> None:
    """Means of regions and of inner nodes lie on their cells; all blocks sum."""
    run = trained("vector", taps="map", tap_pooling="avg+grid2")
    assert len(run.record.features) == 3
    for one in look(dataset, run).maps:
        assert one.map_sum == pytest.approx(one.score - one.base, abs=1e-4)
        assert one.grids == ((4, 4),) * 3


def test_the_share_of_a_class_token_is_reported(
    trained: Callable[..., Run], dataset: Manifest
) -> None:
    """What a class token adds is spread evenly, and named as such."""
    explained = model.of_run(trained("class token and mean"), dataset.folder)
    token, patches = explained.blocks
    assert (token.has_places, patches.has_places) == (False, True)
    (one, *_) = look(dataset, explained.run).maps
    phi = np.array([0.5, -0.2, *[0.0] * 4])
    spread = attribution.everywhere(phi)
    assert (spread.even, spread.even_share) == (pytest.approx(0.3), 1.0)
    assert one.grids == ((1, 1), (4, 4))


def test_no_maps_no_gradients(
    dataset: Manifest, tmp_path: Path, trained: Callable[..., Run]
) -> None:
    """A class token alone falls to occlusion; Grad-CAM is refused with the reason."""
    NETWORKS["cls"] = lambda path: token_network(path, **SCALED, pooling="cls")
    try:
        run = trained("cls")
    finally:
        del NETWORKS["cls"]
    heard = Heard()
    result = look(dataset, run, patch=16, stride=16, reporter=heard)
    assert {one.method for one in result.maps} == {"occlusion"}
    assert any("using occlusion" in line for line in heard.messages)
    with pytest.raises(UsageError, match=r"without gradients.*Use auto or cam"):
        look(dataset, run, methods=["grad-cam"])


def test_a_crop_is_drawn_on_what_the_network_saw(
    trained: Callable[..., Run], dataset: Manifest
) -> None:
    """Map and picture are those of the crop, and occlusion covers what is in it."""
    run = trained("map")
    (one, *_) = look(dataset, run).maps
    width, height = one.image.picture.size
    assert (width, height) == (40, 32)
    # 36 px for the height of 32, 45 for the width; 32 px of the middle are seen.
    left, top, right, bottom = one.frame.box
    assert (left, top) == pytest.approx((6 * 40 / 45, 2 * 32 / 36))
    assert (right - left, bottom - top) == pytest.approx((32 * 40 / 45, 32 * 32 / 36))
    assert one.picture.size == (29, 28)
    result = look(dataset, run, methods=["occlusion"], patch=SIDE, faithfulness=True)
    explained = model.of_run(run, dataset.folder)
    (resize,) = explained.resizes
    assert resize.edge == 36
    one = result.maps[0]
    pixels = one.image.pixels(resize)
    grey = np.full_like(pixels, np.rint(pixels.mean(axis=(0, 1))).astype(np.uint8))
    covered = explained.margins(explained.features({resize: grey[None]}))[0, one.code]
    assert one.map_sum == pytest.approx(one.score - covered, abs=1e-6)
    (sheet, *_) = records.sheets_of(result)
    assert sheet.maps[0].image.pixels.shape[:2] == (183, 190)


@pytest.mark.slow
def test_networks_that_see_different_parts_share_a_frame(
    trained: Callable[..., Run], dataset: Manifest
) -> None:
    """Beside a network that sees all, the crop's map lies in the crop alone."""
    run = trained("map", "vector")
    for one in look(dataset, run).maps:
        assert one.frame.box == (0.0, 0.0, *one.image.picture.size)
        assert one.map_sum == pytest.approx(one.score - one.base, abs=1e-4)


def test_areas_of_frames() -> None:
    """Cells and patches of a network lie where it looks within the frame."""
    crop, bars = Resize(8, "shortest_edge"), Resize(8, "letterbox")
    assert window(crop, (40, 20)) == (10, 0, 30, 20)
    assert window(bars, (40, 20)) == (0, -10, 40, 30)
    assert window(Resize(8), (40, 20)) == (0, 0, 40, 20)
    frame = Frame.of([crop, bars], (40, 20))
    assert frame.box == (0, -10, 40, 30)
    area = frame.area(crop, (40, 20))
    assert area == Area(0.25, 0.75, 0.25, 0.75)
    cells = np.arange(1.0, 5).reshape(2, 2)
    values = attribution.upsampled(cells, 16, area)
    assert values.sum() == pytest.approx(10)
    inside = np.zeros((16, 16), bool)
    inside[4:12, 4:12] = True
    assert not values[~inside].any()
    boxes = np.array([[0.0, 0.5, 0.0, 1.0], [0.9, 1.0, 0.9, 1.0]])
    assert area.pixels(boxes, 8).tolist() == [[0, 4, 0, 8], [8, 8, 8, 8]]
    rows, columns = area.cells(8, 16)
    assert rows.tolist() == columns.tolist() == [*range(4, 12)]
    tiny = replace(frame, box=(0, 0, 1000, 1000)).area(Resize(8), (1, 1))
    assert attribution.upsampled(cells, 16, tiny).sum() == pytest.approx(10)
