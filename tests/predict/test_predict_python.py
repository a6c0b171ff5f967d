"""Predictions from Python: what may be given, and what comes back."""

import threading
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from toy_model import ToyModel
from toys import Heard

from featcache.api.predictor import Predictor
from featcache.api.predictor import predict as predict_frame
from featcache.commands.predict import predict
from featcache.dataset import images
from featcache.dataset.sources.inputs import open_inputs
from featcache.deploy.answers import Scored
from featcache.deploy.model import Candidate
from featcache.errors import DatasetError, UsageError


def test_predictions_count_what_was_taken(scans: Path) -> None:
    """Progress is heard per image, of all that there are."""
    heard = Heard()
    predictions = predict(ToyModel(), open_inputs([scans]), reporter=heard)
    answers = iter(predictions)
    next(answers)
    assert predictions.summary == "1 image: 0 ok, 1 refused, 0 unreadable"
    predictions.close()
    assert list(answers) == []
    list(predict(ToyModel(), open_inputs([scans]), reporter=heard))
    assert heard.ticks[-1] == ("predict", 6, 6)


def test_wrong_arguments_are_refused_at_once(scans: Path, model: ToyModel) -> None:
    """Before the first image is read."""
    for options in ({"batch_size": 0}, {"by": "nobody"}):
        with pytest.raises(UsageError):
            predict(model, open_inputs([scans]), **options)
    assert model.batches == []


def test_a_frame_has_types(scans: Path) -> None:
    """Also where no image was answered."""
    for inputs in (scans, scans / "p1_text.png"):
        frame = predict_frame(ToyModel(), inputs, by=r"(p\d)_")
        types = frame.dtypes.astype(str).to_dict()
        assert types["path"] == types["group"] == "object"
        assert types["p_bright"] == types["distance"] == "float64"
        assert (types["bright_at_95"], types["n_images"]) == ("boolean", "Int64")


def test_training_images_are_marked_and_warned_of(scans: Path) -> None:
    """Their rows and those of their patients; without any there is no warning."""
    path = scans / "p1_2.png"
    model = ToyModel({images.content_id(path.read_bytes())})
    with pytest.warns(UserWarning, match="1 of 6 images was in the training") as said:
        frame = predict_frame(model, scans, by=r"(p\d)_")
    assert "and 2 more are of the same patients" in str(said[0].message)
    marked = frame.loc[frame["in_training"].fillna(False)]
    assert marked["level"].tolist() == ["image", "patient"]
    assert (marked["path"].iloc[0], marked["group"].iloc[1]) == (str(path), "p1")
    unreadable = frame["status"] == "unreadable"
    assert frame["in_training"].isna().tolist() == unreadable.tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict_frame(ToyModel(), scans)


@pytest.mark.parametrize("several", [True, False])
def test_python_takes_what_it_has(scans: Path, several: bool) -> None:
    """A path, text, a picture or pixels; a list or a column of these."""
    path = scans / "p1_2.png"
    picture = Image.open(path)
    single = [path, str(path), picture, np.asarray(picture)]
    more = [single, pd.Series([str(path)] * 4), np.array([str(path)] * 4), iter(single)]
    for inputs in more if several else single:
        frame = Predictor(ToyModel()).predict(inputs)
        assert frame["status"].tolist() == ["ok"] * (4 if several else 1)
        assert frame["p_bright"].nunique() == 1
    with pytest.raises(UsageError, match="int as image 0"):
        predict_frame(ToyModel(), 3)
    with pytest.raises(DatasetError, match="no inputs"):
        predict_frame(ToyModel(), [])


def test_a_predictor_serves_threads_one_batch_at_a_time(scans: Path) -> None:
    """Every thread has its own answers; the model is never called twice at once."""
    inside, most = 0, 0

    class Counting(ToyModel):
        def answer(self, batch: list[Candidate]) -> Scored:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            scored = super().answer(batch)
            inside -= 1
            return scored

    predictor = Predictor(Counting(), batch_size=1)
    assert (predictor.name, predictor.classes) == ("toy", ["bright", "dark"])
    frames: list[pd.DataFrame] = []
    threads = [
        threading.Thread(target=lambda: frames.append(predictor.predict(scans)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(frames) == 4
    for frame in frames:
        pd.testing.assert_frame_equal(frame, frames[0])
    assert most == 1
