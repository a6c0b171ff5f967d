"""Poolings of maps: their numbers, in numpy and in Keras, and the names of taps."""

import math
from pathlib import Path

import numpy as np
import pytest
from toys import Heard

import featcache
from featcache import backbones
from featcache.backbones import build, resolve, with_pixels
from featcache.backbones.pooling import POOLINGS, averaging, poolings_of
from featcache.core.taps import POOLING_NAMES, split_tap, tap_name
from featcache.errors import UnknownNameError, UsageError
from featcache.features import store

ALL = "+".join(POOLING_NAMES)


def pooled(A: np.ndarray, name: str) -> np.ndarray:
    """One map (H, W, C), cell by cell."""
    if name == "max":
        return A.max(axis=(0, 1))
    if name == "gem":
        return np.cbrt((np.maximum(A, 1e-6).astype(float) ** 3).mean(axis=(0, 1)))
    n = {"avg": 1, "grid2": 2, "grid3": 3}[name]
    (H, W, _), means = A.shape, []
    for i in range(n):
        for j in range(n):
            rows = slice(math.floor(i * H / n), math.ceil((i + 1) * H / n))
            columns = slice(math.floor(j * W / n), math.ceil((j + 1) * W / n))
            means.append(A[rows, columns].mean(axis=(0, 1)))
    return np.concatenate(means)


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("sides", [(7, 7), (6, 4), (2, 5), (1, 1)])
def test_poolings_are_what_their_names_say(name: str, sides: tuple[int, int]) -> None:
    """Numbers are those of a plain loop, also on maps with fewer cells than regions."""
    maps = np.random.default_rng(0).normal(size=(3, *sides, 5)).astype(np.float32)
    got = POOLINGS[name](maps)
    assert got.shape == (3, 5 * POOLINGS[name].factor)
    np.testing.assert_allclose(got, [pooled(A, name) for A in maps], 1e-5, 1e-6)


def test_the_registry_has_every_name() -> None:
    """The names that taps may have are those of the poolings."""
    assert tuple(POOLINGS) == POOLING_NAMES


def test_averaging_is_a_matrix_of_means() -> None:
    """Its rows sum to one; on four cells a side each region has its own four."""
    matrix = averaging(2, 4, 4)
    np.testing.assert_allclose(averaging(3, 7, 5).sum(axis=1), 1, 1e-6)
    assert matrix.shape == (4, 16)
    assert matrix[1].reshape(4, 4)[:2, 2:].tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert matrix[1].sum() == 1


@pytest.mark.parametrize(
    ("tap", "parts"),
    [
        ("conv", ("conv", "avg")),
        ("conv:max", ("conv", "max")),
        ("features:grid3", ("features", "grid3")),
        ("Identity:0", ("Identity:0", "avg")),
        ("Identity:0:gem", ("Identity:0", "gem")),
        ("max", ("max", "avg")),
    ],
)
def test_a_tap_is_a_layer_and_a_pooling(tap: str, parts: tuple[str, str]) -> None:
    """Both are read from its name, whatever colons the layer's name has."""
    assert split_tap(tap) == parts
    assert tap_name(*parts) == tap


def test_several_poolings_are_named_with_plus_or_comma() -> None:
    """Each once, in order; an unknown one offers the nearest and names the option."""
    assert poolings_of("grid2, max+gem,max", "pooling") == ["grid2", "max", "gem"]
    with pytest.raises(UnknownNameError, match=r"(?s)`pooling`.*grid3 or grid2"):
        poolings_of("avg+grid4", "pooling")


def test_names_of_taps_in_order(toy_network: Path) -> None:
    """The last map's come first; the average of an inner layer has its bare name."""
    names = resolve(str(toy_network)).tap_names
    assert names("none", "avg") == []
    assert names("a,b", "max+avg") == ["a:max", "a", "b:max", "b"]
    assert names("a", "avg", "avg+gem") == ["features:gem", "a"]
    assert resolve("border").tap_names("none", "avg", "max") == []


def test_words_ask_for_taps_by_their_names() -> None:
    """A printed command asks for the poolings of the last map and of inner layers."""
    assert store.tap_options(["a", "b"]) == ["--taps", "a,b"]
    assert store.tap_options(["features:max", "features:grid2"]) == [
        *("--pooling", "max+grid2"),
    ]
    assert store.tap_options(["features:gem", "a", "a:max"]) == [
        *("--pooling", "gem", "--taps", "a", "--tap-pooling", "avg+max"),
    ]


@pytest.mark.parametrize("engine", ["tensorflow", "openvino"])
def test_poolings_are_stored_beside_the_embedding(
    dataset, toy, toy_network: Path, engine: str
) -> None:
    """Each is a tap of the last map or of a layer, with the numbers of its map."""
    import keras

    result = toy(
        dataset, pooling=ALL, taps="conv2d", tap_pooling="grid2", engine=engine
    )
    last = [f"features:{name}" for name in POOLING_NAMES if name != "avg"]
    assert result.taps == sorted([*last, "conv2d:grid2"])
    opened = store.open_store(result.path)
    path = (
        dataset.root
        / dataset.ok.set_index("image_id")["path"].loc[opened.keys["image_id"].iloc[4]]
    )
    from featcache.dataset import images, views

    pixels = views.render(images.decode(path.read_bytes()), 32)[None] / 127.5 - 1
    core = build(resolve(str(toy_network)))
    end = core.layers[-1].input
    maps = keras.Model(core.input, [end, core.get_layer("conv2d").output])(pixels)
    A, B = (np.asarray(one)[0] for one in maps)
    for name in last:
        expected = pooled(A, split_tap(name)[1])
        np.testing.assert_allclose(opened.read(name)[4], expected, 1e-3, 1e-5)
    np.testing.assert_allclose(
        opened.read("conv2d:grid2")[4], pooled(B, "grid2"), 1e-3, 1e-5
    )


def test_a_further_pooling_costs_a_pass(dataset, toy) -> None:
    """Embeddings and poolings that are there stay; only what is missing is computed."""
    before = toy(dataset, pooling="max")
    values = store.open_store(before.path).read("features:max")
    assert toy(dataset, pooling="avg+max").computed == 0
    said: list[str] = []
    after = toy(dataset, pooling="grid2,max", reporter=Heard(said))
    assert said == [
        "toynet@32: 36 stored rows lack these taps and need one more pass each."
    ]
    assert after.taps == ["features:grid2", "features:max"]
    opened = store.open_store(after.path)
    assert np.array_equal(opened.read("features:max"), values)
    assert toy(dataset, pooling="grid2").computed == 0
    X = featcache.load(after.path, taps="features:grid2").X
    assert X.shape[1] == opened.dim * 5


def test_a_network_without_a_last_map_says_so(tmp_path: Path) -> None:
    """Poolings of the last map are refused of vectors; inner layers are not."""
    import keras

    layers = [
        keras.layers.Input((32, 32, 3)),
        keras.layers.Conv2D(4, 3, strides=4, name="conv"),
        keras.layers.Flatten(),
        keras.layers.Dense(5, name="dense"),
    ]
    keras.Sequential(layers).save(tmp_path / "net.keras")
    network = resolve(str(tmp_path / "net.keras"), preprocess="none", input_size=32)
    core = backbones.build(network)
    with pytest.raises(UsageError, match=r"(?s)mean of a map.*ends in Dense \(dense\)"):
        with_pixels(core, network, taps=["features:max"])
    graph = with_pixels(core, network, taps=["conv:grid2"])
    assert graph.output["conv:grid2"].shape == (None, 16)


def test_a_network_of_any_size_has_grids(tmp_path: Path) -> None:
    """Regions follow from the size of the input that was asked for."""
    import keras

    layers = [
        keras.layers.Input((None, None, 3)),
        keras.layers.Conv2D(4, 3, strides=4, name="conv"),
    ]
    keras.Sequential(layers).save(tmp_path / "net.keras")
    network = resolve(str(tmp_path / "net.keras"), preprocess="none", input_size=48)
    graph = with_pixels(build(network), network, taps=["features:grid3"])
    assert graph.output["features:grid3"].shape == (None, 36)


@pytest.mark.parametrize("option", ["pooling", "tap_pooling"])
def test_an_unknown_pooling_is_refused_first(dataset, toy, option: str) -> None:
    """Before any network is built, with the option's name."""
    with pytest.raises(UnknownNameError, match=f"pooling for `{option}`"):
        toy(dataset, **{option: "avg+median"})


def test_a_baseline_has_no_poolings(dataset, toy) -> None:
    """A call for baselines alone that names a pooling is refused."""
    from featcache.commands.extract import extract

    with pytest.raises(UsageError, match="a network for `pooling='max'`"):
        extract(dataset, [resolve("border")], pooling="max")
