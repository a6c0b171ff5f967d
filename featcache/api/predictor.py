"""`Predictor`: a trained model that answers for new images, as a table."""

import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from os import fspath
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from PIL import Image

from featcache.api.progress import show
from featcache.api.words import cache_folder, reports_folder
from featcache.commands import predict as predicting
from featcache.commands.predict.columns import COUNT, FLAG, NUMBER, TEXT
from featcache.dataset.sources.inputs import open_inputs
from featcache.deploy.answers import BATCH_SIZE, Answering, Scored
from featcache.deploy.model import Candidate
from featcache.deploy.opening import Place, open_model

_TYPES = {TEXT: "object", NUMBER: "float64", FLAG: "boolean", COUNT: "Int64"}


class Predictor:
    """Answers for new images with a trained model, which is loaded once.

    It may be called from several threads: they read and decode images side by side,
    and the model answers for one batch at a time. Features of new images are kept in
    the cache when it is closed, or at the end of a ``with`` block.

    Args:
        model: The file of a bundle, or a run: its short id, id, or part of its id.
        dataset: Of the run; None where the run determines it.
        cache: The cache folder; by default ``$FEATCACHE_CACHE``, else ``cache``.
        reports: The folder of runs; by default ``reports``.
        files: ``.keras`` and weights files to look for the run's networks in.
        share: Share of images like the training images that may be refused; by
            default 0.01, or that of the bundle.
        batch_size: Most images in one call of the model.
        progress: Whether to show a bar while training images are read.

    Raises:
        FeatcacheError: There is no such run or bundle, or it cannot be used.
    """

    def __init__(
        self,
        model: "str | Path | Answering",
        *,
        dataset: str | None = None,
        cache: str | Path | None = None,
        reports: str | Path | None = None,
        files: Sequence[str | Path] = (),
        share: float | None = None,
        batch_size: int = BATCH_SIZE,
        progress: bool | None = None,
    ) -> None:
        self._open = ExitStack()
        self._batch_size = batch_size
        if isinstance(model, str | Path):
            folders = cache_folder(cache), reports_folder(reports)
            place = Place(*folders, dataset, [Path(file) for file in files])
            with show(progress) as reporter:
                opened = open_model(
                    fspath(model),
                    place,
                    refuse=share,
                    needs_refusal=False,
                    reporter=reporter,
                )
                model = self._open.enter_context(opened)
        self._model = _OneAtATime(model, threading.Lock())

    def close(self) -> None:
        """Keeps the features of new images in the cache."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    @property
    def classes(self) -> list[str]:
        """Its labels, in the order of the probabilities."""
        return list(self._model.classes)

    def predict(
        self,
        inputs: Any,
        *,
        by: str | None = None,
        refuse: bool = True,
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Answers for images.

        Args:
            inputs: One or several: paths of images, folders, zips or CSVs with a
                column ``path``; pictures of Pillow; arrays (H, W) or (H, W, 3) of
                uint8; or a column of a table with paths.
            by: What names the patient: a column of a CSV, a regular expression with
                one group for the file name, or "dicom:PatientID". A row for each
                patient follows those of the images.
            refuse: Leave images that the model refuses without a class.
            progress: Whether to show a bar; by default in notebooks and terminals.

        Returns:
            A row per image, in order, with the columns of ``featcache predict``. A
            warning says how many of the images the model was trained on.

        Raises:
            DatasetError: There is no such file, or a folder without images.
            UsageError: An input or argument that can never work.
        """
        images = open_inputs(_items(inputs))
        with show(progress) as reporter:
            for note in images.notes:
                reporter.message(f"{note}.")
            predictions = predicting.predict(
                self._model,
                images,
                by=by,
                refuse=refuse,
                batch_size=self._batch_size,
                reporter=reporter,
            )
            with closing(predictions):
                rows = list(predictions.rows())
        if predictions.warning:
            warnings.warn(f"{predictions.warning}.", stacklevel=2)
        return pd.DataFrame(
            {
                column.name: pd.Series(
                    [row[i] for row in rows], dtype=_TYPES[column.kind]
                )
                for i, column in enumerate(predictions.columns)
            }
        )


def predict(
    model: "str | Path | Answering",
    inputs: Any,
    *,
    by: str | None = None,
    refuse: bool = True,
    progress: bool | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Answers for images with a trained model; see `Predictor` for several calls.

    Args:
        model: The file of a bundle, or a run.
        inputs: As for `Predictor.predict`.
        by: What names the patient.
        refuse: Leave images that the model refuses without a class.
        progress: Whether to show a bar; by default in notebooks and terminals.
        **options: As for `Predictor`.

    Returns:
        A row per image, in order, with the columns of ``featcache predict``.

    Raises:
        FeatcacheError: As `Predictor` and `Predictor.predict`.
    """
    with Predictor(model, progress=progress, **options) as predictor:
        return predictor.predict(inputs, by=by, refuse=refuse, progress=progress)


@dataclass(frozen=True)
class _OneAtATime:
    """A model that is asked by one thread at a time."""

    model: Answering
    lock: threading.Lock

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def classes(self) -> Sequence[str]:
        return self.model.classes

    @property
    def flag_columns(self) -> Sequence[str]:
        return self.model.flag_columns

    @property
    def zone_columns(self) -> Sequence[str]:
        return self.model.zone_columns

    @property
    def score_columns(self) -> Sequence[str]:
        return self.model.score_columns

    def answer(self, batch: Sequence[Candidate]) -> Scored:
        with self.lock:
            return self.model.answer(batch)

    def flags(self, p: np.ndarray) -> Mapping[str, np.ndarray]:
        return self.model.flags(p)

    def zones(self, p: np.ndarray) -> Mapping[str, np.ndarray]:
        return self.model.zones(p)


def _items(inputs: Any) -> Iterable[Any]:
    """One input or several, as several."""
    if hasattr(inputs, "to_numpy"):
        inputs = inputs.to_numpy()
    one = isinstance(inputs, str | Path | Image.Image)
    # An array of pixels, and not of paths or of several pictures.
    one = one or (getattr(inputs, "dtype", None) == "uint8" and inputs.ndim < 4)
    return [inputs] if one or not isinstance(inputs, Iterable) else inputs
