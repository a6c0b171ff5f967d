"""Maps of runs: each adds up to the score, from the image on, and is drawn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from records import CLASSES
from toys import Heard, finetune_flat, train_flat

from featcache import backbones
from featcache.commands.explain import explain, explained_images, heatmaps, model
from featcache.commands.explain.attribution import margins
from featcache.commands.extract import extract
from featcache.commands.scan import scan
from featcache.core.text import file_name
from featcache.dataset.views import Resize
from featcache.errors import RunError
from featcache.evaluation.runs import Run
from featcache.report.heatmaps import drawing

LAST_BUT_ONE = "conv2d"  # of the toy network


def _score(run: Run, one: heatmaps.HeatMap, explained: model.Model) -> float:
    """The margin of the map's class, from the image alone."""
    X = explained.features(heatmaps.render(explained, [one.image]))
    return float(margins(explained.head.predict_proba(X))[0, one.code])


@pytest.mark.parametrize(
    ("head", "limit"), [("logreg", 1e-4), ("softmax", 1e-4), ("xgboost", 1e-3)]
)
def test_a_map_adds_up_to_the_score(
    head: str, limit: float, trained, look, dataset, toy_network
) -> None:
    """The pixels of a map sum to the margin less the base: pixels to score."""
    run = trained(head)
    methods = ["auto"] if head == "xgboost" else ["auto", "cam"]
    result = look(run, per_class=2, methods=methods)
    explained = model.of_run(run, dataset.folder, files=[toy_network])
    assert len(result.maps) == 6 * len(methods)
    for one in result.maps:
        assert one.map_sum == pytest.approx(one.score - one.base, abs=limit)
        assert one.score == pytest.approx(_score(run, one, explained), abs=1e-4)
        assert one.values.shape == (heatmaps.SIDE, heatmaps.SIDE)


def test_the_images_features_are_those_of_the_store(
    trained, dataset, toy_network
) -> None:
    """What the maps pool to is what was stored, so the head sees what it learnt on."""
    run = trained()
    explained = model.of_run(run, dataset.folder, files=[toy_network])
    (net,) = explained.nets
    loader = explained_images.ImageLoader(dataset, run)
    stored = net.store.read()
    for row, image_id in enumerate(net.store.keys["image_id"][:3]):
        rendered = heatmaps.render(explained, [loader.read(image_id)])
        pooled = explained.pooled(explained.maps(rendered))
        np.testing.assert_allclose(pooled[0], stored[row], atol=1e-4)
        np.testing.assert_allclose(
            explained.features(rendered)[0], stored[row], atol=1e-4
        )


def test_taps_and_several_inputs_add_up(trained, look) -> None:
    """Blocks of inner layers, maxima and other input sizes each have maps; all sum."""
    run = trained(sizes=(32, 48), taps=LAST_BUT_ONE, backbones=["toynet@32+toynet@48"])
    assert len(run.record.features) == 4
    for one in look(run, per_class=1).maps:
        assert len(set(one.grids)) == 3
        assert one.map_sum == pytest.approx(one.score - one.base, abs=1e-4)


def test_poolings_of_the_last_map_add_up(trained, look, dataset, toy_network) -> None:
    """Maps of region means, maxima and generalised means sum to the score as well."""
    run = trained(taps="features:max+gem+grid2+grid3")
    assert len(run.record.features) == 5
    explained = model.of_run(run, dataset.folder, files=[toy_network])
    for one in look(run, per_class=1, methods=["auto", "cam"]).maps:
        assert one.map_sum == pytest.approx(one.score - one.base, abs=1e-4)
        assert one.score == pytest.approx(_score(run, one, explained), abs=1e-4)
    for one in look(run, per_class=1, methods=["hirescam"]).maps:
        assert np.isfinite(one.values).all()


@pytest.mark.parametrize(
    "front", [{"transform": "sqrt"}, {"transform": "l2", "pca": 5}]
)
def test_transformed_features_add_up(front: dict[str, Any], trained, look) -> None:
    """Behind square roots, lengths and PCA the map still sums to the score."""
    for one in look(trained(**front), per_class=1).maps:
        assert one.method == "linear"
        assert one.map_sum == pytest.approx(one.score - one.base, abs=1e-4)


def test_every_method_draws_a_map(trained, look) -> None:
    """Each method gives a finite map of an MLP; Grad-CAM has none below zero."""
    methods = [name for name in heatmaps.ALL if name not in ("linear", "treeshap")]
    result = look(
        trained("mlp"), per_class=1, methods=methods, patch=12, stride=6, of="all"
    )
    methods_of_maps = {one.method for one in result.maps}
    assert methods_of_maps == {*methods} - {"auto"}
    assert len(result.maps) == 9 * len(methods)
    for one in result.maps:
        assert np.isfinite(one.values).all()
        assert np.isnan(one.base) == (one.method in ("occlusion", *heatmaps.CAMS))
        if one.method in ("grad-cam", "grad-cam++"):
            assert one.values.min() >= 0


def test_occlusion_is_what_the_head_says_of_covered_pictures(
    trained, look, dataset, toy_network
) -> None:
    """One patch over all: the even map holds the fall to the all-grey picture."""
    run = trained("xgboost")
    (one,) = look(
        run, images=[str(dataset.ok["path"].iloc[0])], methods=["occlusion"], patch=32
    ).maps
    explained = model.of_run(run, dataset.folder, files=[toy_network])
    (resize,) = explained.resizes
    pixels = one.image.pixels(resize)
    grey = np.full_like(pixels, np.rint(pixels.mean(axis=(0, 1))).astype(np.uint8))
    left = explained.margins(explained.features({resize: grey[None]}))[0, one.code]
    assert one.map_sum == pytest.approx(one.score - left, abs=1e-6)
    np.testing.assert_allclose(one.values, one.map_sum / one.values.size)


def test_patches_cover_the_picture_to_its_edges() -> None:
    """Patches overlap by the stride, and the last ones end with the picture."""
    boxes = heatmaps.patches(10, 4, 3)
    starts = sorted({round(10 * box[0]) for box in boxes})
    assert starts == [0, 3, 6]
    assert sorted({round(10 * b[0]) for b in heatmaps.patches(10, 4, 4)}) == [0, 4, 6]
    assert boxes.max() == 1.0
    np.testing.assert_allclose(
        heatmaps.overlap_average(np.ones(9), boxes, 1.0).std(), 0, atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "fold"),
    [("softmax", "test"), ("mlp", "all")],
)
def test_a_fine_tuned_network_is_explained_like_a_head(
    head: str, fold: str, dataset, look, toy_network, tmp_path
) -> None:
    """Cut at its embedding it gives the same maps, which add up to its own answer."""
    network = backbones.resolve(str(toy_network))
    made = finetune_flat(dataset, [network], reports=tmp_path / "reports", head=head,
                    epochs=1, folds=2, batch_size=8, tta=0, fold=fold)  # fmt: skip
    methods = ["auto", "cam", "grad-cam", "occlusion"]
    result = look(made.runs[0], files=[], per_class=1, of="all", methods=methods,
                  patch=16)  # fmt: skip
    assert len(result.maps) == 9 * len(methods)
    keras = pytest.importorskip("keras")
    whole = keras.models.load_model(made.runs[0].folder / "model.keras", compile=False)
    limit = {"linear": 1e-4, "integrated-gradients": 0.05}
    for one in result.maps:
        p = whole(one.image.pixels(Resize(32))[None], training=False).numpy()
        assert one.score == pytest.approx(margins(p)[0, one.code], abs=1e-3)
        if one.method in limit or (one.method == "cam" and head == "softmax"):
            gap = one.map_sum - (one.score - one.base)
            assert abs(gap) < limit.get(one.method, 1e-4)


def test_features_without_maps_fall_to_occlusion(dataset, look, tmp_path) -> None:
    """Pixels have no channels: occlusion takes over, and says so."""
    networks = [backbones.resolve(name) for name in ("pixels48", "metadata")]
    extract(dataset, networks)
    names = ["pixels48", "metadata"]
    trained = train_flat(dataset, tmp_path / "reports", backbones=names,
                         heads=["logreg"], tune=False, folds=2, jobs=1)  # fmt: skip
    messages: list[str] = []
    result = look(
        trained.runs[0], per_class=1, reporter=Heard(messages), methods=["auto"]
    )
    assert {one.method for one in result.maps} == {"occlusion"}
    assert any("occlusion in place of auto" in text for text in messages)
    with pytest.raises(RunError, match="pixels48"):
        look(trained.runs[1], per_class=1)


@pytest.mark.slow
def test_the_command_draws_and_lists_every_map(
    run, trained, dataset, toy_network, tmp_path
) -> None:
    """--json is one row a map with its figures and the pictures that show it."""
    made = trained()
    words = ("explain", made.run_id, "--cache", dataset.folder.parent, "--json",
             "--reports", tmp_path / "reports", "-b", toy_network)  # fmt: skip
    code, out, err = run(*words, "--per-class", 2, "--activations", LAST_BUT_ONE,
                         "--cells", "--faithfulness")  # fmt: skip
    assert (code, "Note: " in err) == (0, True)
    rows = json.loads(out)
    assert len(rows) == 6
    for row in rows:
        gap = row["map_sum"] - (row["score"] - row["base"])
        assert abs(gap) < 1e-4
        assert {"image_id", "class", "method", "figures"} <= row.keys()
        assert all(Path(p).read_bytes()[1:4] == b"PNG" for p in row["files"])
    folder = tmp_path / "reports" / "chest" / "explain" / made.run_id
    known = {path.name for path in folder.iterdir()}
    sheets = {f"class-{file_name(name)}.png" for name in CLASSES}
    assert (
        sheets | {"mean-linear.png", "maps.json", "maps.npz", "faithfulness.json"}
        <= known
    )
    assert sum("activations" in name for name in known) == 6
    code, out, _ = run(*words[:4], *words[5:], "--errors", 1, "--mean", 0)
    assert code == 0
    assert "errors.png" in {path.name for path in folder.iterdir()}
    assert "1e" not in out.splitlines()[0]
    assert run("explain", "nothing", "--cache", dataset.folder.parent)[0] == 1


def test_red_is_for_and_blue_against() -> None:
    """Over a grey picture the strongest pixel for a class is red, against it blue."""
    values = np.zeros((20, 20))
    values[5:10, :] = 1
    values[12:17, :] = -1
    colours = np.asarray(
        drawing.overlay(Image.new("L", (40, 40), 128), values, 1.0), int
    )
    assert colours[15, 20, 0] > colours[15, 20, 2] + 40
    assert colours[29, 20, 2] > colours[29, 20, 0] + 40
    assert np.ptp(colours[1, 1]) <= 1


@pytest.mark.real
@pytest.mark.parametrize(
    ("head", "limit"), [("logreg", 1e-4), ("softmax", 1e-4), ("xgboost", 1e-3)]
)
def test_maps_of_xrays_add_up(
    head: str, limit: float, real_data: Path, tmp_path: Path
) -> None:
    """On real X-rays with SqueezeNet every map sums to its score less its base."""
    source = real_data / "data/darkcovid/metadata.csv"
    weights = real_data / "weights/squeezenet1_1_imagenet.keras"
    dataset = scan(
        source, tmp_path / "cache", group_by="patient", per_class=40
    ).manifest
    network = backbones.resolve(str(weights), preprocess="caffe", input_size=224)
    extract(dataset, [network])
    made = train_flat(dataset, tmp_path / "reports", heads=[head], tune=False, folds=2)
    result = explain(dataset, made.runs[0], per_class=4, of="all", mean=0,
                     files=[weights])  # fmt: skip
    gaps = [abs(one.map_sum - (one.score - one.base)) for one in result.maps]
    assert (len(gaps), max(gaps) < limit) == (36, True)
