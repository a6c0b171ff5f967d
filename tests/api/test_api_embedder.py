"""`Embedder`: a transformer over images with a cache behind it."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

import featcache
from featcache import Embedder
from featcache.api import embedder as embedders
from featcache.core import scratch
from featcache.errors import UnreadableImageError, UsageError
from featcache.features import store


@pytest.fixture
def embedder(toy_network, tmp_path):
    """The toy network, with a cache of its own."""
    return Embedder(toy_network, engine="tensorflow", cache=tmp_path / "embeddings")


@pytest.fixture
def pixels(tmp_path):
    """A backbone that needs no network."""
    return Embedder("pixels48", cache=tmp_path / "embeddings")


@pytest.fixture
def paths(image_folder):
    return sorted(image_folder.rglob("*.png"))


@pytest.fixture
def runs_of(monkeypatch):
    """The number of images in each run of a network."""
    counts = []

    def extract(dataset, *arguments, **options):
        counts.append(len(dataset.ok))
        return real(dataset, *arguments, **options)

    real = embedders.extract
    monkeypatch.setattr(embedders, "extract", extract)
    return counts


# --- what it gives ----------------------------------------------------------------


@pytest.mark.slow
def test_an_embedding_is_what_extract_stores(dataset, toy, embedder):
    """File by file the embedding equals that of the command to 1e-5."""
    X, _, _, meta = featcache.load(toy(dataset).path)
    files = [dataset.root / path for path in meta["path"]]
    assert np.abs(embedder.transform(files) - X).max() < 1e-5
    assert embedder.get_feature_names_out().tolist() == [
        f"toynet_{column}" for column in range(12)
    ]


@pytest.mark.slow
def test_taps_are_further_columns(embedder, paths):
    """Layers that are named stand behind the embedding, in their order."""
    plain = embedder.transform(paths[:3])
    tapped = clone(embedder).set_params(taps="conv2d").transform(paths[:3])
    assert np.allclose(tapped[:, :12], plain)
    assert tapped.shape == (3, 20)


def test_copies_of_pictures_do_not_outlive_a_killed_process(
    pixels, paths, tmp_path, monkeypatch
):
    """They lie in a scratch folder, which has an owner and is swept without one."""
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    files = []

    def extract(*arguments, **options):
        files.extend(tmp_path.glob("temp/*/*"))
        return real(*arguments, **options)

    real = embedders.extract
    monkeypatch.setattr(embedders, "extract", extract)
    pixels.transform([Image.open(path) for path in paths[:2]])
    assert sorted(path.suffix for path in files) == [".lock", ".ppm", ".ppm"]
    assert files[0].parent.joinpath(scratch.LOCK) in files
    assert list(tmp_path.glob("temp/*")) == []


def test_order_and_duplicates_are_kept(pixels, paths):
    """Row i is that of image i, however often an image is named."""
    names = [paths[3], paths[0], paths[3], paths[7]]
    X = pixels.transform(names)
    each = [pixels.transform([name])[0] for name in names]
    assert np.array_equal(X, each)
    assert np.array_equal(X[0], X[2])
    assert not np.array_equal(X[0], X[1])


@pytest.mark.parametrize(
    "as_input",
    [
        str,
        Path,
        Image.open,
        lambda path: np.asarray(Image.open(path)),
        lambda path: np.asarray(Image.open(path).convert("RGB")),
    ],
    ids=["text", "Path", "picture", "(H, W)", "(H, W, 3)"],
)
def test_an_image_is_its_pixels(pixels, paths, as_input):
    """Text, paths, pictures and arrays of the same pixels have the same embedding."""
    X = pixels.transform([as_input(path) for path in paths[:3]])
    assert np.allclose(X, pixels.transform(paths[:3]), atol=1e-5)


def test_a_picture_is_turned_upright_as_its_file_is(pixels, tmp_path, paths):
    """EXIF orientation is applied to a picture of Pillow too."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(paths[0]).save(tmp_path / "turned.png", exif=exif)
    picture = Image.open(tmp_path / "turned.png")
    X = pixels.transform([tmp_path / "turned.png", picture])
    assert np.array_equal(X[0], X[1])


def test_columns_of_a_table_are_lists(pixels, paths):
    """A Series, a frame of one column and an array of texts are lists of paths."""
    names = [str(path) for path in paths[:2]]
    expected = pixels.transform(names)
    for several in (
        pd.Series(names, index=[7, 3]),
        pd.DataFrame({"path": names}),
        np.array(names),
    ):
        assert np.array_equal(pixels.transform(several), expected)


# --- the cache --------------------------------------------------------------------


def test_a_second_transform_runs_nothing(pixels, paths, runs_of):
    """Only content that was never seen is run, whatever the file is called."""
    pixels.transform(paths[:5])
    pixels.transform(paths[:5])
    os.rename(paths[0], paths[0].with_name("moved.png"))
    pixels.transform([paths[0].with_name("moved.png"), *paths[1:5]])
    assert runs_of == [5]
    again = pickle.loads(pickle.dumps(clone(pixels)))
    again.transform([paths[0].with_name("moved.png"), *paths[1:6]])
    # One new image, and those that would show a drift of the libraries.
    assert runs_of == [5, 1 + 5]


def test_features_of_a_dataset_are_taken_from_its_store(dataset, paths, runs_of):
    """What `extract` has stored in the same cache is not computed again."""
    featcache.extract(dataset, "pixels48", progress=False)
    X = Embedder("pixels48", cache=dataset.folder.parent).transform(paths)
    assert runs_of == []
    assert X.shape == (36, 2304)


def test_another_contract_is_another_embedding(pixels, paths, runs_of):
    """Another backbone, or another way to store it, shares no rows."""
    for other in ({}, {"backbone": "border"}, {"dtype": "float16"}):
        clone(pixels).set_params(**other).transform(paths[:2])
    assert runs_of == [2, 2, 2]


def test_a_changed_file_has_another_embedding(pixels, paths):
    """The content decides, and not the name."""
    before = pixels.transform(paths[:1])
    paths[1].replace(paths[0])
    assert not np.array_equal(pixels.transform(paths[:1]), before)


@pytest.mark.slow
def test_two_processes_at_once_fill_one_store(paths, tmp_path):
    """Both give all rows, and the store that they leave is whole."""
    code = (
        "import sys, featcache; "
        "X = featcache.Embedder('pixels48', cache='both').transform(sys.argv[1:]); "
        "print(X.shape)"
    )
    parts = paths[:24], paths[12:]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *part],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        for part in parts
    ]
    assert [p.communicate()[0].strip() for p in processes] == ["(24, 2304)"] * 2
    (path,) = tmp_path.glob("both/.embedder/features/*.h5")
    stored = store.open_store(path)
    stored.verify()
    assert len(stored.keys) == len(paths)


# --- what cannot be embedded ------------------------------------------------------


def test_an_image_that_cannot_be_read_is_named(pixels, paths, tmp_path, runs_of):
    """A broken file is named with the reason, and the others are kept."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(paths[0].read_bytes()[:200])
    with pytest.raises(UnreadableImageError, match=r"broken\.png \("):
        pixels.transform([*paths[:3], broken])
    pixels.transform(paths[:3])
    assert runs_of == [4]
    with pytest.raises(UnreadableImageError, match=r"gone\.png"):
        pixels.transform([tmp_path / "gone.png"])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("one.png", "one str"),
        (np.zeros((8, 8, 3), np.uint8), "one ndarray"),
        ([], "an empty list"),
        (np.zeros((2, 5)), r"float64, \(5,\) as image 0"),
        ([3], "int as image 0"),
        (7, "one int"),
    ],
)
def test_what_is_no_list_of_images_is_refused(pixels, images, message):
    """The error says what came."""
    with pytest.raises(UsageError, match=message):
        pixels.transform(images)


def test_preprocess_of_the_training_images_is_refused(pixels):
    """Feature-wise scaling depends on a dataset, which an embedder does not have."""
    with pytest.raises(UsageError, match="featurewise"):
        Embedder("densenet121", preprocess="featurewise").fit([])


# --- scikit-learn -----------------------------------------------------------------


@pytest.mark.slow
def test_it_stands_in_a_pipeline_and_a_search(pixels, paths):
    """A grid search over a pipeline of embedder and classifier finds its settings."""
    y = [path.parent.name for path in paths]
    pipeline = make_pipeline(pixels, StandardScaler(), LogisticRegression())
    grid = {"logisticregression__C": [1e-4, 1e-3]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(paths, y)
    assert search.predict(paths[:2]).shape == (2,)
    names = pipeline[:1].get_feature_names_out()
    assert (names[0], len(names)) == ("pixels48_0", 2304)


def test_it_gives_a_frame_where_asked(pixels, paths):
    """`set_output` names the columns."""
    frame = pixels.set_output(transform="pandas").transform(paths[:2])
    assert frame.columns[1] == "pixels48_1"


class OnRows(Embedder):
    """The embedder on the tables of numbers of scikit-learn's battery.

    Each row is made a grey picture, so that the battery drives the real thing.
    """

    def fit(self, X, y=None):
        """Also checks the table, as the battery expects of each estimator."""
        validate_data(self, X)
        return super().fit(X, y)

    def transform(self, X):
        """Embeds each row as a picture."""
        X = validate_data(self, X, reset=False)
        grey = np.clip(128 + 20 * X, 0, 255).astype(np.uint8)
        return super().transform([np.tile(row, (48, 1)) for row in grey])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.no_validation = False
        return tags


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATCACHE_CACHE", str(tmp_path / "of-the-battery"))


@parametrize_with_checks([OnRows("pixels48")])
def test_the_battery_of_scikit_learn(estimator, check):
    """Every check that is about more than the kind of input is passed."""
    check(estimator)
